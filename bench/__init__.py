"""Benches: what the service costs, beside its peers, on the same work and the same Apache Kafka.

`python -m bench`            throughput of the handoff processor and of stock Faust
`python -m bench profile`    where the engine spends its time, without a broker
"""
