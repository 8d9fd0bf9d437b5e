"""Whole partitions read as fast as Python can, in bounded turns of the loop."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from services.runtime.kafka.batches import Header
from services.runtime.kafka.errors import Undelivered
from services.runtime.kafka.readers import begin, pages, reader
from services.runtime.settings import Settings


class Bare(Protocol):
    """A record without what all records of its partition share."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]


async def replay(
    settings: Settings, topic: object, numbers: Sequence[int], take: Callable[[int, Sequence[Bare], int], None]
) -> dict[int, int]:
    """Hand every committed record of some partitions, in order, to `take`; answers how many each of them held.

    `take` is called with the partition's number, a bounded number of records, none in a turn that only brought
    markers of transactions, and how many offsets are left up to the end that the partition had at the beginning.
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
        hand_out_bare(consumer)
        assigned = [TopicPartition(settings.topic(str(topic)), number) for number in numbers]
        begins, ends = await begin(consumer, assigned)
        wanted = {one for one in assigned if begins[one] < ends[one]}
        counts = {one.partition: 0 for one in wanted}
        async for partition, records, position in pages(consumer, ends, wanted):
            counts[partition.partition] += len(records)
            take(partition.partition, records, max(0, ends[partition] - position))
        return counts


def _ignored(_number: int, _records: Sequence[Bare], _left: int) -> None:
    """Only counted."""


def hand_out_bare(consumer: AIOKafkaConsumer) -> None:
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
