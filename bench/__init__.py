"""Benches: what the service costs, beside its peers, on the same work and the same Apache Kafka.

`python -m bench step`        the handoff processor and stock Faust in turn, with the real step
`python -m bench health`      the health step in memory, without a broker; without a name it follows `step`
`python -m bench throughput`  the engine with a small step, beside Kafka Streams, confluent-kafka and stock Faust
`python -m bench latency`     to committed outputs, scores, breaches and deliveries, beside Kafka Streams
`python -m bench recovery`    reading state back, and going on after a worker was killed
`python -m bench profile`     where the engine spends its time, without a broker
"""
