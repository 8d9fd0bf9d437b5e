"""Seeded faults against real processors on Apache Kafka, judged by an oracle that reads the same log.

`child`        a real processor in a process of its own, with a failpoint, or with one protection taken off
`ledger`       the processor that shows every lost, doubled or reordered fact
`protections`  how a positive control takes one protection off
`load`         what the sources send
`proxy`        a TCP proxy that resets, delays and swallows
`brokers`      brokers for runs, on one node or three
`nemesis`      which faults a seed injects, and when
`stack`        the processes of one run
`records`      reads topics with a plain client
`oracle`       what must be in the topics in the end; imports nothing of the product
`scenario`     one seed from its start to its verdict
`__main__`     many seeds, several at a time
"""
