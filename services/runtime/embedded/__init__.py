"""Broker and Redis as child processes, for one-command use and for tests.

This package is the only place that starts servers. What it starts listens on 127.0.0.1 only, keeps its data
and its log in the folder it is given, is ready when it answers in its own protocol, and ends with the process
that started it.

`broker.start_broker`   noida, the embedded broker: one binary, ready in a fraction of a second
`redis.start_redis`     Valkey
`apache.start_kafka`    Apache Kafka, for everything that depends on how a real broker behaves
`cluster.start_cluster` several nodes of it, for what depends on replicas

    EmbeddedError
    ├── Unavailable    a program that is needed is not on this machine
    ├── PortTaken      another program has the port that the caller insisted on
    └── StartFailed    a program ended early or did not answer in time; ends with the tail of its log
"""
