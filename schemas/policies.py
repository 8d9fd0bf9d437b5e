"""The policy: the rule revenue operations state once, as a document and as the events that publish it."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

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


class Policy(Data):
    version: int = Field(ge=1)
    owner: Line = Field(min_length=1, description="The person who answers for these rules.")
    calendar: Name = Field(description="The company's calendar.")
    calendars: dict[Name, CalendarRule] = Field(min_length=1)
    handoffs: dict[Name, KindRule] = Field(min_length=1)
    people: dict[Id, PersonRule] = Field(default_factory=dict)
    alerts: AlertRules = AlertRules()

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
