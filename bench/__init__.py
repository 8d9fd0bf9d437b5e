"""Benches: what the service costs, beside its peers, on the same work and the same Apache Kafka.

`python -m bench throughput`  the handoff processor and stock Faust in turn
`python -m bench health`      the health step in memory, without a broker; without a name it follows the throughput
`python -m bench latency`     from a POST to the account view, beside a raw produce and consume
`python -m bench profile`     where the engine spends its time, without a broker
"""
