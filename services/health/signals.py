"""What each signal measures at an instant, from what is known; how far its sources can be believed; when it jumps.

A reading is (value in the unit of the signal, score 0-100); None where there is no evidence.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from schemas.policies import SignalName
from services.core import curves, sums
from services.core.instants import DAY, HOUR, Instant
from services.health.model import Area, Known, Mention, Tenure, Total, What
from services.health.policy import Rules

Reading = tuple[float | None, float]
Silent = Mapping[str, Instant]  # silent sources and when each was last heard

FADES = 24 * HOUR  # a silent source is believed less and less for so long, then not at all
EVIDENCE_KEPT = 5
AREAS: dict[SignalName, Area] = {
    "activity": "engagement",
    "two_way_contact": "engagement",
    "breadth": "engagement",
    "open_load": "support",
    "owner": "ownership",
}


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who owns the account, or since when nobody does."""

    owner: str | None
    gap: Instant | None
    mention: Mention


# ---------------------------------------------------------------- readings


def activity(known: Known, rules: Rules, at: Instant) -> Reading | None:
    """The chance that something happens in the next days."""
    if not known.days and not known.is_talked_to:
        return None
    active, span, age = _timing(known, at)
    value = 1.0 - rules.silence.chance(active, span, age)
    return value, curves.score(rules.curves["activity"], value)


def _timing(known: Known, at: Instant) -> tuple[int, float, float]:
    """BG/NBD's three numbers: active days after the first, days from the first to the last, days since the first."""
    if not known.days:
        return 0, 0.0, max(0.0, (at - (known.oldest or at)) / DAY)
    bits = int.from_bytes(known.days, "little")
    span = float(bits.bit_length() - 1)
    return bits.bit_count() - 1, span, max(at / DAY - known.first_day, span)


def two_way_contact(known: Known, rules: Rules, at: Instant) -> Reading | None:
    """Days since the customer last spoke to us; where it never did, since we know it."""
    if not known.is_talked_to:
        return None
    since = known.spoken.at if known.spoken else known.oldest or at
    value = max(0, at - since) / DAY
    return value, curves.score(rules.curves["two_way_contact"], value)


def breadth(known: Known, rules: Rules, at: Instant) -> Reading | None:
    """How many of the customer's people we heard of lately."""
    if not known.contacts:
        return None
    value = float(sum(mention.at > at - rules.breadth for mention in known.contacts.values()))
    return value, curves.score(rules.curves["breadth"], value)


def open_load(known: Known, rules: Rules, _at: Instant) -> Reading | None:
    """The weights of open tickets."""
    if "support" not in known.sources:
        return None
    value = sum(rules.severities[ticket.severity - 1] for ticket in known.tickets.values() if ticket.is_open)
    return value, curves.score(rules.curves["open_load"], value)


def owner(known: Known, rules: Rules, at: Instant) -> Reading | None:
    """Working hours without a named owner."""
    held = ownership(known.tenures)
    if held is None:
        return None
    value = 0.0 if held.gap is None or held.gap >= at else rules.calendar.between(held.gap, at) / HOUR
    return value, curves.score(rules.curves["owner"], value)


def handoff(known: Known, rules: Rules, _at: Instant) -> Reading | None:
    """On time, at risk, breached; the worst of those under way."""
    stages = {place.rpartition("/")[2] for one in known.handoffs.values() if one.is_open for place in one.stages}
    return None, rules.handoffs[2 if stages - {"at_risk"} else 1 if stages else 0]


READERS: dict[SignalName, Callable[[Known, Rules, Instant], Reading | None]] = {
    "activity": activity,
    "two_way_contact": two_way_contact,
    "breadth": breadth,
    "open_load": open_load,
    "owner": owner,
    "handoff": handoff,
}


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


# ---------------------------------------------------------------- trust


def live(known: Known, signal: SignalName, at: Instant, silent: Silent) -> tuple[float, Instant]:
    """How far the signal's sources can be believed, and the instant up to which they told everything."""
    if not silent:
        return 1.0, at
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


def evidence(known: Known, signal: SignalName, rules: Rules, at: Instant) -> list[Mention]:
    """The facts behind a reading, youngest first."""
    match signal:
        case "activity":
            return list(known.latest)
        case "two_way_contact":
            return [known.spoken] if known.spoken else []
        case "breadth":
            found = [mention for mention in known.contacts.values() if mention.at > at - rules.breadth]
        case "open_load":
            told = (one.graded or one.status for one in known.tickets.values() if one.is_open)
            found = [mention for mention in told if mention is not None]
        case "owner":
            held = ownership(known.tenures)
            found = [held.mention] if held else []
        case "handoff":
            found = breaches(known, {"at_risk", "breached", "passed_125", "passed_200"})
        case _:
            found = []
    return sorted(found, reverse=True)[:EVIDENCE_KEPT]


def breaches(known: Known, stages: Collection[str]) -> list[Mention]:
    """The verdicts that stand of handoffs under way, as facts of the handoff processor."""
    return [
        Mention(stage.at, What.SPOKEN, 0, "steward/handoff", stage.transition)
        for one in known.handoffs.values()
        if one.is_open
        for place, stage in one.stages.items()
        if place.rpartition("/")[2] in stages
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


# ---------------------------------------------------------------- change


def jumps(known: Known, rules: Rules, at: Instant) -> Iterator[Instant]:
    """The instants after `at` at which a reading jumps by itself."""
    for mention in known.contacts.values():
        left = mention.at + rules.breadth
        if left > at:
            yield left


def steepness(known: Known, rules: Rules, at: Instant) -> dict[SignalName, float]:
    """Bounds of how fast each signal's score can fall or rise by itself from `at` on, in points a day."""
    found: dict[SignalName, float] = {}
    if known.days or known.is_talked_to:
        active, _, age = _timing(known, at)
        found["activity"] = rules.silence.steepness(active, age) * curves.slope(rules.curves["activity"], 0.0, 1.0)
    if known.is_talked_to:
        since = known.spoken.at if known.spoken else known.oldest or at
        days = max(0, at - since) / DAY
        found["two_way_contact"] = curves.slope(rules.curves["two_way_contact"], days, float("inf"))
    held = ownership(known.tenures)
    if held is not None and held.gap is not None:
        worked = max(0, rules.calendar.between(held.gap, at) if held.gap < at else 0) / HOUR
        found["owner"] = 24 * curves.slope(rules.curves["owner"], worked, float("inf"))
    return found
