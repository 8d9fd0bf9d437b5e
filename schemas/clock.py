"""Time as a record: what time it is, what that covers, and who has promised to be complete until when."""

from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from schemas.envelope import Data, Event, Id, Time

Offset = Annotated[int, Field(ge=0)]
AHEAD = timedelta(seconds=5)  # clocks of the writer and of the broker may differ by so much


class Mark(Data):
    at: Time = Field(description="The clock; never goes back.")
    safe: Time = Field(description="Up to here silence may be believed.")
    held_until: Time | None = Field(
        default=None,
        description="After a gap in the marks `safe` stands still until then: vendors redeliver.",
    )
    promises: dict[Id, Time] = Field(
        default_factory=dict,
        description="Per open run and per source with a heartbeat: every fact up to this event time was acknowledged.",
    )
    closed: dict[Id, Time] = Field(
        default_factory=dict,
        description="Runs that finished or were abandoned, with when: those of 14 days, and twice a minute all.",
    )
    stalled: tuple[Id, ...] = Field(default=(), description="Open runs without progress for 15 minutes.")
    silent: tuple[Id, ...] = Field(
        default=(),
        description="Sources whose heartbeat stays away; after four hours they restrain no clock any more.",
    )
    heard: dict[Id, Time] = Field(
        default_factory=dict, description="The last heartbeat of each silent source that ever sent one."
    )
    ends: dict[Id, Offset] = Field(
        description="Per topic the end of this partition, read after the promises: who has read up to here "
        "has read all that was promised."
    )
    tables: dict[Id, tuple[Offset, ...]] = Field(
        default_factory=dict, description="Per global topic the end of each of its partitions."
    )
    writer: Id
    simulated: bool = False

    def runs_ahead(self, appended: datetime) -> bool:
        """Was it later in this mark than when the broker took it in? Then nobody may go by it."""
        return not self.simulated and self.at > appended + AHEAD


class ClockAdvanced(Event):
    """A mark of the clock for one partition."""

    type: Literal["steward.clock.advanced.v1"] = "steward.clock.advanced.v1"
    data: Mark
