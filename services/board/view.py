"""The view consumer: reads the topics that people ask about, and folds them into Redis one batch at a time."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from schemas import codec
from schemas.clock import ClockAdvanced
from schemas.envelope import Event
from schemas.topics import (
    ACCOUNTS,
    ALERTS,
    CLOCK,
    HANDOFFS,
    HEALTH,
    HEALTH_CHANGES,
    INTERACTIONS,
    OWNERSHIP,
    RENEWALS,
    Topic,
)
from services.board import generation
from services.board.decide import Read, fold, place_of
from services.board.generation import Building, Changes, ClaimLost, Generation, Outcome
from services.board.model import AsOf, Heard
from services.board.timeline import seen
from services.core.errors import OperatorError
from services.core.instants import SECOND, instant
from services.core.outcome import Reason
from services.runtime import clock, kafka, log
from services.runtime.kafka import BrokerAway, Spot, Tail
from services.runtime.metrics import Metrics
from services.runtime.redis import RedisAway, Store
from services.runtime.settings import Settings

TOPICS: tuple[Topic, ...] = (
    ACCOUNTS,
    RENEWALS,
    OWNERSHIP,
    INTERACTIONS,
    HEALTH,
    HEALTH_CHANGES,
    HANDOFFS,
    ALERTS,
)
NAMED = {topic.name: topic for topic in TOPICS}
MARKS: Spot = (CLOCK.name, 0)  # the marks of a moment say the same in every partition

BATCH = 1_000  # records; some 100 ms of work, for a third of which Redis answers nobody else
WAIT_MS = 100
LOOK_BACK = 64  # offsets of the clock: marks and the markers of their transactions
ENDS_SECONDS = 0.2  # between two questions where the topics end
RETRY_SECONDS = 1.0
REFUSALS_SAID = 100  # all are counted; a topic full of them shall not fill the log
SAY_SECONDS = 30.0  # between two log lines about the same trouble
FRESH_SECONDS = 2.0  # a build that has caught up with an end asked for so short a time ago may be switched to
ROUNDS = 10

Report = Callable[[float, int], None]  # how much is done (0 to 1), and how many records were read


class Displaced(OperatorError):
    """A topic ends before the position that was reached: it was made anew."""


@dataclass(slots=True)
class Ends:
    """Where the topics ended at some moment, and the newest mark heard before."""

    asked: float
    ends: dict[Spot, int]
    mark: Heard | None


@dataclass(slots=True)
class Writer:
    """Folds records into one generation. After anything else than success it must not be used again."""

    settings: Settings
    tail: Tail
    generation: Generation
    positions: dict[Spot, int]
    metrics: Metrics
    rounds: int = 0  # how often everything up to an end asked for was folded
    records: int = 0
    heard: Heard | None = None
    as_of: AsOf | None = None
    begun: dict[Spot, int] = field(default_factory=dict)
    goal: Ends | None = None
    asked: float = 0.0
    took: float = 0.0
    marks: int = 0
    refused: int = 0

    async def start(self) -> None:
        """Go on reading where the generation stands. Raises BrokerAway."""
        begin, end = (await self.tail.bounds([MARKS]))[MARKS]
        self.begun = dict(self.positions)
        self.marks = max(begin, end - LOOK_BACK)
        self.tail.seek({**self.positions, MARKS: self.marks})

    async def step(self) -> Outcome:
        """Fold one batch, perhaps an empty one. Raises BrokerAway, RedisAway, Displaced."""
        records, reached = await self.tail.fresh(BATCH, WAIT_MS)
        before = {**self.positions, MARKS: self.marks}
        _in_place(spot for spot, position in before.items() if reached[spot] < position)
        self.marks = reached.pop(MARKS)
        reads = self._decoded(records)
        as_of = await self._passed(reached)
        changes = await self._changes(reads, reached)
        changes.marks = [mark for mark in (self.heard, as_of) if mark is not None]
        outcome = await self.generation.write(changes)
        self.positions = reached
        self.records += sum(spot != MARKS for spot, _ in records)
        return outcome

    @property
    def part(self) -> float:
        """How much of what there is has been folded, 0 to 1."""
        if self.goal is None:
            return 1.0 if self.rounds else 0.0
        wanted = sum(max(0, end - self.begun[spot]) for spot, end in self.goal.ends.items())
        left = sum(max(0, end - self.positions[spot]) for spot, end in self.goal.ends.items())
        return 1.0 if wanted == 0 else 1.0 - left / wanted

    def _decoded(self, records: Sequence[tuple[Spot, kafka.Received]]) -> list[Read]:
        found: list[Read] = []
        mark = None
        for spot, record in records:
            if spot == MARKS:
                mark = record
            elif event := self._event(spot, record):
                found.append(Read(event, record.offset, place_of(event)))
        if mark is not None:
            self._hear(mark)
        for name, number in Counter(spot[0] for spot, _ in records if spot != MARKS).items():
            self.metrics.view_records.labels(name).inc(number)
        return found

    def _event(self, spot: Spot, record: kafka.Received) -> Event | None:
        topic = NAMED[spot[0]]
        if record.value is None:
            return None
        try:
            event = codec.decode(topic, record.value)
        except codec.SchemaError as error:
            unknown = isinstance(error, codec.UnknownType)
            self._refuse(spot, record, Reason.UNKNOWN_TYPE if unknown else Reason.SCHEMA, str(error))
            return None
        if partition_of(event.partitionkey, self.settings.partitions) != spot[1]:
            self._refuse(spot, record, Reason.WRONG_PARTITION, f"its key is {event.partitionkey!r}")
            return None
        return event

    def _refuse(self, spot: Spot, record: kafka.Received, reason: Reason, why: str) -> None:
        """It stays in its topic, and a rebuild by a version that can read it takes it in."""
        self.metrics.records.labels("view", spot[0], reason.value).inc()
        self.refused += 1
        if self.refused <= REFUSALS_SAID:
            log.get().warning("record not shown", topic=spot[0], partition=spot[1], offset=record.offset, why=why)

    def _hear(self, record: kafka.Received) -> None:
        try:
            event = codec.decode(CLOCK, record.value or b"")
        except codec.SchemaError:  # somebody else's; processors ignore it too
            return
        if isinstance(event, ClockAdvanced):
            mark = event.data
            self.heard = Heard(offset=record.offset, at=instant(mark.at), silent=mark.silent, simulated=mark.simulated)

    async def _passed(self, reached: Mapping[Spot, int]) -> AsOf | None:
        """The mark before which everything has been read, where there is a new one.

        The mark is heard first and the ends are asked for then: whoever has read up to them has read what stood there.
        """
        passed = None
        if self.goal is None and clock.elapsed() - self.asked > ENDS_SECONDS:
            self.asked = clock.elapsed()
            bounds = await self.tail.bounds(self.positions)
            self.goal = Ends(self.asked, {spot: end for spot, (_, end) in bounds.items()}, self.heard)
            _in_place(spot for spot, end in self.goal.ends.items() if end < reached[spot])
        if self.goal is not None and all(reached[spot] >= end for spot, end in self.goal.ends.items()):
            self.rounds, self.took = self.rounds + 1, clock.elapsed() - self.goal.asked
            if self.goal.mark is not None:
                passed = self.as_of = AsOf(offset=self.goal.mark.offset, at=self.goal.mark.at)
            self.goal = None
        return passed

    async def _changes(self, reads: list[Read], reached: dict[Spot, int]) -> Changes:
        places = {read.place for read in reads if read.place is not None}
        told = [(read.event.partitionkey, seen(read.event)) for read in reads]
        return Changes(
            positions={spot: (self.positions[spot], position) for spot, position in reached.items()},
            fields=fold(reads, await self.generation.known(places)),
            facts=[(account, fact) for account, fact in told if fact is not None],
            accounts={account for account, _ in told},
            part=self.part,
        )

    def measure(self) -> None:
        """Say how far the view is behind the clock."""
        if self.as_of is not None and self.heard is not None:
            now = self.heard.at if self.heard.simulated else clock.now()
            self.metrics.view_age.set(max(0, now - self.as_of.at) / SECOND)


def _in_place(moved: Iterable[Spot]) -> None:
    for topic, number in moved:
        raise Displaced(f"{topic} partition {number} ends before what was read of it; the topic was made anew")


@lru_cache(maxsize=100_000)
def partition_of(key: str, partitions: int) -> int:
    return kafka.partition_of(key.encode(), partitions)


# ---------------------------------------------------------------- building


async def build(
    settings: Settings,
    store: Store,
    tail: Tail,
    metrics: Metrics,
    stopping: asyncio.Event,
    report: Report = lambda _part, _records: None,
) -> Generation | None:
    """Build the next generation from offset 0 beside the present one, and put it in force.

    Answers it without the claim; None when told to stop: then the present one stays and nothing is left of the new.
    Raises Building, ClaimLost, BrokerAway, RedisAway, Displaced.
    """
    claimed = await generation.claim(store, settings.prefix, clock.fresh_id())
    try:
        present = await generation.in_force(store, settings.prefix)
        await claimed.sweep(keep=() if present is None else (present,))  # what a builder that died has left
        done = await _filled(settings, tail, metrics, claimed, stopping, report)
        if done:
            await claimed.switch()
            present = claimed.number
        await claimed.sweep(keep=() if present is None else (present,))
    finally:
        await _released(claimed)
    return Generation(store, settings.prefix, claimed.number) if done else None


async def _released(claimed: Generation) -> None:
    try:
        await claimed.release()
    except RedisAway:  # the claim ends by itself
        return


async def _filled(
    settings: Settings, tail: Tail, metrics: Metrics, claimed: Generation, stopping: asyncio.Event, report: Report
) -> bool:
    """Fold everything up to the present ends; False when told to stop."""
    bounds = await tail.bounds(spots(settings))
    positions = {spot: begin for spot, (begin, _) in bounds.items()}
    await claimed.begin(positions)
    writer = Writer(settings, tail, claimed, positions, metrics)
    await writer.start()
    while not stopping.is_set():
        if await writer.step() is not Outcome.WRITTEN:
            raise ClaimLost(f"generation {claimed.number} of the view was given up: Redis was emptied meanwhile")
        report(writer.part, writer.records)
        if writer.rounds and (writer.took < FRESH_SECONDS or writer.rounds >= ROUNDS):
            return True
    return False


def spots(settings: Settings) -> list[Spot]:
    """Every partition that the view is folded from."""
    return [(topic.name, number) for topic in TOPICS for number in range(settings.partitions)]


# ---------------------------------------------------------------- serving


class Server:
    """Keeps the view in force up to date, through whatever happens to Redis and Kafka."""

    def __init__(self, settings: Settings, store: Store, tail: Tail, metrics: Metrics) -> None:
        self.ready = False
        self._settings = settings
        self._store = store
        self._tail = tail
        self._metrics = metrics
        self._said: dict[str, float] = {}
        self._anew = ""  # why the present generation must not be gone on with

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until told to stop. Raises NewerFormat."""
        while not stopping.is_set():
            try:
                writer = await self._entered(stopping)
                if writer is not None:
                    await self._follow(writer, stopping)
                    continue
            except (RedisAway, BrokerAway, Building, ClaimLost) as error:
                self._say(type(error).__name__, str(error))
            except Displaced as error:
                self._anew = str(error)
            self.ready = False
            await pause(stopping, RETRY_SECONDS)

    async def _entered(self, stopping: asyncio.Event) -> Writer | None:
        """A writer that goes on where the generation in force stands, one just built if there is none to go on with."""
        number = await generation.in_force(self._store, self._settings.prefix)
        if number is None:
            return await self._built("there is none", stopping)
        if self._anew:
            return await self._built(self._anew, stopping)
        present = Generation(self._store, self._settings.prefix, number)
        positions = await present.positions()
        if positions is None or set(positions) != set(spots(self._settings)):
            return await self._built("its positions are missing or of another format", stopping)
        if (why := await self._outside(present, positions)) is not None:
            return await self._built(why, stopping)
        return await self._started(present, positions)

    async def _outside(self, present: Generation, positions: Mapping[Spot, int]) -> str | None:
        """Why the topics are not those that this generation was folded from, where that shows."""
        bounds = await self._tail.bounds([*positions, MARKS])
        _, newest = bounds.pop(MARKS)
        heard = await present.heard()
        if heard is not None and heard.offset >= newest:
            return f"the newest mark it has heard, {heard.offset}, is not in {MARKS[0]}, which ends at {newest}"
        for spot, (begin, end) in bounds.items():
            if not begin <= positions[spot] <= end:
                return f"its position {positions[spot]} in {spot[0]} partition {spot[1]} is outside {begin} to {end}"
        return None

    async def _built(self, why: str, stopping: asyncio.Event) -> Writer | None:
        self.ready = False
        log.get().warning("view is built anew", why=why)
        since = clock.elapsed()
        made = await build(self._settings, self._store, self._tail, self._metrics, stopping)
        if made is None:
            return None
        log.get().info("view built", generation=made.number, seconds=round(clock.elapsed() - since, 1))
        self._anew = ""
        positions = await made.positions()
        return None if positions is None else await self._started(made, positions)

    async def _started(self, present: Generation, positions: dict[Spot, int]) -> Writer:
        writer = Writer(self._settings, self._tail, present, positions, self._metrics)
        await writer.start()
        return writer

    async def _follow(self, writer: Writer, stopping: asyncio.Event) -> None:
        """Fold until there is a reason to look again where the view stands."""
        while not stopping.is_set():
            outcome = await writer.step()
            if outcome is not Outcome.WRITTEN:
                log.get().info("view moved", generation=writer.generation.number, why=outcome.value)
                self.ready = False
                return
            writer.measure()
            if writer.rounds and not self.ready:
                log.get().info("serving", generation=writer.generation.number, records=writer.records)
                self.ready = True
                self._said.clear()

    def _say(self, kind: str, sentence: str) -> None:
        self.ready = False
        if clock.elapsed() - self._said.get(kind, -SAY_SECONDS) >= SAY_SECONDS:
            self._said[kind] = clock.elapsed()
            log.get().warning("view waits", why=sentence)


async def pause(stopping: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until told to stop."""
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return
