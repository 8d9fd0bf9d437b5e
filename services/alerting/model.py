"""The nouns: alerts as the case keeps them, notices and deliveries as the desk does, and the reasons of both.

None of the structs can be part of a cycle, so the garbage collector need not look at them (`gc=False`).
"""

from enum import StrEnum
from hashlib import blake2b

from msgspec import Struct

from schemas.handoffs import Stage
from schemas.notices import What
from services.core.instants import Instant

Order = tuple[Instant, int, str, str]
"""Time, rank, source, id: of two words about the same thing the greater one counts, in whatever order they come."""


class Why(StrEnum):
    """Why these people are told, or nobody: the closed list that events and counters speak."""

    NO_ALERT = "no alert at this stage"
    DUPLICATE = "duplicate"
    HISTORY = "history"
    OVER = "already over"
    ACCOUNTABLE = "accountable"
    AND_MANAGER = "accountable and manager"
    NOBODY_ACCOUNTABLE = "nobody accountable"
    ABOVE = "manager"
    NOBODY_ABOVE = "nobody above"
    AGED = "in the digest"
    TOLD = "was told"


class End(StrEnum):
    """How a delivery ended."""

    DELIVERED = "delivered"
    GAVE_UP = "gave_up"
    ENDPOINT_GONE = "endpoint_gone"
    TOO_MANY_WAITING = "too_many_waiting"


class Status(StrEnum):
    OPEN = "open"
    RESOLVED = "resolved"
    RETRACTED = "retracted"


class Step(Struct, frozen=True, array_like=True, gc=False):
    """One stage of an alert as it was last said, and who was told of it.

    `knew` says that whoever was told heard at once that the handoff had been accepted.
    """

    transition: str
    n: int
    correction: int
    at: Instant
    due: Instant | None
    owner: str | None
    told: tuple[str, ...] = ()
    knew: bool = False
    retracted: bool = False


class Alert(Struct, frozen=True, array_like=True, gc=False):
    """One clock that somebody must act on. `over` is when its handoff was accepted or cancelled."""

    handoff: str
    kind: str
    leg: str
    steps: dict[Stage, Step] = {}
    status: Status = Status.OPEN
    over: Instant | None = None
    accepted: Instant | None = None
    touched: Instant = 0


class Deal(Struct, frozen=True, array_like=True, gc=False):
    """A deal's last known worth a year; it counts once it is won."""

    won: bool = False
    order: Order | None = None
    amount: str | None = None
    currency: str | None = None


class Case(Struct, frozen=True, array_like=True, gc=False):
    """What alerting knows of one account. `cancelled`: handoff → when it was, and when that was last touched."""

    name: str | None = None
    named: Order | None = None
    deals: dict[str, Deal] = {}
    alerts: dict[str, Alert] = {}
    cancelled: dict[str, tuple[Instant, Instant]] = {}


class Notice(Struct, frozen=True, array_like=True, gc=False):
    """What one person is to be told: everything that the message says."""

    notice: str
    what: What
    alert: str
    transition: str
    stage: Stage
    account: str
    handoff: str
    kind: str
    leg: str
    reason: str
    policy: int
    at: Instant
    due: Instant | None = None
    accepted: Instant | None = None
    owner: str | None = None
    owner_name: str | None = None
    recipient_name: str | None = None
    account_name: str | None = None
    amount: str | None = None
    currency: str | None = None


class Known(Struct, frozen=True, array_like=True, gc=False):
    """A notice the desk has heard of. `told`: endpoints that have it, or may have it; `left`: those it still goes to.

    `ended` is when the last one was through; until then `content` stands here for every endpoint at once.
    """

    transition: str
    content: Notice | None = None
    left: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    ended: Instant | None = None


class Delivery(Struct, frozen=True, array_like=True, gc=False):
    """A message to one endpoint that has not ended. `name` is the notice's id, or the digest's.

    `attempt` counts those begun; `sending` while the outcome of the last one is not known.
    """

    endpoint: str
    name: str
    notices: tuple[str, ...]
    attempt: int = 0
    sending: bool = False
    next_at: Instant = 0


class Desk(Struct, frozen=True, array_like=True, gc=False):
    """What one recipient is told: deliveries under way in their order, the digest being collected, and the memory.

    `gone` are endpoints that want no more, with when they said so.
    """

    known: dict[str, Known] = {}
    deliveries: dict[str, Delivery] = {}
    digest: tuple[str, ...] = ()
    digest_since: Instant | None = None
    gone: dict[str, Instant] = {}


class Attempt(Struct, frozen=True, gc=False):
    """Everything the courier needs for one attempt. More than one notice make a digest."""

    delivery: str
    number: int
    endpoint: str
    recipient: str
    name: str
    is_digest: bool
    notices: tuple[Notice, ...]


class Outcome(Struct, frozen=True, gc=False):
    """What came of one attempt. `status` is the HTTP status; none when nobody answered, or it is no HTTP.

    `retry_after`: seconds that the endpoint asked for.
    """

    delivered: bool
    message: str
    status: int | None = None
    retry_after: int | None = None


def digest_of(*parts: str) -> str:
    """The id of something that says these parts."""
    return blake2b("\x00".join(parts).encode(), digest_size=16).hexdigest()


def notice_id(transition: str, correction: int, what: str, recipient: str) -> str:
    return digest_of(transition, str(correction), what, recipient)


def delivery_id(notice: str, endpoint: str) -> str:
    """The key that a receiver sees; the notice's id already contains the recipient."""
    return digest_of(notice, endpoint)
