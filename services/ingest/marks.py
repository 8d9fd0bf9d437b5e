"""What the clock may say: a mark from the last mark, the wall time and what runs have promised. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from schemas import sources
from schemas.envelope import EARLIEST, Event
from services.core.instants import DAY, MINUTE, Instant, instant
from services.core.processor import NEVER

CLOSED_LISTED = 14 * DAY
STALLED_AFTER = 15 * MINUTE
GAP = MINUTE


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
class Allowance:
    """How long facts may take: `grace` in ordinary times, `redelivery` after we were down. Microseconds."""

    grace: int
    redelivery: int


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
    if at - last.at > GAP:
        held_until = at + allowance.redelivery
    if held_until is not None and at < held_until:
        return Tick(at, last.safe, held_until)
    return Tick(at, max(last.safe, at - allowance.grace))
