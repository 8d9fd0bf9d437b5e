"""The nouns: what the view keeps of an account, field by field as it stands in Redis.

Each field carries the offset of the last record folded into it. `offset` comes first in the JSON, because the writer's
script reads it there. Times are microseconds since 1970.
"""

from typing import Literal

from msgspec import Struct

from services.core.instants import Instant

FORMAT = 1  # of everything below; a view of another format is built anew
FACTS_KEPT = 100

Order = tuple[Instant, int, str, str]  # (time, source rank, source, id): the last value is the greatest
StepState = Literal["raised", "corrected", "held", "retracted"]
OPEN_STATES = frozenset({"open", "paused"})
STAGES = ("noticed", "at_risk", "breached", "passed_125", "passed_200", "met")  # as a clock reaches them


class Field(Struct, frozen=True):
    """One field of one account."""

    offset: int


class Name(Field, frozen=True):
    """What the account is called."""

    order: Order | None = None
    name: str | None = None


class Deal(Field, frozen=True):
    """Whether a deal is won, and the last word on what it is worth a year."""

    won: bool = False
    order: Order | None = None
    amount: str | None = None
    currency: str | None = None


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
