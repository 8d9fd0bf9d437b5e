"""Consumers without a group, and reading partitions from their beginning to their present end."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from services.runtime import clock
from services.runtime.kafka.connection import REQUEST_MS, bounded
from services.runtime.kafka.errors import BrokerAway
from services.runtime.patience import hold_empty_fetches
from services.runtime.settings import Settings

TURN = 5_000  # records at once; heartbeats and other partitions wait for them
WAIT_MS = 200
STILL_SECONDS = 60.0  # without any position moving; the broker must have lost what it said it had


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

    Raises BrokerAway.
    """
    begins, ends = await begin(consumer, assigned)
    waiting = {partition for partition in assigned if begins[partition] < ends[partition]}
    async for _, records, _ in pages(consumer, ends, waiting):
        for record in records:
            take(record)
    return ends


Bounds = dict[TopicPartition, int]


async def locate(consumer: AIOKafkaConsumer, assigned: Iterable[TopicPartition]) -> None:
    """Learn at once who leads these partitions: aiokafka asks for one topic after the other, 0.1 s for each."""
    client = consumer._client  # noqa: SLF001  # aiokafka has no door to it
    await asyncio.gather(*(client.add_topic(topic) for topic in {one.topic for one in assigned}))


async def begin(consumer: AIOKafkaConsumer, assigned: Sequence[TopicPartition]) -> tuple[Bounds, Bounds]:
    """Assign partitions and put each at its beginning; answers the beginnings, and the ends at this time.

    Seeks explicitly: `seek_to_beginning` may land at the end.
    """
    await locate(consumer, assigned)
    begins: Bounds = await consumer.beginning_offsets(assigned)
    ends: Bounds = await consumer.end_offsets(assigned)
    # Nothing is awaited in between: a fetch before the seek would begin where the reset policy says.
    consumer.assign(assigned)
    for partition in assigned:
        consumer.seek(partition, begins[partition])
    return begins, ends


async def pages(
    consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int], waiting: set[TopicPartition]
) -> AsyncIterator[tuple[TopicPartition, Sequence[ConsumerRecord], int]]:
    """What one turn brought of a partition, and its position, until all of those waiting have reached their ends.

    A turn hands out a bounded number of records, and lets the loop go round. Raises BrokerAway.
    """
    before = dict.fromkeys(waiting, -1)
    moved = clock.elapsed()
    while waiting:
        try:
            fetched = await consumer.getmany(*waiting, timeout_ms=WAIT_MS, max_records=TURN)
        except KafkaError as error:
            raise BrokerAway(f"Kafka gives no records of {min(waiting)}: {error!r}") from error
        for partition in list(waiting):
            # Not offsets of records: markers of transactions move the position without being any.
            position = await consumer.position(partition)
            if position != before[partition]:
                before[partition], moved = position, clock.elapsed()
                yield partition, fetched.get(partition, ()), position
            if position >= ends[partition]:
                waiting.discard(partition)
        if clock.elapsed() - moved > STILL_SECONDS:
            stuck = min(waiting)
            raise BrokerAway(
                f"Kafka gives no records of {stuck.topic} partition {stuck.partition} from {before[stuck]} on, which "
                f"ends at {ends[stuck]}, for {STILL_SECONDS:.0f} s; is the broker well?"
            )
        await asyncio.sleep(0)  # what is fetched already is handed out without any wait


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
