"""The clock writer on both brokers: one of them, after gaps, kills and marks that tell the wrong time."""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from schemas import codec
from schemas.clock import ClockAdvanced
from schemas.topics import CLOCK
from services.core.instants import MINUTE, SECOND, Instant, instant
from services.ingest import clock
from services.ingest.marks import Allowance, Tick
from services.runtime import kafka
from services.runtime.embedded.server import Server
from services.runtime.settings import Settings
from tests.pipeline import PARTITIONS, Pipeline, running, wait_until

ALLOWANCE = Allowance(grace=MINUTE, redelivery=10 * MINUTE)
HELD_SECONDS = 12
POLICY = """
version: 1
owner: A test
calendar: always
calendars:
  always: {zone: UTC, week: {mon-sun: [["00:00", "24:00"]]}}
handoffs:
  quick: {legs: {accept: {hours: 0.001}}}
"""


@pytest.fixture
def pipeline(broker: Server, prefix: str, tmp_path: Path) -> Iterator[Pipeline]:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    told = {"steward_policy": str(policy), "steward_redelivery_seconds": str(HELD_SECONDS)}
    with running(broker.bootstrap, prefix, tmp_path, **told) as pipeline:
        yield pipeline


def mark(at: datetime, *, lag: timedelta = timedelta(minutes=1), simulated: bool = False) -> bytes:
    data = {"at": at.isoformat(), "safe": (at - lag).isoformat(), "ends": {}, "writer": "a test"}
    attributes = {"specversion": "1.0", "type": "steward.clock.advanced.v1", "source": "t", "id": "1"}
    envelope = {**attributes, "time": at.isoformat(), "subject": "0", "partitionkey": "0"}
    return json.dumps({**envelope, "data": data | {"simulated": simulated}}).encode()


def everywhere(value: bytes) -> list[tuple[str | bytes, bytes, int | None]]:
    return [(str(number), value, number) for number in range(PARTITIONS)]


def marks(pipeline: Pipeline, number: int = 0) -> list[dict[str, str]]:
    """What the marks of one partition say, in its order; without those that a test wrote."""
    said = [record.event["data"] for record in pipeline.records("cs.clock") if record.partition == number]
    return [one for one in said if one["writer"] != "a test"]


def assert_never_back(pipeline: Pipeline) -> None:
    for number in range(PARTITIONS):
        told = [datetime.fromisoformat(one["at"]) for one in marks(pipeline, number)]
        assert told
        assert told == sorted(told)


def fact(what: str, name: str, at: datetime, **data: str) -> tuple[str | bytes, bytes, int | None]:
    event = {"specversion": "1.0", "id": f"{what}-{name}", "source": "crm", "type": f"steward.handoff.{what}.v1"}
    envelope = {**event, "subject": "acme", "partitionkey": "acme", "time": at.isoformat()}
    return "acme", json.dumps({**envelope, "data": {"handoff": name, **data}}).encode(), None


# -- one writer ----------------------------------------------------------------------------------------------------


def test_of_two_writers_that_start_at_once_one_writes_and_the_other_ends_with_a_sentence(pipeline: Pipeline) -> None:
    pipeline.done("topics", "apply")
    both = [pipeline.start("clock"), pipeline.start("clock")]
    wait_until(lambda: [one for one in both if one.popen.poll() is not None], "one of them ends", 60)
    (ended,) = [one for one in both if one.popen.poll() is not None]
    (left,) = [one for one in both if one is not ended]
    assert ended.popen.returncode == 2, ended.log.read_text()
    assert "only one `steward clock` may run" in ended.log.read_text()
    before = len(marks(pipeline))
    wait_until(lambda: len(marks(pipeline)) > before + 5, "the other goes on", 30, left)
    assert_never_back(pipeline)


def test_a_writer_killed_in_the_middle_of_a_write_leaves_no_partition_with_a_time_of_its_own(
    pipeline: Pipeline,
) -> None:
    pipeline.settings["STEWARD_CLOCK_INTERVAL_MS"] = "20"  # it is writing nearly always
    for _ in range(3):
        writer, before = pipeline.start("clock"), pipeline.ends("cs.clock") if pipeline.processes[1:] else 0
        wait_until(lambda: writer.said("clock runs"), "the clock runs", 60, writer)  # noqa: B023  # asked at once
        wait_until(lambda: pipeline.ends("cs.clock") > before + 40, "marks are written", 60, writer)  # noqa: B023
        writer.kill()
    heir = pipeline.start("clock")
    wait_until(lambda: heir.said("clock runs"), "the heir runs", 60, heir)
    heir.stop()
    assert_never_back(pipeline)
    told = [[one["at"] for one in marks(pipeline, number)] for number in range(PARTITIONS)]
    assert [each for each in told if each != told[0]] == []


# -- no writer -----------------------------------------------------------------------------------------------------


