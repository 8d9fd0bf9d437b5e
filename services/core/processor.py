"""What the engine drives and a slice implements: keyed state, inputs, due times, outputs. No Faust, no IO."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from schemas.envelope import Event
from schemas.topics import Topic
from services.core.instants import Instant
from services.core.outcome import Fate
from services.core.policy import Policies

S = TypeVar("S")
NEVER: Instant = -(1 << 62)


@dataclass(frozen=True, slots=True)
class Fact:
    """An event as it stands in a topic, and when it first arrived."""

    topic: Topic
    event: Event
    arrived: Instant


@dataclass(frozen=True, slots=True)
class Due:
    """When a key wants to be looked at again.

    `run`: the import that opened what waits; its progress alone moves this clock until it is closed.
    """

    at: Instant
    run: str | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What a decision may know besides its state: the clock of its partition and the policy."""

    at: Instant = NEVER
    safe: Instant = NEVER
    promises: Mapping[str, Instant] = field(default_factory=dict)
    closed: Mapping[str, Instant] = field(default_factory=dict)
    policies: Policies = field(default_factory=Policies)

    def reached(self, run: str | None) -> Instant:
        """The instant up to which silence may be believed, for what a run opened or for live facts.

        A run that no mark has named has reached nothing: what it opened waits.
        """
        if run is None or run in self.closed:
            return self.safe
        return self.promises.get(run, NEVER)


@dataclass(frozen=True, slots=True)
class Output:
    topic: Topic
    event: Event


@dataclass(frozen=True, slots=True)
class Decision(Generic[S]):
    """What should happen: the state afterwards (None: forget the key), what to publish, what became of facts.

    A fact that `fates` does not name was taken in.
    """

    state: S | None
    outputs: Sequence[Output] = ()
    fates: Sequence[tuple[Fact, Fate]] = ()


class Processor(Protocol[S]):
    """Pure functions of state, facts and context; the same answer in whatever batches the facts come."""

    name: str
    version: int
    inputs: tuple[Topic, ...]
    outputs: tuple[Topic, ...]

    def empty(self) -> S:
        """The state of a key nobody has heard of."""

    def decide(self, key: str, state: S, batch: Sequence[Fact], context: Context) -> Decision[S]:
        """Take facts of one key in."""

    def due(self, key: str, state: S, context: Context) -> Decision[S]:
        """One of the state's dues has been reached."""

    def dues(self, state: S) -> Sequence[Due]:
        """When to look again: at most one per run, and one for everything live."""

    def encode(self, state: S) -> bytes:
        """The state as it stands in the changelog."""

    def decode(self, raw: bytes, version: int) -> S:
        """The state from the changelog; `version` is the one that wrote it."""
