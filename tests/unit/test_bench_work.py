"""The small work of the throughput bench: what every system is given, must answer, and is held against."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from bench import standing
from bench.contest import SYSTEMS
from bench.peers import stock
from bench.small import reference, work
from bench.small.processor import Tally, TallyProcessor
from bench.small.reference import Answer
from bench.standing import Measured
from bench.watching import Look, window
from schemas import codec
from schemas.topics import CLOCK, INTERACTIONS
from services.runtime import kafka
from services.runtime.engine.partition import META, Meta, Partition
from services.runtime.engine.tables import Tables
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings

ROOT = Path(__file__).parents[2]
PARTITIONS = 4
RECORDS = list(work.records(9 * work.SPOILED_EVERY, 40))
KEY, VALUE = RECORDS[0]


@cache
def partition_of(key: bytes) -> int:
    return kafka.partition_of(key, PARTITIONS)


ANSWER = reference.answer(RECORDS, partition_of)


@dataclass
class Raw:
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = work.BEGIN * 1000 + 10**9
    headers: Sequence[kafka.Header] = field(default_factory=tuple)


# --- the records ----------------------------------------------------------------------------------------------------


def test_the_records_are_the_same_on_every_machine() -> None:
    told = work.digest(work.records(2_000, 100))
    assert told == "4a05cbb92b1f46cbdf726c3a773a90a3abec4a1ad254395616d9806119ecfbab"


def test_a_shorter_work_is_the_beginning_of_a_longer() -> None:
    assert list(work.records(100, 40)) == RECORDS[:100]


def test_each_account_comes_first_where_that_is_asked_for() -> None:
    keys = [key for key, _ in work.records(60, 40, each_first=True)]
    assert len(set(keys[:40])) == 40


def refusals(read: Any) -> list[int]:
    return [number for number, (key, value) in enumerate(RECORDS) if not read(key, value)]


def by_the_schema(key: bytes, value: bytes) -> bool:
    try:
        return codec.decode(INTERACTIONS, value).partitionkey.encode() == key
    except codec.SchemaError:
        return False


def by_stock_faust(key: bytes, value: bytes) -> bool:
    try:
        return stock.is_valid(key, stock.Opened.loads(value, serializer="json"))
    except Exception:  # noqa: BLE001  # whatever Faust raises, it drops the record
        return False


@pytest.mark.parametrize("read", [reference.read, by_the_schema, by_stock_faust], ids=lambda read: read.__name__)
def test_all_readers_refuse_the_spoiled_records_and_no_others(read: Any) -> None:
    spoiled = list(range(work.SPOILED_EVERY - 1, len(RECORDS), work.SPOILED_EVERY))
    assert refusals(read) == spoiled


@pytest.mark.parametrize(
    ("changes", "is_valid"),
    [
        ({"id": "x" * 200}, True),
        ({"id": "x" * 201}, False),
        ({"source": "a\x1fb"}, False),
        ({"specversion": "0.3"}, False),
        ({"type": "steward.ticket.solved.v2"}, False),
        ({"partitionkey": "another"}, False),
        ({"time": "1989-12-31T23:59:59Z"}, False),
        ({"time": "2199-12-31T23:59:59+00:00"}, True),
        ({"time": "2200-01-01T00:00:00Z"}, False),
        ({"time": 1_736_150_400}, False),
        ({"datacontenttype": "text/plain"}, False),
        ({"data": None}, False),
        ({"data": {"ticket": "T", "severity": 4, "more": 1}}, True),
        ({"data": {"ticket": "T", "severity": 2.5}}, False),
        ({"data": {"ticket": "", "severity": 2}}, False),
    ],
    ids=str,
)
def test_the_reference_and_the_schema_draw_the_same_bounds(changes: dict[str, Any], is_valid: bool) -> None:
    value = json.dumps({**json.loads(VALUE), **changes}).encode()
    assert (reference.read(KEY, value) is not None, by_the_schema(KEY, value)) == (is_valid, is_valid)


# --- the reducer ----------------------------------------------------------------------------------------------------


def by_the_engine(number: int, batch: int, processor: TallyProcessor) -> Answer:
    """What the engine makes of one partition's records, taken in batches."""
    settings = Settings(partitions=PARTITIONS)
    partition = Partition(number, PARTITIONS, processor, Tables(settings), Metrics())
    partition.restore({}, Meta(positions={INTERACTIONS.name: 0, CLOCK.name: 0}))
    mine = [(key, value) for key, value in RECORDS if partition_of(key) == number]
    arriving = [Raw(offset, key, value) for offset, (key, value) in enumerate(mine)]
    found = Answer()
    for begin in range(0, len(arriving), batch):
        taken = arriving[begin : begin + batch]
        partition.take(INTERACTIONS, taken, taken[-1].offset + 1)
        cut = partition.cut()
        for key, value, _ in cut.outputs.get((processor.output.name, number), ()):
            assert key is not None
            found.hear(key, value)
        for key, value, _ in cut.changelog:
            if key is not None and key != META and value is not None:
                tally: Tally = processor.decode(value[1:], value[0])
                found.states[key] = (tally.count, tally.total, tally.worst, tally.last)
    return found


