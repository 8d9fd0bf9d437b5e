"""The flush of one partition: state, positions and outputs in one transaction, one in flight at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic

from services.core.processor import Effect, S
from services.runtime import clock
from services.runtime.engine.partition import Cut, Partition
from services.runtime.kafka import Transactions, Write
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings

PENDING_LIMIT = 20_000  # records reduced but not flushed; beyond it the partition takes no more
RIDE_SECONDS = 5.0  # positions alone wait this long for something worth a transaction
FLUSH_SECONDS = 20.0  # aiokafka has no delivery timeout of its own
LAST_FLUSH_SECONDS = 3.0


class Lane(Generic[S]):
    """A partition with its transactional producer and the task that flushes it.

    `perform` is given what committed states want done, `failed` is told what stopped a flush, `crashed` of anything
    that must not happen; until then the lane serves.
    """

    def __init__(
        self,
        settings: Settings,
        partition: Partition[S],
        changelog: str,
        transactions: Transactions,
        metrics: Metrics,
        perform: Callable[[Sequence[Effect]], None],
        failed: Callable[["Lane[S]", Exception], Awaitable[None]],
        crashed: Callable[[str, Exception], None],
    ) -> None:
        self.partition = partition
        self.ready = True
        self._settings = settings
        self._changelog = settings.topic(changelog)
        self._transactions = transactions
        self._metrics = metrics
        self.has_flushed = False
        self._perform = perform
        self._failed = failed
        self._crashed = crashed
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._busy = False
        self._flushed_at = clock.elapsed()
        self._task = asyncio.create_task(self._run())

    def touched(self) -> None:
        """The partition took something in."""
        if self.partition.changed or self.partition.overdue:
            self._wake.set()
        if self.partition.pending > PENDING_LIMIT:
            self._room.clear()

    async def room(self) -> None:
        """Wait while too much is pending; returns at once when the lane stops serving."""
        await self._room.wait()

    async def close(self) -> None:
        """One last flush, bounded; then the task ends and the producer is closed."""
        self.ready = False
        self._wake.set()
        deadline = clock.elapsed() + LAST_FLUSH_SECONDS
        while not self._task.done() and (self._busy or self.partition.moved or self.partition.changed):
            if clock.elapsed() > deadline:
                break
            self._wake.set()
            await asyncio.sleep(0.01)
        await self.abandon()

    async def abandon(self) -> None:
        """Stop without a flush; what was not committed is aborted by the next owner."""
        self.ready = False
        self._room.set()
        if self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=LAST_FLUSH_SECONDS)
        await self._transactions.close()

    async def _run(self) -> None:
        try:
            while await self._flush():
                continue
        except Exception as error:  # noqa: BLE001  # a lane that ended unseen would look alive and stand still
            self._crashed(f"partition {self.partition.number} cannot go on: {error}", error)

    async def _flush(self) -> bool:
        """One flush, when there is something worth it; False once this lane is done for."""
        await self._worth_flushing()
        cut = self.partition.cut()
        self._room.set()
        self._busy = True
        try:
            # Not `wait_for`: in Python 3.11 it may swallow the cancellation of this task.
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._write(cut)
        except Exception as error:  # noqa: BLE001  # the one error rule: whatever it is, start again from the log
            self._metrics.flush_failures.labels(self.partition.processor).inc()
            self.ready = False
            await self._failed(self, error)
            return False
        self._busy, self.has_flushed = False, True
        self.partition.committed(cut)
        if cut.effects and self.ready:
            self._perform(cut.effects)
        if self.partition.overdue and self.ready:
            self.partition.fire()
            self.touched()
        return True

    async def _worth_flushing(self) -> None:
        """Return when something changed (not sooner than the flush interval), or positions have waited long."""
        while True:
            ride = self._flushed_at + RIDE_SECONDS - clock.elapsed()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(ride, 0.01)):
                    await self._wake.wait()
            self._wake.clear()
            # Keys may be asked in their thousands before one of them changes: that waits for no further mark.
            while self.partition.overdue and not self.partition.changed and self.ready:
                self.partition.fire()
                await asyncio.sleep(0)
            if self.partition.changed or (self.partition.moved and (ride <= 0 or not self.ready)):
                break
            if ride <= 0:
                self._flushed_at = clock.elapsed()
        since = clock.elapsed() - self._flushed_at
        if self.ready:
            await asyncio.sleep(max(0.0, self._settings.flush_ms / 1000 - since))

    async def _write(self, cut: Cut) -> None:
        number, begun = self.partition.number, clock.elapsed()
        writes = [Write(self._changelog, number, cut.changelog)]
        writes += [Write(self._settings.topic(topic), to, records) for (topic, to), records in cut.outputs.items()]
        await self._transactions.commit(writes)
        self._flushed_at = clock.elapsed()
        self._metrics.flush_seconds.labels(self.partition.processor).observe(self._flushed_at - begun)
