"""What ingest knows while it serves: the account of each home, the sources, and in simulated time the hour.

StaleReader    what is known can no longer be kept up to date
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from schemas import codec
from schemas.clock import ClockAdvanced
from schemas.identity import IdentityMapped
from schemas.sources import SYSTEM_OF_RECORD, Registration, SourceRegistered
from schemas.topics import CLOCK, IDENTITY, SOURCES, Topic
from services.core.errors import OperatorError
from services.core.instants import Instant, instant
from services.ingest.model import Mappings, Sender
from services.runtime import clock, kafka, log
from services.runtime.settings import Settings

REFRESH_MS = 50
MARKS_MS = 200
CHECK_SECONDS = 1.0
CURRENT_SECONDS = 10.0  # so long without a proof that everything was read, and nothing is answered any more
STALE_SECONDS = 60.0  # so long behind a broker that answers, and only a new start helps
LOOK_BACK = 64  # offsets: marks and the markers of their transactions
MOST = 10_000


class StaleReader(OperatorError):
    """Reading has stopped although the broker answers."""


@dataclass(frozen=True, slots=True)
class _Goal:
    """Where the topics ended when we asked."""

    asked_at: float
    ends: Mapping[kafka.Spot, int]


class Homes:
    """Homes, sources and the hour, as they stand on their topics."""

    def __init__(self, settings: Settings) -> None:
        self.mappings = Mappings()
        self._settings = settings
        self._sources: dict[str, Registration] = {}
        self._positions: dict[kafka.Spot, int] = {}
        self._at: Instant | None = None
        self._current_at = -CURRENT_SECONDS
        self._goal: _Goal | None = None

    # -- what is known -------------------------------------------------------------------------------------------

    @property
    def is_current(self) -> bool:
        """Was everything read a moment ago? Otherwise a mapping may have come that we do not know."""
        return clock.elapsed() - self._current_at < CURRENT_SECONDS

    def now(self) -> Instant | None:
        """The wall clock; in simulated time the last mark, None before the first."""
        return self._at if self._settings.simulated else clock.now()

    def sender(self, source: str) -> Sender | None:
        """A source as it is registered."""
        registration = self._sources.get(source)
        if registration is None:
            return None
        return Sender(source, registration.rank, creates=registration.role == SYSTEM_OF_RECORD)

    # -- how it comes to be known --------------------------------------------------------------------------------

    async def read(self, tail: kafka.Tail, topics: Sequence[Topic]) -> None:
        """Read whole topics to their present end. Raises BrokerAway."""
        spots = [(topic.name, number) for topic in topics for number in range(self._settings.partitions)]
        bounds = await tail.bounds(spots)
        self._positions = {spot: begin for spot, (begin, _) in bounds.items()}
        tail.seek(self._positions)
        while any(self._positions[spot] < end for spot, (_, end) in bounds.items()):
            await self._step(tail)
        self._current_at = clock.elapsed()

    async def follow(self, tail: kafka.Tail) -> None:
        """Keep up with what was read, for ever. Raises StaleReader."""
        while True:
            try:
                await self._step(tail)
                await self._prove(tail)
            except kafka.BrokerAway as error:
                self._goal = None
                log.get().warning("homes cannot be followed", why=str(error), current=self.is_current)
                await asyncio.sleep(CHECK_SECONDS)

    async def follow_clock(self, tail: kafka.Tail) -> None:
        """Keep up with the marks of one partition, for ever."""
        spot = (CLOCK.name, 0)
        begin, end = (await tail.bounds([spot]))[spot]
        tail.seek({spot: max(begin, end - LOOK_BACK)})
        while True:
            try:
                records, _ = await tail.fresh(MOST, MARKS_MS)
            except kafka.BrokerAway as error:
                log.get().warning("the clock cannot be followed", why=str(error))
                await asyncio.sleep(CHECK_SECONDS)
                continue
            for _, record in records[-LOOK_BACK:]:
                self._hear(record)

    async def _step(self, tail: kafka.Tail) -> None:
        records, self._positions = await tail.fresh(MOST, REFRESH_MS)
        for (topic, _), record in records:
            self._take(IDENTITY if topic == IDENTITY.name else SOURCES, record)

    async def _prove(self, tail: kafka.Tail) -> None:
        """Now and then: has everything been read that stood there when we asked?"""
        now = clock.elapsed()
        if self._goal is None and now - self._current_at > CHECK_SECONDS:
            bounds = await tail.bounds(self._positions)
            self._goal = _Goal(now, {spot: end for spot, (_, end) in bounds.items()})
        if self._goal is None:
            return
        behind = [f"{spot[0]}/{spot[1]}" for spot, end in self._goal.ends.items() if self._positions[spot] < end]
        if not behind:
            self._current_at, self._goal = self._goal.asked_at, None
        elif now - self._goal.asked_at > STALE_SECONDS:
            raise StaleReader(
                f"nothing has been read of {', '.join(behind)} for {STALE_SECONDS:.0f} s although the broker answers; "
                "ingest ends rather than decide on what it does not know, so start it again"
            )

    def _take(self, topic: Topic, record: kafka.Received) -> None:
        key = (record.key or b"").decode(errors="replace")
        if record.value is None:
            self.mappings.forget(key) if topic is IDENTITY else self._sources.pop(key, None)
            return
        try:
            event = codec.decode(topic, record.value)
        except codec.SchemaError as error:  # a newer writer's
            place = {"topic": topic.name, "partition": record.partition, "offset": record.offset}
            log.get().warning("record ignored", why=str(error), **place)
            return
        match event:
            case IdentityMapped():
                self.mappings.learn(event)
            case SourceRegistered():
                self._sources[event.data.source] = event.data
            case _:
                return

    def _hear(self, record: kafka.Received) -> None:
        try:
            event = codec.decode(CLOCK, record.value or b"")
        except codec.SchemaError:  # somebody else's; processors ignore it too
            return
        if isinstance(event, ClockAdvanced):
            self._at = max(self._at or 0, instant(event.data.at))


@asynccontextmanager
async def known(settings: Settings) -> AsyncIterator[tuple[Homes, "asyncio.Future[list[None]]"]]:
    """Homes read to the end, and what keeps them up to date: it ends only with an error. Raises BrokerAway."""
    homes = Homes(settings)
    async with kafka.tail(settings) as tail, kafka.tail(settings) as marks:
        begun = clock.elapsed()
        await homes.read(tail, (IDENTITY, SOURCES))
        log.get().info("homes read", homes=len(homes.mappings), seconds=round(clock.elapsed() - begun, 1))
        following = [homes.follow(tail)] + ([homes.follow_clock(marks)] if settings.simulated else [])
        task = asyncio.gather(*map(asyncio.create_task, following))
        try:
            yield homes, task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
