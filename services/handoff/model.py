"""The nouns: facts of a handoff as state keeps them, the ledger of what was published, an account's handoffs.

None of them can be part of a cycle, so the garbage collector need not look at them (`gc=False`).
"""

from enum import IntEnum, StrEnum

from msgspec import Struct

from services.core.instants import Instant


class What(IntEnum):
    """Kinds of facts, in the order in which they sort at the same instant: nothing precedes its opening."""

    OPENED = 0
    PAUSED = 1
    RESUMED = 2
    ACCEPTED = 3
    CANCELLED = 4


class Stage(StrEnum):
    """Stages of a clock, in the order in which it reaches them."""

    NOTICED = "noticed"
    AT_RISK = "at_risk"
    BREACHED = "breached"
    PASSED_125 = "passed_125"
    PASSED_200 = "passed_200"
    MET = "met"


SUSPECTED = "suspected"
"""In the ledger beside the stages: a breach, were everybody heard. No stage, because no clock reaches it by itself."""


class Happening(Struct, frozen=True, array_like=True, gc=False):
    """A fact about one handoff. (source, id) is its identity, `order` its place in the set."""

    at: Instant
    what: What
    rank: int
    source: str
    id: str
    run: str | None = None
    owner: str | None = None
    sender: str | None = None
    kind: str | None = None

    @property
    def order(self) -> tuple[Instant, int, int, str, str]:
        return self.at, self.what, self.rank, self.source, self.id


class Entry(Struct, frozen=True, array_like=True, gc=False):
    """What was published of one stage of one clock: how often raised, corrected, and with which due time."""

    n: int
    raised: bool
    correction: int
    due: Instant | None


class Handoff(Struct, frozen=True, array_like=True, gc=False):
    """One handoff: its facts in order, its ledger, and when to look again.

    `shown` is the digest of the state that went out last. `arrived` is when the last fact did. A folded handoff has
    outlived its facts: only the ledger remains. `reached` is how far its clock has been believed. `doubt` names who was
    not heard when it was last looked at, `suspect` is when the next of its legs would be a breach without them.
    """

    facts: tuple[Happening, ...] = ()
    ledger: dict[str, Entry] = {}
    wake: Instant | None = None
    run: str | None = None
    arrived: Instant = 0
    shown: str = ""
    settled: bool = False
    reached: Instant = 0
    folded: bool = False
    doubt: tuple[str, ...] = ()
    suspect: Instant | None = None

    @property
    def is_suspected(self) -> bool:
        """Does a suspicion stand?"""
        return any(entry.raised for place, entry in self.ledger.items() if place.endswith(f"/{SUSPECTED}"))


class Account(Struct, frozen=True, array_like=True, gc=False):
    """Every handoff of one account, by its id, and the sources that ever sent a live fact about one.

    Another such fact may come from any of them, so silence is believed only as far as their heartbeats reach.
    """

    handoffs: dict[str, Handoff] = {}
    sources: tuple[str, ...] = ()
