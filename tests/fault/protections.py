"""Takes one protection off in this process, so that a run without it must be seen to fail. Tests only."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaProducer

from services.core.instants import Instant
from services.core.processor import Context, Wait
from services.handoff import decide
from services.runtime.engine.partition import Partition
from services.runtime.kafka import Transactions, Write
from services.runtime.kafka.batches import BATCH_BYTES, acknowledged
from services.runtime.settings import Settings

CHANGELOG = "-state"


class Torn:
    """Writes at once and for good: what a step writes is visible before the next one, and nobody is fenced."""

    def __init__(self, settings: Settings, transactional_id: str) -> None:
        self.transactional_id = f"{settings.prefix}{transactional_id}"
        self._late: list[Write] = []
        self._producer = AIOKafkaProducer(
            bootstrap_servers=settings.kafka, enable_idempotence=True, max_batch_size=BATCH_BYTES
        )

    async def open(self) -> None:
        await self._producer.start()

    async def close(self) -> None:
        await self._producer.stop()

    async def begin(self) -> None:
        self._late = []

    async def write(self, writes: Iterable[Write]) -> dict[tuple[str, int], int]:
        """The outputs; the changelog waits for the commit, so that a crash falls between the two."""
        wanted = [write for write in writes if write.records]
        self._late = [write for write in wanted if write.topic.endswith(CHANGELOG)]
        for write in wanted:
            if write not in self._late:
                await acknowledged(self._producer, write)
        return {(write.topic, write.partition): -1 for write in wanted}

    async def commit(self) -> None:
        for write in self._late:
            await acknowledged(self._producer, write)


def _transaction() -> None:
    for name in ("__init__", "open", "close", "begin", "write", "commit"):
        setattr(Transactions, name, getattr(Torn, name))


def _fence() -> None:
    begin: Callable[..., None] = Transactions.__init__

    def alone(self: Transactions, settings: Settings, transactional_id: str, *rest: Any) -> None:
        begin(self, settings, f"{transactional_id}-{os.getpid()}", *rest)

    Transactions.__init__ = alone  # type: ignore[method-assign]


def _promise() -> None:
    def reached(self: Context, wait: Wait) -> Instant:
        return self.at if wait is None else self.safe

    Context.reached = reached  # type: ignore[method-assign]


def _barrier() -> None:
    def covers(*_: object) -> bool:
        return True

    Partition._covers = covers  # type: ignore[assignment]


def _deduplication() -> None:
    def unknown(*_: object) -> bool:
        return False

    decide.is_known = unknown  # type: ignore[assignment]


TAKEN_OFF: dict[str, Callable[[], None]] = {
    "transaction": _transaction,  # outputs, state and positions are not written together
    "fence": _fence,  # every process has transactional ids of its own
    "promise": _promise,  # silence is believed although a source or a run has promised less
    "barrier": _barrier,  # a mark takes effect before what it covers has been read
    "deduplication": _deduplication,  # a fact that comes again counts again
}
