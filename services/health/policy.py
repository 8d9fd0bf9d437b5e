"""The rules of one policy version, ready to be applied: exact units, compiled curves, the lines of each profile."""

from collections.abc import Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from msgspec import Struct

from schemas.health import CapCode
from schemas.policies import MEASURED, BandRules, CapRule, CapRules, HealthRules, Policy, SignalName
from services.core.curves import Silence, Slopes, score, slope
from services.core.instants import DAY, HOUR, Instant
from services.core.worktime import Calendar, calendar_hours

PROBE: Instant = 1_767_225_600 * 1_000_000  # 1 January 2026; any will do
Anchors = tuple[tuple[float, float], ...]
UNREAD: dict[SignalName, Anchors] = dict.fromkeys(MEASURED, ((0.0, 0.0),))  # of signals that are in no group


class Place(Struct, frozen=True, gc=False):
    """A signal's place in a profile; `weight` is its share of all weight."""

    signal: SignalName
    group: str
    weight: float


@dataclass(frozen=True, slots=True)
class Profile:
    """`groups` are the weights as the policy states them."""

    name: str
    places: tuple[Place, ...]
    groups: Mapping[str, float]
    narrow: bool


@dataclass(frozen=True, slots=True)
class Resolve:
    profile: Profile
    fed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bands:
    """Thresholds in milli-points, spans in microseconds. `falls` and `rises`: of green and yellow, margin included."""

    green: int
    yellow: int
    falls: tuple[int, int]
    rises: tuple[int, int]
    down: int
    up: int
    fall: int
    window: int


@dataclass(frozen=True, slots=True)
class Rules:
    """A policy version's rules of health. Spans in microseconds.

    `steepest`: of the curve of activity between 0 and 1. `slopes`: of every curve. `owned`: the score of an account
    with an owner. `limits`: of the caps that there are, in milli-points.
    """

    version: int
    prior: float
    meaningful: frozenset[str]
    owner_role: str
    silence: Silence
    short: int
    long: int
    floor: float
    least: float
    breadth: int
    severities: tuple[float, float, float, float]
    handoffs: tuple[float, float, float]
    curves: Mapping[SignalName, Anchors]
    steepest: float
    slopes: Mapping[SignalName, Slopes]
    owned: float
    groups: Mapping[str, tuple[SignalName, ...]]
    resolve: tuple[Resolve, ...]
    bands: Bands
    coverage: float
    age: int
    caps: CapRules
    limits: Mapping[CapCode, int]
    calendar: Calendar
    zone: ZoneInfo


def compile_health(policy: Policy) -> Rules | None:
    """The rules of a policy; None where it has none.

    Raises CalendarError for a company calendar that cannot be kept, ValueError for half-lives that sums refuse.
    """
    health = policy.health
    if health is None:
        return None
    rule = policy.calendars[policy.calendar]
    calendar = calendar_hours(rule.zone, rule.week, rule.holidays, name=policy.calendar, version=policy.version)
    if health.caps.no_owner is not None:  # a calendar too sparse for it is refused now, not at the first gap
        calendar.add(PROBE, round(health.caps.no_owner.after_working_hours * HOUR))
    profiles = {name: _profile(name, health) for name in health.profiles}
    silence, curves = health.silence, UNREAD | health.curves
    return Rules(
        version=policy.version,
        prior=health.prior,
        meaningful=frozenset(f"steward.{name}.v1" for name in health.meaningful),
        owner_role=health.owner_role,
        silence=Silence(days=silence.days, r=silence.r, alpha=silence.alpha, a=silence.a, b=silence.b),
        short=round(health.trend.short_days * DAY),
        long=round(health.trend.long_days * DAY),
        floor=health.trend.floor,
        least=health.trend.least,
        breadth=round(health.breadth_days * DAY),
        severities=health.severity_weights,
        handoffs=health.handoff_scores,
        curves=curves,
        steepest=slope(curves["activity"], 0.0, 1.0),
        owned=score(curves["owner"], 0.0),
        slopes={signal: Slopes.of(anchors) for signal, anchors in curves.items()},
        groups=health.groups,
        resolve=tuple(Resolve(profiles[rule.profile], rule.fed) for rule in health.resolve),
        bands=_bands(health.bands),
        coverage=health.provisional.coverage,
        age=round(health.provisional.days * DAY),
        caps=health.caps,
        limits=_limits(health.caps),
        calendar=calendar,
        zone=ZoneInfo(rule.zone),
    )


def _profile(name: str, health: HealthRules) -> Profile:
    rule = health.profiles[name]
    total = sum(rule.groups.values())
    places = tuple(
        Place(signal, group, weight / total / len(health.groups[group]))
        for group, weight in rule.groups.items()
        for signal in health.groups[group]
    )
    return Profile(name, places, rule.groups, rule.narrow)


def _bands(rule: BandRules) -> Bands:
    green, yellow = _milli(rule.green), _milli(rule.yellow)
    down, up = _milli(rule.down_margin), _milli(rule.up_margin)
    return Bands(
        green=green,
        yellow=yellow,
        falls=(green - down, yellow - down),
        rises=(green + up, yellow + up),
        down=round(rule.down_hours * HOUR),
        up=round(rule.up_hours * HOUR),
        fall=_milli(rule.fall),
        window=round(rule.fall_hours * HOUR),
    )


def _limits(caps: CapRules) -> dict[CapCode, int]:
    """The limit of each cap that there is."""
    rules: dict[CapCode, CapRule | None] = {
        "SEV1_OPEN": caps.sev1_open,
        "NO_OWNER": caps.no_owner,
        "HANDOFF_BREACH": caps.handoff_breach,
        "WEAK_LINK": caps.weak_link,
        "THIN_DATA": caps.thin_data,
        "NARROW": caps.narrow,
    }
    return {code: _milli(rule.limit) for code, rule in rules.items() if rule is not None}


def _milli(points: float) -> int:
    return round(points * 1_000)


def is_measured(signal: SignalName) -> bool:
    """Does Steward measure this signal yet?"""
    return signal in MEASURED