def test_without_marks_nothing_fires_and_after_the_gap_what_vendors_redeliver_is_waited_for(
    pipeline: Pipeline,
) -> None:
    pipeline.done("topics", "apply")
    begun = datetime.now(UTC)
    down = begun - timedelta(minutes=5)
    pipeline.publish("cs.clock", everywhere(mark(down)))
    worker = pipeline.handoff()
    opened = begun - timedelta(minutes=4)
    pipeline.publish("crm.ownership", [fact("opened", name, opened, kind="quick") for name in ("late", "missed")])
    wait_until(lambda: len(pipeline.verdicts("steward.handoff.changed.v1")) == 2, "both are open", 60, worker)
    pipeline.await_quiet()
    assert pipeline.verdicts() == []

    writer = pipeline.start("clock")
    first = wait_until(lambda: marks(pipeline), "the clock runs again", 60, writer)[0]
    at, until = datetime.fromisoformat(first["at"]), datetime.fromisoformat(first["held_until"])
    assert until == at + timedelta(seconds=HELD_SECONDS)
    pipeline.publish("crm.ownership", [fact("accepted", "late", opened + timedelta(seconds=1), owner="ada")])
    wait_until(pipeline.verdicts, "the other one breaches", 90, worker)
    assert {data["handoff"] for data in pipeline.verdicts()} == {"missed"}
    assert pipeline.retractions() == []
    for one in marks(pipeline):
        is_held = datetime.fromisoformat(one["at"]) < until
        assert (datetime.fromisoformat(one["safe"]) == down - timedelta(minutes=1)) is is_held


# -- the wrong time ------------------------------------------------------------------------------------------------


async def prepared(broker: Server, prefix: str) -> Settings:
    settings = Settings(kafka=broker.bootstrap, prefix=prefix, partitions=1, clock_interval_ms=20, http_port=None)
    await kafka.ensure_topics(settings, {CLOCK.name: CLOCK.config})
    return settings


async def put(settings: Settings, *values: bytes) -> None:
    async with kafka.Publisher(settings) as publisher:
        for value in values:
            await publisher.send(CLOCK, "0", value)


@pytest.mark.parametrize("ahead", [1, 100], ids=["one", "more than are looked at first"])
async def test_the_next_writer_goes_on_from_the_last_mark_that_did_not_run_ahead(
    broker: Server, prefix: str, ahead: int
) -> None:
    settings = await prepared(broker, prefix)
    now = datetime.now(UTC)
    good = now - timedelta(minutes=3)
    await put(settings, mark(good), *[mark(now + timedelta(minutes=10))] * ahead)
    assert await clock._last_tick(settings, ALLOWANCE) == Tick(instant(good), instant(good) - MINUTE)


async def test_a_simulated_mark_may_be_of_any_time(broker: Server, prefix: str) -> None:
    settings = await prepared(broker, prefix)
    then = datetime(2031, 3, 7, 16, 0, tzinfo=UTC)
    await put(settings, mark(then, simulated=True))
    assert await clock._last_tick(settings, ALLOWANCE) == Tick(instant(then), instant(then) - MINUTE)


async def test_where_every_mark_ran_ahead_nothing_is_believed_of_the_time_since_the_first_of_them(
    broker: Server, prefix: str
) -> None:
    settings = await prepared(broker, prefix)
    assert await clock._last_tick(settings, ALLOWANCE) is None
    now = datetime.now(UTC)
    await put(settings, *[mark(now + timedelta(minutes=10))] * 3)
    last = await clock._last_tick(settings, ALLOWANCE)
    assert last is not None
    assert last.at == last.safe
    assert abs(last.at - (instant(now) - MINUTE)) < 20 * SECOND


async def written(settings: Settings, now: Callable[[], Instant], least: int) -> list[tuple[datetime, datetime]]:
    """What so many marks of one writer say, `at` and `safe`, whose wall clock is `now`."""
    stopping = asyncio.Event()
    writing = asyncio.create_task(clock.write(settings, stopping, clock.Time(now)))
    try:
        async with asyncio.timeout(60):
            while True:
                found = [codec.decode(CLOCK, one.value or b"") for one in await kafka.read_all(settings, CLOCK)]
                said = [one.data for one in found if isinstance(one, ClockAdvanced)]
                if len(said) >= least:
                    return [(one.at, one.safe) for one in said]
                await asyncio.sleep(0.05)
    finally:
        stopping.set()
        await writing


async def test_a_writer_whose_wall_clock_is_set_back_stands_still_until_it_has_caught_up(
    broker: Server, prefix: str
) -> None:
    settings = await prepared(broker, prefix)
    begun = instant(datetime.now(UTC)) - MINUTE
    course = iter([begun, begun + 9 * SECOND, *(begun - MINUTE + step * 8 * SECOND for step in range(60))])
    told = await written(settings, lambda: next(course, begun + 9 * MINUTE), 12)
    assert all(before <= after for before, after in pairwise(told))
    assert [instant(at) for at, _ in told[:9]] == [begun, *[begun + 9 * SECOND] * 8]
    assert instant(told[11][0]) > begun + 9 * SECOND


async def test_a_writer_does_not_run_ahead_because_a_mark_before_it_did(broker: Server, prefix: str) -> None:
    settings = await prepared(broker, prefix)
    now = datetime.now(UTC)
    await put(settings, mark(now + timedelta(minutes=10)))
    told = await written(settings, lambda: instant(datetime.now(UTC)), 4)
    ours = [at for at, _ in told[1:]]
    assert max(ours) < now + timedelta(minutes=5)
    assert ours == sorted(ours)
