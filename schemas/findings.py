"""What Steward cannot trust or place, for revenue operations to mend."""

from typing import Literal

from pydantic import Field

from schemas.envelope import Data, Event, Id, Line, Time

Kind = Literal["unknown_id"]


class Finding(Data):
    kind: Kind
    about: Id = Field(description="The home, source or account concerned.")
    count: int = Field(ge=0, description="How many facts wait or are touched.")
    since: Time
    text: Line


class FindingOpened(Event):
    """Something stands in the way of facts."""

    type: Literal["steward.finding.opened.v1"] = "steward.finding.opened.v1"
    data: Finding


class FindingClosed(Event):
    """It does no more."""

    type: Literal["steward.finding.closed.v1"] = "steward.finding.closed.v1"
    data: Finding
