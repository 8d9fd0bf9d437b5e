"""Sends the facts of a plan while faults go on: nothing is given up until the broker has acknowledged it."""

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from tests.fault.facts import HISTORY, LAG, RUN, SLOW, Plan
from tests.fault.oracle import CLOCK
from tests.fault.records import reader, stopped
from tests.fault.stack import PARTITIONS, Stack

SOURCES = "cs.sources"
ANSWER_SECONDS = 15.0
BEAT_SECONDS = 0.7
CHUNKS = 4


def partition_of(key: str) -> int:
    """Where every Kafka client puts this key."""
    return int(murmur2(key.encode()) & 0x7FFFFFFF) % PARTITIONS


class Sender:
    """A producer that is made anew when it fails; what was not acknowledged is sent again, as a vendor would."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()
        self.resent = 0

    async def send(self, records: Sequence[tuple[str, str, bytes]]) -> None:
        """Write (topic, key, value) in this order and wait for every acknowledgement, however long that takes."""
        while True:
            producer: AIOKafkaProducer | None = None
            try:
                producer = await self._open()
                async with asyncio.timeout(ANSWER_SECONDS):
                    futures = [
                        await producer.send(f"{self._stack.prefix}{topic}", value, key.encode(), partition_of(key))
                        for topic, key, value in records
                    ]
                    await asyncio.gather(*futures)
            except (KafkaError, TimeoutError, OSError):
                self.resent += len(records)
                await self._drop(producer)
                await asyncio.sleep(0.3)
            else:
                return

    async def close(self) -> None:
        await self._drop(self._producer)

    async def _open(self) -> AIOKafkaProducer:
        async with self._lock:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._stack.bootstrap, enable_idempotence=True, request_timeout_ms=8000
                )
                try:
                    await producer.start()
                except BaseException:
                    await stopped(producer)
                    raise
                self._producer = producer
            return self._producer

    async def _drop(self, producer: AIOKafkaProducer | None) -> None:
        if producer is None or producer is not self._producer:
            return
        self._producer = None
        await stopped(producer)


class Load:
    """Sends a plan from `start` on: live facts as they happen, the slow source's with heartbeats, history as a run."""

    def __init__(self, stack: Stack, plan: Plan) -> None:
        self._stack = stack
        self._plan = plan
        self._sender = Sender(stack)
        self.start = datetime.now(UTC)
        self._begun = time.monotonic()
        self._beating: asyncio.Task[None] | None = None
        self._slow_sent = asyncio.Event()

    async def prepare(self) -> None:
        """Register the slow source, and return when every partition waits for it."""
        if self._plan.slow:
            await self._sender.send([(SOURCES, SLOW, self._registered())])
            await self._beat(self.start - timedelta(seconds=LAG))
            await self._named(SLOW)

    async def run(self) -> None:
        """Returns when everything is acknowledged; the slow source's heart beats on."""
        self.start, self._begun = datetime.now(UTC), time.monotonic()
        beating = asyncio.create_task(self._slow())
        self._beating = beating
        await asyncio.gather(self._live(), self._history(), self._slow_sent.wait())
        if beating.done():
            beating.result()

    async def stop(self) -> None:
        """The slow source falls silent."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])
        await self._sender.close()

    async def _live(self) -> None:
        left = list(self._plan.live)
        while left:
            now = time.monotonic() - self._begun
            ready = [one for one in left if one.sent <= now]
            left = left[len(ready) :]
            if ready:
                await self._sender.send([(one.topic, one.account, one.value(self.start)) for one in ready])
            await asyncio.sleep(0.1)

    async def _slow(self) -> None:
        """Everything up to a time is sent and acknowledged, and then the heartbeat says so."""
        left = list(self._plan.slow)
        while self._plan.slow:
            known = time.monotonic() - self._begun - LAG
            ready = [one for one in left if one.at <= known]
            left = left[len(ready) :]
            if ready:
                await self._sender.send([(one.topic, one.account, one.value(self.start)) for one in ready])
            await self._beat(self.start + timedelta(seconds=known))
            if not left:
                self._slow_sent.set()
            await asyncio.sleep(BEAT_SECONDS)
        self._slow_sent.set()

    async def _history(self) -> None:
        facts = self._plan.history
        if not facts:
            return
        await self._progress("started", 0)
        await self._named(RUN)
        size = -(-len(facts) // CHUNKS)
        for first in range(0, len(facts), size):
            sent = facts[first : first + size]
            await self._sender.send([(one.topic, one.account, one.value(self.start)) for one in sent])
            await self._progress("advanced", first + len(sent))
            await asyncio.sleep(1.0)
        await self._progress("finished", len(facts))

    async def _named(self, name: str) -> None:
        """Wait until every partition has a mark with a promise of this run or source."""
        async with reader(self._stack.bootstrap, self._stack.prefix, PARTITIONS) as topics:
            while True:
                with suppress(KafkaError):
                    marks = (await topics.read([CLOCK]))[CLOCK]
                    named = {mark.partition for mark in marks if name in (mark.event or {})["data"]["promises"]}
                    if len(named) == PARTITIONS:
                        return
                await asyncio.sleep(0.3)

    def _registered(self) -> bytes:
        return self._event("source.registered", SLOW, {"source": SLOW, "heartbeat": 1, "grace": 0})

    async def _beat(self, at: datetime) -> None:
        value = self._event("source.seen", f"{SLOW}:seen", {"source": SLOW}, at)
        await self._sender.send([(SOURCES, f"{SLOW}:seen", value)])

    async def _progress(self, word: str, sent: int) -> None:
        facts = self._plan.history
        data = {
            "source": "crm",
            "run": RUN,
            "file": "history.csv",
            "sha256": "0" * 64,
            "facts": len(facts),
            "sent": sent,
        }
        if sent:
            through = self.start - HISTORY + timedelta(seconds=facts[sent - 1].at)
            data["through"] = through.isoformat()
        await self._sender.send([(SOURCES, f"crm:{RUN}", self._event(f"run.{word}", RUN, data))])

    def _event(self, kind: str, subject: str, data: object, at: datetime | None = None) -> bytes:
        now = at or datetime.now(UTC)
        event = {
            "specversion": "1.0",
            "id": f"{kind}:{subject}:{now.timestamp()}",
            "source": "test",
            "type": f"steward.{kind}.v1",
            "subject": subject,
            "partitionkey": f"crm:{RUN}" if kind.startswith("run") else subject,
            "time": now.isoformat(),
            "datacontenttype": "application/json",
            "data": data,
        }
        return json.dumps(event).encode()