@pytest.mark.parametrize("batch", [1, 7, 5_000])
def test_the_engine_answers_as_the_reference_does_in_whatever_batches(batch: int) -> None:
    found = Answer()
    for number in range(PARTITIONS):
        part = by_the_engine(number, batch, TallyProcessor("test"))
        found.states |= part.states
        found.told |= part.told
        found.outputs += part.outputs
    assert reference.differences("engine", ANSWER, found) == []


def test_a_sum_that_is_off_by_one_is_found() -> None:
    key = next(iter(ANSWER.states))
    count, total, worst, last = ANSWER.states[key]
    found = Answer(ANSWER.states | {key: (count, total + 1, worst, last)}, ANSWER.told, {}, ANSWER.outputs)
    assert "1 states differ" in reference.differences("x", ANSWER, found)[0]


def test_an_output_told_twice_is_found() -> None:
    found = Answer(ANSWER.states, dict(ANSWER.told), {}, ANSWER.outputs)
    found.hear(KEY, VALUE)
    assert "outputs of 1 accounts" in reference.differences("x", ANSWER, found)[0]


# --- what is measured -----------------------------------------------------------------------------------------------


def test_a_window_counts_outputs_after_the_warm_up_and_no_markers() -> None:
    offsets = [[0, 1, 3, 4], [0, 2]]  # markers of transactions at 2 and 5, and at 1 and 3
    looks = [
        Look(10.0, 1.0, 5.0, (0, 0)),
        Look(11.0, 2.0, 6.0, (3, 2)),  # three outputs
        Look(12.0, 2.5, 6.5, (3, 4)),
        Look(13.0, 4.0, 8.0, (6, 4)),
        Look(14.0, 9.0, 9.0, (6, 4)),
    ]
    seen = window(looks, offsets, warm_up=2, left=0)
    assert (seen.events, seen.seconds, seen.cpu, seen.broker) == (3, 2.0, 2.0, 2.0)


def test_a_window_ends_before_the_outputs_that_are_left_out() -> None:
    looks = [Look(float(at), at * 0.5, at * 0.1, (at,)) for at in range(11)]
    seen = window(looks, [list(range(10))], warm_up=4, left=1)
    assert (seen.events, seen.seconds, seen.cpu) == (5, 5.0, 2.5)


def test_all_at_once_is_too_fast_to_be_measured() -> None:
    with pytest.raises(ValueError, match="take more events"):
        window([Look(10.0, 1.0, 5.0, (0,)), Look(11.0, 2.0, 6.0, (2,))], [[0, 1]], warm_up=1, left=0)


def measured(row: str, rate: float, cost_us: float) -> Measured:
    return Measured(row, 1_000, 7_000.0, 0.1, 1_000, 1_000 / rate, cost_us / 1e6 * 1_000, 0.01)


def verdicts(ours_us: float, ours_rate: float) -> dict[str, bool]:
    once, streams_once, least, streams, loop, stock_faust = (system.name for system in SYSTEMS)
    rows = [
        measured(once, ours_rate, ours_us),
        measured(streams_once, 50_000, 30.0),
        measured(least, 90_000, 8.0),
        measured(streams, 90_000, 12.0),
        measured(loop, 40_000, 20.0),
        measured(stock_faust, 1_000, 700.0),
        measured(standing.ONE_WORKER, 50_000, 14.0),
        measured(standing.TWO_WORKERS, 86_000, 14.0),
    ]
    return {goal.what: goal.is_met for goal in standing.goals(standing.summary(rows))}


def test_what_is_reached_is_told() -> None:
    assert set(verdicts(ours_us=15.0, ours_rate=50_000).values()) == {True}


def test_what_is_missed_is_told() -> None:
    found = verdicts(ours_us=15.2, ours_rate=49_900)
    assert [what for what, is_met in found.items() if not is_met] == [
        "CPU per event: steward exactly once to Kafka Streams exactly_once_v2",
        "rate: steward exactly once to Kafka Streams exactly_once_v2",
        "rate: steward exactly once to stock Faust",
    ]


def test_an_unsteady_machine_is_told_and_a_quiet_one_gives_no_doubts() -> None:
    quiet = [Measured("x", 1, loop, load, 1, 1.0, 1.0, 1.0) for loop, load in ((5_000, 0.5), (6_000, 2.5))]
    busy = [Measured("x", 1, loop, 9.0, 1, 1.0, 1.0, 1.0) for loop in (5_000, 8_000)]
    assert standing.doubts(standing.steadiness(quiet)) == []
    assert len(standing.doubts(standing.steadiness(busy))) == 2


def test_the_contract_covers_every_system_and_changes_with_each_of_its_files(tmp_path: Path) -> None:
    files = work.contract(ROOT)
    assert {"bench/small/processor.py", "bench/peers/loop.py", "bench/peers/streams/Tallies.java"} <= files.keys()
    for name in files:
        copy = tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    assert work.contract(tmp_path) == files
    Path(tmp_path, "bench/small/work.py").write_text("SEED = 1\n")
    assert {name for name, told in work.contract(tmp_path).items() if told != files[name]} == {"bench/small/work.py"}
