"""The policy: the rule revenue operations state once, as a document and as the events that publish it."""

from collections.abc import Collection
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, StringConstraints, model_validator

from schemas.envelope import Data, Event, Id, Line, Name, Time

Clock = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,2}:[0-9]{2}$")]


class CalendarRule(Data):
    """Working time: a zone, several intervals per weekday, dated holidays."""

    zone: Line
    week: dict[Line, tuple[tuple[Clock, Clock], ...]]
    holidays: tuple[Line, ...] = ()


class LegRule(Data):
    """One clock of a handoff: what starts it, what stops it, and the working hours between."""

    starts: Literal["opened"] = "opened"
    stops: Literal["accepted"] = "accepted"
    hours: float = Field(gt=0, le=2000, description="Working hours until due.")
    accountable: Literal["owner", "sender"] = "owner"
    calendar: Name | None = Field(default=None, description="Absent: the company's.")


class KindRule(Data):
    legs: dict[Name, LegRule] = Field(min_length=1)


class PersonRule(Data):
    """A person who owns accounts or is told of them."""

    name: Line | None = None
    manager: Id | None = None


class AlertRules(Data):
    """Whom alerts reach when nobody else is known, and when they are too old to be sent singly."""

    fallback: Id = Field(default="revenue-operations", description="Who is told of what nobody owns.")
    max_age_hours: float = Field(default=24.0, gt=0, le=720)


# ---------------------------------------------------------------- health

SignalName = Literal[
    "activity", "two_way_contact", "breadth",
    "open_load", "reopened", "missed_promises",
    "csat", "nps", "pulse", "complaints",
    "days_late", "arr_change", "overdue_commitments",
    "readiness",
    "owner", "handoff", "owner_churn",
]  # fmt: skip
MEASURED: tuple[SignalName, ...] = ("activity", "two_way_contact", "breadth", "open_load", "owner", "handoff")
MeaningfulType = Literal["interaction.logged", "purchase.made", "ticket.opened", "ticket.reopened"]
Limit = Annotated[float, Field(ge=0, le=100)]
Hours = Annotated[float, Field(gt=0, le=2000)]
Days = Annotated[float, Field(ge=1, le=3650)]
Curve = tuple[tuple[FiniteFloat, Limit], ...]  # anchors (x, score): linear between, clamped outside


class SilenceRule(Data):
    """The chance that nothing happens in the next `days`: BG/NBD with these constants, in days."""

    days: Days
    r: float = Field(gt=0, le=1000)
    alpha: float = Field(gt=0, le=100_000)
    a: float = Field(gt=0, le=1000)
    b: float = Field(gt=1, le=1000)


class TrendRule(Data):
    """Activity over a short half-life against a long one; nothing where the long rate is below `least`."""

    short_days: float = Field(ge=7, le=3650)
    long_days: float = Field(ge=7, le=3650)
    floor: float = Field(gt=0, le=1, description="Added to both daily rates.")
    least: float = Field(ge=0, le=1)


class BandRules(Data):
    """When the band follows the score."""

    green: Limit
    yellow: Limit
    down_margin: Limit
    down_hours: Hours
    fall: Limit = Field(description="Falling so far within `fall_hours` takes the band down at once.")
    fall_hours: Hours
    up_margin: Limit
    up_hours: Hours


class ProvisionalRule(Data):
    """Below this coverage, or younger than this, an account has no band."""

    coverage: float = Field(ge=0, le=1)
    days: float = Field(ge=0, le=365)


class CapRule(Data):
    limit: Limit


class Sev1Cap(CapRule):
    after_hours: float = Field(ge=0, le=2000, description="Hours that a ticket of severity 1 may be open.")


class OwnerCap(CapRule):
    after_working_hours: Hours


class WeakLinkCap(CapRule):
    """A group of this weight and trust whose score lies below `below`."""

    weight: Limit
    trust: float = Field(ge=0, le=1)
    below: Limit


class ThinDataCap(CapRule):
    coverage: float = Field(ge=0, le=1)


class CapRules(Data):
    """Absent: no such cap."""

    sev1_open: Sev1Cap | None = None
    no_owner: OwnerCap | None = None
    handoff_breach: CapRule | None = None
    weak_link: WeakLinkCap | None = None
    thin_data: ThinDataCap | None = None
    narrow: CapRule | None = None


class ProfileRule(Data):
    """The weight of each group; together 100."""

    groups: dict[Name, Annotated[float, Field(gt=0, le=100)]] = Field(min_length=1)
    narrow: bool = Field(default=False, description="Too few groups to be sure: the cap NARROW holds.")


class ResolveRule(Data):
    """The profile of accounts about whom there is evidence in all the groups `fed`."""

    profile: Name
    fed: tuple[Name, ...] = ()


