"""The clock writer: one process that tells every partition what time it is and what that covers."""

import asyncio
from collections.abc import Mapping
from datetime import datetime

from schemas import codec
from schemas.clock import ClockAdvanced, Mark
from schemas.topics import BUILT, CLOCK, POLICY, PROCESSORS, SOURCES
from services.core.errors import OperatorError
from services.core.instants import SECOND, Instant, instant, moment
from services.ingest.marks import Allowance, Runs, Tick, tick
from services.runtime import clock, kafka, log
from services.runtime.settings import Settings

TRANSACTIONAL_ID = "steward-clock"
SOURCE = "steward/clock"
COMMIT_SECONDS = 20.0
FULL_SECONDS = 30.0
LOOK_BACK = 64  # offsets: marks and the markers of their transactions
RIVAL_SECONDS = 10 * SECOND

# What a processor may read by partition, and whole.
COVERED = tuple(
    topic for topic in BUILT if topic is not CLOCK and not topic.whole and {*topic.consumers} & {*PROCESSORS}
)
TABLES = (POLICY,)


class RivalWriter(OperatorError):
    """Another clock writer is alive; two would make time jump."""


async def write(settings: Settings, stopping: asyncio.Event) -> None:
    """Write marks until told to stop.

    Raises RivalWriter when another writer is alive or takes over, BrokerAway, TopicMismatch.
    """
    topics = {topic.name: topic.config for topic in (*COVERED, *TABLES, CLOCK, SOURCES)}
    await kafka.ensure_topics(settings, topics)
    writer = clock.fresh_id()
    async with kafka.follow(settings, (SOURCES,)) as news, kafka.offsets(settings) as offsets:
        await _stay_alone(settings)
        transactions = kafka.Transactions(settings, TRANSACTIONAL_ID)
        await transactions.open()
        last = await _last_tick(settings)  # only now can a predecessor write no more
        log.get().info("clock runs", writer=writer, at=moment(last.at).isoformat() if last else None)
        try:
            await _beat(settings, stopping, writer, last, news, offsets, transactions)
        except kafka.Fenced as error:
            raise RivalWriter(f"this clock writer stops: {error}; only one `steward clock` may run") from error
        finally:
            await transactions.close()


async def _beat(
    settings: Settings,
    stopping: asyncio.Event,
    writer: str,
    last: Tick | None,
    news: kafka.Followed,
    offsets: kafka.Offsets,
    transactions: kafka.Transactions,
) -> None:
    allowance = Allowance(settings.grace_seconds * SECOND, settings.redelivery_seconds * SECOND)
    runs = Runs()
    interval = settings.clock_interval_ms / 1000
    following, told_all = clock.elapsed(), 0.0
    while not stopping.is_set():
        for record in await news.fresh():
            runs = _heard(runs, record)
        # The promises are taken before the ends: whoever has read up to the ends has read what was promised.
        last = tick(last, clock.now(), allowance)
        ends = await offsets.ends((*COVERED, *TABLES))
        # Now and then every closed run is listed, for processors that begin with facts of years ago.
        is_full = clock.elapsed() - told_all > FULL_SECONDS
        told_all = clock.elapsed() if is_full else told_all
        closed = runs.closed(None if is_full else last.at)
        await _written(transactions, _marks(settings, writer, last, runs, closed, ends))
        following = max(following + interval, clock.elapsed())
        try:
            await asyncio.wait_for(stopping.wait(), max(0.0, following - clock.elapsed()))
        except TimeoutError:
            continue


async def _written(transactions: kafka.Transactions, marks: list[kafka.Write]) -> None:
    # aiokafka tries for ever; a clock that cannot be written had better end and be started again.
    try:
        await asyncio.wait_for(transactions.commit(marks), COMMIT_SECONDS)
    except TimeoutError:
        raise kafka.BrokerAway(
            f"{CLOCK} could not be written for {COMMIT_SECONDS:.0f} s; is the broker well?"
        ) from None


def _heard(runs: Runs, record: kafka.Received) -> Runs:
    if record.value is None:
        return runs
    try:
        return runs.after(codec.decode(SOURCES, record.value))
    except codec.SchemaError as error:
        log.get().error("source record ignored", offset=record.offset, partition=record.partition, why=str(error))
        return runs


def _marks(
    settings: Settings,
    writer: str,
    now: Tick,
    runs: Runs,
    closed_runs: Mapping[str, Instant],
    ends: Mapping[str, tuple[int, ...]],
) -> list[kafka.Write]:
    promises, closed = _moments(runs.promises()), _moments(closed_runs)
    writes = []
    for number in range(settings.partitions):
        mark = Mark(
            at=moment(now.at),
            safe=moment(now.safe),
            held_until=None if now.held_until is None else moment(now.held_until),
            promises=promises,
            closed=closed,
            stalled=runs.stalled(now.at),
            ends={topic.name: ends[topic.name][number] for topic in COVERED},
            tables={topic.name: ends[topic.name] for topic in TABLES},
            writer=writer,
        )
        key = str(number)
        event = ClockAdvanced(
            id=f"{now.at}.{number}",
            source=SOURCE,
            subject=key,
            partitionkey=key,
            time=moment(now.at),
            data=mark,
        )
        writes.append(kafka.Write(settings.topic(CLOCK), number, [(key.encode(), codec.encode(event), [])]))
    return writes


def _moments(instants: Mapping[str, Instant]) -> dict[str, datetime]:
    return {name: moment(at) for name, at in instants.items()}


async def _stay_alone(settings: Settings) -> None:
    """Refuse to start beside a writer that is alive."""
    last = await _last_mark(settings)
    if last is None or clock.now() - last[1] > RIVAL_SECONDS:
        return
    await asyncio.sleep(max(1.0, 5 * settings.clock_interval_ms / 1000))
    newer = await _last_mark(settings)
    if newer is not None and newer[1] > last[1]:
        raise RivalWriter(
            f"another clock writer ({newer[0].writer}) is alive and wrote {CLOCK} a moment ago; "
            "only one `steward clock` may run, so this one stops"
        )


async def _last_tick(settings: Settings) -> Tick | None:
    """Where the last writer stopped."""
    last = await _last_mark(settings)
    if last is None:
        return None
    mark = last[0]
    held_until = None if mark.held_until is None else instant(mark.held_until)
    return Tick(instant(mark.at), instant(mark.safe), held_until)


async def _last_mark(settings: Settings) -> tuple[Mark, Instant] | None:
    """The newest mark of partition 0, and when the broker took it in."""
    for record in reversed(await kafka.latest(settings, CLOCK, 0, LOOK_BACK)):
        try:
            event = codec.decode(CLOCK, record.value or b"")
        except codec.SchemaError:  # somebody else's; processors ignore it too
            continue
        if isinstance(event, ClockAdvanced):
            return event.data, record.timestamp * 1000
    return None
