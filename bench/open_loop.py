"""Open loop: events are sent at their scheduled times whatever becomes of earlier ones, and counted from then on."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.opened import Named
from bench.systems import Stuck
from services.runtime import kafka
from services.runtime.settings import Settings

PATIENCE = 60.0

Send = Callable[[str, int], Coroutine[None, None, None]]


@dataclass(slots=True)
class Waiting:
    """What is waited for, by name: when it was due to be sent, taken in, and its effect seen, by `perf_counter`."""

    scheduled: dict[str, float] = field(default_factory=dict)
    acknowledged: dict[str, float] = field(default_factory=dict)
    seen: dict[str, float] = field(default_factory=dict)

    def saw(self, name: str, at: float) -> None:
        """The effect of this name is there; the first time counts."""
        self.seen.setdefault(name, at)

    def seconds(self, names: Sequence[str]) -> tuple[float, ...]:
        """How long each took from its scheduled moment. All of them must have been seen."""
        return tuple(self.seen[name] - self.scheduled[name] for name in names)

    def until_acknowledged(self, names: Sequence[str]) -> tuple[float, ...]:
        """The part of it until the broker, or ingest, had taken the event in."""
        return tuple(self.acknowledged[name] - self.scheduled[name] for name in names)


async def run(label: str, rate: float, seconds: float, send: Send, waiting: Waiting) -> list[str]:
    """Send at a fixed rate and wait for the effects; answers the names sent. Raises Stuck when one had no effect."""
    names = await sending(label, rate, seconds, send, waiting)
    await settled(names, waiting)
    return names


async def sending(label: str, rate: float, seconds: float, send: Send, waiting: Waiting) -> list[str]:
    """Send at a fixed rate and wait for the acknowledgements; answers the names sent."""
    begun, tasks, names = time.perf_counter() + 0.05, set[asyncio.Task[None]](), list[str]()

    async def sent(name: str, number: int) -> None:
        await send(name, number)
        waiting.acknowledged[name] = time.perf_counter()

    for number in range(round(rate * seconds)):
        name, at = f"{label}-{number:07d}", begun + number / rate
        waiting.scheduled[name] = at
        names.append(name)
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        task = asyncio.create_task(sent(name, number))
        tasks.add(task)
        task.add_done_callback(lambda done: tasks.discard(done) if done.exception() is None else None)
    await asyncio.gather(*tasks)
    return names


async def settled(names: Sequence[str], waiting: Waiting, patience: float = PATIENCE) -> None:
    """Wait until everything of these names was seen. Raises Stuck."""
    deadline, missing = time.perf_counter() + patience, list(names)
    while missing := [name for name in missing if name not in waiting.seen]:
        if time.perf_counter() > deadline:
            raise Stuck(f"{len(missing)} of {len(names)} had no effect within {patience:.0f} s, such as {missing[0]}.")
        await asyncio.sleep(0.02 + len(missing) / 1e6)  # looking through very many takes time from those who work


@asynccontextmanager
async def heard(settings: Settings, topic: str, named: Named, waiting: Waiting) -> AsyncIterator[None]:
    """While it is open, notes when committed records of a topic can be read; from the present end on."""

    async def listen(consumer: AIOKafkaConsumer) -> None:
        while True:
            fetched = await consumer.getmany(timeout_ms=1_000)
            now = time.perf_counter()
            for records in fetched.values():
                for record in records:
                    if record.value is not None and (name := named(record.value)) is not None:
                        waiting.saw(name, now)

    async with from_the_end(settings, topic) as consumer, running(listen(consumer)):
        yield


@asynccontextmanager
async def from_the_end(settings: Settings, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A reader of committed records that stands at the present end of a topic."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=500,
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        assigned = [TopicPartition(settings.topic(topic), number) for number in range(settings.partitions)]
        consumer.assign(assigned)
        for partition, end in (await consumer.end_offsets(assigned)).items():
            consumer.seek(partition, end)
        yield consumer
    finally:
        await consumer.stop()


@asynccontextmanager
async def running(work: Coroutine[None, None, None]) -> AsyncIterator[asyncio.Task[None]]:
    """A task beside what is done here; its failure is raised at the end."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def sender(settings: Settings, topic: str, made: Callable[[str, int], tuple[str, bytes]]) -> AsyncIterator[Send]:
    """Sends what `made` answers for a name and a number (key and value), without lingering, acknowledged."""
    name = settings.topic(topic)
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka, acks="all", enable_idempotence=True, linger_ms=0, retry_backoff_ms=20
    )
    await producer.start()

    async def send(label: str, number: int) -> None:
        key, value = made(label, number)
        raw = key.encode()
        await producer.send_and_wait(name, value, raw, partition=kafka.partition_of(raw, settings.partitions))

    try:
        yield send
    finally:
        await producer.stop()