class HealthRules(Data):
    prior: Limit
    meaningful: tuple[MeaningfulType, ...] = Field(
        min_length=1, description="Facts that show an active customer; what only we said never does."
    )
    owner_role: Name = Field(description="The role whose holder owns the account.")
    silence: SilenceRule
    trend: TrendRule
    breadth_days: Days
    severity_weights: tuple[Limit, Limit, Limit, Limit] = Field(description="Of severities 1 to 4.")
    handoff_scores: tuple[Limit, Limit, Limit] = Field(description="On time, at risk, breached.")
    curves: dict[SignalName, Annotated[Curve, Field(min_length=1, max_length=20)]]
    groups: dict[Name, Annotated[tuple[SignalName, ...], Field(min_length=1)]] = Field(min_length=1)
    profiles: dict[Name, ProfileRule] = Field(min_length=1)
    resolve: tuple[ResolveRule, ...] = Field(min_length=1, description="The first that fits; the last fits always.")
    bands: BandRules
    provisional: ProvisionalRule
    caps: CapRules = CapRules()

    @model_validator(mode="after")
    def _names_exist(self) -> "HealthRules":
        for name, profile in self.profiles.items():
            for group in profile.groups:
                _known(f"profiles.{name}.groups", group, self.groups)
            total = sum(profile.groups.values())
            if abs(total - 100) > 1e-6:
                raise ValueError(f"profiles.{name}.groups has weights that sum to {total:g}; make it 100")
        for number, rule in enumerate(self.resolve):
            _known(f"resolve.{number}.profile", rule.profile, self.profiles)
            for group in rule.fed:
                _known(f"resolve.{number}.fed", group, self.groups)
        if fed := self.resolve[-1].fed:
            place = f"resolve.{len(self.resolve) - 1}.fed"
            raise ValueError(f"{place} names {', '.join(fed)}, but the last rule must fit every account; leave it out")
        return self

    @model_validator(mode="after")
    def _signals_stand_once(self) -> "HealthRules":
        listed = [signal for signals in self.groups.values() for signal in signals]
        twice = sorted({signal for signal in listed if listed.count(signal) > 1})
        if twice:
            raise ValueError(f"groups has {', '.join(twice)} more than once; keep one")
        curved = [signal for signal in listed if signal in MEASURED and signal != "handoff"]
        lacking = [signal for signal in curved if signal not in self.curves]
        if lacking:
            raise ValueError(f"curves lacks {', '.join(lacking)}; what is measured needs a curve")
        return self

    @model_validator(mode="after")
    def _numbers_are_in_order(self) -> "HealthRules":
        for signal, curve in self.curves.items():
            for (before, _), (after, _) in pairwise(curve):
                if before >= after:
                    raise ValueError(f"curves.{signal} has x {after:g} after {before:g}; its anchors must rise in x")
        if self.bands.yellow >= self.bands.green:
            raise ValueError(f"bands.yellow is {self.bands.yellow:g}; it must lie below green, {self.bands.green:g}")
        short, long = self.trend.short_days, self.trend.long_days
        if short >= long:
            raise ValueError(f"trend.short_days is {short:g}; it must be less than long_days, {long:g}")
        return self


def _known(place: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise ValueError(f"{place} names '{name}', but there is only {', '.join(sorted(known))}")


class Policy(Data):
    version: int = Field(ge=1)
    owner: Line = Field(min_length=1, description="The person who answers for these rules.")
    calendar: Name = Field(description="The company's calendar.")
    calendars: dict[Name, CalendarRule] = Field(min_length=1)
    handoffs: dict[Name, KindRule] = Field(min_length=1)
    people: dict[Id, PersonRule] = Field(default_factory=dict)
    alerts: AlertRules = AlertRules()
    health: HealthRules | None = Field(default=None, description="Absent: nothing is scored.")

    @model_validator(mode="after")
    def _calendars_exist(self) -> "Policy":
        wanted = {"calendar": self.calendar} | {
            f"handoffs.{kind}.legs.{name}.calendar": leg.calendar
            for kind, rule in self.handoffs.items()
            for name, leg in rule.legs.items()
            if leg.calendar
        }
        for place, name in wanted.items():
            if name not in self.calendars:
                known = ", ".join(sorted(self.calendars))
                raise ValueError(f"{place} names calendar '{name}', but calendars has only {known}")
        return self

    @model_validator(mode="after")
    def _managers_exist(self) -> "Policy":
        for person, rule in self.people.items():
            if rule.manager is not None and rule.manager not in self.people:
                raise ValueError(f"people.{person}.manager names '{rule.manager}', but people has no such person")
        return self


class Publication(Data):
    policy: Policy


class Activation(Data):
    version: int = Field(ge=1)
    at: Time


class PolicyPublished(Event):
    """A version of the policy exists; it is not in force yet."""

    type: Literal["steward.policy.published.v1"] = "steward.policy.published.v1"
    data: Publication


class PolicyActivated(Event):
    """From `at` on, handoffs that open follow this version. Before the first one, the first is in force."""

    type: Literal["steward.policy.activated.v1"] = "steward.policy.activated.v1"
    data: Activation
