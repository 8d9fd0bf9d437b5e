"""What one partition writes where, and when it asks for what states want done outside."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypedDict

import pytest

from schemas import codec
from schemas.clock import ClockAdvanced, Mark
from schemas.ownership import HandoffOpened
from schemas.topics import CLOCK, OWNERSHIP, Topic
from services.core.instants import instant, moment
from services.core.policy import Policies
from services.core.processor import CLOCK_ALONE, Context, Decision, Due, Effect, Fact, Output
from services.runtime.engine import partition as partition_module
from services.runtime.engine.partition import META, Meta, Partition
from services.runtime.engine.rounds import Rounds
from services.runtime.engine.tables import Tables
from services.runtime.kafka import Header, partition_of
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings
from tests.builders import ACCOUNT, START, minute, opened, policies, policy
from tests.mirror import Mirror

PARTITIONS = 8
HERE = partition_of(ACCOUNT.encode(), PARTITIONS)


class RunsTold(TypedDict, total=False):
    """What a mark says of runs."""

    stalled: tuple[str, ...]
    closed: dict[str, datetime]


@dataclass
class Raw:
    offset: int
    value: bytes | None
    key: bytes | None = ACCOUNT.encode()
    timestamp: int = instant(START + timedelta(days=1)) // 1000
    headers: Sequence[Header] = field(default_factory=list)


class Forwarder:
    """Sends each fact on under the handoff's name, and wants one effect for every fact it has counted."""

    name = "forwarder"
    version = 1
    inputs: tuple[Topic, ...] = (OWNERSHIP,)
    outputs: tuple[Topic, ...] = (OWNERSHIP,)

    def empty(self) -> int:
        return 0

    def decide(self, key: str, state: int, batch: Sequence[Fact], context: Context) -> Decision[int]:
        named = [(fact.event, fact.event.data.handoff) for fact in batch if isinstance(fact.event, HandoffOpened)]
        outputs = [Output(OWNERSHIP, event.model_copy(update={"partitionkey": name})) for event, name in named]
        return Decision(state + len(batch), outputs)

    def due(self, key: str, state: int, context: Context) -> Decision[int]:
        return Decision(state)

    def dues(self, state: int) -> Sequence[Due]:
        return ()

    def outdated(self, _state: int, _context: Context) -> bool:
        return False

    def wanted(self, key: str, state: int) -> Sequence[Effect]:
        return [Effect(f"{key}.{number}", key, None) for number in range(state)]

    def encode(self, state: int) -> bytes:
        return str(state).encode()

    def decode(self, raw: bytes, version: int) -> int:
        return int(raw)


def partition(state: int = 0, end: int = 0) -> Partition[int]:
    opened_at = Partition(HERE, PARTITIONS, Forwarder(), Tables(Settings(partitions=PARTITIONS)), Metrics())
    states = {ACCOUNT.encode(): b"\1" + str(state).encode()} if state else {}
    opened_at.restore(states, Meta({OWNERSHIP.name: 0, CLOCK.name: 0}), {OWNERSHIP.name: end})
    return opened_at


def read(here: Partition[int], *names: str) -> None:
    at = here.meta.positions[OWNERSHIP.name]
    records = [Raw(at + number, codec.encode(opened(0, name, id=name))) for number, name in enumerate(names)]
    here.take(OWNERSHIP, records, at + len(records))


def tick(here: Partition[int], ends: int) -> None:
    mark = Mark(at=START, safe=START, ends={OWNERSHIP.name: ends}, writer="test", simulated=True)
    event = ClockAdvanced(id="1", source="clock", subject="0", partitionkey="0", time=START, data=mark)
    at = here.meta.positions[CLOCK.name]
    here.take(CLOCK, [Raw(at, codec.encode(event), b"0")], at + 1)


def asked(here: Partition[int]) -> list[str]:
    return [effect.id for effect in here.cut().effects]


@pytest.mark.parametrize("name", ["acme", "globex", "initech", "umbra"])
def test_an_output_goes_to_the_partition_of_its_key(name: str) -> None:
    here = partition()
    read(here, name)
    assert list(here.cut().outputs) == [(OWNERSHIP.name, partition_of(name.encode(), PARTITIONS))]


def test_nothing_is_asked_for_before_a_mark_says_that_the_results_have_been_read() -> None:
    here = partition(state=2)
    read(here, "a")
    assert asked(here) == []
    tick(here, ends=9)  # a mark of a time when more had been written than was read here
    assert asked(here) == []
    read(here, *"bcdefghi")
    assert len(asked(here)) == 11


