"""The state machine of a handoff as a table, and the fold of a set of facts through it."""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import lru_cache

from msgspec import Struct

from services.core.instants import HOUR, Instant
from services.core.worktime import Calendar
from services.handoff.model import Happening, Stage, What
from services.handoff.policy import LegPolicy

PAUSE_LIMIT = 80 * HOUR  # 10 business days of 8 working hours; then the clock runs again by itself

_BREACHED, _MET = list(Stage).index(Stage.BREACHED), list(Stage).index(Stage.MET)
_OPENED = What.OPENED  # for what runs often: to get a member from its class is slow


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

Pauses = tuple[tuple[Instant, Instant | None], ...]


class View(Struct, frozen=True, gc=False):
    """What a set of facts says: pauses are (from, until), the last one open-ended while it lasts."""

    opening: Happening
    state: State
    owner: str | None
    sender: str | None
    stopped: Instant | None
    pauses: Pauses

    @property
    def accepted(self) -> Instant | None:
        return self.stopped if self.state is State.ACCEPTED else None


def fold(facts: Iterable[Happening]) -> View | None:
    """The view of facts in their order; None without an opening.

    The earliest opening counts; where it names no owner or sender, the next one that does is heard.
    """
    remaining = iter(facts)
    opening = next((fact for fact in remaining if fact.what is _OPENED), None)
    if opening is None:
        return None
    state, owner, sender, stopped = State.OPEN, opening.owner, opening.sender, None
    pauses: list[tuple[Instant, Instant | None]] = []
    for fact in remaining:
        if fact.what is _OPENED:
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


class Clock(Struct, frozen=True, gc=False):
    """One leg as the facts have it: when it is due, and when it reaches each stage, in their order; None: never."""

    leg: LegPolicy
    due: Instant
    reached: tuple[Instant | None, ...]

    @property
    def breached(self) -> Instant | None:
        return self.reached[_BREACHED]

    @property
    def read_from_silence(self) -> tuple[Instant | None, ...]:
        """The stages but for the last, MET, which is a fact."""
        return self.reached[:-1]


def clocks(view: View, legs: Sequence[LegPolicy]) -> list[Clock]:
    """Each leg's due time and stages. A stage is reached strictly before the clock stops: exactly due is in time."""
    running = [_unstopped(leg, view.opening.at, view.pauses) for leg in legs]
    stopped = view.stopped
    return running if stopped is None else [_stopped(clock, stopped, view.accepted) for clock in running]


# Of a handoff at each of its dues, and of all that were opened at one instant; a clock takes about half a kilobyte.
@lru_cache(maxsize=8_192)
def _unstopped(leg: LegPolicy, opened: Instant, pauses: Pauses) -> Clock:
    if pauses:
        reached = [_reached_at(leg.calendar, opened, pauses, worked) for worked in leg.offsets]
    else:
        reached = leg.calendar.add_each(opened, leg.offsets)
    due = reached[leg.offsets.index(leg.target)]
    first = () if len(reached) == _MET else (None,)
    return Clock(leg, due, (*first, *reached, None))


def _stopped(clock: Clock, stopped: Instant, accepted: Instant | None) -> Clock:
    reached = [at if at is not None and at < stopped else None for at in clock.read_from_silence]
    met = accepted if accepted is not None and accepted <= clock.due else None
    return Clock(clock.leg, clock.due, (*reached, met))


def _reached_at(calendar: Calendar, opened: Instant, pauses: Pauses, worked: int) -> Instant:
    """The instant at which a clock has run `worked` µs of working time since the opening, pauses taken out.

    The clock is followed as if nothing ever stopped it.
    """
    start, left = opened, worked
    for paused, resumed in pauses:
        ran = calendar.between(start, max(start, paused))
        if ran >= left:
            break
        left -= ran
        limit = calendar.add(paused, PAUSE_LIMIT)
        start = max(start, limit if resumed is None else min(resumed, limit))
    return calendar.add(start, left)


def diagram() -> str:
    """The table as a Mermaid state diagram, for the documentation."""
    rows = [f"    {before} --> {after}: {what.name.lower()}" for (before, what), after in TRANSITIONS.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {State.OPEN}: opened", *rows])
