"""What each signal measures at any instant, from what is known: whatever no time changes is worked out once.

A reading is (value in the unit of the signal, score 0-100); None where there is no evidence.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from msgspec import Struct

from schemas.policies import SignalName
from services.core import curves, sums
from services.core.instants import DAY, HOUR, Instant
from services.health.model import Area, Known, Mention, Tenure, Ticket, Total, What
from services.health.policy import Rules

Reading = tuple[float | None, float]
Silent = Mapping[str, Instant]  # silent sources and when each was last heard

FADES = 24 * HOUR  # a silent source is believed less and less for so long, then not at all
EVIDENCE_KEPT = 3
LATE = frozenset({"at_risk", "breached", "passed_125", "passed_200"})
BREACHED = LATE - {"at_risk"}
HOURS_A_DAY = 24  # of work at most
AREAS: dict[SignalName, Area] = {
    "activity": "engagement",
    "two_way_contact": "engagement",
    "breadth": "engagement",
    "open_load": "support",
    "owner": "ownership",
}


class Ownership(Struct, frozen=True, gc=False):
    """Who owns the account, or since when nobody does."""

    owner: str | None
    gap: Instant | None
    mention: Mention


def ownership(tenures: Sequence[Tenure]) -> Ownership | None:
    """A fold of the facts about owners, in their order; None without any."""
    held: Ownership | None = None
    for tenure in tenures:
        mention, name = tenure.mention, tenure.owner
        match mention.what:
            case What.NAMED:
                held = Ownership(name, None, mention)
            case What.WON if held is None:
                held = Ownership(None, mention.at, mention)
            case What.REMOVED if held is None or (held.gap is None and name in {None, held.owner}):
                held = Ownership(None, mention.at, mention)
            case _:
                pass
    return held


class Course:
    """The readings of one account as functions of time, for as long as no fact comes."""

    __slots__ = (
        "_active",
        "_contacts",
        "_first",
        "_handoff",
        "_load",
        "_span",
        "_spoken",
        "held",
        "known",
        "readers",
        "rules",
    )

    def __init__(self, known: Known, rules: Rules) -> None:
        self.known, self.rules = known, rules
        self.held = ownership(known.tenures)
        # BG/NBD's numbers: active days after the first, days from the first to the last, and the first.
        bits = int.from_bytes(known.days, "little")
        self._active, self._span = max(bits.bit_count() - 1, 0), float(max(bits.bit_length() - 1, 0))
        oldest = known.oldest or 0
        self._first = known.first_day if known.days else oldest / DAY
        self._spoken = known.spoken.at if known.spoken else oldest
        self._contacts = sorted([one.at for one in known.contacts.values()], reverse=True)
        self._load = self._open_load()
        self._handoff = None, rules.handoffs[_worst(known)]
        is_seen = known.is_talked_to
        self.readers: dict[SignalName, Callable[[Instant], Reading]] = {"handoff": self.handoff}
        if known.days or is_seen:
            self.readers["activity"] = self.activity
        if is_seen:
            self.readers["two_way_contact"] = self.two_way_contact
        if known.contacts:
            self.readers["breadth"] = self.breadth
        if "support" in known.sources:
            self.readers["open_load"] = self.open_load
        if self.held is not None:
            self.readers["owner"] = self.owner

    def is_known(self, signal: SignalName) -> bool:
        """Is there evidence?"""
        return signal in self.readers

    def reading(self, signal: SignalName, at: Instant) -> Reading | None:
        read = self.readers.get(signal)
        return None if read is None else read(at)

    def activity(self, at: Instant) -> Reading:
        """The chance that something happens in the next days."""
        value = 1.0 - self.rules.silence.chance(self._active, self._span, self._age(at))
        return value, curves.score(self.rules.curves["activity"], value)

    def _age(self, at: Instant) -> float:
        return max(at / DAY - self._first, self._span)

    def two_way_contact(self, at: Instant) -> Reading:
        """Days since the customer last spoke to us; where it never did, since we know it."""
        value = max(0, at - self._spoken) / DAY
        return value, curves.score(self.rules.curves["two_way_contact"], value)

    def breadth(self, at: Instant) -> Reading:
        """How many of the customer's people we heard of lately."""
        since, value = at - self.rules.breadth, 0
        for heard in self._contacts:
            if heard <= since:
                break
            value += 1
        return float(value), curves.score(self.rules.curves["breadth"], value)

    def open_load(self, _at: Instant) -> Reading:
        """The weights of open tickets."""
        return self._load

    def _open_load(self) -> Reading:
        tickets, weights = self.known.tickets.values(), self.rules.severities
        value = sum([weights[ticket.severity - 1] for ticket in tickets if ticket.is_open], start=0.0)
        return value, curves.score(self.rules.curves["open_load"], value)

    def owner(self, at: Instant) -> Reading:
        """Working hours without a named owner; no value while there is one."""
        if self.held is not None and self.held.gap is None:
            return None, self.rules.owned
        hours = self._ownerless(at)
        return hours, curves.score(self.rules.curves["owner"], hours)

    def _ownerless(self, at: Instant) -> float:
        gap = self.held.gap if self.held else None
        return 0.0 if gap is None or gap >= at else self.rules.calendar.between(gap, at) / HOUR

    def handoff(self, _at: Instant) -> Reading:
        """On time, at risk, breached; the worst of those under way."""
        return self._handoff

    # -- change --------------------------------------------------------------------------------------------------

    def jumps(self, at: Instant) -> list[Instant]:
        """The instants after `at` at which a reading jumps by itself."""
        return [heard + self.rules.breadth for heard in self._contacts if heard + self.rules.breadth > at]

    def steepness(self, at: Instant) -> dict[SignalName, float]:
        """Bounds of how fast each signal's score can move by itself from `at` on, in points a day."""
        found: dict[SignalName, float] = {}
        rules = self.rules
        if "activity" in self.readers:
            fall = rules.silence.steepness(self._active, self._age(at))
            found["activity"] = fall * rules.steepest
        if "two_way_contact" in self.readers:
            days = max(0, at - self._spoken) / DAY
            found["two_way_contact"] = rules.slopes["two_way_contact"].beyond(days)
        if self.held is not None and self.held.gap is not None:
            found["owner"] = HOURS_A_DAY * rules.slopes["owner"].beyond(self._ownerless(at))
        return found


