"""Reads topics with a plain client, committed records or all of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from tests.fault.oracle import Record

START_SECONDS = 60.0
STOP_SECONDS = 5.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Isolation = Literal["read_committed", "read_uncommitted"]


class Reader:
    """Topics of one installation, by their names without the prefix."""

    def __init__(self, consumer: AIOKafkaConsumer, prefix: str, partitions: int) -> None:
        self._consumer = consumer
        self._prefix = prefix
        self._partitions = partitions

    async def ends(self, topics: Sequence[str]) -> dict[tuple[str, int], int]:
        """Where each partition ends for readers of committed records."""
        found = await self._consumer.end_offsets(self._named(topics))
        return {(one.topic.removeprefix(self._prefix), one.partition): end for one, end in found.items()}

    async def read(self, topics: Sequence[str]) -> dict[str, list[Record]]:
        """Every record up to the present ends, in order of partition and offset."""
        wanted = self._named(topics)
        self._consumer.assign(wanted)
        begins, ends = await self._consumer.beginning_offsets(wanted), await self._consumer.end_offsets(wanted)
        for one in wanted:
            self._consumer.seek(one, begins[one])
        found: dict[str, list[Record]] = {topic: [] for topic in topics}
        waiting = [one for one in wanted if begins[one] < ends[one]]
        while waiting:
            for one, records in (await self._consumer.getmany(*waiting, timeout_ms=200)).items():
                name = one.topic.removeprefix(self._prefix)
                found[name] += [_record(name, record) for record in records]
            waiting = [one for one in waiting if await self._consumer.position(one) < ends[one]]
        for records in found.values():
            records.sort(key=lambda record: (record.partition, record.offset))
        return found

    def _named(self, topics: Sequence[str]) -> list[TopicPartition]:
        return [
            TopicPartition(f"{self._prefix}{name}", number) for name in topics for number in range(self._partitions)
        ]


@asynccontextmanager
async def reader(
    bootstrap: str, prefix: str, partitions: int, isolation: Isolation = "read_committed"
) -> AsyncIterator[Reader]:
    """A reader with a connection of its own, also where the broker is busy coming back."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            isolation_level=isolation,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
            request_timeout_ms=10_000,
        )
        try:
            await consumer.start()
            break
        except KafkaError:
            await stopped(consumer)
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.5)
    try:
        yield Reader(consumer, prefix, partitions)
    finally:
        await stopped(consumer)


async def stopped(client: Any) -> None:
    """Stop a client of aiokafka, which may take for ever, fail, or raise the cancellation of a task of its own."""
    stopping = asyncio.create_task(client.stop())
    await asyncio.wait([stopping], timeout=STOP_SECONDS)
    if not stopping.done():
        stopping.cancel()
        await asyncio.wait([stopping], timeout=STOP_SECONDS)
    elif not stopping.cancelled():
        stopping.exception()


def _record(name: str, record: Any) -> Record:
    headers = {key: value.decode(errors="replace") for key, value in record.headers}
    appended = EPOCH + timedelta(milliseconds=record.timestamp)
    return Record(name, record.partition, record.offset, appended, record.key, record.value, headers)
