"""What the handoff processor publishes: the state of each handoff and the verdicts of its clocks."""

from typing import Literal

from pydantic import Field

from schemas.envelope import Data, Event, Id, Line, Name, Time

State = Literal["open", "paused", "accepted", "cancelled"]
Stage = Literal["noticed", "at_risk", "breached", "passed_125", "passed_200", "met"]


class Leg(Data):
    leg: Name
    due: Time | None = Field(default=None, description="Absent while the clock is paused.")
    calendar: Id = Field(description="Name and version of the calendar that counted.")


class Handoff(Data):
    handoff: Id
    kind: Name
    state: State
    owner: Id | None = None
    sender: Id | None = None
    opened: Time
    accepted: Time | None = None
    legs: tuple[Leg, ...]
    policy: int = Field(ge=1, description="The policy version in force when the handoff was opened.")


class Verdict(Data):
    """One stage of one clock. The same `transition` again is a correction of `due`; the last one counts."""

    handoff: Id
    kind: Name
    leg: Name
    alert: Id = Field(description="One per clock: hash of handoff and leg.")
    transition: Id = Field(description="Hash of alert, stage and n.")
    n: int = Field(ge=1, description="How often this stage was raised.")
    correction: int = Field(ge=0, description="How often this transition was corrected.")
    due: Time | None = None
    accepted: Time | None = None
    owner: Id | None = Field(default=None, description="Who is accountable.")
    policy: int = Field(ge=1)


class Retraction(Verdict):
    stage: Stage
    reason: Line


class Suspicion(Verdict):
    unheard: tuple[Id, ...] = Field(
        min_length=1, description="Sources whose heartbeat stays away, or the run that makes no progress."
    )


class Clearance(Verdict):
    outcome: Literal["confirmed", "unfounded"] = Field(
        description="Everybody was heard and none said otherwise, or a fact or rule shows that it was no breach."
    )
    reason: Line


class HandoffChanged(Event):
    """The state of a handoff: who owns the next step, and when each clock is due."""

    type: Literal["steward.handoff.changed.v1"] = "steward.handoff.changed.v1"
    data: Handoff


class SlaNoticed(Event):
    """Half of the agreed time is used."""

    type: Literal["steward.sla.noticed.v1"] = "steward.sla.noticed.v1"
    data: Verdict


class SlaAtRisk(Event):
    """Three quarters of the agreed time are used."""

    type: Literal["steward.sla.at-risk.v1"] = "steward.sla.at-risk.v1"
    data: Verdict


class SlaBreached(Event):
    """The agreed time has passed without acceptance; `time` is when it was due."""

    type: Literal["steward.sla.breached.v1"] = "steward.sla.breached.v1"
    data: Verdict


class SlaPassed125(Event):
    """A quarter more than the agreed time has passed."""

    type: Literal["steward.sla.passed-125.v1"] = "steward.sla.passed-125.v1"
    data: Verdict


class SlaPassed200(Event):
    """Twice the agreed time has passed."""

    type: Literal["steward.sla.passed-200.v1"] = "steward.sla.passed-200.v1"
    data: Verdict


class SlaSuspected(Event):
    """The agreed time has passed, but somebody who may know of an acceptance is not heard."""

    type: Literal["steward.sla.suspected.v1"] = "steward.sla.suspected.v1"
    data: Suspicion


class SlaCleared(Event):
    """A suspicion has ended: it is confirmed or unfounded."""

    type: Literal["steward.sla.cleared.v1"] = "steward.sla.cleared.v1"
    data: Clearance


class SlaMet(Event):
    """It was accepted in time."""

    type: Literal["steward.sla.met.v1"] = "steward.sla.met.v1"
    data: Verdict


class SlaRetracted(Event):
    """A later fact shows that this stage was never reached."""

    type: Literal["steward.sla.retracted.v1"] = "steward.sla.retracted.v1"
    data: Retraction
