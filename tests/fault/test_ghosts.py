"""Ghosts, one by one: a breach that was never durable, a stopped worker that wakes, silence that is none."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.runtime.embedded.server import Server
from services.runtime.engine.names import CHANGELOG
from tests.fault import oracle_handoffs, oracle_ledger
from tests.fault.facts import LIVE, SLOW, Sent
from tests.fault.failpoint import Failpoint
from tests.fault.injector import alter
from tests.fault.load import SOURCES, partition_of
from tests.fault.oracle import CLOCK, INTERACTIONS, META, OWNERSHIP, Log, Record
from tests.fault.records import reader
from tests.fault.stack import LEG_SECONDS, PARTITIONS, Process, Stack, until, waited
from tests.fault.told import HANDOFFS, Told, account_in, telling

pytestmark = pytest.mark.kafka

LEDGER, STATE = "fault.ledger", "steward-ledger-state"
IN_TIME = 1.0  # seconds after the opening


def opening(name: str, account: str, at: float, source: str = LIVE, **more: object) -> Sent:
    return Sent(at, at, OWNERSHIP, account, f"opened-{name}", "opened", source, name, **more)  # type: ignore[arg-type]


def acceptance(name: str, account: str, at: float, source: str = LIVE, **more: object) -> Sent:
    return Sent(at, at, OWNERSHIP, account, f"accepted-{name}", "accepted", source, name, **more)  # type: ignore[arg-type]


def logged(number: int, account: str) -> Sent:
    return Sent(0, number / 10, INTERACTIONS, account, f"logged-{number}")


@pytest.fixture
def stack(kafka: Server, prefix: str, tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(kafka.bootstrap, kafka.bootstrap, prefix, tmp_path)
    yield stack
    stack.stop()


@pytest.fixture
async def told(stack: Stack) -> AsyncIterator[Told]:
    async with telling(stack) as told:
        yield told


async def judged(stack: Stack, *topics: str) -> Log:
    """What the oracle reads of these topics and of all sources."""
    sources = [OWNERSHIP, "crm.renewals", INTERACTIONS, CLOCK]
    async with reader(stack.bootstrap, stack.prefix, PARTITIONS) as reading:
        return Log(await reading.read([*sources, *topics]), timedelta(seconds=LEG_SECONDS))


# -- dying and waking -----------------------------------------------------------------------------------------------


async def test_a_breach_published_by_a_worker_that_died_before_its_state_was_durable_leaves_no_alert_open(
    stack: Stack, told: Told
) -> None:
    stack.start("clock")
    first = await stack.serving(stack.start("handoff"))
    told.start = datetime.now(UTC)
    await told.facts(opening("deal", "acme", 0), opening("other", "acme", 0))
    await told.until_said("deal", "at-risk")
    first.arm(Failpoint(("written",), "kill", partition=partition_of("acme")))
    await until(lambda: not first.is_alive, "the worker dies with the breach written", 30)
    assert "breached" in await told.said("deal", "read_uncommitted")

    await told.facts(acceptance("deal", "acme", IN_TIME))
    await stack.serving(stack.start("handoff"))
    await told.until_said("deal", "met")
    await told.until_said("other", "breached")

    said = await told.said("deal")
    assert said.count("breached") == said.count("retracted breached")
    assert await told.said("other") == ["at-risk", "breached"]
    await _read_up(told, "steward-handoff-state", oracle_handoffs.INPUTS)
    log = await judged(stack, HANDOFFS, "steward-handoff-state", "dlq.handoff")
    oracle_handoffs.judge(log)
    assert log.problems == []


async def test_a_stopped_worker_that_wakes_with_a_flush_in_flight_takes_nothing_from_its_successor(
    stack: Stack, told: Told
) -> None:
    stack.start("clock")
    zombie = await stack.serving(stack.start("ledger"))
    await told.facts(*(logged(number, "acme") for number in range(10)))
    await _entries(told, 10)
    zombie.arm(Failpoint(("written",), "stop", partition=partition_of("acme")))
    await told.facts(*(logged(number, "acme") for number in range(10, 20)))
    await until(lambda: bool(zombie.said("failpoint")), "it stops with its flush written", 30)

    successor = await stack.serving(stack.start("ledger"), 60)
    await told.facts(*(logged(number, "acme") for number in range(20, 30)))
    await _entries(told, 30)
    zombie.signal(signal.SIGCONT)
    await until(lambda: bool(zombie.said("flush failed")) or not zombie.is_alive, "it is fenced", 60)
    written = _flushes(await told.read(STATE, "read_uncommitted"))
    assert written - _flushes(await told.read(STATE)), "the flush that was in flight was aborted"

    await _compacted(stack, told)
    for one in (zombie, successor):
        one.child.kill()
    third = await stack.serving(stack.start("ledger"), 60)
    assert sum(line["accounts"] for line in third.said("restored")) == 1
    await told.facts(*(logged(number, "acme") for number in range(100, 110)))
    await _closed(told)
    await _read_up(told, STATE, oracle_ledger.INPUTS)
    log = await judged(stack, LEDGER, STATE, "dlq.ledger")
    oracle_ledger.judge(log)
    assert log.problems == []


def _flushes(records: list[Record]) -> set[tuple[int, int]]:
    return {(record.partition, record.offset) for record in records if record.key == META}


async def _entries(told: Told, count: int) -> None:
    async def there() -> bool:
        found = [one for one in await told.read(LEDGER) if (one.event or {})["type"] == "steward.fault.taken.v1"]
        return len(found) >= count

    await waited(there, f"{count} facts are entered", 60)


async def _closed(told: Told) -> None:
    """Wait until the last window has closed."""
    last = told.start + timedelta(seconds=11 + 3)

    async def there() -> bool:
        ends = [(one.event or {}) for one in await told.read(LEDGER)]
        closed = [event for event in ends if event["type"] == "steward.fault.window.v1"]
        return any(datetime.fromisoformat(event["time"]) + timedelta(seconds=3) > last for event in closed)

    await waited(there, "the last window closes", 60)


async def _compacted(stack: Stack, told: Told) -> None:
    """Have the changelog compacted while its processor goes on; returns once records are gone from it."""
    at_once = {
        "segment.ms": "200", "min.cleanable.dirty.ratio": "0.001", "max.compaction.lag.ms": "200",
        "delete.retention.ms": "0",
    }  # fmt: skip
    await alter(stack.bootstrap, f"{stack.prefix}{STATE}", {**CHANGELOG, **at_once})
    number = 30

    async def shorter() -> bool:
        nonlocal number
        await told.facts(logged(number, "acme"))  # a segment ends when something is written after its time
        number += 1
        records = [one for one in await told.read(STATE) if one.partition == partition_of("acme")]
        return records[0].offset > 0 and len(records) < number

    await waited(shorter, "the changelog is compacted", 90)


async def _read_up(told: Told, changelog: str, inputs: tuple[str, ...]) -> None:
    """Wait until every partition's last meta has read its inputs: positions alone are written now and then."""

    async def there() -> bool:
        async with reader(told.stack.bootstrap, told.stack.prefix, PARTITIONS) as topics:
            ends = await topics.ends(inputs)
            records = (await topics.read([changelog]))[changelog]
        metas = {one.partition: json.loads(one.value or b"{}") for one in records if one.key == META}
        return all(
            number in metas and metas[number]["positions"][topic] >= end for (topic, number), end in ends.items()
        )

    await waited(there, "everything is read", 60)


