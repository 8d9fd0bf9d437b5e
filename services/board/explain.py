"""Why an account has its score: a sum that adds up to the last digit, what was measured in words, what is to come."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import tzinfo

from schemas.topics import HEALTH, HEALTH_CHANGES
from services.board.model import Account, Cap, Change, Contribution, Health
from services.board.words import WORDS, span, tenths
from services.core.instants import DAY, HOUR, Instant, moment

CLOSED_EVERY = 26 * HOUR  # a score goes out at least with each end of a day; the longest has 25 hours
NEAR = 6 * DAY  # up to then the name of the day says which one


@dataclass(frozen=True, slots=True)
class Sum:
    """prior + points of the signals + `astray` = raw; raw + effect of the caps = score. All in milli-points."""

    prior: int
    signals: tuple[Contribution, ...]
    astray: int  # 0, but where the raw score is held within 0 and 100
    raw: int
    caps: tuple[Cap, ...]
    effect: int
    score: int
    missing: tuple[Contribution, ...]


def summed(health: Health) -> Sum:
    """The score as a sum; signals that say nothing stand apart."""
    missing = tuple(one for one in health.contributions if one.trust == 0 and one.points == 0)
    signals = tuple(one for one in health.contributions if one not in missing)
    astray = health.raw - health.prior - sum(one.points for one in signals)
    effect = health.score - health.raw
    return Sum(health.prior, signals, astray, health.raw, health.caps, effect, health.score, missing)


# ---------------------------------------------------------------- words


def _days(one: Contribution, days: float) -> str:
    return f"{days:.1f} days since" if one.evidence else f"never yet in {days:.1f} days"


def _people(_: Contribution, number: float) -> str:
    return "1 person heard of" if number == 1 else f"{number:g} people heard of"


MEASURES: dict[str, Callable[[Contribution, float], str]] = {
    "activity": lambda _, index: f"activity index {index:.2f}",
    "two_way_contact": _days,
    "breadth": _people,
    "open_load": lambda _, weight: f"open tickets weigh {weight:g}",
    "owner": lambda _, hours: f"unowned for {hours:.1f} working hours",
}


def measured(one: Contribution) -> str:
    """What a signal measured, in words."""
    if one.signal == "handoff":
        return "a handoff at risk or late" if one.evidence else "no handoff at risk or late"
    if one.signal == "owner" and one.value is None and one.trust:
        return "an owner is named"
    if one.value is None:
        return ""
    say = MEASURES.get(one.signal)
    return say(one, one.value) if say else f"{one.value:g}"


def astray(parts: Sum) -> str:
    """Why prior and points are not the raw score."""
    return "a score lies within 0 and 100" if parts.raw in {0, 100_000} else "nobody said what for"


def lacking(one: Contribution) -> str:
    """Why a signal says nothing."""
    return one.missing or "no evidence"


def outlook(health: Health, at: Instant, zone: tzinfo) -> str:
    """What becomes of the band by itself."""
    if health.outlook is None:
        return "No change of band within 14 days if nothing happens"
    local = moment(health.outlook.at).astimezone(zone)
    is_near = abs(health.outlook.at - at) < NEAR
    when = local.strftime("%a %H:%M" if is_near else "%a %Y-%m-%d %H:%M")
    return f"From {when} {WORDS[health.outlook.band]} if nothing changes"


def moved(change: Change) -> str:
    """How band and score changed, and by what: `Green 76.2 to Yellow 70.0 (cap)`."""
    before = "" if change.score_before is None else f" {tenths(change.score_before)}"
    start = f"{WORDS[change.before]}{before} to " if change.before else "first "
    return f"{start}{WORDS[change.after]} {tenths(change.score)} ({change.cause})"


def caps_moved(change: Change) -> str:
    """Which caps began and ended, in words; empty where none did."""
    told = [f"{code} began" for code in change.caps_began] + [f"{code} ended" for code in change.caps_ended]
    return ", ".join(told)


def outdated(health: Health, at: Instant) -> str | None:
    """A warning where the score is older than scores become."""
    if at - health.as_of <= CLOSED_EVERY:
        return None
    return f"The score is {span(at - health.as_of)} old, though one goes out each day: is `steward health` running?"


def why_none(account: Account, read: Mapping[str, int]) -> str:
    """Why there is no score, and what to do. `read` says per topic how far the view has come."""
    if not read.get(HEALTH.name, 0) and not read.get(HEALTH_CHANGES.name, 0):
        return (
            f"{account.id} has no score, and no other account has one: start `steward health`, with a policy that "
            "has the part `health`; `steward check` says what is wrong with it."
        )
    return (
        f"{account.id} has no score, though others have: no fact of it has reached `steward health` yet. Send one, "
        "such as an interaction or its owner; if facts of it are there, see whether `steward health` runs."
    )