def _worst(known: Known) -> int:
    if not known.handoffs:
        return 0
    stages = {place.rpartition("/")[2] for one in known.handoffs.values() if one.is_open for place in one.stages}
    return 2 if stages & BREACHED else 1 if stages & LATE else 0


# ---------------------------------------------------------------- trust


def live(known: Known, signal: SignalName, at: Instant, silent: Silent) -> tuple[float, Instant]:
    """How far the signal's sources can be believed, and the instant up to which they told everything."""
    area = AREAS.get(signal)
    heard = [silent[source] for source in known.sources.get(area, ()) if source in silent] if area else []
    if not heard:
        return 1.0, at
    last = min(at, *heard)
    return max(0.0, 1.0 - (at - last) / FADES), last


def fallen_silent(known: Known, silent: Silent) -> tuple[str, ...]:
    """Which of the account's sources are silent."""
    if not silent:
        return ()
    return tuple(sorted({source for told in known.sources.values() for source in told if source in silent}))


# ---------------------------------------------------------------- evidence


def evidence(course: Course, signal: SignalName, at: Instant) -> list[Mention]:
    """The facts behind a reading, youngest first."""
    known = course.known
    match signal:
        case "activity":
            return list(known.latest)
        case "two_way_contact":
            return [known.spoken] if known.spoken else []
        case "breadth":
            found = [mention for mention in known.contacts.values() if mention.at > at - course.rules.breadth]
        case "open_load":
            told = (one.graded or one.status for one in known.tickets.values() if one.is_open)
            found = [mention for mention in told if mention is not None]
        case "owner":
            found = [course.held.mention] if course.held else []
        case "handoff":
            found = verdicts(known, LATE) if known.handoffs else []
        case _:
            found = []
    return sorted(found, reverse=True)[:EVIDENCE_KEPT]


def verdicts(known: Known, stages: Collection[str]) -> list[Mention]:
    """The verdicts that stand of handoffs under way, as facts of the handoff processor, in order."""
    return sorted(
        Mention(stage.at, What.SPOKEN, 0, "steward/handoff", stage.transition)
        for one in known.handoffs.values()
        if one.is_open
        for place, stage in one.stages.items()
        if place.rpartition("/")[2] in stages
    )


def urgent(known: Known) -> list[tuple[str, Ticket, Mention]]:
    """Open tickets of the worst severity, and the fact that says so."""
    return [
        (name, ticket, ticket.graded)
        for name, ticket in known.tickets.items()
        if ticket.severity == 1 and ticket.graded is not None and ticket.is_open
    ]


def trend(known: Known, rules: Rules, at: Instant) -> float | None:
    """Activity of the last days over that of the last weeks; None where there was little."""
    if known.oldest is None or known.oldest >= at:
        return None
    read = partial(_rate, age=at - known.oldest, at=at)
    long = read(known.long, rules.long)
    if long < rules.least:
        return None
    return sums.trend(read(known.short, rules.short), long, rules.floor)


def _rate(total: Total, half_life: int, *, age: int, at: Instant) -> float:
    value = sums.read(sums.unpack(total.mantissa, total.exponent), at, half_life)
    return sums.rate(value, age, half_life)
