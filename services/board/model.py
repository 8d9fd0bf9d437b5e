"""The nouns: what the view keeps of an account, field by field as it stands in Redis.

Each field carries the offset of the last record folded into it. `offset` comes first in the JSON, because the writer's
script reads it there. Times are microseconds since 1970.
"""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from schemas.health import Band, CapCode, Cause, Colour
from services.core.instants import DAY, Instant

FORMAT = 2  # of everything below; a view of another format is built anew
FACTS_KEPT = 100
NAMINGS_KEPT = 16
FALL_STANDS = 14 * DAY  # a fall of the band longer ago is no news

Order = tuple[Instant, int, str, str]  # (time, source rank, source, id): the last value is the greatest
Turn = tuple[Instant, int, int, str, str]  # (time, removed before named, source rank, source, id)
StepState = Literal["raised", "corrected", "held", "retracted"]
OPEN_STATES = frozenset({"open", "paused"})
STAGES = ("noticed", "at_risk", "suspected", "breached", "passed_125", "passed_200", "met")  # as a clock reaches them


class Field(Struct, frozen=True):
    """One field of one account."""

    offset: int


class Name(Field, frozen=True):
    """What the account is called."""

    order: Order | None = None
    name: str | None = None


class Naming(Struct, frozen=True, array_like=True):
    """A fact about who owns the account: somebody is named, or removed (None: whoever it was)."""

    turn: Turn
    is_named: bool
    owner: str | None


class Owner(Field, frozen=True):
    """The last facts about who owns the account, in the order in which they happened."""

    namings: tuple[Naming, ...] = ()


class Deal(Field, frozen=True):
    """Whether a deal is won, the last word on what it is worth a year, and on who takes the account over with it."""

    won: bool = False
    order: Order | None = None
    amount: str | None = None
    currency: str | None = None
    named: Naming | None = None


class Leg(Struct, frozen=True):
    leg: str
    due: Instant | None
    calendar: str


class Verdict(Struct, frozen=True):
    """A stage that a clock has reached, and that stands."""

    at: Instant
    due: Instant | None
    n: int
    correction: int
    transition: str


class Retraction(Struct, frozen=True):
    """A stage that was published and taken back."""

    at: Instant
    n: int
    transition: str
    reason: str


class Handoff(Field, frozen=True):
    """The last state of a handoff, and per leg and stage what stands and what was taken back."""

    kind: str
    state: str = ""  # empty: only verdicts of it have been read so far
    owner: str | None = None
    sender: str | None = None
    opened: Instant | None = None
    accepted: Instant | None = None
    legs: tuple[Leg, ...] = ()
    policy: int = 0
    reached: dict[str, dict[str, Verdict]] = {}
    retracted: dict[str, dict[str, Retraction]] = {}

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_STATES


class Step(Struct, frozen=True):
    """What alerting did about one stage."""

    state: StepState
    at: Instant
    due: Instant | None
    owner: str | None
    recipients: tuple[str, ...]
    reason: str
    transition: str
    correction: int


class Delivery(Struct, frozen=True):
    """How the sending of one notice to one endpoint ended."""

    at: Instant
    outcome: Literal["delivered", "failed"]
    notice: str
    recipient: str
    endpoint: str
    attempts: int
    status: int | None
    reason: str


class Alert(Field, frozen=True):
    """One clock that somebody must act on: its stages, whether it is over, and what was sent."""

    handoff: str = ""  # empty: only deliveries of it have been read so far
    kind: str = ""
    leg: str = ""
    stages: dict[str, Step] = {}
    accepted: Instant | None = None
    resolved: Instant | None = None
    deliveries: dict[str, Delivery] = {}

    @property
    def is_open(self) -> bool:
        """Has somebody been told of what still stands and is not over?"""
        return self.state == "raised"

    @property
    def state(self) -> Literal["raised", "held", "resolved", "retracted"]:
        states = {step.state for step in self.stages.values()}
        if states == {"retracted"}:
            return "retracted"
        if self.resolved is not None or self.accepted is not None:
            return "resolved"
        return "raised" if states & {"raised", "corrected"} else "held"

    @property
    def stage(self) -> str | None:
        """The last stage that stands; where none does, the last that was taken back."""
        standing = [stage for stage, step in self.stages.items() if step.state != "retracted"]
        return max(standing or self.stages, key=STAGES.index, default=None)


# ---------------------------------------------------------------- health

# Caps that say how little is known, and nothing that somebody could do about the account.
QUIET: frozenset[CapCode] = frozenset({"NARROW", "THIN_DATA"})