def test_a_mark_older_than_the_results_is_not_enough() -> None:
    here = partition(state=2, end=1)
    tick(here, ends=0)
    assert asked(here) == []
    read(here, "a")
    tick(here, ends=1)
    assert len(asked(here)) == 3


def test_what_restored_states_want_is_asked_for_although_nothing_new_came() -> None:
    here = partition(state=2)
    tick(here, ends=0)
    assert here.changed
    assert asked(here) == [f"{ACCOUNT}.0", f"{ACCOUNT}.1"]
    assert not here.changed


def test_afterwards_only_states_that_changed_are_asked() -> None:
    here = partition()
    tick(here, ends=0)
    asked(here)
    read(here, "a")
    assert asked(here) == [f"{ACCOUNT}.0"]
    assert asked(here) == []


class Hesitant(Forwarder):
    """Does nothing when it is woken first."""

    woken = 0

    def due(self, key: str, state: int, context: Context) -> Decision[int]:
        self.woken += 1
        return Decision(state if self.woken == 1 else 0)

    def dues(self, state: int) -> Sequence[Due]:
        return [Due(instant(START), CLOCK_ALONE)] if state else []


def test_a_key_that_was_woken_and_did_nothing_stays_armed_until_it_does() -> None:
    hesitant = Hesitant()
    here = Partition(HERE, PARTITIONS, hesitant, Tables(Settings(partitions=PARTITIONS)), Metrics())
    here.restore({ACCOUNT.encode(): b"\x011"}, Meta({OWNERSHIP.name: 0, CLOCK.name: 0}))
    tick(here, ends=0)
    tick(here, ends=0)
    assert hesitant.woken == 2
    assert [value for key, value, _ in here.cut().changelog if key != META] == [b"\x010"]


# -- what states rest on -------------------------------------------------------------------------------------------

KEYS = [f"key-{number}" for number in range(12)]
FIRST = policies(policy(1))


class Watched:
    """A partition of mirrors, its changelog, and the policies in its tables."""

    def __init__(self, known: Policies = FIRST, keys: Sequence[str] = KEYS, *, has_looks: bool = False) -> None:
        self.tables = Tables(Settings(partitions=1))
        self.tables.policies = known
        self.changelog: dict[bytes, bytes] = {}
        self._has_looks = has_looks
        self.restart()
        self.tick(0)
        facts = [
            Raw(number, codec.encode(opened(0).model_copy(update={"partitionkey": key})), key.encode())
            for number, key in enumerate(keys)
        ]
        self.here.take(OWNERSHIP, facts, len(facts))
        self.flush()

    def restart(self, *, knows: bool = True, version: int | None = None) -> None:
        """A new process; one that does not know has not been told on what every state rests."""
        self.mirror = Mirror(has_looks=self._has_looks)
        self.mirror.version = version or self.mirror.version
        self.here = Partition(0, 1, self.mirror, self.tables, Metrics())
        states = dict(self.changelog)
        raw = states.pop(META, None)
        meta = Meta.decode(raw) if raw else Meta({OWNERSHIP.name: 0, CLOCK.name: 0})
        self.here.restore(states, meta if knows else replace(meta, asked=[]))

    def tick(self, minutes: float, runs: RunsTold | None = None, **heard: float) -> None:
        at = moment(minute(minutes))
        told = {source: moment(minute(last)) for source, last in heard.items()}
        mark = Mark(at=at, safe=at, heard=told, ends={}, writer="test", simulated=True, **(runs or {}))
        event = ClockAdvanced(id="1", source="clock", subject="0", partitionkey="0", time=at, data=mark)
        position = self.here.meta.positions[CLOCK.name]
        self.here.take(CLOCK, [Raw(position, codec.encode(event), b"0")], position + 1)

    def publish(self, version: int, since: float) -> None:
        known = self.tables.policies
        activations = (*known.activations, (minute(since), version))
        self.tables.policies = Policies({**known.versions, version: policy(version)}, tuple(sorted(activations)))

    def flush(self) -> list[str]:
        """The keys that a flush writes."""
        cut = self.here.cut()
        self.changelog |= {key: value for key, value, _ in cut.changelog if key is not None and value is not None}
        self.here.committed(cut)
        return [key.decode() for key, _, _ in cut.changelog if key is not None and key != META]

    def settle(self) -> list[list[str]]:
        """What each flush writes until nothing is left, as the lane goes on."""
        flushes = [self.flush()]
        while self.here.overdue:
            self.here.fire()
            flushes.append(self.flush())
        return flushes

    def rests_on(self) -> set[tuple[int, frozenset[str]]]:
        read = (self.mirror.decode(raw[1:], raw[0]) for key, raw in self.changelog.items() if key != META)
        return {(state.version, state.silent) for state in read}


