"""Looks at the engine once a second: beats for the watchdog, publishes lags, ends a process that stands still."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Generic

from schemas.topics import CLOCK, dead_letters
from services.core.instants import SECOND
from services.core.processor import NEVER, Processor, S
from services.runtime import clock, kafka, log
from services.runtime.engine import incarnations
from services.runtime.engine.engine import Engine
from services.runtime.engine.flush import Lane
from services.runtime.engine.names import changelog_of
from services.runtime.engine.partition import Meta
from services.runtime.engine.progress import Behind, Progress, Sight, Spot
from services.runtime.http import Readiness
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings
from services.runtime.watchdog import Watchdog

TICK_SECONDS = 0.25
TICKS = 4  # from one look to the next
ASK_SECONDS = 2.0  # between two questions where topics end; the consumer's own answers stop where it stops
ASK_PATIENCE = 15.0
OLD_SECONDS = 60.0  # without an answer nobody knows whether there is anything to read

Bounds = Mapping[Spot, tuple[int, int]]


class Watch(Generic[S]):
    """Of one engine. Ends of topics come from the broker, over a connection that the consumer knows nothing of."""

    def __init__(
        self,
        settings: Settings,
        processor: Processor[S],
        engine: Engine[S],
        metrics: Metrics,
        watchdog: Watchdog,
        progress: Progress | None = None,
    ) -> None:
        self._settings = settings
        self._name = processor.name
        self._inputs = [topic.name for topic in (*processor.inputs, CLOCK)]
        self._changelog = changelog_of(processor.name)
        self._letters = dead_letters(processor.name).name
        self._engine = engine
        self._metrics = metrics
        self._watchdog = watchdog
        self._progress = progress or Progress()
        self._behind: dict[Spot, Behind] = {}
        self._bounds: Bounds = {}
        self._answered = clock.elapsed()
        self._published: set[int] = set()

    async def run(self) -> None:
        """Look until cancelled; whatever goes wrong here ends the process, which nobody would watch any more."""
        asking = asyncio.create_task(self._ask())
        naming = asyncio.create_task(self._ask_names())
        try:
            await self._look_again_and_again()
        except Exception as error:  # noqa: BLE001  # see above
            self._engine.abort(f"the engine cannot be watched: {error}", error)
        finally:
            asking.cancel()
            naming.cancel()

    async def _look_again_and_again(self) -> None:
        looked = clock.elapsed()
        while True:
            self._watchdog.beat()
            for _ in range(TICKS):
                due = clock.elapsed() + TICK_SECONDS
                await asyncio.sleep(TICK_SECONDS)
                self._metrics.loop_lag.observe(max(0.0, clock.elapsed() - due))
            now = clock.elapsed()
            self._look(now, now - looked)
            looked = now

    # -- what is there to read -----------------------------------------------------------------------------------

    async def _ask(self) -> None:
        while True:
            try:
                async with kafka.tail(self._settings) as tail:
                    while True:
                        async with asyncio.timeout(ASK_PATIENCE):
                            self._heard(await tail.bounds(self._asked()))
                        await asyncio.sleep(ASK_SECONDS)
            except Exception as error:  # noqa: BLE001  # whatever it is passes, or the partitions stand still for too long
                log.get().warning("nobody says where topics end", why=str(error) or repr(error))
                await asyncio.sleep(ASK_SECONDS)

    async def _ask_names(self) -> None:
        def metas() -> list[Meta]:
            return [lane.partition.meta for lane in self._engine.lanes.values()]

        try:
            await incarnations.watch(self._settings, [*self._inputs, self._changelog], metas, self._engine.abort)
        except Exception as error:  # noqa: BLE001  # records of a topic made anew would be skipped unseen
            self._engine.abort(f"cannot ask which topics these are: {error}", error)

    def _asked(self) -> list[Spot]:
        numbers = range(self._settings.partitions)
        mine = [(name, number) for name in (*self._inputs, self._changelog) for number in self._engine.assigned]
        return [*mine, *((self._letters, number) for number in numbers)]

    def _heard(self, bounds: Bounds) -> None:
        now = clock.elapsed()
        self._bounds, self._answered = bounds, now
        for spot in self._inputs_of(self._engine.assigned):
            if spot in bounds:
                self._behind.setdefault(spot, Behind()).saw(now, bounds[spot][1])
        held = [end - begin for (name, _), (begin, end) in bounds.items() if name == self._letters]
        self._metrics.letters.labels(self._letters).set(sum(held))

    def _inputs_of(self, numbers: Iterable[int]) -> list[Spot]:
        return [(name, number) for number in numbers for name in self._inputs]

    # -- once a second -------------------------------------------------------------------------------------------

    def _look(self, now: float, seconds: float) -> None:
        assigned = self._engine.assigned
        self._forget(assigned)
        self._engine.observe()
        for number in assigned:
            self._publish(number, now)
        stalls = self._progress.look(seconds, self._sights(now, assigned))
        if stalls:
            self._engine.abort("; ".join(map(str, stalls)))

    def _sights(self, now: float, assigned: Iterable[int]) -> dict[Spot, Sight]:
        """How far each input was read, and how far what was read is committed; -1 before the partition is opened."""
        is_old, lanes = now - self._answered > OLD_SECONDS, self._engine.lanes
        found = {}
        for name, number in self._inputs_of(assigned):
            lane = lanes.get(number)
            # A full partition is not excused: what it waits for, its flush, has a bound far below the patience.
            waits = waiting(lane) if lane is None or not lane.ready else None
            read = -1 if lane is None else lane.partition.meta.positions[name]
            if (name, number) in self._bounds:
                asking = "an answer of Kafka where topics end" if is_old else None
                found[name, number] = Sight(read, self._bounds[name, number][1], waits or asking)
            if lane is not None:
                found[f"{name} (committed)", number] = Sight(lane.partition.saved[name], read, waits)
        return found

    def _publish(self, number: int, now: float) -> None:
        metrics, place = self._metrics, (self._name, str(number))
        lane = self._engine.lanes.get(number)
        metrics.restore_remaining.labels(*place).set(self._remaining(number) if lane is None else 0)
        if lane is None:
            metrics.caught_up.labels(*place).set(0)
            return
        partition, lag = lane.partition, 0.0
        for name in self._inputs:
            spot, position = (name, number), partition.meta.positions[name]
            if spot in self._bounds:
                left = max(0, self._bounds[spot][1] - position)
                metrics.lag_records.labels(self._name, name, str(number)).set(left)
                lag = max(lag, self._lag(spot, position, partition.appended.get(name), now))
        metrics.lag.labels(*place).set(lag)
        metrics.caught_up.labels(*place).set(lane.ready and lag == 0 and (CLOCK.name, number) in self._bounds)
        if not self._settings.simulated:
            at = partition.meta.at
            metrics.clock_age.labels(*place).set(float("inf") if at == NEVER else (clock.now() - at) / SECOND)

    def _lag(self, spot: Spot, position: int, appended: int | None, now: float) -> float:
        """Seconds; `appended` is when the last record read was written, in milliseconds of the wall clock."""
        behind = self._behind.get(spot)
        if behind is None or not behind.samples:
            return 0.0
        lag = behind.seconds(now, position)
        if lag is not None:
            return lag
        # Behind since before we looked: what comes next was written at about the time of what was read last.
        written = 0.0 if appended is None else clock.now() / SECOND - appended / 1000
        return max(now - behind.samples[0][0], written)

    def _remaining(self, number: int) -> int:
        begin, end = self._bounds.get((self._changelog, number), (0, 0))
        snapshot = self._engine.restoring.get(number)
        return max(0, end - max(begin, snapshot.read if snapshot is not None else 0))

    def _forget(self, assigned: frozenset[int]) -> None:
        """A partition that another process serves now must not stand in two places."""
        metrics = self._metrics
        for number in self._published - assigned:
            place = self._name, str(number)
            for gauge in (
                metrics.lag, metrics.caught_up, metrics.clock_age, metrics.restore_remaining, metrics.armed,
                metrics.overdue, metrics.accounts, metrics.state_bytes, metrics.clock_time,
            ):  # fmt: skip
                _without(gauge, *place)
            for name, _ in self._inputs_of([number]):
                _without(metrics.lag_records, self._name, name, place[1])
                _without(metrics.committed, self._name, name, place[1])
                self._behind.pop((name, number), None)
        self._published = set(assigned)


def _without(gauge: Any, *labels: str) -> None:
    try:
        gauge.remove(*labels)
    except KeyError:  # it was never set
        return


def waiting(lane: Lane[Any] | None) -> str | None:
    """What an assigned partition waits for on purpose; None while it takes records."""
    if lane is None:
        return "its restore"
    if not lane.ready:
        return "a new start after a flush that failed"
    return None if lane.takes else "its flush"


def readiness(engine: Engine[Any]) -> Readiness:
    """Which of the assigned partitions serve, and in one sentence what the others wait for."""
    assigned, lanes = engine.assigned, engine.lanes
    waits = {number: waiting(lanes.get(number)) for number in sorted(assigned)}
    serving = [number for number in waits if number in lanes and lanes[number].ready]
    missing = "; ".join(f"partition {number} waits for {waits[number]}" for number in waits if number not in serving)
    if not engine.settled:
        missing = "the group has not assigned any partitions yet" if not assigned else "partitions are being reassigned"
    return Readiness(
        engine.ready, missing or None, engine.guarantee, {"assigned": sorted(assigned), "serving": serving}
    )
