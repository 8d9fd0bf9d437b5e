"""What one partition writes where, and when it asks for what states want done outside."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from schemas import codec
from schemas.clock import ClockAdvanced, Mark
from schemas.ownership import HandoffOpened
from schemas.topics import CLOCK, OWNERSHIP, Topic
from services.core.instants import instant
from services.core.processor import Context, Decision, Due, Effect, Fact, Output
from services.runtime.engine.partition import Meta, Partition
from services.runtime.engine.tables import Tables
from services.runtime.kafka import Header, partition_of
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings
from tests.builders import ACCOUNT, START, opened

PARTITIONS = 8
HERE = partition_of(ACCOUNT.encode(), PARTITIONS)


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
