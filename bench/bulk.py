"""Fills a topic and reads topics back by way of librdkafka, which costs a tenth of what Python clients cost."""

import time
from collections.abc import Callable, Iterable

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from bench.small.work import Record

TAKEN = 10_000
FLUSH_SECONDS = 120.0
POLL_SECONDS = 0.2  # `consume` waits so long to fill its list
SILENT_SECONDS = 30.0


def fill(bootstrap: str, topic: str, records: Iterable[Record], partition_of: Callable[[bytes], int]) -> None:
    """Write the records in order, acknowledged; one that is refused raises KafkaException."""
    refused = list[KafkaError]()

    def told(error: KafkaError | None, _message: object) -> None:
        if error is not None:
            refused.append(error)

    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "linger.ms": 20,
            "log_level": 3,  # else it tells of each broker that is not ready yet
            "batch.size": 512 << 10,
            "queue.buffering.max.messages": 200_000,
        }
    )
    for key, value in records:
        while True:
            try:
                producer.produce(topic, value, key, partition_of(key), on_delivery=told)
            except BufferError:  # its queue is full
                producer.poll(0.1)
            else:
                break
        producer.poll(0)
    left = producer.flush(FLUSH_SECONDS)
    if refused or left:
        raise KafkaException(refused[0] if refused else KafkaError(KafkaError._MSG_TIMED_OUT))  # noqa: SLF001  # its public name


def read(
    bootstrap: str, topic: str, partitions: int, take: Callable[[bytes, bytes | None], None]
) -> tuple[list[int], ...]:
    """Hand every committed record of a topic to `take`; answers the offsets of each partition's records."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench-read-back",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    offsets: tuple[list[int], ...] = tuple([] for _ in range(partitions))
    ended = set[int]()
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)])
    try:
        heard_at = time.monotonic()
        while len(ended) < partitions:
            messages = consumer.consume(TAKEN, POLL_SECONDS)
            if messages:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > SILENT_SECONDS:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001  # its public name
            for message in messages:
                error = message.error()
                if error is None:
                    offsets[message.partition()].append(message.offset())
                    take(message.key(), message.value())
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # as above
                    ended.add(message.partition())
                else:
                    raise KafkaException(error)
    finally:
        consumer.close()
    return offsets
