"""Drives a Processor on Kafka through Faust: batches per partition, one transaction per flush, time as a topic.

Faust brings consumer groups, the sticky assignor, rebalances and the worker's life. The path of records, the
restore, the commits and the timers are ours, because the stock ones lose data under faults and cost 50 times more.
"""
