"""The state machine of a handoff as a table, and the fold of a set of facts through it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.core.instants import HOUR, Instant
from services.core.worktime import Calendar
from services.handoff.model import Happening, Stage, What
from services.handoff.policy import LegPolicy

PAUSE_LIMIT = 80 * HOUR  # 10 business days of 8 working hours; then the clock runs again by itself


class State(StrEnum):
    OPEN = "open"
    PAUSED = "paused"
    ACCEPTED = "accepted"
    CANCELLED = "cancelled"


# A fact that has no row changes nothing: a second opening, an acceptance after the first, a resume without a pause.
TRANSITIONS: dict[tuple[State, What], State] = {
    (State.OPEN, What.PAUSED): State.PAUSED,
    (State.OPEN, What.ACCEPTED): State.ACCEPTED,
    (State.OPEN, What.CANCELLED): State.CANCELLED,
    (State.PAUSED, What.RESUMED): State.OPEN,
    (State.PAUSED, What.ACCEPTED): State.ACCEPTED,
    (State.PAUSED, What.CANCELLED): State.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class View:
    """What a set of facts says: pauses are (from, until), the last one open-ended while it lasts."""

    opening: Happening
    state: State
    owner: str | None
    sender: str | None
    stopped: Instant | None
    pauses: tuple[tuple[Instant, Instant | None], ...]

    @property
    def accepted(self) -> Instant | None:
        return self.stopped if self.state is State.ACCEPTED else None


def fold(facts: Iterable[Happening]) -> View | None:
    """The view of facts in their order; None without an opening.

    The earliest opening counts; where it names no owner or sender, the next one that does is heard.
    """
    remaining = iter(facts)
    opening = next((fact for fact in remaining if fact.what is What.OPENED), None)
    if opening is None:
        return None
    state, owner, sender, stopped = State.OPEN, opening.owner, opening.sender, None
    pauses: list[tuple[Instant, Instant | None]] = []
    for fact in remaining:
        if fact.what is What.OPENED:
            owner, sender = owner or fact.owner, sender or fact.sender
        following = TRANSITIONS.get((state, fact.what))
        if following is None:
            continue
        if state is State.PAUSED:
            pauses[-1] = (pauses[-1][0], fact.at)
        match following:
            case State.PAUSED:
                pauses.append((fact.at, None))
            case State.ACCEPTED:
                owner, stopped = fact.owner or owner, fact.at
            case State.CANCELLED:
                stopped = fact.at
            case State.OPEN:
                pass
        state = following
    return View(opening, state, owner, sender, stopped, tuple(pauses))


def reached_at(view: View, calendar: Calendar, worked: int) -> Instant:
    """The instant at which a clock started by the opening has run `worked` µs of working time, pauses taken out.

    The clock is followed as if nothing ever stopped it.
    """
    start, left = view.opening.at, worked
    for paused, resumed in view.pauses:
        ran = calendar.between(start, max(start, paused))
        if ran >= left:
            break
        left -= ran
        limit = calendar.add(paused, PAUSE_LIMIT)
        start = max(start, limit if resumed is None else min(resumed, limit))
    return calendar.add(start, left)


@dataclass(frozen=True, slots=True)
class Clock:
    """One leg as the facts have it: when it is due, and which stages it reaches when."""

    leg: LegPolicy
    due: Instant
    stages: dict[Stage, Instant]


def clocks(view: View, legs: Sequence[LegPolicy]) -> list[Clock]:
    """Each leg's due time and stages. A stage is reached strictly before the clock stops: exactly due is in time."""
    found = []
    for leg in legs:
        due = reached_at(view, leg.calendar, leg.target)
        stages = {Stage(name): reached_at(view, leg.calendar, worked) for name, worked in leg.offsets.items()}
        stopped = view.stopped
        if stopped is not None:
            stages = {stage: at for stage, at in stages.items() if at < stopped}
        if view.accepted is not None and view.accepted <= due:
            stages[Stage.MET] = view.accepted
        found.append(Clock(leg, due, stages))
    return found


def diagram() -> str:
    """The table as a Mermaid state diagram, for the documentation."""
    rows = [f"    {before} --> {after}: {what.name.lower()}" for (before, what), after in TRANSITIONS.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {State.OPEN}: opened", *rows])
