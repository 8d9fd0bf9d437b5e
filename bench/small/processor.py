"""The small reducer as a processor of the engine: tickets in, after each the account's running values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from schemas.envelope import Data, Event
from schemas.interactions import TicketOpened
from schemas.topics import INTERACTIONS, Kept, Topic
from services.core.moulds import mould
from services.core.outcome import Drop, Reason
from services.core.processor import Context, Decision, Due, Effect, Fact, Output
from services.core.states import States

WORST = 4


class Values(Data):
    """An account's tickets so far."""

    count: int = Field(ge=1)
    total: int = Field(ge=1, description="Sum of severities.")
    worst: int = Field(ge=1, le=WORST)
    last: str


class AccountTallied(Event):
    """What an account's tickets come to after one more."""

    type: Literal["bench.account.tallied.v1"] = "bench.account.tallied.v1"
    data: Values


_values, _tallied = mould(Values), mould(AccountTallied)


@dataclass(frozen=True, slots=True)
class Tally:
    """The state of an account; `worst` is the least number, because 1 is the worst."""

    count: int = 0
    total: int = 0
    worst: int = WORST
    last: str = ""


class TallyProcessor:
    """Implements services.core.processor.Processor; each has a state and an output topic of its own by its label."""

    version = 1
    inputs: tuple[Topic, ...] = (INTERACTIONS,)

    def __init__(self, label: str) -> None:
        self.name = f"tally-{label}"
        self.output = Topic(f"bench.tallies-{label}", "account", (AccountTallied,), Kept(1), ("lab",), ())
        self.outputs: tuple[Topic, ...] = (self.output,)
        self._states = States(self.name, self.version, Tally)

    def empty(self) -> Tally:
        return Tally()

    def decide(self, key: str, state: Tally, batch: Sequence[Fact], _context: Context) -> Decision[Tally]:
        count, total, worst, last = state.count, state.total, state.worst, state.last
        outputs, fates = list[Output](), list[tuple[Fact, Drop]]()
        for fact in batch:
            event = fact.event
            if not isinstance(event, TicketOpened):
                fates.append((fact, Drop(Reason.NOT_CONCERNED)))
                continue
            ticket = event.data
            count, total, worst, last = count + 1, total + ticket.severity, min(worst, ticket.severity), ticket.ticket
            values = _values(count=count, total=total, worst=worst, last=last)
            told = _tallied(id=event.id, source="bench", subject=key, time=event.time, partitionkey=key, data=values)
            outputs.append(Output(self.output, told))
        return Decision(Tally(count, total, worst, last) if outputs else state, outputs, fates)

    def due(self, _key: str, state: Tally, _context: Context) -> Decision[Tally]:
        return Decision(state)

    def dues(self, _state: Tally) -> Sequence[Due]:
        return ()

    def outdated(self, _state: Tally, _context: Context) -> bool:
        return False

    def wanted(self, _key: str, _state: Tally) -> Sequence[Effect]:
        return ()

    def encode(self, state: Tally) -> bytes:
        return self._states.encode(state)

    def decode(self, raw: bytes, version: int) -> Tally:
        return self._states.decode(raw, version)
