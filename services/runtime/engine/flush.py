"""The flush of one partition: state, positions and outputs in one transaction, one in flight at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Generic

from services.core.instants import SECOND
from services.core.processor import Effect, S
from services.runtime import clock
from services.runtime.engine.keep import Kept
from services.runtime.engine.partition import Cut
from services.runtime.engine.steps import Passed, Step, unobserved
from services.runtime.kafka import Fenced, Unacknowledged, Write, Writer
from services.runtime.metrics import Metrics, Phase
from services.runtime.settings import Settings

FULL = 20_000  # records reduced but not flushed; beyond it the partition takes no more
EARLY = 5_000  # records, with which a flush waits for no interval
MANY = 500  # records, from which on there are more to come and half as many flushes cost half as much
QUICK = 5  # so much more often without transactions, where a flush is a single round trip
RIDE_SECONDS = 5.0  # positions alone wait this long for something worth a transaction
FLUSH_SECONDS = 20.0  # aiokafka has no delivery timeout of its own
LAST_FLUSH_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Owner(Generic[S]):
    """Whom a lane tells.

    `perform` is given what committed states want done, `failed` is told what stopped a flush, `crashed` of anything
    that must not happen, `passed` of every step.
    """

    perform: Callable[[Sequence[Effect]], None]
    failed: Callable[["Lane[S]", Exception], Awaitable[None]]
    crashed: Callable[[str, Exception], None]
    passed: Passed = unobserved


class Lane(Generic[S]):
    """A partition with its transactional producer and the task that flushes it; serves until it is told otherwise."""

    def __init__(
        self,
        settings: Settings,
        held: Kept[S],
        changelog: str,
        transactions: Writer,
        metrics: Metrics,
        owner: Owner[S],
    ) -> None:
        self.partition = held.partition
        self.ready = True
        self.has_flushed = False
        self._settings = settings
        self._changelog = settings.topic(changelog)
        self._transactions = transactions
        self._metrics = metrics
        name = self.partition.processor
        self._phases = {phase: metrics.flush_seconds.labels(name, phase) for phase in Phase}
        self._age = metrics.event_to_output.labels(name)
        self._owner = owner
        self._meta_offset = held.offset
        self._wake = asyncio.Event()
        self._early = asyncio.Event()
        self._busy = False
        self._failed = False
        self._interval = settings.flush_ms / 1000 / (1 if transactions.transactional else QUICK)
        self._begun_at = self._ended_at = clock.elapsed()
        self._task = asyncio.create_task(self._run())

    @property
    def takes(self) -> bool:
        """Shall more records be fetched for it?"""
        return self.ready and self.partition.pending <= FULL

    def touched(self) -> None:
        """The partition took something in."""
        if self._has_many:
            self._early.set()
        if self.partition.changed or self.partition.overdue or self._has_many:
            self._wake.set()

    @property
    def _has_many(self) -> bool:
        return self.partition.pending >= EARLY

    async def close(self) -> Kept[S] | None:
        """One last flush, bounded; then the task ends and the producer is closed.

        Answers the partition where it stands in the changelog just as it is here, so that it may be kept.
        """
        self.ready = False
        self._wake.set()
        self._early.set()
        deadline = clock.elapsed() + LAST_FLUSH_SECONDS
        while not self._task.done() and not self._failed and not self._is_clean:
            if clock.elapsed() > deadline:
                break
            self._wake.set()
            await asyncio.sleep(0.01)
        is_clean = self._is_clean and not self._failed
        await self.abandon()
        return Kept(self.partition, self._meta_offset) if is_clean else None

    @property
    def _is_clean(self) -> bool:
        return not (self._busy or self.partition.moved or self.partition.changed)

    async def abandon(self) -> None:
        """Stop without a flush; what was not committed is aborted by the next owner."""
        self.ready = False
        if self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=LAST_FLUSH_SECONDS)
        await self._transactions.close()

    async def _run(self) -> None:
        try:
            while await self._flush():
                continue
        except Exception as error:  # noqa: BLE001  # a lane that ended unseen would look alive and stand still
            self._owner.crashed(f"partition {self.partition.number} cannot go on: {error}", error)

    async def _flush(self) -> bool:
        """One flush, when there is something worth it; False once this lane is done for."""
        await self._worth_flushing()
        cut = self.partition.cut()
        self._begun_at = clock.elapsed()
        self._early.clear()
        self._busy = True
        try:
            # Not `wait_for`: in Python 3.11 it may swallow the cancellation of this task.
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._write(cut)
        except TimeoutError:
            return await self._fail(Unacknowledged(f"the broker gave no answer for {FLUSH_SECONDS:.0f} s"))
        except Exception as error:  # noqa: BLE001  # the one error rule: whatever it is, start again from the log
            return await self._fail(error)
        self._busy, self.has_flushed = False, True
        self.partition.committed(cut)
        if cut.effects and self.ready:
            self._owner.perform(cut.effects)
        await self._owner.passed(Step.APPLIED, self.partition.number)
        if self.partition.overdue and self.ready:
            self.partition.fire()
            self.touched()
        return True

    async def _fail(self, error: Exception) -> bool:
        self._metrics.flush_failures.labels(self.partition.processor).inc()
        if isinstance(error, Fenced):
            self._metrics.zombie_writes.labels(self.partition.processor).inc()
        self.ready, self._failed = False, True
        await self._owner.failed(self, error)
        return False

    async def _worth_flushing(self) -> None:
        """Return when something changed (not sooner than the flush interval), or positions have waited long."""
        while True:
            ride = self._begun_at + RIDE_SECONDS - clock.elapsed()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(ride, 0.01)):
                    await self._wake.wait()
            self._wake.clear()
            # Keys may be asked in their thousands before one of them changes: that waits for no further mark.
            while self.partition.overdue and not self.partition.changed and self.ready:
                self.partition.fire()
                await asyncio.sleep(0)
            # Records in their thousands that change nothing must not fill the partition until the ride is over.
            is_due = ride <= 0 or not self.ready or self._has_many
            if self.partition.changed or (self.partition.moved and is_due):
                break
            if ride <= 0:
                self._begun_at = clock.elapsed()
        await self._pause(self._interval)
        if self.partition.pending >= MANY:
            await self._pause(2 * self._interval)

    async def _pause(self, interval: float) -> None:
        """Until an interval after the begin of the last flush; a slow one is followed by half of it at least."""
        due = max(self._begun_at + interval, self._ended_at + interval / 2)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, due - clock.elapsed())):
                await self._early.wait()

    async def _write(self, cut: Cut) -> None:
        number, passed, transactions = self.partition.number, self._owner.passed, self._transactions
        state = Write(self._changelog, number, cut.changelog)
        writes = [Write(self._settings.topic(topic), to, records) for (topic, to), records in cut.outputs.items()]
        await passed(Step.CUT, number)
        with self._timed(Phase.BEGIN):
            await transactions.begin()
        await passed(Step.BEGUN, number)
        # The state is the last of them: without transactions a crash may repeat outputs, but never lose one.
        with self._timed(Phase.WRITE):
            offsets = await transactions.write([*writes, state])
        await passed(Step.WRITTEN, number)
        with self._timed(Phase.COMMIT):
            await transactions.commit()
        await passed(Step.COMMITTED, number)
        self._meta_offset = offsets[self._changelog, number]
        self._ended_at = clock.elapsed()
        if cut.oldest is not None:
            self._age.observe(max(0.0, clock.now() / SECOND - cut.oldest / 1000))

    @contextmanager
    def _timed(self, phase: Phase) -> Iterator[None]:
        begun = clock.elapsed()
        yield
        self._phases[phase].observe(clock.elapsed() - begun)