class Evidence(Struct, frozen=True, array_like=True):
    """A fact by its identity."""

    source: str
    id: str
    at: Instant


class Contribution(Struct, frozen=True, array_like=True):
    """What one signal adds to the prior, in milli-points."""

    signal: str
    group: str
    weight: float
    value: float | None
    score: float | None
    trust: float
    points: int
    at: Instant | None
    evidence: tuple[Evidence, ...]
    missing: str | None


class Cap(Struct, frozen=True, array_like=True):
    code: CapCode
    limit: int
    since: Instant
    reason: str
    evidence: tuple[Evidence, ...] = ()


class Outlook(Struct, frozen=True, array_like=True):
    """What becomes of the band if nothing happens."""

    band: Band
    at: Instant


class Health(Field, frozen=True):
    """The last score, with every reason for it. Scores and points in milli-points."""

    score: int
    raw: int
    prior: int
    band: Band
    colour: Colour
    since: Instant
    coverage: float
    contributions: tuple[Contribution, ...]
    profile: str
    profile_reason: str
    as_of: Instant
    policy: int
    unsure: tuple[str, ...] = ()
    caps: tuple[Cap, ...] = ()
    trend: float | None = None
    oldest_input: Instant | None = None
    outlook: Outlook | None = None

    @property
    def is_open(self) -> bool:
        """Is there something to do, whatever the band?"""
        return bool(self.pressing) or self.ownerless > 0

    @property
    def pressing(self) -> tuple[Cap, ...]:
        """Caps that somebody could end. A weak link of an account that scores low anyway says nothing more."""
        weak = {"WEAK_LINK"} if self.raw <= min((cap.limit for cap in self.caps), default=0) else set()
        return tuple(cap for cap in self.caps if cap.code not in QUIET | weak)

    @property
    def ownerless(self) -> float:
        """Working hours without an owner."""
        return next((one.value or 0.0 for one in self.contributions if one.signal == "owner"), 0.0)


class Delta(Struct, frozen=True, array_like=True):
    signal: str
    points: int


class Change(Struct, frozen=True, array_like=True):
    """The band changed, or caps began or ended."""

    at: Instant
    n: int
    before: Band | None
    after: Band
    score_before: int | None
    score: int
    cause: Cause
    reason: str
    evidence: tuple[Evidence, ...]
    deltas: tuple[Delta, ...]
    cap_effect_before: int | None
    cap_effect: int
    caps_began: tuple[CapCode, ...]
    caps_ended: tuple[CapCode, ...]
    policy: int


class Closing(Struct, frozen=True, array_like=True):
    """The score at the end of a day."""

    day: str
    at: Instant
    score: int
    band: Band


class Course(Field, frozen=True):
    """How health went: the last changes (evidence and deltas of the very last only), the last ends of days.

    `fell` is the last fall of the band while it stands: until the band rises, or long enough ago. `colour` is the last
    band that was one.
    """

    changes: tuple[Change, ...] = ()
    fell: Change | None = None
    colour: Colour | None = None
    closings: tuple[Closing, ...] = ()

    @property
    def is_open(self) -> bool:
        return self.fell is not None


# ---------------------------------------------------------------- facts, account


class Seen(Struct, frozen=True, array_like=True):
    """A fact of the account in one line."""

    at: Instant
    type: str
    source: str
    id: str
    text: str


class Heard(Field, frozen=True):
    """The newest mark of the clock that the view's writer has heard."""

    at: Instant
    silent: tuple[str, ...] = ()
    simulated: bool = False


class AsOf(Field, frozen=True):
    """The newest mark before which everything is folded into the view."""

    at: Instant


class Account(Struct, frozen=True):
    """What the view knows of one account, or as much of it as was asked for."""

    id: str
    name: str | None = None
    deals: dict[str, Deal] = {}
    handoffs: dict[str, Handoff] = {}
    alerts: dict[str, Alert] = {}
    facts: tuple[Seen, ...] = ()
    health: Health | None = None
    course: Course | None = None
    namings: tuple[Naming, ...] = ()

    @property
    def owner(self) -> str | None:
        """Who owns the account: named last, and not removed since."""
        return _owner([*self.namings, *(deal.named for deal in self.deals.values() if deal.named is not None)])


def _owner(namings: Iterable[Naming]) -> str | None:
    owner = None
    for naming in sorted(namings, key=lambda naming: naming.turn):
        if naming.is_named:
            owner = naming.owner
        elif naming.owner in {None, owner}:
            owner = None
    return owner