# -- silence that is none --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(kafka: Server, prefixes: Iterator[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A clock and a handoff processor that has caught up, shared by stories of different accounts."""
    stack = Stack(kafka.bootstrap, kafka.bootstrap, next(prefixes), tmp_path_factory.mktemp("ghosts"))
    stack.start("clock")
    asyncio.run(_served(stack, stack.start("handoff")))
    yield stack
    stack.stop()


async def _served(stack: Stack, process: Process) -> None:
    await stack.serving(process)


@pytest.fixture
async def tells(running: Stack) -> AsyncIterator[Told]:
    async with telling(running) as told:
        yield told


async def _marks_pass(told: Told, seconds: float) -> None:
    """Wait until a mark for every partition says that this time is over."""
    wanted = told.start + timedelta(seconds=seconds)

    async def over() -> bool:
        marks = [(one.partition, (one.event or {})["data"]["safe"]) for one in await told.read(CLOCK)]
        return {number for number, safe in marks if datetime.fromisoformat(safe) >= wanted} == set(range(PARTITIONS))

    await waited(over, f"the clock has passed {wanted}", 60)


def _source_event(kind: str, key: str, data: dict[str, object], at: datetime) -> bytes:
    name = f"{kind}:{key}:{at.timestamp()}"
    event = {
        "specversion": "1.0", "id": name, "source": "test", "type": f"steward.{kind}.v1", "subject": key,
        "partitionkey": key, "time": at.isoformat(), "datacontenttype": "application/json", "data": data,
    }  # fmt: skip
    return json.dumps(event).encode()


async def _promised(told: Told, name: str) -> None:
    async def named() -> bool:
        marks = [(one.partition, (one.event or {})["data"]["promises"]) for one in await told.read(CLOCK)]
        return {number for number, promises in marks if name in promises} == set(range(PARTITIONS))

    await waited(named, f"marks name {name}", 30)


