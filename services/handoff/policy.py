"""The rules of one policy version, ready to be applied: each kind's legs with their calendars and targets."""

from collections.abc import Mapping

from msgspec import Struct

from schemas.policies import KindRule, LegRule, Policy
from services.core.instants import HOUR, Instant
from services.core.worktime import Calendar, calendar_hours, stage_offsets
from services.handoff.model import SUSPECTED, Stage


class LegPolicy(Struct, frozen=True, eq=False):
    """One clock: working microseconds until due and until each stage, in one calendar.

    `offsets`: of the stages in their order, without MET and perhaps without the first. `places`: each stage and where
    it stands in the ledger; `suspected`: where a suspicion does. A leg equals itself alone, so that to look up what
    was computed of it costs little.
    """

    name: str
    target: int
    offsets: tuple[int, ...]
    calendar: Calendar
    calendar_label: str
    accountable: str
    places: tuple[tuple[Stage, str], ...]
    suspected: str


class Rules(Struct, frozen=True):
    """The legs of a handoff's kind, all their places in a ledger, and the policy version they come from."""

    version: int
    legs: tuple[LegPolicy, ...] = ()
    places: frozenset[str] = frozenset()


PROBE: Instant = 1_767_225_600 * 1_000_000  # 1 January 2026; any will do

Kinds = Mapping[str, Rules]


def compile_kinds(policy: Policy) -> Kinds:
    """Every kind's rules, their legs in the order of the policy.

    Raises CalendarError for a calendar that cannot be kept, naming it.
    """
    calendars = {
        name: calendar_hours(rule.zone, rule.week, rule.holidays, name=name, version=policy.version)
        for name, rule in policy.calendars.items()
    }
    return {kind: _rules(rule, policy, calendars) for kind, rule in policy.handoffs.items()}


def _rules(rule: KindRule, policy: Policy, calendars: Mapping[str, Calendar]) -> Rules:
    legs = tuple(_leg(name, leg, calendars[leg.calendar or policy.calendar]) for name, leg in rule.legs.items())
    places = {place for leg in legs for _, place in leg.places} | {leg.suspected for leg in legs}
    return Rules(policy.version, legs, frozenset(places))


def _leg(name: str, rule: LegRule, calendar: Calendar) -> LegPolicy:
    target = round(rule.hours * HOUR)
    offsets = stage_offsets(target)
    calendar.add(PROBE, offsets.passed_200)  # a calendar too sparse for the leg is refused now, not at a handoff
    return LegPolicy(
        name,
        target,
        tuple(worked for _, worked in offsets.items()),
        calendar,
        f"{calendar.name}:{calendar.version}",
        rule.accountable,
        tuple((stage, f"{name}/{stage}") for stage in Stage),
        f"{name}/{SUSPECTED}",
    )
