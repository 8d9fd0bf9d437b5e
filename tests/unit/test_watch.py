"""What the watch of an engine publishes and ends the process for; the broker's answers are given."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from services.handoff.processor import HandoffProcessor
from services.runtime import clock
from services.runtime.engine.progress import STALL_SECONDS, WAIT_SECONDS
from services.runtime.engine.restore import Snapshot
from services.runtime.engine.watch import Watch, readiness
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings
from services.runtime.watchdog import Watchdog
from tests.metrics import Scrape, parsed

INPUTS = ("crm.ownership", "crm.renewals", "cs.clock")
LETTERS = "dlq.handoff"


def a_lane(*, ready: bool = True, takes: bool = True, at: int | None = None, **positions: int) -> Any:
    """A lane that has read as far in `ownership`, and committed as far as `saved`."""
    read = dict.fromkeys(INPUTS, 0) | {"crm.ownership": positions.get("ownership", 0)}
    saved = read | {"crm.ownership": positions.get("saved", read["crm.ownership"])}
    meta = SimpleNamespace(positions=read, at=clock.now() if at is None else at)
    return SimpleNamespace(ready=ready, takes=takes, partition=SimpleNamespace(meta=meta, saved=saved, appended={}))


@dataclass
class Engine:
    lanes: Mapping[int, Any]
    assigned: frozenset[int] = frozenset({0, 1})
    settled: bool = True
    guarantee: str = "exactly once"
    restoring: Mapping[int, Snapshot] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        return self.settled and all(number in self.lanes and self.lanes[number].ready for number in self.assigned)

    def observe(self) -> None:
        pass

    def abort(self, why: str, _: BaseException | None = None) -> None:
        self.ended.append(why)


class Watched:
    """A watch, and how long it has been looking."""

    def __init__(self, engine: Engine, **settings: Any) -> None:
        self.engine, self.metrics, self.now = engine, Metrics(), clock.elapsed()
        fake: Any = engine
        self.watch: Watch[Any] = Watch(Settings(**settings), HandoffProcessor(), fake, self.metrics, Watchdog())

    def hears(self, **ends: int) -> None:
        """The ends of crm.ownership, of the changelog and of the dead letters, in each partition."""
        named = {"crm.ownership": ends.get("ownership", 0), "steward-handoff-state": ends.get("changelog", 0)}
        named |= {LETTERS: ends.get("letters", 0), "cs.clock": 0, "crm.renewals": 0}
        self.watch._heard({(name, number): (0, end) for name, end in named.items() for number in (0, 1)})
        self.watch._answered = self.now

    def looks(self, seconds: float = 1) -> None:
        for _ in range(int(seconds)):
            self.now += 1.0
            self.watch._look(self.now, 1.0)

    @property
    def seen(self) -> Scrape:
        return parsed(self.metrics.text().decode())


def a_watch(lanes: Mapping[int, Any], **engine: Any) -> Watched:
    return Watched(Engine(lanes, **engine))


# ---------------------------------------------------------------- what it ends the process for


def test_a_partition_with_records_to_read_that_stands_still_ends_the_process() -> None:
    watched = a_watch({0: a_lane(ownership=9), 1: a_lane(ownership=7)})
    watched.hears(ownership=9)
    for _ in range(int(STALL_SECONDS) + 1):
        watched.looks()
        watched.hears(ownership=9)
    assert watched.engine.ended == []
    watched.looks()
    assert watched.engine.ended == [
        "crm.ownership partition 1 has stood at offset 7 for 121 s, and there is more up to 9"
    ]


def test_what_is_read_but_never_committed_ends_the_process() -> None:
    watched = a_watch({0: a_lane(), 1: a_lane(ownership=9, saved=4)})
    for _ in range(int(STALL_SECONDS) + 2):
        watched.looks()
        watched.hears(ownership=9)
    assert watched.engine.ended[0].startswith("crm.ownership (committed) partition 1 has stood at offset 4 for 121 s")


def test_being_full_excuses_no_partition_whose_flush_never_ends() -> None:
    watched = a_watch({0: a_lane(ownership=9), 1: a_lane(ownership=7, takes=False)})
    watched.hears(ownership=9)
    for _ in range(int(STALL_SECONDS) + 2):
        watched.hears(ownership=9)
        watched.looks()
    assert len(watched.engine.ended) == 1


@pytest.mark.parametrize(
    ("lane", "told"),
    [
        pytest.param(None, "its restore", id="being restored"),
        pytest.param(a_lane(ready=False), "a new start after a flush that failed", id="after a failed flush"),
    ],
)
def test_a_partition_that_waits_on_purpose_is_given_more_time(lane: Any, told: str) -> None:
    watched = a_watch({0: a_lane(ownership=9)} | ({1: lane} if lane else {}))
    for _ in range(int(WAIT_SECONDS) + 1):
        watched.hears(ownership=9)
        watched.looks()
    assert watched.engine.ended == []
    watched.hears(ownership=9)
    watched.looks()
    assert f"waiting for {told}" in watched.engine.ended[0]


def test_a_broker_that_answers_nothing_is_no_reason_to_end_soon() -> None:
    watched = a_watch({0: a_lane(ownership=9), 1: a_lane(ownership=7)})
    watched.hears(ownership=9)
    watched.looks(STALL_SECONDS + 10)
    assert watched.engine.ended == []


# ---------------------------------------------------------------- what it publishes


def test_the_lag_is_what_is_between_the_position_and_the_end() -> None:
    watched = a_watch({0: a_lane(ownership=9), 1: a_lane(ownership=7)})
    watched.hears(ownership=9)
    watched.looks(5)
    seen = watched.seen
    assert seen.by("consumer_lag_records", "partition", topic="crm.ownership") == {"0": 0, "1": 2}
    assert seen.by("caught_up", "partition") == {"0": 1, "1": 0}
    late = seen.by("lag_seconds", "partition")
    assert late["0"] == 0
    assert late["1"] > 4


def test_a_backlog_from_before_the_start_is_as_old_as_the_record_read_last() -> None:
    lane = a_lane(ownership=7)
    lane.partition.appended["crm.ownership"] = clock.now() // 1000 - 3_600_000
    watched = a_watch({0: lane}, assigned=frozenset({0}))
    watched.hears(ownership=9)
    watched.looks(3)
    assert 3600 <= watched.seen.one("lag_seconds") < 3700


def test_the_clock_of_a_partition_that_never_heard_one_is_infinitely_old() -> None:
    watched = a_watch({0: a_lane(at=clock.now() - 40_000_000), 1: a_lane(at=-(1 << 62))})
    watched.looks()
    ages = watched.seen.by("clock_age_seconds", "partition")
    assert 40 <= ages["0"] < 100
    assert ages["1"] == float("inf")


def test_simulated_time_has_no_age() -> None:
    watched = Watched(Engine({0: a_lane(), 1: a_lane()}), simulated=True)
    watched.looks()
    assert watched.seen.all("clock_age_seconds") == {}


def test_what_is_left_of_a_restore_goes_down_to_nothing() -> None:
    snapshot = Snapshot()
    watched = a_watch({0: a_lane()}, restoring={1: snapshot})
    left = []
    for read in (0, 30, 100):
        snapshot.read = read
        watched.hears(changelog=100)
        watched.looks()
        left.append(watched.seen.by("restore_remaining_records", "partition"))
    assert left == [{"0": 0, "1": 100}, {"0": 0, "1": 70}, {"0": 0, "1": 0}]


def test_dead_letters_are_counted_over_all_partitions() -> None:
    watched = a_watch({0: a_lane(), 1: a_lane()})
    watched.hears(letters=4)
    assert watched.seen.by("dlq_records", "topic") == {LETTERS: 8}


def test_nothing_is_said_of_a_partition_that_another_process_serves_now() -> None:
    watched = a_watch({0: a_lane(ownership=1), 1: a_lane(ownership=1)})
    watched.hears(ownership=9)
    watched.looks(2)
    before = watched.seen.samples
    watched.engine.assigned, watched.engine.lanes = frozenset({0}), {0: a_lane(ownership=1)}
    watched.looks()
    gone = before.keys() - watched.seen.samples.keys()
    assert {dict(labels)["partition"] for _, labels in gone} == {"1"}
    assert not [at for at in watched.seen.samples if ("partition", "1") in at[1]]
    assert len(gone) >= 7


# ---------------------------------------------------------------- what /ready says


@pytest.mark.parametrize(
    ("engine", "ready", "missing", "serving"),
    [
        pytest.param(Engine({0: a_lane(), 1: a_lane(takes=False)}), True, None, [0, 1], id="all serve, one is full"),
        pytest.param(Engine({0: a_lane()}), False, "partition 1 waits for its restore", [0], id="one is restored"),
        pytest.param(
            Engine({0: a_lane(), 1: a_lane(ready=False)}), False,
            "partition 1 waits for a new start after a flush that failed", [0], id="one starts again",
        ),
        pytest.param(
            Engine({}, assigned=frozenset(), settled=False), False,
            "the group has not assigned any partitions yet", [], id="at the start",
        ),
        pytest.param(Engine({}, settled=False), False, "partitions are being reassigned", [], id="in a rebalance"),
        pytest.param(Engine({}, assigned=frozenset()), True, None, [], id="one process more than partitions"),
    ],
)  # fmt: skip
def test_ready_says_what_each_partition_waits_for(
    engine: Any, ready: bool, missing: str | None, serving: list[int]
) -> None:
    found = readiness(engine)
    assert (found.ready, found.missing, found.guarantee) == (ready, missing, "exactly once")
    assert found.partitions == {"assigned": sorted(engine.assigned), "serving": serving}
