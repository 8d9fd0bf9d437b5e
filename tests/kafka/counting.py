"""A processor that forgives nothing: it numbers the facts of each key, and knows no duplicates.

A fact that is lost, doubled or reduced twice, and a state that was taken back, all show in the numbers of its outputs.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from schemas.envelope import Data, Event
from schemas.topics import INTERACTIONS, OWNERSHIP, RENEWALS, Kept, Topic
from services.core.processor import Context, Decision, Due, Effect, Fact, Output


class Count(Data):
    fact: str
    topic: str
    number: int


class FactCounted(Event):
    type: Literal["steward.test.counted.v1"] = "steward.test.counted.v1"
    data: Count


COUNTED = Topic("test.counted", "account", (FactCounted,), Kept(1), ("lab",), ())


class Trouble(msgspec.Struct):
    """What goes wrong in a worker. `poison` is the id of a fact that cannot be reduced."""

    poison: str = ""
    state_bytes: int = 0
    stateless: bool = False
    slow_step: str = ""
    slow_seconds: float = 0.0
    slow_times: int = 1 << 30
    die_at: str = ""  # a step; in the flush whose outputs include `die_for`
    die_for: str = ""


class Counting:
    """Implements services.core.processor.Processor; the state of a key is how many facts it has seen."""

    name = "counting"
    version = 1
    inputs: tuple[Topic, ...] = (INTERACTIONS, OWNERSHIP, RENEWALS)
    outputs: tuple[Topic, ...] = (COUNTED,)

    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble
        self.seen: set[str] = set()

    def empty(self) -> int:
        return 0

    def decide(self, key: str, state: int, batch: Sequence[Fact], _context: Context) -> Decision[int]:
        outputs = []
        for number, fact in enumerate(batch, state + 1):
            if fact.event.id == self._trouble.poison:
                raise ValueError(f"fact {fact.event.id} is poison")
            self.seen.add(fact.event.id)
            outputs.append(Output(COUNTED, _counted(key, fact, number)))
        return Decision(None if self._trouble.stateless else state + len(batch), outputs)

    def due(self, _key: str, state: int, _context: Context) -> Decision[int]:
        return Decision(state)

    def dues(self, _state: int) -> Sequence[Due]:
        return ()

    def outdated(self, _state: int, _context: Context) -> bool:
        return False

    def wanted(self, _key: str, _state: int) -> Sequence[Effect]:
        return ()

    def encode(self, state: int) -> bytes:
        return str(state).encode().rjust(self._trouble.state_bytes)

    def decode(self, raw: bytes, _version: int) -> int:
        return int(raw)


def _counted(key: str, fact: Fact, number: int) -> FactCounted:
    event = fact.event
    return FactCounted(
        id=f"{key}:{number}",
        source="counting",
        subject=key,
        partitionkey=key,
        time=event.time,
        data=Count(fact=event.id, topic=fact.topic.name, number=number),
    )
