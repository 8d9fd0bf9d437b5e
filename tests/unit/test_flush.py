"""A lane on a broker that can be told to fail."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from schemas.topics import CLOCK
from services.handoff.processor import HandoffProcessor
from services.runtime.engine import flush as flush_module
from services.runtime.engine.courier import Idle
from services.runtime.engine.engine import Engine
from services.runtime.engine.flush import Lane, Owner
from services.runtime.engine.keep import Kept
from services.runtime.engine.partition import Cut, Meta, Partition
from services.runtime.engine.tables import Tables
from services.runtime.engine.transport import LOOK_AGAIN_SECONDS, BatchConsumer
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings


class Broker:
    """In the place of Transactions."""

    transactional = True

    def __init__(self) -> None:
        self.flushes = 0
        self.is_closed = False

    async def begin(self) -> None:
        pass

    async def write(self, writes: Any) -> dict[tuple[str, int], int]:
        return {(write.topic, write.partition): 0 for write in writes}

    async def commit(self) -> None:
        self.flushes += 1

    async def close(self) -> None:
        self.is_closed = True


def a_lane(broker: Broker, told: list[str], partition: Partition[Any] | None = None) -> Lane[Any]:
    async def failed(_: Any, error: Exception) -> None:
        told.append(f"failed: {error}")

    settings, metrics = Settings(partitions=1, flush_ms=0), Metrics()
    if partition is None:
        processor = HandoffProcessor()
        partition = Partition(0, 1, processor, Tables(settings), metrics)
        partition.restore({}, Meta({topic.name: 0 for topic in (*processor.inputs, CLOCK)}))
    transactions: Any = broker
    owner: Owner[Any] = Owner(Idle().perform, failed, lambda why, _: told.append(why))
    return Lane(settings, Kept(partition, None), "state", transactions, metrics, owner)


class Asking:
    """In the place of a partition: of `keys` keys each turn asks one; every one in `outdated` changes."""

    number, processor = 0, "asking"
    changed = moved = False
    pending = 0

    def __init__(self, keys: int, outdated: Sequence[int]) -> None:
        self.left, self.outdated, self.written = keys, outdated, 0
        self.overdue = True

    def fire(self) -> None:
        self.changed = self.changed or self.left in self.outdated
        self.left -= 1
        self.overdue = self.left > 0

    def cut(self) -> Cut:
        self.written, self.changed = self.written + self.changed, False
        return Cut(Meta(), [], {}, [])

    def committed(self, cut: Cut) -> None:
        pass


@pytest.mark.parametrize("has_moved", [False, True], ids=["idle", "with positions to save"])
async def test_closing_ends_at_once_and_saves_what_there_is(has_moved: bool) -> None:
    broker, told = Broker(), list[str]()
    lane = a_lane(broker, told)
    await asyncio.sleep(0.01)
    if has_moved:
        lane.partition.take(CLOCK, (), 7)
        lane.touched()
    async with asyncio.timeout(2):
        await lane.close()
    assert broker.is_closed
    assert broker.flushes == has_moved
    assert told == []


async def test_closing_right_after_a_flush_ends_at_once() -> None:
    broker = Broker()
    lane = a_lane(broker, [])
    lane.partition.take(CLOCK, (), 7)
    lane._begun_at -= 60  # positions have waited long enough
    lane._wake.set()
    while not broker.flushes:  # noqa: ASYNC110  # the very turn of the loop after the flush is meant
        await asyncio.sleep(0)
    async with asyncio.timeout(2):
        await lane.close()
    assert broker.is_closed


@pytest.mark.parametrize(
    "outdated", [[], [1], [100], [50, 20], range(1, 101)], ids=["none", "the last", "the first", "two", "all"]
)
async def test_keys_are_asked_to_the_last_without_another_mark(outdated: Sequence[int]) -> None:
    broker, told = Broker(), list[str]()
    asking: Any = Asking(100, outdated)
    lane = a_lane(broker, told, asking)
    lane.touched()
    async with asyncio.timeout(5):
        while asking.left or asking.written < len(outdated):  # noqa: ASYNC110  # the lane tells nobody
            await asyncio.sleep(0.001)
        await lane.close()
    assert broker.flushes == asking.written == len(outdated)
    assert told == []


async def test_what_must_not_happen_in_a_flush_is_told_and_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[str]()
    lane = a_lane(Broker(), told)

    def broken() -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(lane.partition, "cut", broken)
    lane.partition.take(CLOCK, (), 7)
    lane._begun_at -= 60
    lane._wake.set()
    async with asyncio.timeout(2):
        await asyncio.wait([lane._task])
    assert told == ["partition 0 cannot go on: a bug"]
    await lane.abandon()


async def test_what_was_fetched_before_a_partition_was_opened_anew_is_not_taken_in() -> None:
    engine = Engine(Settings(partitions=1), HandoffProcessor(), Metrics(), Idle())
    lane = a_lane(Broker(), [])
    engine._lanes[0], engine.incarnation = lane, 2
    await engine.feed(1, CLOCK.name, 0, (), 7)
    assert lane.partition.meta.positions[CLOCK.name] == 0
    await engine.feed(2, CLOCK.name, 0, (), 7)
    assert lane.partition.meta.positions[CLOCK.name] == 7
    await lane.abandon()


async def test_a_flush_without_an_answer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mute(Broker):
        async def commit(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(flush_module, "FLUSH_SECONDS", 0.01)
    told = list[str]()
    lane = a_lane(Mute(), told)
    lane.partition.take(CLOCK, (), 7)
    lane._begun_at -= 60
    lane._wake.set()
    async with asyncio.timeout(2):
        await asyncio.wait([lane._task])
    assert told == ["failed: the broker gave no answer for 0 s"]
    assert not lane.ready
    await lane.abandon()


async def test_many_records_that_change_nothing_are_flushed_before_they_fill_the_partition() -> None:
    broker = Broker()
    lane = a_lane(broker, [])
    lane.partition.take(CLOCK, (), 7)
    lane.partition.pending = flush_module.EARLY
    lane.touched()
    async with asyncio.timeout(flush_module.RIDE_SECONDS / 2):
        while not broker.flushes:  # noqa: ASYNC110  # the lane tells nobody
            await asyncio.sleep(0.001)
    assert lane.partition.pending == 0
    await lane.abandon()


async def test_a_full_partition_takes_no_more_and_stops_no_other() -> None:
    engine = Engine(Settings(partitions=3), HandoffProcessor(), Metrics(), Idle())
    lanes = [a_lane(Broker(), []), a_lane(Broker(), [])]
    engine._lanes = dict(enumerate(lanes))
    lanes[0].partition.pending = flush_module.FULL + 1
    asked: list[Any] = []

    async def getmany(wanted: Any, seconds: float) -> Any:
        asked.append((wanted, seconds))
        return {}

    consumer: Any = BatchConsumer.__new__(BatchConsumer)
    consumer.app, consumer._thread = SimpleNamespace(engine=engine), SimpleNamespace(getmany=getmany)
    every = {TP("facts", number) for number in range(3)}
    await consumer._getmany(every, 1.0)
    lanes[0].partition.pending = 0
    await consumer._getmany({TP("facts", 0), TP("facts", 1)}, 1.0)
    lanes[1].ready = False
    await consumer._getmany({TP("facts", 1)}, 1.0)
    assert asked == [({TP("facts", 1)}, LOOK_AGAIN_SECONDS), ({TP("facts", 0), TP("facts", 1)}, 1.0)]
    for lane in lanes:
        await lane.abandon()
