"""What alerting publishes of an alert: whom it concerns, what was sent, how it ended."""

from typing import Literal

from pydantic import Field

from schemas.envelope import Data, Event, Id, Line, Name, Time
from schemas.handoffs import Stage


class Alert(Data):
    """One clock that somebody must act on. Its stages are steps of the same alert."""

    alert: Id = Field(description="One per clock: hash of handoff and leg.")
    transition: Id = Field(description="The verdict that caused this step.")
    correction: int = Field(default=0, ge=0)
    stage: Stage
    handoff: Id
    kind: Name
    leg: Name
    due: Time | None = None
    accepted: Time | None = None
    owner: Id | None = Field(default=None, description="Who is accountable.")
    recipients: tuple[Id, ...] = Field(description="Who is told.")
    reason: Line = Field(description="Why these people, or why nobody.")
    policy: int = Field(ge=1)


class Delivery(Data):
    alert: Id
    notice: Id
    delivery: Id = Field(description="Hash of notice and endpoint: the key that a receiver sees.")
    recipient: Id
    endpoint: Name
    attempt: int = Field(ge=1)
    status: int | None = Field(default=None, description="HTTP status; absent when nobody answered.")
    reason: Line


class AlertRaised(Event):
    """A stage of a clock was reached and these people are told."""

    type: Literal["steward.alert.raised.v1"] = "steward.alert.raised.v1"
    data: Alert


class AlertCorrected(Event):
    """The same stage with another due time or owner."""

    type: Literal["steward.alert.corrected.v1"] = "steward.alert.corrected.v1"
    data: Alert


class AlertHeld(Event):
    """A stage was reached and nobody is told singly; the reason says why."""

    type: Literal["steward.alert.held.v1"] = "steward.alert.held.v1"
    data: Alert


class AlertResolved(Event):
    """The handoff was accepted or cancelled after an alert."""

    type: Literal["steward.alert.resolved.v1"] = "steward.alert.resolved.v1"
    data: Alert


class AlertRetracted(Event):
    """A late fact proved it wrong; everyone who was told is told so."""

    type: Literal["steward.alert.retracted.v1"] = "steward.alert.retracted.v1"
    data: Alert


class AlertDelivered(Event):
    """An endpoint took a notice."""

    type: Literal["steward.alert.delivered.v1"] = "steward.alert.delivered.v1"
    data: Delivery


class AlertFailed(Event):
    """A notice was given up after the last attempt, or its endpoint is gone."""

    type: Literal["steward.alert.failed.v1"] = "steward.alert.failed.v1"
    data: Delivery
