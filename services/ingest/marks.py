"""What the clock may say: a mark from the last mark, the time and what runs and sources have promised. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from schemas import sources
from schemas.envelope import EARLIEST, Event
from services.core.instants import DAY, HOUR, MINUTE, SECOND, Instant, instant
from services.core.processor import NEVER

CLOSED_LISTED = 14 * DAY
STALLED_AFTER = 15 * MINUTE
GAP = MINUTE
MISSED = 3  # heartbeats in a row, after which a source counts as silent
LAPSE = 4 * HOUR  # after which a silent source restrains no clock: no breach waits for ever


@dataclass(frozen=True, slots=True)
class Run:
    """An import as its last record has it; `told` is when that record was written."""

    through: Instant
    told: Instant
    closed: bool


@dataclass(frozen=True, slots=True)
class Runs:
    """Every run, by its id: a fold over `cs.sources`."""

    known: Mapping[str, Run] = field(default_factory=dict)

    def after(self, event: Event) -> "Runs":
        """With this event applied; records about sources, not runs, change nothing."""
        match event:
            case sources.RunStarted() | sources.RunAdvanced():
                return self._with(event.data, event, closed=False)
            case sources.RunFinished() | sources.RunAbandoned():
                return self._with(event.data, event, closed=True)
            case _:
                return self

    def _with(self, progress: sources.Progress, event: Event, *, closed: bool) -> "Runs":
        # A run without progress is named with a promise of nothing, so that its importer may begin.
        through = instant(progress.through or EARLIEST)
        before = self.known.get(progress.run)
        if before is not None:
            # Closed is final, and a promise once given stays: two importers of one file tell of two places.
            closed, through = closed or before.closed, max(through, before.through)
        run = Run(through, instant(event.time) if before is None or not before.closed else before.told, closed)
        return replace(self, known={**self.known, progress.run: run})

    def promises(self) -> dict[str, Instant]:
        return {name: run.through for name, run in self.known.items() if not run.closed}

    def closed(self, at: Instant | None) -> dict[str, Instant]:
        """The closed runs of the last 14 days before `at`; all there ever were without it."""
        since = NEVER if at is None else at - CLOSED_LISTED
        return {name: run.told for name, run in self.known.items() if run.closed and run.told > since}

    def stalled(self, at: Instant) -> tuple[str, ...]:
        return tuple(
            sorted(name for name, run in self.known.items() if not run.closed and at - run.told > STALLED_AFTER)
        )


@dataclass(frozen=True, slots=True)
class Beating:
    """A source that sends heartbeats: how often, and how late its facts may be. Microseconds."""

    every: int
    grace: int


@dataclass(frozen=True, slots=True)
class Hearts:
    """Every source with a heartbeat, by its name: a fold over `cs.sources`."""

    known: Mapping[str, Beating] = field(default_factory=dict)
    seen: Mapping[str, Instant] = field(default_factory=dict)

    def after(self, event: Event) -> "Hearts":
        """With this event applied, in whatever order they come; the latest heartbeat counts."""
        match event:
            case sources.SourceRegistered():
                told = event.data
                known = {name: one for name, one in self.known.items() if name != told.source}
                if told.heartbeat is not None:
                    known[told.source] = Beating(told.heartbeat * SECOND, told.grace * SECOND)
                return replace(self, known=known)
            case sources.SourceSeen():
                # Who sets its clock ahead promises no more than it can have known when we heard it.
                at = min(instant(event.time), instant(event.receivedat or event.time))
                name = event.data.source
                return replace(self, seen={**self.seen, name: max(at, self.seen.get(name, at))})
            case _:
                return self

    def promises(self, at: Instant) -> dict[str, Instant]:
        """How far each source is complete: its last heartbeat less its grace, never extrapolated."""
        return {
            name: self.seen[name] - beating.grace
            for name, beating in self.known.items()
            if name in self.seen and at - self.seen[name] <= LAPSE
        }

    def silent(self, at: Instant) -> tuple[str, ...]:
        """Sources that have missed several heartbeats, or never sent one."""
        return tuple(
            sorted(
                name
                for name, beating in self.known.items()
                if name not in self.seen or at - self.seen[name] > MISSED * beating.every
            )
        )

    def heard(self, at: Instant) -> dict[str, Instant]:
        """The last heartbeat of each silent source that ever sent one, however long ago."""
        return {name: self.seen[name] for name in self.silent(at) if name in self.seen}


@dataclass(frozen=True, slots=True)
class Allowance:
    """How long facts may take: `grace` in ordinary times, `redelivery` after we were down. Microseconds.

    We were down when two marks are more than `gap` apart.
    """

    grace: int
    redelivery: int
    gap: int = GAP


@dataclass(frozen=True, slots=True)
class Tick:
    """The clock's own part of a mark. `safe` stands still until `held_until`."""

    at: Instant
    safe: Instant
    held_until: Instant | None = None


def tick(last: Tick | None, wall: Instant, allowance: Allowance) -> Tick:
    """The next tick: never back, and after a gap in the marks silent about what vendors may still redeliver."""
    if last is None:
        return Tick(wall, wall - allowance.grace)
    at = max(last.at, wall)
    held_until = last.held_until
    if at - last.at > allowance.gap:
        held_until = at + allowance.redelivery
    if held_until is not None and at < held_until:
        return Tick(at, last.safe, held_until)
    return Tick(at, max(last.safe, at - allowance.grace))
