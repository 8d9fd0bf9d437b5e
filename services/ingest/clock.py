"""The clock writer: one process that tells every partition what time it is and what that covers."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime

from schemas import codec
from schemas.clock import ClockAdvanced, Mark
from schemas.topics import BUILT, CLOCK, POLICY, PROCESSORS, SOURCES
from services.core.errors import OperatorError
from services.core.instants import DAY, SECOND, Instant, instant, moment
from services.ingest.marks import Allowance, Hearts, Runs, Tick, tick
from services.runtime import clock, http, kafka, log
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings

TRANSACTIONAL_ID = "steward-clock"
SOURCE = "steward/clock"
COMMIT_SECONDS = 20.0
FULL_SECONDS = 30.0
LOOK_BACK = (64, 4_096, 262_144)  # offsets, one after the other: marks and the markers of their transactions
RIVAL_SECONDS = 10 * SECOND
SIMULATED_GAP = 36_500 * DAY
SILENT = "no mark has been written yet"

# What a processor may read by partition, and whole.
COVERED = tuple(
    topic for topic in BUILT if topic is not CLOCK and not topic.whole and {*topic.consumers} & {*PROCESSORS}
)
TABLES = (POLICY,)


@dataclass(frozen=True, slots=True)
class Time:
    """Where the clock takes its time from; simulated time may leap without anybody having been down."""

    now: Callable[[], Instant] = clock.now
    simulated: bool = False

    def allowance(self, settings: Settings) -> Allowance:
        """What the settings allow facts to take."""
        allowed = Allowance(settings.grace_seconds * SECOND, settings.redelivery_seconds * SECOND)
        return replace(allowed, gap=SIMULATED_GAP) if self.simulated else allowed


@dataclass(frozen=True, slots=True)
class Heard:
    """What `cs.sources` has said so far."""

    runs: Runs = field(default_factory=Runs)
    hearts: Hearts = field(default_factory=Hearts)

    def after(self, record: kafka.Received) -> "Heard":
        if record.value is None:
            return self
        try:
            event = codec.decode(SOURCES, record.value)
        except codec.SchemaError as error:
            place = {"offset": record.offset, "partition": record.partition}
            log.get().error("source record ignored", why=str(error), **place)
            return self
        return Heard(self.runs.after(event), self.hearts.after(event))


WALL = Time()


class RivalWriter(OperatorError):
    """Another clock writer is alive; two would make time jump."""


async def write(settings: Settings, stopping: asyncio.Event, time: Time = WALL) -> None:
    """Write marks until told to stop.

    Raises RivalWriter when another writer is alive or takes over, BrokerAway, TopicMismatch.
    """
    topics = {topic.name: topic.config for topic in (*COVERED, *TABLES, CLOCK, SOURCES)}
    await kafka.ensure_topics(settings, topics)
    marks = _Writer(settings, clock.fresh_id(), time.simulated)
    async with AsyncExitStack() as open_now:
        open_now.enter_context(http.serve(settings, marks.metrics, http.ready_when(lambda: marks.has_written, SILENT)))
        news = await open_now.enter_async_context(kafka.follow(settings, (SOURCES,)))
        offsets = await open_now.enter_async_context(kafka.offsets(settings))
        await _stay_alone(settings)
        # Without transactions nobody fences a second writer that starts in the same moment.
        is_alone = await kafka.transactional(settings)
        transactions = kafka.Transactions(settings, TRANSACTIONAL_ID) if is_alone else kafka.AtLeastOnce(settings)
        await transactions.open()
        open_now.push_async_callback(transactions.close)
        last = await _last_tick(settings, time.allowance(settings))  # only now can a predecessor write no more
        log.get().info("clock runs", writer=marks.name, at=moment(last.at).isoformat() if last else None)
        try:
            await _beat(settings, stopping, time, marks, last, news, offsets, transactions)
        except kafka.Fenced as error:
            raise RivalWriter(f"this clock writer stops: {error}; only one `steward clock` may run") from error


async def _beat(
    settings: Settings,
    stopping: asyncio.Event,
    time: Time,
    writer: "_Writer",
    last: Tick | None,
    news: kafka.Followed,
    offsets: kafka.Offsets,
    transactions: kafka.Writer,
) -> None:
    allowance, heard = time.allowance(settings), Heard()
    interval = settings.clock_interval_ms / 1000
    following, told_all = clock.elapsed(), 0.0
    while not stopping.is_set():
        for record in await news.fresh():
            heard = heard.after(record)
        # The promises are taken before the ends: whoever has read up to the ends has read what was promised.
        last = tick(last, time.now(), allowance)
        ends = await offsets.ends((*COVERED, *TABLES))
        # Now and then every closed run is listed, for processors that begin with facts of years ago.
        is_full = clock.elapsed() - told_all > FULL_SECONDS
        told_all = clock.elapsed() if is_full else told_all
        closed = heard.runs.closed(None if is_full else last.at)
        await _written(transactions, writer.marks(last, heard, closed, ends))
        writer.has_written = True
        for source, until in heard.hearts.promises(last.at).items():
            writer.metrics.promise.labels(source).set(until / SECOND)
        following = max(following + interval, clock.elapsed())
        try:
            await asyncio.wait_for(stopping.wait(), max(0.0, following - clock.elapsed()))
        except TimeoutError:
            continue


async def _written(transactions: kafka.Writer, marks: list[kafka.Write]) -> None:
    # aiokafka tries for ever; a clock that cannot be written had better end and be started again.
    try:
        await asyncio.wait_for(transactions.transact(marks), COMMIT_SECONDS)
    except TimeoutError:
        raise kafka.BrokerAway(
            f"{CLOCK} could not be written for {COMMIT_SECONDS:.0f} s; is the broker well?"
        ) from None


@dataclass(slots=True)
class _Writer:
    """Makes the marks of one writer."""

    settings: Settings
    name: str
    simulated: bool
    has_written: bool = False
    metrics: Metrics = field(default_factory=Metrics)

    def marks(
        self, now: Tick, heard: Heard, closed: Mapping[str, Instant], ends: Mapping[str, tuple[int, ...]]
    ) -> list[kafka.Write]:
        """One mark for each partition."""
        said = {
            "at": moment(now.at),
            "safe": moment(now.safe),
            "held_until": None if now.held_until is None else moment(now.held_until),
            "promises": _moments(heard.runs.promises() | heard.hearts.promises(now.at)),
            "closed": _moments(closed),
            "stalled": heard.runs.stalled(now.at),
            "silent": heard.hearts.silent(now.at),
            "heard": _moments(heard.hearts.heard(now.at)),
            "tables": {topic.name: ends[topic.name] for topic in TABLES},
            "writer": self.name,
            "simulated": self.simulated,
        }
        return [self._mark(number, now.at, said, ends) for number in range(self.settings.partitions)]

    def _mark(
        self, number: int, at: Instant, said: Mapping[str, object], ends: Mapping[str, tuple[int, ...]]
    ) -> kafka.Write:
        mark = Mark.model_validate({**said, "ends": {topic.name: ends[topic.name][number] for topic in COVERED}})
        key = str(number)
        event = ClockAdvanced(
            id=f"{at}.{number}", source=SOURCE, subject=key, partitionkey=key, time=moment(at), data=mark
        )
        return kafka.Write(self.settings.topic(CLOCK), number, [(key.encode(), codec.encode(event), [])])


def _moments(instants: Mapping[str, Instant]) -> dict[str, datetime]:
    return {name: moment(at) for name, at in instants.items()}


async def _stay_alone(settings: Settings) -> None:
    """Refuse to start beside a writer that is alive, whatever time it tells."""
    last = await _newest(settings)
    if last is None or clock.now() - last.appended > RIVAL_SECONDS:
        return
    await asyncio.sleep(max(1.0, 5 * settings.clock_interval_ms / 1000))
    newer = await _newest(settings)
    if newer is not None and newer.appended > last.appended:
        raise RivalWriter(
            f"another clock writer ({newer.mark.writer}) is alive and wrote {CLOCK} a moment ago; "
            "only one `steward clock` may run, so this one stops"
        )


@dataclass(frozen=True, slots=True)
class _Written:
    """A mark and when the broker took it in."""

    mark: Mark
    appended: Instant

    @property
    def runs_ahead(self) -> bool:
        return self.mark.runs_ahead(moment(self.appended))


async def _newest(settings: Settings) -> _Written | None:
    """The newest mark of partition 0."""
    found = await _marks(settings, LOOK_BACK[0])
    return found[-1] if found else None


async def _last_tick(settings: Settings, allowance: Allowance) -> Tick | None:
    """Where the last writer stopped. Marks that ran ahead count for nothing: going on from them would run ahead too."""
    found: list[_Written] = []
    for offsets in LOOK_BACK:
        found = await _marks(settings, offsets)
        believed = next((written for written in reversed(found) if not written.runs_ahead), None)
        if believed is not None:
            mark = believed.mark
            held_until = None if mark.held_until is None else instant(mark.held_until)
            return Tick(instant(mark.at), instant(mark.safe), held_until)
    if not found:
        return None
    # None for so long: nobody has had a clock since before the oldest of them.
    since = found[0].appended - allowance.grace
    return Tick(since, since)


async def _marks(settings: Settings, look_back: int) -> list[_Written]:
    """The marks among the last offsets of partition 0, in order."""
    found = []
    for record in await kafka.latest(settings, CLOCK, 0, look_back):
        try:
            event = codec.decode(CLOCK, record.value or b"")
        except codec.SchemaError:  # somebody else's; processors ignore it too
            continue
        if isinstance(event, ClockAdvanced):
            found.append(_Written(event.data, record.timestamp * 1000))
    return found
