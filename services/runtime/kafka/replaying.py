"""Whole partitions read as fast as Python can, in bounded turns of the loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from services.runtime import clock
from services.runtime.kafka.errors import BrokerAway, Undelivered
from services.runtime.kafka.readers import reader
from services.runtime.settings import Settings

TURN = 5_000  # records at once; heartbeats and other partitions wait for them
WAIT_MS = 200
STILL_SECONDS = 60.0  # without any position moving; the broker must have lost what it said it had


class Bare(Protocol):
    """A record without what all records of its partition share."""

    offset: int
    key: bytes | None
    value: bytes | None


async def replay(
    settings: Settings, topic: object, numbers: Sequence[int], take: Callable[[int, Sequence[Bare], int], None]
) -> dict[int, int]:
    """Hand every committed record of some partitions, in order, to `take`; answers how many each of them held.

    `take` is called with the partition's number, at most TURN records, none in a turn that only brought markers of
    transactions, and how many offsets are left up to the end that the partition had at the beginning.
    Raises BrokerAway, and Undelivered when the consumer passed over what is there.
    """
    counts = await _replayed(settings, topic, numbers, take)
    passed = [number for number in numbers if not counts.get(number, 1)]  # nothing, between a begin and a later end
    if passed:  # as of markers and aborted records alone; but a position that went astray looks the same
        for number, count in (await _replayed(settings, topic, passed, _ignored)).items():
            if count:
                raise Undelivered(
                    f"{settings.topic(str(topic))} partition {number} holds {count} records, but none was delivered "
                    "at first; start again"
                )
    return {number: counts.get(number, 0) for number in numbers}


async def _replayed(
    settings: Settings, topic: object, numbers: Sequence[int], take: Callable[[int, Sequence[Bare], int], None]
) -> dict[int, int]:
    """As `replay`; partitions that end where they begin are left out."""
    async with reader(settings) as consumer:
        _bare(consumer)
        assigned = [TopicPartition(settings.topic(str(topic)), number) for number in numbers]
        begins = await consumer.beginning_offsets(assigned)
        ends = await consumer.end_offsets(assigned)
        wanted = [one for one in assigned if begins[one] < ends[one]]
        counts = {one.partition: 0 for one in wanted}
        # Nothing is awaited in between: a fetch before the seek would begin where the reset policy says.
        consumer.assign(wanted)
        for partition in wanted:
            consumer.seek(partition, begins[partition])
        async for partition, records, position in _pages(consumer, ends, set(wanted)):
            counts[partition.partition] += len(records)
            take(partition.partition, records, max(0, ends[partition] - position))
        return counts


async def _pages(
    consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int], waiting: set[TopicPartition]
) -> AsyncIterator[tuple[TopicPartition, Sequence[Bare], int]]:
    """What one turn brought of a partition, and its position, until all have reached their ends."""
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


def _ignored(_number: int, _records: Sequence[Bare], _left: int) -> None:
    """Only counted."""


def _bare(consumer: AIOKafkaConsumer) -> None:
    """Have the records handed out as they stand in their batch: aiokafka's own take as long again to make."""
    fetcher: Any = consumer._fetcher  # noqa: SLF001  # aiokafka has no door to it
    ask = fetcher._proc_fetch_request  # noqa: SLF001

    async def asked(*request: Any) -> Any:
        found = await ask(*request)
        for fetched in fetcher._records.values():  # noqa: SLF001
            records = getattr(fetched, "_partition_records", None)  # none in an error
            if records is not None:
                records._consumer_record = _itself  # noqa: SLF001
        return found

    fetcher._proc_fetch_request = asked  # noqa: SLF001


def _itself(_partition: TopicPartition, record: Bare) -> Bare:
    return record
