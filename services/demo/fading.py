"""The account of the demo that falls a band because nobody talks to it: what it did when, worked out from the policy.

Months ago a few talks, then nothing but a ticket of one contact, opened and solved. Nothing that raises a score
follows, so it only sinks, and when the ticket was decides at which instant the band falls. The score is computed apart
from the product's: the demo would otherwise agree with whatever the product says.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from schemas.health import Band
from schemas.policies import HealthRules, ProfileRule
from services.core.curves import Silence, score
from services.core.instants import DAY, HOUR, MINUTE, SECOND, Instant
from services.demo.company import HISTORY_DAYS, Agreement

NIGHT = 23 * HOUR + 30 * MINUTE  # of the first live day: nobody works when the band falls
TALKS, EVERY_DAYS = (4, 3, 5, 2, 6, 8), 14
SILENT_DAYS = (60, 45, 75, 30)  # from the last talk to the ticket
WORKED = 2 * HOUR  # on the ticket
LOOK_AHEAD = 400 * DAY
ROUNDS = 6  # a step of the score is met at once; where it slides, the search comes nearer with each round
LATEST = 8 * HOUR + 30 * MINUTE  # of the second live day: the band must have fallen before its work begins


@dataclass(frozen=True, slots=True)
class Fading:
    """What the account did, oldest first: its last ticket, opened and solved, came long after the last talk."""

    talks: tuple[Instant, ...]
    opened: Instant
    solved: Instant


@dataclass(frozen=True, slots=True)
class Fall:
    """From which band to which, and when: `at`, after the score was below `limit` from `below` on."""

    before: Band
    after: Band
    limit: float
    below: Instant
    at: Instant


@dataclass(frozen=True, slots=True)
class Tale:
    """The account, and what becomes of it."""

    fading: Fading
    fall: Fall


def tale(agreed: Agreement) -> Tale | None:
    """The first account that falls a band in the first night of the live days; None where the policy knows none."""
    if agreed.health is None or not {"interaction.logged", "ticket.opened"} & {*agreed.health.meaningful}:
        return None
    return next(_tales(agreed, agreed.health), None)


def _tales(agreed: Agreement, rules: HealthRules) -> Iterator[Tale]:
    wanted = agreed.start + NIGHT
    for silent, talks in product(SILENT_DAYS, TALKS):
        opened = wanted - 40 * DAY
        for _ in range(ROUNDS):
            fading = _account(agreed, opened, talks, silent)
            fall = falls(rules, fading, fading.solved)
            if fall is None or fall.at == wanted:
                break
            opened += wanted - fall.at
        if fall is not None and _is_good(agreed, rules, fading, fall):
            yield Tale(fading, fall)


def _account(agreed: Agreement, opened: Instant, talks: int, silent: int) -> Fading:
    last = opened - silent * DAY
    earlier = range(talks - 1, -1, -1)
    return Fading(
        tuple(last - number * EVERY_DAYS * DAY for number in earlier), opened, agreed.calendar.add(opened, WORKED)
    )


def _is_good(agreed: Agreement, rules: HealthRules, fading: Fading, fall: Fall) -> bool:
    """Is it history, does the account keep its band until the live days, and lose it in their first night?"""
    begin, bands = agreed.start - HISTORY_DAYS * DAY, rules.bands
    threshold = bands.green if fall.before == "green" else bands.yellow
    return (
        begin < fading.talks[0]
        and fading.solved < agreed.eve
        and shown(rules, fading, agreed.eve) >= threshold + bands.up_margin
        and agreed.calendar.add(agreed.start, 1) < fall.at < agreed.start + DAY + LATEST
    )


def falls(rules: HealthRules, fading: Fading, after: Instant) -> Fall | None:
    """The first time after an instant that the account falls a band, to the second; None where it never does.

    It falls when its score has been below the threshold less the margin for so many hours, or at once with a score that
    sinks by much within a day. The score never rises, so both begin at an instant that can be halved down to.
    """
    bands = rules.bands
    before = _colour(rules, shown(rules, fading, after))
    if before == "red":
        return None
    limit = _milli(bands.green if before == "green" else bands.yellow) - _milli(bands.down_margin)
    below = _first(lambda at: _milli(shown(rules, fading, at)) < limit, after, after + LOOK_AHEAD)
    if below is None:
        return None
    window, dwelt = round(bands.fall_hours * HOUR), below + round(bands.down_hours * HOUR)

    def sank(at: Instant) -> bool:
        return _milli(shown(rules, fading, at - window)) - _milli(shown(rules, fading, at)) >= _milli(bands.fall)

    at = below if sank(below) else dwelt
    return Fall(before, _colour(rules, shown(rules, fading, at)), limit / 1_000, below, at)


def _milli(points: float) -> int:
    return round(1_000 * points)


def _first(holds: Callable[[Instant], bool], low: Instant, high: Instant) -> Instant | None:
    """The first whole second in (low, high] from which on it holds; None where it does not even at the end."""
    seconds = range(low // SECOND + 1, high // SECOND + 1)
    number = bisect_left(seconds, True, key=lambda second: holds(second * SECOND))
    return seconds[number] * SECOND if number < len(seconds) else None


def _colour(rules: HealthRules, number: float) -> Band:
    return "green" if number >= rules.bands.green else "yellow" if number >= rules.bands.yellow else "red"


# -- the equation ------------------------------------------------------------------------------------------------------


def shown(rules: HealthRules, fading: Fading, at: Instant) -> float:
    """The score: prior and points of all signals, limited by the caps that can hold here."""
    known = signals(rules, fading, at)
    profile = _profile(rules, known)
    total, points, coverage = sum(profile.groups.values()), 0, 0.0
    for group, weight in profile.groups.items():
        share = weight / total / len(rules.groups[group])
        found = [known[signal] for signal in rules.groups[group] if signal in known]
        points += sum(_milli(share * (one - rules.prior)) for one in found)
        coverage += share * len(found)
    return min(rules.prior + points / 1_000, *_limits(rules, profile, known, coverage))


def signals(rules: HealthRules, fading: Fading, at: Instant) -> Mapping[str, float]:
    """The score of each signal of which there is evidence. The account is owned, and its handoffs are on time."""
    days = sorted({moment // DAY for moment in _active(rules, fading)})
    silence = rules.silence
    chance = Silence(silence.days, silence.r, silence.alpha, silence.a, silence.b).chance(
        len(days) - 1, days[-1] - days[0], at / DAY - days[0]
    )
    heard = int(fading.opened > at - rules.breadth_days * DAY)
    measured = {
        "activity": 1 - chance,
        "two_way_contact": (at - fading.talks[-1]) / DAY,
        "breadth": heard,
        "open_load": 0,
        "owner": 0,
    }
    found: dict[str, float] = {
        name: score(curve, measured[name]) for name, curve in rules.curves.items() if name in measured
    }
    return {**found, "handoff": rules.handoff_scores[0]}


def _active(rules: HealthRules, fading: Fading) -> list[Instant]:
    """When it did something that counts; the policy says what does."""
    talks = fading.talks if "interaction.logged" in rules.meaningful else ()
    tickets = (fading.opened,) if "ticket.opened" in rules.meaningful else ()
    return [*talks, *tickets]


def _profile(rules: HealthRules, known: Mapping[str, float]) -> ProfileRule:
    """That of the first rule of whose groups there is evidence; a handoff is none."""
    evident = known.keys() - {"handoff"}
    fitting = (rule.profile for rule in rules.resolve if all(evident & set(rules.groups[group]) for group in rule.fed))
    return rules.profiles[next(fitting)]


def _limits(rules: HealthRules, profile: ProfileRule, known: Mapping[str, float], coverage: float) -> Iterator[float]:
    caps = rules.caps
    yield 100.0
    if caps.narrow and profile.narrow:
        yield caps.narrow.limit
    if caps.thin_data and round(coverage, 9) < caps.thin_data.coverage:
        yield caps.thin_data.limit
    for group, weight in profile.groups.items() if caps.weak_link else ():
        found = [known[signal] for signal in rules.groups[group] if signal in known]
        trust = len(found) / len(rules.groups[group])
        weak = caps.weak_link
        if weak and found and weight >= weak.weight and trust >= weak.trust and sum(found) / len(found) < weak.below:
            yield weak.limit