def test_nobody_is_asked_while_policy_and_silence_stay_as_they_are() -> None:
    watched = Watched()
    watched.tick(1, crm=0)
    watched.settle()
    asked = len(watched.mirror.asked)
    watched.tick(2, crm=0)
    watched.tick(3, crm=2)  # heard once more in between, and silent again
    watched.publish(2, since=10)  # not yet in force
    watched.tick(4, crm=2)
    assert len(watched.mirror.asked) == asked


@pytest.mark.parametrize(
    ("change", "rests_on"),
    [
        pytest.param(lambda one: (one.publish(2, since=4), one.tick(5)), (2, []), id="a policy comes into force"),
        pytest.param(
            lambda one: (one.publish(2, since=4), one.tick(3), one.tick(4)),
            (2, []),
            id="a policy activated in advance comes into force",
        ),
        pytest.param(
            lambda one: (one.tick(5), one.publish(2, since=4), one.tick(6)),
            (2, []),
            id="a policy is activated after the mark that covers its instant",
        ),
        pytest.param(lambda one: one.tick(5, crm=1), (1, ["crm"]), id="a source falls silent"),
        pytest.param(
            lambda one: (one.tick(5, crm=1), one.settle(), one.tick(6, crm=1, pay=2)),
            (1, ["crm", "pay"]),
            id="another source falls silent",
        ),
        pytest.param(
            lambda one: (one.tick(5, crm=1), one.settle(), one.tick(6, pay=1)),
            (1, ["pay"]),
            id="one source falls silent while another is heard again",
        ),
        pytest.param(
            lambda one: (one.tick(5, crm=1), one.settle(), one.tick(6)), (1, []), id="a silent source is heard again"
        ),
        pytest.param(
            lambda one: (one.publish(2, since=4), one.tick(5, crm=1)), (2, ["crm"]), id="both change with one mark"
        ),
    ],
)
def test_what_rests_on_something_else_now_is_brought_up_to_date(
    change: Callable[[Watched], object], rests_on: tuple[int, list[str]]
) -> None:
    watched = Watched()
    change(watched)
    watched.settle()
    version, silent = rests_on
    assert watched.rests_on() == {(version, frozenset(silent))}


def test_nobody_is_asked_before_there_is_a_policy_and_everybody_when_there_is() -> None:
    watched = Watched(Policies())
    watched.tick(1, crm=0)
    assert (watched.mirror.asked, watched.rests_on()) == ([], {(0, frozenset())})
    watched.publish(1, since=0)
    watched.tick(2, crm=0)
    watched.settle()
    assert watched.rests_on() == {(1, frozenset({"crm"}))}


def test_a_flush_carries_a_bounded_number_of_keys_be_they_due_or_outdated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_module, "FIRE_LIMIT", 5)
    watched = Watched(has_looks=True)
    watched.publish(2, since=61)
    watched.tick(59)
    assert watched.flush() == []
    watched.tick(61)  # every look is due, and every key outdated
    watched.tick(62)  # marks that come while a flush is under way add nothing to the next one
    flushes = watched.settle()
    assert [len(keys) for keys in flushes] == [5, 5, 2]
    assert sorted(key for keys in flushes for key in keys) == sorted(KEYS)
    assert watched.rests_on() == {(2, frozenset())}


@pytest.mark.parametrize(
    "runs",
    [
        pytest.param(RunsTold(stalled=("r",)), id="stalled"),
        pytest.param(RunsTold(closed={"r": moment(minute(1))}), id="over"),
    ],
)
def test_every_key_is_asked_when_a_run_has_stalled_or_is_over(runs: RunsTold) -> None:
    watched = Watched()
    watched.publish(1, since=0)
    watched.tick(1)
    watched.settle()
    watched.mirror.asked.clear()
    watched.tick(2)
    assert watched.mirror.asked == []
    watched.tick(3, runs)
    watched.settle()
    assert len(watched.mirror.asked) == len(KEYS)


def test_a_turn_that_took_its_time_leaves_the_rest_to_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_module, "FIRE_SECONDS", -1.0)  # every turn has taken too long already
    monkeypatch.setattr(partition_module, "FIRED_AT_ONCE", 4)
    watched = Watched(has_looks=True)
    watched.publish(2, since=61)
    watched.tick(61)
    flushes = watched.settle()
    assert [len(keys) for keys in flushes if keys] == [4, 4, 4]
    assert sorted(key for keys in flushes for key in keys) == sorted(KEYS)
    assert watched.rests_on() == {(2, frozenset())}


