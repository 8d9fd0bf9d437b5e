"""The envelope every record wears: CloudEvents 1.0 in structured JSON."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

CONTENT_TYPE = "application/cloudevents+json"
EARLIEST, LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
DEFAULT_RANK = 100


def _plausible(value: object, read: ValidatorFunctionWrapHandler) -> datetime:
    # A number in quotes would be read as seconds or milliseconds since 1970, whichever fits.
    if not isinstance(value, datetime) and not (isinstance(value, str) and value[4:5] == "-"):
        raise ValueError(f"{value!r:.40} is no time; write it like 2026-01-05T10:00:00+01:00")
    time: datetime = read(value)
    if time < EARLIEST:
        raise ValueError(f"{time.isoformat()} lies before 1990; give the time at which it happened")
    if time >= LATEST:
        raise ValueError(f"{time.isoformat()} lies after 2199; give the time at which it happened")
    return time


Id = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Line = Annotated[str, StringConstraints(max_length=500)]
Time = Annotated[AwareDatetime, Strict(False), WrapValidator(_plausible)]  # strict, it would read no text


class Data(BaseModel):
    """What an event carries. Strict, because pydantic otherwise reads `false` as the number 0."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class Event(BaseModel):
    """CloudEvents attributes and our extensions; a subclass fixes `type` and the shape of `data`.

    (source, id) is the identity of a fact. `time` is when it happened; `receivedat` when we first saw it.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    specversion: Literal["1.0"] = "1.0"
    id: Id
    source: Id
    type: str
    subject: Id
    time: Time
    datacontenttype: Literal["application/json"] = "application/json"
    partitionkey: Id
    receivedat: Time | None = None
    run: Id | None = Field(default=None, description="The import run that sent this fact; absent for live facts.")
    runposition: int | None = Field(
        default=None,
        ge=0,
        le=1 << 53,
        description="The place of this fact in its run, counted from 0: a run adds each place once.",
    )
    sourcerank: int = Field(
        default=DEFAULT_RANK,
        ge=0,
        le=1000,
        description="The rank fixed when the source was registered; it orders facts of the same instant.",
    )
    traceparent: Line | None = None
    data: Data

    @classmethod
    def name(cls) -> str:
        """The value of `type`, for example steward.handoff.opened.v1."""
        default: str = cls.model_fields["type"].default
        return default
