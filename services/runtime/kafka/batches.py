"""Records on their way out, and the batches they go in."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from services.runtime.kafka.errors import TooLarge

Key = bytes | None
Header = tuple[str, bytes]
Record = tuple[Key, bytes | None, list[Header]]
Place = tuple[str, int]  # a topic, as it is named on the broker, and the number of a partition
Outgoing = tuple[object, str, bytes, Sequence[Header]]  # topic, key, value, headers

BATCH_BYTES = 900_000  # the broker refuses batches over 1 MiB, and after one refused the producer is dead
FRAME_BYTES = 100  # at most: of the batch itself, and the lengths and times of its first record
HEADER_BYTES = 10  # at most: the lengths of one header


def partition_of(key: bytes, partitions: int) -> int:
    """The partition in which every Kafka client with the default (murmur2) partitioner puts this key."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


@dataclass(slots=True)
class Write:
    """Records for one partition of one topic, in order."""

    topic: str
    partition: int
    records: list[Record] = field(default_factory=list)


def checked(topic: str, key: Key, value: bytes | None, headers: Sequence[Header]) -> None:
    """Raise TooLarge unless this record fits into a batch by itself; aiokafka takes the first record of any size."""
    size = FRAME_BYTES + len(key or b"") + len(value or b"")
    for name, content in headers:
        size += HEADER_BYTES + len(name.encode()) + len(content)
    if size > BATCH_BYTES:
        told = f"a record for {topic} takes {size} bytes with its key and headers; the most is {BATCH_BYTES}"
        raise TooLarge(f"{told}: make what its producer writes smaller")


def batches(producer: AIOKafkaProducer, write: Write) -> Iterator[Any]:
    """The records as aiokafka's batches, none empty and none over BATCH_BYTES. Raises TooLarge."""
    batch = None
    for key, value, headers in write.records:
        checked(write.topic, key, value, headers)
        if batch is not None and batch.append(key=key, value=value, timestamp=None, headers=headers) is not None:
            continue
        if batch is not None:
            yield batch
        batch = producer.create_batch()
        batch.append(key=key, value=value, timestamp=None, headers=headers)
    if batch is not None:
        yield batch


async def acknowledged(producer: AIOKafkaProducer, write: Write) -> int:
    """Write records in batches of our own, which costs less than one by one, and wait for every one of them.

    At least one. Answers the offset of the first, -1 where the broker does not say. At most one call per partition at a
    time: aiokafka adds up the waiting times of several. Raises KafkaError, TooLarge.
    """
    futures: list[asyncio.Future[Any]] = []
    for batch in batches(producer, write):
        future = await producer.send_batch(batch, write.topic, partition=write.partition)
        future.add_done_callback(_heard)
        futures.append(future)
    first, *_ = [await future for future in futures]
    return int(first.offset)


async def all_acknowledged(producer: AIOKafkaProducer, writes: Iterable[Write]) -> dict[Place, int]:
    """Write to several partitions at once, to each at most one; as `acknowledged` says."""
    wanted = [write for write in writes if write.records]
    begins = await asyncio.gather(*(acknowledged(producer, write) for write in wanted))
    return {(write.topic, write.partition): begin for write, begin in zip(wanted, begins, strict=True)}


def _heard(future: "asyncio.Future[Any]") -> None:
    # Who waits hears of the first error; Python would complain of the others that nobody asked for.
    if not future.cancelled():
        future.exception()
