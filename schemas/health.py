"""What the health processor publishes: each account's score with its reasons, its changes, and its daily closing.

Scores and contributions are integers in milli-points, so that they add up to the last digit.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.envelope import Data, Event, Id, Line, Name, Time

Colour = Literal["green", "yellow", "red"]
Band = Literal["green", "yellow", "red", "na"]
Cause = Literal["events", "decay", "cap", "policy", "data"]
CapCode = Literal["SEV1_OPEN", "NO_OWNER", "HANDOFF_BREACH", "WEAK_LINK", "THIN_DATA", "NARROW"]
Points = Annotated[int, Field(ge=-100_000, le=100_000)]
Score = Annotated[int, Field(ge=0, le=100_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Day = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]


class Evidence(Data):
    """A fact by its identity."""

    source: Id
    id: Id
    at: Time = Field(description="When it happened.")


class Contribution(Data):
    """What one signal adds to the prior. `points` = 1000 · weight · trust · (score − prior), rounded."""

    signal: Name
    group: Name
    weight: Share = Field(description="Its share of all applicable weight.")
    value: float | None = Field(default=None, description="What was measured, in the unit of the signal.")
    score: Annotated[float, Field(ge=0, le=100)] | None = None
    trust: Share
    points: Points
    at: Time | None = Field(default=None, description="When its youngest evidence happened.")
    evidence: tuple[Evidence, ...] = Field(default=(), max_length=8, description="Facts behind it, youngest first.")
    missing: Line | None = Field(default=None, description="Why it says nothing, where its trust is 0.")


class Cap(Data):
    """A limit of the score. While one below a band's threshold holds, so does that bound on the band."""

    code: CapCode
    limit: Score
    since: Time
    reason: Line
    evidence: tuple[Evidence, ...] = Field(default=(), max_length=8)


class Outlook(Data):
    """What becomes of the band if nothing happens."""

    band: Band
    at: Time


class Scored(Data):
    score: Score = Field(description="The least of `raw` and the caps' limits.")
    raw: Score = Field(description="`prior` and the points of all contributions.")
    prior: Score
    band: Band
    colour: Colour = Field(description="What the number says; shown hollow, as provisional, while the band is `na`.")
    since: Time = Field(description="When the band began.")
    unsure: tuple[Line, ...] = Field(default=(), description="Why the band is `na`.")
    coverage: Share = Field(description="The share of the weight for which there is evidence, by its trust.")
    contributions: tuple[Contribution, ...]
    caps: tuple[Cap, ...] = ()
    profile: Name
    profile_reason: Line
    trend: float | None = Field(
        default=None, description="Activity of the last days over that of the last weeks; absent where there is little."
    )
    as_of: Time
    oldest_input: Time | None = Field(
        default=None, description="The youngest evidence of the signal that has waited longest."
    )
    outlook: Outlook | None = Field(default=None, description="Absent: no change of band is in sight.")
    policy: int = Field(ge=1)


class Delta(Data):
    """How a signal's points differ from those at the change before."""

    signal: Name
    points: Annotated[int, Field(ge=-200_000, le=200_000)]


class Change(Data):
    n: int = Field(ge=1, description="Counts the changes of this account.")
    before: Band | None = Field(default=None, description="Absent: the account had no score.")
    after: Band
    score_before: Score | None = None
    score: Score
    cause: Cause
    reason: Line
    evidence: tuple[Evidence, ...] = Field(default=(), max_length=8, description="The facts that caused it.")
    deltas: tuple[Delta, ...] = Field(default=(), description="Signals whose points differ, the largest first.")
    cap_effect_before: Points | None = None
    cap_effect: Points = Field(description="Score less raw score: 0, or below.")
    caps_began: tuple[CapCode, ...] = ()
    caps_ended: tuple[CapCode, ...] = ()
    policy: int = Field(ge=1)


class Closing(Data):
    day: Day = Field(description="The day that ended, in the zone of the company's calendar.")
    score: Score
    band: Band
    coverage: Share
    points: dict[Name, Points] = Field(description="Per signal with evidence.")
    policy: int = Field(ge=1)


class HealthScored(Event):
    """The score of an account as of `time`, with every reason for it. The last one counts."""

    type: Literal["steward.health.scored.v1"] = "steward.health.scored.v1"
    data: Scored


class HealthChanged(Event):
    """The band of an account changed at `time`, or a cap began or ended."""

    type: Literal["steward.health.changed.v1"] = "steward.health.changed.v1"
    data: Change


class HealthClosed(Event):
    """The score of an account at the end of a day."""

    type: Literal["steward.health.closed.v1"] = "steward.health.closed.v1"
    data: Closing
