"""Tells a running installation single facts and reads what it says of them, for tests with a story of their own."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.fault.facts import Sent
from tests.fault.load import Sender
from tests.fault.oracle import Record
from tests.fault.records import Isolation, reader
from tests.fault.stack import PARTITIONS, Stack, waited

HANDOFFS = "cs.handoffs"


class Told:
    """One teller. Seconds of facts count from `start`."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.start = datetime.now(UTC)
        self._sender = Sender(stack)

    async def facts(self, *facts: Sent) -> None:
        """Send these in this order; returns when they are acknowledged."""
        await self._sender.send([(one.topic, one.account, one.value(self.start)) for one in facts])

    async def raw(self, topic: str, key: str, value: bytes) -> None:
        await self._sender.send([(topic, key, value)])

    async def close(self) -> None:
        await self._sender.close()

    def now(self) -> float:
        """Seconds since the start."""
        return (datetime.now(UTC) - self.start) / timedelta(seconds=1)

    async def read(self, topic: str, isolation: Isolation = "read_committed") -> list[Record]:
        async with reader(self.stack.bootstrap, self.stack.prefix, PARTITIONS, isolation) as topics:
            return (await topics.read([topic]))[topic]

    async def said(self, handoff: str, isolation: Isolation = "read_committed") -> list[str]:
        """Every verdict on a handoff, in order, repeats included; `retracted breached` where one was taken back."""
        found = []
        for record in await self.read(HANDOFFS, isolation):
            event: dict[str, Any] = record.event or {}
            if event["data"]["handoff"] == handoff and event["type"].startswith("steward.sla."):
                stage = event["type"].removeprefix("steward.sla.").removesuffix(".v1")
                found.append(f"{stage} {event['data']['stage']}" if stage == "retracted" else stage)
        return found

    async def until_said(self, handoff: str, verdict: str, seconds: float = 40) -> None:
        async def heard() -> bool:
            return verdict in await self.said(handoff)

        await waited(heard, f"{verdict} is said of {handoff}", seconds)


@asynccontextmanager
async def telling(stack: Stack) -> AsyncIterator[Told]:
    told = Told(stack)
    try:
        yield told
    finally:
        await told.close()


def account_in(partition: int, where: Callable[[str], int], name: str) -> str:
    """An account whose facts stand in this partition."""
    return next(key for number in range(1000) if where(key := f"{name}-{number}") == partition)
