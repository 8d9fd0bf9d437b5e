"""What an account's health must be, computed from the decoded records and the policy alone; naive on purpose.

Shares no code with what it judges. Scores, contributions and limits are integers in milli-points; contributions are
computed in exact fractions, so that a tie of the rounding can be told from a mistake.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from tests.oracle_account import EPOCH, Account, Json, came_too_late, kind_of, once, rules, when
from tests.oracle_bands import Point, colour

MICROSECOND, HOUR, DAY = timedelta(microseconds=1), timedelta(hours=1), timedelta(days=1)
KEPT = {
    "crm.interactions": "facts",
    "crm.ownership": "facts",
    "crm.renewals": "facts",
    "crm.accounts": "facts",
    "cs.handoffs": "handoffs",
    "cs.health": "scored",
    "cs.health-changes": "changes",
}


@dataclass(frozen=True)
class Reading:
    """One signal: its share of the weight, what was measured, and what it adds."""

    group: str
    weight: Fraction
    trust: Fraction
    value: float | None
    score: Fraction | None
    exact: Fraction  # milli-points before they are rounded

    @property
    def points(self) -> int:
        return round(self.exact)

    @property
    def is_tied(self) -> bool:
        """Whether floats may round the other way."""
        return abs(abs(self.exact - math.floor(self.exact)) - Fraction(1, 2)) < Fraction(1, 10**6)


@dataclass(frozen=True)
class Verdict:
    """A score and its reasons. `caps` says since when, where the facts alone say it."""

    readings: dict[str, Reading]
    raw: int
    score: int
    coverage: float
    caps: dict[str, datetime | None]
    limits: dict[str, int]
    colour: str
    is_na: bool
    profile: str
    trend: float | None

    @property
    def contributions(self) -> dict[str, int]:
        return {signal: reading.points for signal, reading in self.readings.items()}

    @property
    def slack(self) -> int:
        """By how many milli-points rounding may differ."""
        return sum(reading.is_tied for reading in self.readings.values())


@lru_cache(maxsize=10_000)
def _fraction(number: float) -> Fraction:
    return Fraction(str(number))


def _days(span: timedelta) -> Fraction:
    return Fraction(span // MICROSECOND, DAY // MICROSECOND)


# ---------------------------------------------------------------- signals


def silence(rule: Json, x: int, span: int, age: Fraction) -> Decimal:
    """The chance of no activity in the next `days`: BG/NBD in closed form with many digits."""
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 30, 10**12, -(10**12)
        r, alpha, a, b, horizon = (Decimal(str(rule[name])) for name in ("r", "alpha", "a", "b", "days"))
        old = max(Decimal(age.numerator) / Decimal(age.denominator), Decimal(span))
        odds = a / (b + x - 1) * ((alpha + old) / (alpha + span)) ** (r + x) if x > 0 else Decimal(0)
        return 1 - (1 - ((alpha + old) / (alpha + old + horizon)) ** (r + x)) / (1 + odds)


@lru_cache(maxsize=1000)
def _anchors(anchors: tuple[tuple[float, float], ...]) -> list[tuple[Fraction, Fraction]]:
    return [(_fraction(at), _fraction(score)) for at, score in anchors]


def curve(anchors: Sequence[Sequence[float]], x: Fraction) -> Fraction:
    points = _anchors(tuple((at, score) for at, score in anchors))
    if x <= points[0][0]:
        return points[0][1]
    for (left, low), (right, high) in pairwise(points):
        if x <= right:
            return low + (high - low) * (x - left) / (right - left)
    return points[-1][1]


def measure(account: Account, signal: str, at: datetime) -> Fraction | None:
    """What a signal says at an instant, in the unit of its curve; None for `handoff`, which has no unit."""
    health = account.health
    oldest = account.oldest or at
    match signal:
        case "activity":
            days = account.days
            age = _days(at - EPOCH) - days[0] if days else _days(at - oldest)
            x, span = (len(days) - 1, days[-1] - days[0]) if days else (0, 0)
            return 1 - Fraction(silence(health["silence"], x, span, max(age, Fraction(span))))
        case "two_way_contact":
            return max(Fraction(0), _days(at - (account.spoken or oldest)))
        case "breadth":
            return Fraction(sum(seen > at - health["breadth_days"] * DAY for seen in account.contacts))
        case "open_load":
            still_open = [ticket for ticket in account.tickets.values() if ticket.is_open]
            return sum((_fraction(health["severity_weights"][one.severity - 1]) for one in still_open), Fraction(0))
        case "owner":
            since = account.gap.since
            worked = account.calendar.between(since, at) if since and since < at else timedelta(0)
            return Fraction(worked // MICROSECOND, HOUR // MICROSECOND)
        case _:
            return None


def read_signal(account: Account, signal: str, share: tuple[str, Fraction], at: datetime, live: Json) -> Reading:
    """A signal as of `at`, or as of when its silent source was last heard."""
    health = account.health
    group, weight = share
    if signal not in account.known:
        return Reading(group, weight, Fraction(0), None, None, Fraction(0))
    heard = min((live[source] for source in account.sources.get(signal, ()) if source in live), default=None)
    trust = Fraction(1) if heard is None else min(Fraction(1), max(Fraction(0), 1 - _days(at - heard)))
    value = measure(account, signal, at if heard is None else min(at, heard))
    if value is None:
        breached, is_at_risk = account.past_due
        score = _fraction(health["handoff_scores"][2 if breached else 1 if is_at_risk else 0])
    else:
        score = curve(health["curves"][signal], value)
    exact = 1000 * weight * trust * (score - _fraction(health["prior"]))
    is_owned = signal == "owner" and account.gap.since is None  # nothing to measure
    return Reading(group, weight, trust, None if value is None or is_owned else float(value), score, exact)


def trend(account: Account, at: datetime) -> float | None:
    rule, oldest = account.health["trend"], account.oldest
    if oldest is None or oldest >= at:
        return None

    def rate(days: float) -> float:
        half = days * DAY
        added = [fact for fact in account.meaningful if not came_too_late(fact)]
        amount = math.fsum(0.5 ** float((at - when(fact["time"])) / half) for fact in added)
        return amount * math.log(2) / float(days * (1 - 0.5 ** float((at - oldest) / half)))

    short, long = rate(rule["short_days"]), rate(rule["long_days"])
    if long < rule["least"]:
        return None
    return (short + float(rule["floor"])) / (long + float(rule["floor"]))


# ---------------------------------------------------------------- the score


def score(
    facts: Iterable[Json],
    handoff_events: Iterable[Json],
    policy: Json,
    at: datetime,
    silent: Mapping[str, datetime] | None = None,
) -> Verdict:
    """The health of one account, whose crm facts and cs.handoffs events these are, at one instant."""
    return judge(Account(once(facts), once(handoff_events), rules(policy)), at, silent)


def judge(account: Account, at: datetime, silent: Mapping[str, datetime] | None = None) -> Verdict:
    """As `score`; for many instants of the same facts."""
    health, profile = account.health, account.profile
    groups: dict[str, float] = health["profiles"][profile]["groups"]
    whole = sum(map(_fraction, groups.values()))
    readings = {}
    for group, weight in groups.items():
        signals = health["groups"][group]
        for signal in signals:
            share = (group, _fraction(weight) / whole / len(signals))
            readings[signal] = read_signal(account, signal, share, at, dict(silent or {}))
    added = sum(reading.points for reading in readings.values())
    raw = min(max(round(1000 * _fraction(health["prior"])) + added, 0), 100_000)
    coverage = round(float(sum(reading.weight * reading.trust for reading in readings.values())), 9)
    caps = dict(_caps(account, profile, readings, coverage, at))
    limits = {code: round(1000 * health["caps"][code.lower()]["limit"]) for code in caps}
    shown = min([raw, *limits.values()])
    provisional = health["provisional"]
    young = account.oldest is None or at - account.oldest < provisional["days"] * DAY
    return Verdict(
        readings=readings,
        raw=raw,
        score=shown,
        coverage=coverage,
        caps=caps,
        limits=limits,
        colour=colour(shown, health["bands"]),
        is_na=young or coverage < provisional["coverage"],
        profile=profile,
        trend=trend(account, at),
    )


def _caps(
    account: Account, profile: str, readings: Mapping[str, Reading], coverage: float, at: datetime
) -> Iterator[tuple[str, datetime | None]]:
    rule = {code: cap for code, cap in account.health["caps"].items() if cap is not None}
    if cap := rule.get("sev1_open"):
        patience = cap["after_hours"] * HOUR
        worst = [one for one in account.tickets.values() if one.is_open and one.severity == 1]
        spans = [(one.open_since + patience, one.severity_since or one.open_since) for one in worst]
        held = [max(from_then, graded) for from_then, graded in spans if from_then <= at]
        if held:
            yield "SEV1_OPEN", min(held)
    since = account.gap.since
    if (cap := rule.get("no_owner")) and since is not None:
        from_then = account.calendar.add(since, cap["after_working_hours"] * HOUR)
        if from_then <= at:
            yield "NO_OWNER", from_then
    breached, _ = account.past_due
    if "handoff_breach" in rule and breached:
        yield "HANDOFF_BREACH", min(breached.values())
    if (cap := rule.get("weak_link")) and any(_is_weak(group, cap) for group in _groups(account, profile, readings)):
        yield "WEAK_LINK", None
    if (cap := rule.get("thin_data")) and coverage < cap["coverage"]:
        yield "THIN_DATA", None
    if "narrow" in rule and account.health["profiles"][profile].get("narrow"):
        yield "NARROW", None


def _groups(
    account: Account, profile: str, readings: Mapping[str, Reading]
) -> Iterator[tuple[Fraction, Fraction, Fraction | None]]:
    """Weight, trust and score of each group; no score where nothing is trusted."""
    for group, weight in account.health["profiles"][profile]["groups"].items():
        signals = [reading for reading in readings.values() if reading.group == group]
        trusted = sum((one.trust for one in signals), Fraction(0))
        summed = sum((one.trust * one.score for one in signals if one.score is not None), Fraction(0))
        yield _fraction(weight), trusted / len(signals), summed / trusted if trusted else None


def _is_weak(group: tuple[Fraction, Fraction, Fraction | None], cap: Json) -> bool:
    weight, trust, value = group
    is_weighty = weight >= _fraction(cap["weight"]) and trust >= _fraction(cap["trust"])
    return is_weighty and value is not None and value < _fraction(cap["below"])


def point(verdict: Verdict, at: datetime) -> Point:
    """The verdict as the walk over bands wants it."""
    limit = min(verdict.limits.values(), default=None)
    return Point(at, verdict.score, limit, verdict.is_na, frozenset(verdict.caps))


# ---------------------------------------------------------------- the records of topics


@dataclass
class Told:
    """What the topics hold of one account, each list in the order of its topic."""

    facts: list[Json] = field(default_factory=list)
    handoffs: list[Json] = field(default_factory=list)
    scored: list[Json] = field(default_factory=list)
    changes: list[Json] = field(default_factory=list)
    closings: list[Json] = field(default_factory=list)


def read(records: Iterable[tuple[str, str | bytes, bytes | None]]) -> dict[str, Told]:
    """(topic, key, value) by account; a topic's name may wear a prefix. Records of other topics are left out."""
    found: dict[str, Told] = {}
    for topic, key, value in records:
        kept = next((name for name in KEPT if topic.endswith(name)), None)
        if kept is None or not value:
            continue
        event = json.loads(value)
        told = found.setdefault(key.decode() if isinstance(key, bytes) else key, Told())
        place = KEPT[kept]
        if kept == "cs.health-changes":
            place = "changes" if kind_of(event) == "health.changed" else "closings"
        getattr(told, place).append(event)
    return found


def versions(records: Iterable[tuple[str, str | bytes, bytes | None]]) -> dict[int, Json]:
    """The published policy documents by version, out of the same records."""
    events = [json.loads(value) for topic, _, value in records if topic.endswith("cs.policy") and value]
    documents = [rules(event) for event in events if kind_of(event) == "policy.published"]
    return {document["version"]: document for document in documents}
