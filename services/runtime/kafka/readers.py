"""Consumers without a group, and reading partitions from their beginning to their present end."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaConnectionError

from services.runtime.kafka.connection import REQUEST_MS, bounded
from services.runtime.kafka.errors import BrokerAway
from services.runtime.patience import hold_empty_fetches
from services.runtime.settings import Settings


@asynccontextmanager
async def reader(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of committed records without a group; the caller assigns and seeks explicitly."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=8 << 20,
        fetch_max_bytes=64 << 20,
        request_timeout_ms=REQUEST_MS,
    )
    try:
        await consumer.start()
    except KafkaConnectionError:
        await bounded(consumer.stop())
        raise BrokerAway(f"no Kafka broker answers at {settings.kafka}; is STEWARD_KAFKA right?") from None
    hold_empty_fetches(consumer)
    try:
        yield consumer
    finally:
        await bounded(consumer.stop())


def partitions(settings: Settings, topic: object) -> list[TopicPartition]:
    """Every partition of a topic, by its name on the broker."""
    return [TopicPartition(settings.topic(str(topic)), number) for number in range(settings.partitions)]


async def scan(
    consumer: AIOKafkaConsumer, assigned: Sequence[TopicPartition], take: Callable[[ConsumerRecord], None]
) -> dict[TopicPartition, int]:
    """Hand every committed record from the beginning to the present end to `take`; answers the ends.

    Seeks explicitly: `seek_to_beginning` may land at the end. Compares positions, not record offsets, with the
    end: markers of transactions move the position without being records.
    """
    consumer.assign(assigned)
    begins = await consumer.beginning_offsets(assigned)
    ends: dict[TopicPartition, int] = await consumer.end_offsets(assigned)
    for partition in assigned:
        consumer.seek(partition, begins[partition])
    waiting = {partition for partition in assigned if begins[partition] < ends[partition]}
    while waiting:
        fetched = await consumer.getmany(*waiting, timeout_ms=200)
        for records in fetched.values():
            for record in records:
                take(record)
        waiting = {partition for partition in waiting if await consumer.position(partition) < ends[partition]}
    return ends


class Received(Protocol):
    """A record as the broker delivers it; `timestamp` is when the broker took it in, in milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


async def read_all(settings: Settings, topic: object) -> list[Received]:
    """Every committed record of a topic, partition by partition."""
    found: list[Received] = []
    async with reader(settings) as consumer:
        await scan(consumer, partitions(settings, topic), found.append)
    return sorted(found, key=lambda record: (record.partition, record.offset))


async def latest(settings: Settings, topic: object, number: int, look_back: int) -> list[Received]:
    """The committed records among the last `look_back` offsets of one partition."""
    partition = TopicPartition(settings.topic(str(topic)), number)
    found: list[Received] = []
    async with reader(settings) as consumer:
        consumer.assign([partition])
        begin, end = await consumer.beginning_offsets([partition]), await consumer.end_offsets([partition])
        consumer.seek(partition, max(begin[partition], end[partition] - look_back))
        while await consumer.position(partition) < end[partition]:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found.extend(records)
    return found
