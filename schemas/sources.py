"""What is known of the systems that send facts, and of the imports (runs) of their history."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.envelope import DEFAULT_RANK, Data, Event, Id, Line, Name, Time

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


SYSTEM_OF_RECORD = "system of record"


class Registration(Data):
    source: Name
    rank: int = Field(default=DEFAULT_RANK, ge=0, le=1000)
    role: Line | None = Field(default=None, description="The system of record may create accounts.")
    heartbeat: int | None = Field(
        default=None, ge=1, le=3600, description="Seconds between two heartbeats; absent: it sends none."
    )
    grace: int = Field(default=60, ge=0, le=3600, description="How late its facts may be, in seconds.")


class Sighting(Data):
    source: Name


class Progress(Data):
    """How far a run has come. Each record stands alone, because the topic is compacted."""

    source: Name
    run: Id
    file: Line
    sha256: Sha256
    facts: int = Field(ge=0, description="How many facts the whole run sends.")
    sent: int = Field(ge=0, description="How many of them, in order of time, the broker has acknowledged.")
    through: Time | None = Field(
        default=None, description="Every fact up to and including this event time has been acknowledged."
    )


class SourceRegistered(Event):
    """A source may send facts. Its rank is fixed by its first registration."""

    type: Literal["steward.source.registered.v1"] = "steward.source.registered.v1"
    data: Registration


class SourceSeen(Event):
    """A heartbeat: everything that the source knew up to `time` has been sent and acknowledged."""

    type: Literal["steward.source.seen.v1"] = "steward.source.seen.v1"
    data: Sighting


class RunStarted(Event):
    """An import of history has begun; legs it opens wait for its progress."""

    type: Literal["steward.run.started.v1"] = "steward.run.started.v1"
    data: Progress


class RunAdvanced(Event):
    """The import came this far."""

    type: Literal["steward.run.advanced.v1"] = "steward.run.advanced.v1"
    data: Progress


class RunFinished(Event):
    """The import is complete and restrains no clock any more."""

    type: Literal["steward.run.finished.v1"] = "steward.run.finished.v1"
    data: Progress


class RunAbandoned(Event):
    """The import will not go on; it restrains no clock any more."""

    type: Literal["steward.run.abandoned.v1"] = "steward.run.abandoned.v1"
    data: Progress
