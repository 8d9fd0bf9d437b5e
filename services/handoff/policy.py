"""The rules of one policy version, ready to be applied: each kind's legs with their calendars and targets."""

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.policies import KindRule, LegRule, Policy
from services.core.instants import HOUR, Instant
from services.core.worktime import Calendar, StageOffsets, calendar_hours, stage_offsets


@dataclass(frozen=True, slots=True)
class LegPolicy:
    """One clock: working microseconds until due and until each other stage, in one calendar."""

    name: str
    target: int
    offsets: StageOffsets
    calendar: Calendar
    accountable: str

    @property
    def calendar_label(self) -> str:
        return f"{self.calendar.name}:{self.calendar.version}"


PROBE: Instant = 1_767_225_600 * 1_000_000  # 1 January 2026; any will do

Kinds = Mapping[str, tuple[LegPolicy, ...]]


def compile_kinds(policy: Policy) -> Kinds:
    """Every kind's legs, in the order of the policy.

    Raises CalendarError for a calendar that cannot be kept, naming it.
    """
    calendars = {
        name: calendar_hours(rule.zone, rule.week, rule.holidays, name=name, version=policy.version)
        for name, rule in policy.calendars.items()
    }
    return {kind: _legs(rule, policy, calendars) for kind, rule in policy.handoffs.items()}


def _legs(rule: KindRule, policy: Policy, calendars: Mapping[str, Calendar]) -> tuple[LegPolicy, ...]:
    return tuple(_leg(name, leg, calendars[leg.calendar or policy.calendar]) for name, leg in rule.legs.items())


def _leg(name: str, rule: LegRule, calendar: Calendar) -> LegPolicy:
    target = round(rule.hours * HOUR)
    offsets = stage_offsets(target)
    calendar.add(PROBE, offsets.passed_200)  # a calendar too sparse for the leg is refused now, not at a handoff
    return LegPolicy(name, target, offsets, calendar, rule.accountable)