def test_marks_before_the_next_flush_give_an_overdue_partition_no_further_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_module, "FIRE_SECONDS", -1.0)
    monkeypatch.setattr(partition_module, "FIRED_AT_ONCE", 4)
    watched = Watched(has_looks=True)
    watched.publish(2, since=61)
    for minutes in (61, 62, 63):
        watched.tick(minutes)
    flushes = watched.settle()
    assert [len(keys) for keys in flushes if keys] == [4, 4, 4]
    assert sorted(key for keys in flushes for key in keys) == sorted(KEYS)


def test_many_keys_are_asked_a_bounded_number_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_module, "ASK_LIMIT", 5)
    watched = Watched()
    watched.restart(knows=False)
    watched.tick(1)
    seen = [len(watched.mirror.asked)]
    while watched.here.overdue:
        watched.here.fire()
        seen.append(len(watched.mirror.asked))
    assert seen == [5, 10, 12]
    assert watched.flush() == []


def test_a_restart_that_rests_on_the_same_asks_nobody() -> None:
    watched = Watched()
    watched.tick(1, crm=0)
    watched.settle()
    watched.restart()
    watched.tick(2, crm=0)
    assert watched.settle() == [[]]
    assert watched.mirror.asked == []


def test_a_new_version_of_the_processor_asks_every_key_once() -> None:
    watched = Watched()
    watched.tick(1, crm=0)
    watched.settle()
    for asked in (len(KEYS), 0):
        watched.restart(version=Mirror.version + 1)
        watched.tick(2, crm=0)
        watched.settle()
        assert len(watched.mirror.asked) == asked


@pytest.mark.parametrize("flushes", [0, 1, 2])
def test_what_a_restart_interrupts_is_done_after_it(flushes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_module, "FIRE_LIMIT", 5)
    watched = Watched()
    watched.tick(1, crm=0)
    for _ in range(flushes):
        watched.flush()
        watched.here.fire()
    watched.restart()
    watched.tick(2, crm=0)
    written = [key for keys in watched.settle() for key in keys]
    assert len(written) == len(KEYS) - 5 * flushes
    assert watched.rests_on() == {(1, frozenset({"crm"}))}


@pytest.mark.parametrize("flushes", [0, 1, 2])
def test_a_change_while_keys_are_still_asked_about_the_last_one_concerns_them_all(
    flushes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_module, "FIRE_LIMIT", 5)
    watched = Watched()
    watched.tick(1, crm=0)
    for _ in range(flushes):
        watched.flush()
        watched.here.fire()
    watched.tick(2, crm=0, pay=1)
    watched.settle()
    assert watched.rests_on() == {(1, frozenset({"crm", "pay"}))}


def test_a_policy_activated_while_nobody_ran_is_noticed_with_the_first_mark() -> None:
    watched = Watched()
    watched.publish(2, since=1)
    watched.restart()
    assert watched.mirror.asked == []
    watched.tick(2)
    watched.settle()
    assert watched.rests_on() == {(2, frozenset())}


def test_who_is_silent_outlives_a_restart() -> None:
    watched = Watched()
    watched.tick(1, crm=0)
    watched.flush()
    watched.restart()
    assert watched.here._context.silent == {"crm": minute(0)}


def test_a_meta_of_before_silence_was_known_is_read() -> None:
    told = json.loads(Meta({CLOCK.name: 3}, at=7).encode())
    del told["silent"]
    assert Meta.decode(json.dumps(told).encode()) == Meta({CLOCK.name: 3}, at=7)


def test_a_key_forgotten_before_its_turn_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_module, "FIRE_LIMIT", 5)
    watched = Watched()
    watched.tick(1, crm=0)
    watched.flush()
    del watched.here._state[KEYS[-1]]
    written = [key for keys in watched.settle() for key in keys]
    assert KEYS[-1] not in written


def test_rounds_that_replace_one_another_starve_nobody() -> None:
    rounds, asked = Rounds(), list[str]()
    for _ in range(4):
        rounds.begin(KEYS)
        asked += rounds.next(3)
    assert asked == KEYS


@pytest.mark.parametrize("keys", [[], ["a"], ["a", "b", "c"]], ids=["none", "one", "some"])
def test_a_round_asks_each_key_once_wherever_it_begins(keys: list[str]) -> None:
    rounds = Rounds()
    for _ in range(4):
        rounds.begin(keys)
        assert rounds.left == len(keys)
        assert sorted(rounds.next(9)) == keys
        assert rounds.left == 0
        rounds.begin(keys)
        assert len(list(rounds.next(2))) == min(2, len(keys))
