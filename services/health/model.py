"""The nouns: what is known of an account (order-free), how its score stands (a history), and both as one state.

None of them can be part of a cycle, so the garbage collector need not look at them (`gc=False`).
"""

from enum import IntEnum
from typing import Literal

from msgspec import Struct

from schemas.health import Band, CapCode
from services.core.instants import Instant

Area = Literal["engagement", "support", "ownership"]


class What(IntEnum):
    """Kinds of facts, in the order in which they count at the same instant."""

    TICKET_OPENED = 0
    TICKET_UPDATED = 1
    TICKET_SOLVED = 2
    TICKET_REOPENED = 3
    WON = 10
    REMOVED = 11
    NAMED = 12
    SPOKEN = 20


class Mention(Struct, frozen=True, array_like=True, gc=False, order=True):
    """A fact by its identity; the fields in their order are its place among facts."""

    at: Instant
    what: int
    rank: int
    source: str
    id: str


class Ticket(Struct, frozen=True, array_like=True, gc=False):
    """`opened`: the earliest fact of it; `status`, `graded`: the last that said how it stands, and how bad it is."""

    opened: Instant
    status: Mention | None = None
    graded: Mention | None = None
    severity: int = 3

    @property
    def is_open(self) -> bool:
        return self.status is None or self.status.what != What.TICKET_SOLVED

    @property
    def told(self) -> Instant:
        """When it was last opened, solved or reopened."""
        return self.opened if self.status is None else self.status.at

    @property
    def open_since(self) -> Instant:
        """When it was opened, or opened again."""
        is_again = self.status is not None and self.status.what == What.TICKET_REOPENED
        return self.told if is_again else self.opened


class Tenure(Struct, frozen=True, array_like=True, gc=False):
    """A fact about who owns the account: `owner` is named, or removed (None: whoever it was)."""

    mention: Mention
    owner: str | None = None


class Stage(Struct, frozen=True, array_like=True, gc=False):
    """A stage of a handoff's clock that stands, and the verdict that says so."""

    at: Instant
    transition: str


class Handoff(Struct, frozen=True, array_like=True, gc=False):
    """A handoff as `cs.handoffs` shows it: is it under way, and which late stages stand, by `leg/stage`."""

    at: Instant
    is_open: bool
    stages: dict[str, Stage] = {}


class Total(Struct, frozen=True, array_like=True, gc=False):
    """An exact decayed sum; see services.core.sums."""

    mantissa: bytes = b""
    exponent: int = 0


NOTHING = Total()


class Known(Struct, frozen=True, array_like=True, gc=False):
    """Everything that is known of an account. The same facts give the same, in whatever order and batches they come.

    `days`: bit i stands for an active day, i days after `first_day`. `latest`: the last facts that showed activity.
    `past`: hashes of tickets that are kept no longer, and when they were last told of. `counted`: per source the hashes
    of facts that were added, and until when they are kept. `positions`: per run the highest position that was added.
    `sources`: who ever told of an area.
    """

    oldest: Instant | None = None
    days: bytes = b""
    first_day: int = 0
    latest: tuple[Mention, ...] = ()
    is_talked_to: bool = False
    spoken: Mention | None = None
    contacts: dict[str, Mention] = {}
    tickets: dict[str, Ticket] = {}
    past: dict[int, Instant] = {}
    tenures: tuple[Tenure, ...] = ()
    handoffs: dict[str, Handoff] = {}
    short: Total = NOTHING
    long: Total = NOTHING
    counted: dict[str, dict[int, Instant]] = {}
    positions: dict[str, int] = {}
    sources: dict[Area, tuple[str, ...]] = {}


class Standing(Struct, frozen=True, array_like=True, gc=False):
    """Where the band stands and what moves it: since when the score has been below or above each threshold.

    `under` and `over` are for the thresholds of green and yellow. `peaks` are the scores of the last hours that no
    later one exceeds, in milli-points.
    """

    band: Band
    since: Instant
    under: tuple[Instant | None, Instant | None] = (None, None)
    over: tuple[Instant | None, Instant | None] = (None, None)
    peaks: tuple[tuple[Instant, int], ...] = ()


class Told(Struct, frozen=True, array_like=True, gc=False):
    """What the last `health.changed` said, to which the next one compares: points by signal, in milli-points."""

    n: int
    score: int
    cap_effect: int
    points: dict[str, int] = {}


class Account(Struct, frozen=True, array_like=True, gc=False):
    """The state of an account.

    `at`: when its score was last looked at. `wake`: when to look again. `closes`: the next end of a day. `caps`: since
    when each holds. `raw`, `outlook`: as last published. `policy`: the version it was judged by, `ruled`: since when,
    where it was judged by another before. `begun`: the facts with which a dwell that still runs began, by its instant.
    `silent`: sources of it that had fallen silent. `imports`: the imports under way that tell of it.
    """

    known: Known = Known()
    standing: Standing | None = None
    at: Instant = 0
    wake: Instant = 0
    closes: Instant = 0
    caps: dict[CapCode, Instant] = {}
    told: Told | None = None
    raw: int = 0
    outlook: tuple[Band, Instant] | None = None
    policy: int = 0
    ruled: Instant = 0
    silent: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    begun: dict[Instant, tuple[Mention, ...]] = {}
