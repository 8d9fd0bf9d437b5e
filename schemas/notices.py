"""Between alerting's case and desk: what a person is to be told, and what became of each attempt."""

from typing import Literal

from pydantic import Field

from schemas.envelope import Data, Event, Id, Line, Name, Time
from schemas.handoffs import Stage
from schemas.renewals import Amount, Currency

What = Literal["raised", "corrected", "resolved", "retracted"]


class Notice(Data):
    """Everything that the message says."""

    notice: Id = Field(description="Hash of transition, correction, what and recipient.")
    what: What
    alert: Id
    transition: Id
    stage: Stage
    account: Id
    account_name: Line | None = None
    amount: Amount | None = Field(default=None, description="Recurring revenue a year of the account.")
    currency: Currency | None = None
    handoff: Id
    kind: Name
    leg: Name
    due: Time | None = None
    accepted: Time | None = None
    owner: Id | None = Field(default=None, description="Who owns the next step.")
    owner_name: Line | None = None
    recipient: Id
    recipient_name: Line | None = None
    reason: Line
    digest: bool = Field(default=False, description="Too old to be told singly.")
    policy: int = Field(ge=1)


class Result(Data):
    """What became of one attempt."""

    delivery: Id
    notice: Id
    endpoint: Name
    attempt: int = Field(ge=1)
    status: int | None = None
    retry_after: int | None = Field(default=None, ge=0, description="Seconds that the endpoint asked for.")
    message: Line


class NoticeDue(Event):
    """The recipient is to hear of it."""

    type: Literal["steward.notice.due.v1"] = "steward.notice.due.v1"
    data: Notice


class NoticeCancelled(Event):
    """What this person was or is to be told is no longer so; told only if the first word went out."""

    type: Literal["steward.notice.cancelled.v1"] = "steward.notice.cancelled.v1"
    data: Notice


class NoticeDelivered(Event):
    """An endpoint answered an attempt with success."""

    type: Literal["steward.notice.delivered.v1"] = "steward.notice.delivered.v1"
    data: Result


class NoticeFailed(Event):
    """An attempt did not succeed; the desk decides whether and when there is another."""

    type: Literal["steward.notice.failed.v1"] = "steward.notice.failed.v1"
    data: Result