async def test_a_slow_connector_causes_no_false_breach_and_none_is_forgotten(tells: Told) -> None:
    registered = {"source": SLOW, "heartbeat": 60, "grace": 0}
    await tells.raw(SOURCES, SLOW, _source_event("source.registered", SLOW, registered, tells.start))

    async def beat(at: float) -> None:
        time = tells.start + timedelta(seconds=at)
        await tells.raw(SOURCES, f"{SLOW}:seen", _source_event("source.seen", f"{SLOW}:seen", {"source": SLOW}, time))

    await beat(0.0)
    await _promised(tells, SLOW)
    for name in ("slow-taken", "slow-never"):
        await tells.facts(opening(name, "slow-account", 0.1, SLOW))
    await beat(0.5)
    await _marks_pass(tells, LEG_SECONDS + 3)
    assert await tells.said("slow-taken") == []
    await tells.facts(acceptance("slow-taken", "slow-account", IN_TIME, SLOW))
    await beat(LEG_SECONDS + 3.0)
    await tells.until_said("slow-never", "breached")
    assert await tells.said("slow-taken") == ["met"]
    assert await tells.said("slow-never") == ["at-risk", "breached"]


async def test_an_import_of_years_causes_no_false_breach_and_none_is_forgotten(tells: Told) -> None:
    begun = tells.start - timedelta(days=200)

    async def progress(word: str, sent: int, through: float | None) -> None:
        data: dict[str, object] = {
            "source": "crm", "run": "years", "file": "years.csv", "sha256": "0" * 64, "facts": 3, "sent": sent,
        }  # fmt: skip
        if through is not None:
            data["through"] = (begun + timedelta(seconds=through)).isoformat()
        await tells.raw(SOURCES, "crm:years", _source_event(f"run.{word}", "crm:years", data, datetime.now(UTC)))

    await progress("started", 0, None)
    await _promised(tells, "years")
    await tells.facts(
        opening("old-taken", "old-account", 0, run="years"), opening("old-never", "old-account", 0, run="years")
    )
    await progress("advanced", 2, 0.0)
    await _marks_pass(tells, tells.now() + 2)
    assert await tells.said("old-taken") == await tells.said("old-never") == []
    await tells.facts(acceptance("old-taken", "old-account", IN_TIME, run="years"))
    await progress("advanced", 3, IN_TIME)
    await progress("finished", 3, IN_TIME)
    await tells.until_said("old-never", "breached")
    await tells.until_said("old-never", "passed-200")  # when the run is over, so is its time
    assert await tells.said("old-taken") == ["met"]
    assert await tells.said("old-never") == ["at-risk", "breached", "passed-125", "passed-200"]


async def test_an_idle_partition_forgets_no_breach(tells: Told) -> None:
    account = account_in(PARTITIONS - 1, partition_of, "idle")
    await tells.facts(opening("idle-never", account, 0))
    await tells.until_said("idle-never", "breached")  # not one fact comes after it
    assert await tells.said("idle-never") == ["at-risk", "breached"]


async def test_a_record_from_the_future_moves_no_clock(tells: Told) -> None:
    account = account_in(0, partition_of, "future")
    await tells.facts(
        opening("soon", account, 240),  # younger than its arrival, by less than clocks may differ
        opening("future", account, 3600),
        opening("now-taken", account, 0),
        opening("now-never", account, 0),
    )
    await asyncio.sleep(IN_TIME)
    assert await tells.said("now-taken") in ([], ["at-risk"])
    await tells.facts(acceptance("now-taken", account, IN_TIME))
    await tells.until_said("now-never", "breached")
    assert await tells.said("now-taken") in (["met"], ["at-risk", "met", "retracted at_risk"])
    assert await tells.said("soon") == await tells.said("future") == []
    letters = [
        one.headers["dlq.reason"] for one in await tells.read("dlq.handoff") if (one.key or b"").decode() == account
    ]
    assert letters == ["future"]


async def test_without_a_clock_writer_nothing_is_raised_and_nothing_is_forgotten(running: Stack, tells: Told) -> None:
    for clock in running.alive("clock"):
        clock.child.kill()
    await asyncio.sleep(0.5)
    tells.start = datetime.now(UTC)
    await tells.facts(opening("dark-taken", "dark-account", 0), opening("dark-never", "dark-account", 0))
    await asyncio.sleep(LEG_SECONDS + 1)
    assert await tells.said("dark-taken") == await tells.said("dark-never") == []
    await tells.facts(acceptance("dark-taken", "dark-account", IN_TIME))
    running.start("clock")
    await tells.until_said("dark-never", "breached")
    assert await tells.said("dark-taken") == ["met"]
    assert await tells.said("dark-never") == ["at-risk", "breached"]
