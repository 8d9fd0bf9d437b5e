"""What the engine counts: weights of states, due times, phases of flushes, writes of zombies."""

import asyncio
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.topics import CLOCK, OWNERSHIP
from services.core.processor import CLOCK_ALONE, LIVE, NEVER, Due, Wait
from services.runtime import clock
from services.runtime.engine.partition import META, Meta, Partition
from services.runtime.engine.tables import Tables
from services.runtime.engine.timers import Timers
from services.runtime.kafka import Fenced, Refused
from services.runtime.metrics import Metrics, Phase
from services.runtime.settings import Settings
from tests.metrics import Scrape, parsed
from tests.unit.test_flush import Broker, a_lane
from tests.unit.test_partition import Forwarder, Raw, partition

KEYS = ["acme", "globex", "initech"]


def seen(metrics: Metrics) -> Scrape:
    return parsed(metrics.text().decode())


# ---------------------------------------------------------------- state


@given(
    before=st.dictionaries(st.sampled_from(KEYS), st.integers(1, 10**9)),
    flushes=st.lists(st.dictionaries(st.sampled_from(KEYS), st.none() | st.integers(1, 10**9)), max_size=6),
)
def test_states_weigh_what_their_last_records_weigh(
    before: Mapping[str, int], flushes: list[dict[str, int | None]]
) -> None:
    metrics = Metrics()
    here = Partition(0, 1, Forwarder(), Tables(Settings(partitions=1)), metrics)
    changelog = {key.encode(): b"\1" + str(state).encode() for key, state in before.items()}
    here.restore(changelog, Meta({OWNERSHIP.name: 0, CLOCK.name: 0}))
    for changes in flushes:
        for key, state in changes.items():
            here._dirty[key] = ()
            here._state.pop(key, None)
            if state is not None:
                here._state[key] = state
        for raw_key, raw, _ in here.cut().changelog:
            if raw_key != META and raw_key is not None:
                changelog.pop(raw_key, None)
                changelog |= {raw_key: raw} if raw is not None else {}
    here.observe()
    assert seen(metrics).one("state_bytes") == sum(map(len, changelog.values()))


def test_a_partition_says_where_a_restart_would_go_on() -> None:
    here = partition()
    here.take(CLOCK, (), 7)
    here.observe()
    assert seen(here._metrics).by("committed_offset", "topic") == {OWNERSHIP.name: 0, CLOCK.name: 0}
    here.committed(here.cut())
    here.observe()
    assert seen(here._metrics).by("committed_offset", "topic") == {OWNERSHIP.name: 0, CLOCK.name: 7}


# ---------------------------------------------------------------- due times

WAITS: list[Wait] = [CLOCK_ALONE, LIVE, frozenset({"crm"}), "run-1"]


@given(
    told=st.lists(
        st.tuples(st.sampled_from(KEYS), st.dictionaries(st.sampled_from(WAITS), st.integers(0, 50))), max_size=12
    ),
    clocks=st.fixed_dictionaries({wait: st.integers(0, 50) | st.just(NEVER) for wait in WAITS}),
    limit=st.integers(0, 5),
)
def test_the_oldest_due_time_that_should_have_fired_is_known_and_those_that_fire_say_how_late(
    told: list[tuple[str, dict[Wait, int]]], clocks: Mapping[Wait, int], limit: int
) -> None:
    timers, armed = Timers(), dict[tuple[str, Wait], int]()
    for key, dues in told:
        timers.arm(key, [Due(at, wait) for wait, at in dues.items()])
        armed = {place: at for place, at in armed.items() if place[0] != key}
        armed |= {(key, wait): at for wait, at in dues.items()}
    oldest = max([clocks[wait] - at for (_, wait), at in armed.items()], default=0)
    assert timers.overdue(clocks.__getitem__) == max(0, oldest)
    due = {place: clocks[place[1]] - at for place, at in armed.items() if clocks[place[1]] >= at}
    keys = timers.pop(clocks.__getitem__, limit)
    assert len(timers.taken) == len(keys)
    for key, (wait, late) in zip(keys, timers.taken, strict=True):
        assert due[key, wait] == late
    if limit >= len(KEYS):
        assert set(keys) == {key for key, _ in due}


# ---------------------------------------------------------------- flushes


class Failing(Broker):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def commit(self) -> None:
        raise self.error


@pytest.mark.parametrize(("error", "zombies"), [(Fenced("another writer"), 1), (Refused("no"), 0)])
async def test_a_write_of_a_process_that_was_replaced_is_counted_apart(error: Exception, zombies: int) -> None:
    told: list[str] = []
    lane = a_lane(Failing(error), told)
    lane.partition.take(CLOCK, (), 7)
    async with asyncio.timeout(5):
        await lane.close()
    counted = seen(lane._metrics)
    assert told
    assert counted.one("flush_failures_total") == 1
    assert counted.values("zombie_writes_total") == [1] * zombies


async def test_each_flush_is_timed_by_phases_and_from_its_oldest_record() -> None:
    lane = a_lane(Broker(), [])
    written = clock.now() // 1000
    for at, age in enumerate((5_000, 60_000, 1_000)):
        lane.partition.take(OWNERSHIP, [Raw(at, None, timestamp=written - age)], at + 1)
    lane.partition.take(CLOCK, [Raw(0, b"?", timestamp=written - 3_600_000)], 1)
    async with asyncio.timeout(5):
        await lane.close()
    counted = seen(lane._metrics)
    assert counted.by("flush_seconds_count", "phase") == dict.fromkeys(Phase, 1)
    assert counted.one("event_to_output_seconds_count") == 1
    assert 60 <= counted.one("event_to_output_seconds_sum") < 120
