"""Facts about ownership: who answers for an account, who hands it over to whom, and who has accepted."""

from typing import Literal

from pydantic import Field

from schemas.envelope import Data, Event, Id, Line, Name

PauseReason = Literal["waiting_customer", "returned", "legal_hold", "requested_start_date"]


class Opening(Data):
    handoff: Id
    kind: Name
    owner: Id | None = None
    sender: Id | None = None


class Acceptance(Data):
    handoff: Id
    owner: Id | None = None


class Pause(Data):
    handoff: Id
    reason: PauseReason


class Step(Data):
    handoff: Id
    note: Line | None = None


class HandoffOpened(Event):
    """A handoff to `owner` begins; its clocks start at `time`. The earliest opening counts."""

    type: Literal["steward.handoff.opened.v1"] = "steward.handoff.opened.v1"
    data: Opening


class HandoffAccepted(Event):
    """The receiver took it. The first acceptance at or after the opening counts."""

    type: Literal["steward.handoff.accepted.v1"] = "steward.handoff.accepted.v1"
    data: Acceptance


class HandoffPaused(Event):
    """The clocks stand still, for one of a closed list of reasons."""

    type: Literal["steward.handoff.paused.v1"] = "steward.handoff.paused.v1"
    data: Pause


class HandoffResumed(Event):
    """The clocks run again."""

    type: Literal["steward.handoff.resumed.v1"] = "steward.handoff.resumed.v1"
    data: Step


class HandoffCancelled(Event):
    """The handoff will not take place; its clocks stop without a verdict."""

    type: Literal["steward.handoff.cancelled.v1"] = "steward.handoff.cancelled.v1"
    data: Step


class Assignment(Data):
    role: Name = Field(description="For what; the policy names the role that owns accounts.")
    owner: Id


class Removal(Data):
    role: Name
    owner: Id | None = Field(default=None, description="Absent: whoever it was.")


class OwnerAssigned(Event):
    """From `time` on somebody answers for the account in this role."""

    type: Literal["steward.owner.assigned.v1"] = "steward.owner.assigned.v1"
    data: Assignment


class OwnerRemoved(Event):
    """From `time` on nobody does, until somebody is assigned."""

    type: Literal["steward.owner.removed.v1"] = "steward.owner.removed.v1"
    data: Removal
