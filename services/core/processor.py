"""What the engine drives and a slice implements: keyed state, inputs, due times, outputs. No Faust, no IO."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from schemas.envelope import Event
from schemas.topics import Topic
from services.core.instants import Instant
from services.core.outcome import Fate
from services.core.policy import Policies

S = TypeVar("S")
NEVER: Instant = -(1 << 62)


class Fact(Struct, frozen=True, gc=False):
    """An event as it stands in a topic, and when it first arrived."""

    topic: Topic
    event: Event
    arrived: Instant


Wait = str | frozenset[str] | None
"""What a due time waits for before silence is believed.

The id of a run: its progress alone moves this clock until it is closed. Names of sources (possibly none): live time,
held back by the heartbeats of those that send any. None: nothing, the clock itself.
"""
LIVE: Wait = frozenset()
CLOCK_ALONE: Wait = None


class Due(Struct, frozen=True, gc=False, array_like=True):
    """When a key wants to be looked at again, and what its clock waits for."""

    at: Instant
    wait: Wait = LIVE


@dataclass(frozen=True, slots=True)
class Context:
    """What a decision may know besides its state: the clock of its partition, the policy, and who has fallen silent.

    `silent`: the last heartbeat of each source that used to send them and does not any more. `stalled`: open runs that
    have made no progress for long.
    """

    at: Instant = NEVER
    safe: Instant = NEVER
    promises: Mapping[str, Instant] = field(default_factory=dict)
    closed: Mapping[str, Instant] = field(default_factory=dict)
    policies: Policies = field(default_factory=Policies)
    silent: Mapping[str, Instant] = field(default_factory=dict)
    stalled: frozenset[str] = frozenset()

    def reached(self, wait: Wait) -> Instant:
        """The instant up to which the clock has come for what waits so.

        A run that no mark has named has reached nothing: what it opened waits.
        """
        if wait is None:
            return self.at
        if isinstance(wait, str):
            return self.safe if wait in self.closed else self.promises.get(wait, NEVER)
        # A source that no mark names sends no heartbeat, or none any more: it restrains nothing.
        least, promises = self.safe, self.promises
        for source in wait:
            if source in promises:
                least = min(least, promises[source])
        return least


class Output(Struct, frozen=True, gc=False):
    topic: Topic
    event: Event


class Decision(Struct, Generic[S], frozen=True):
    """What should happen: the state afterwards (None: forget the key), what to publish, what became of facts.

    A fact that `fates` does not name was taken in.
    """

    state: S | None
    outputs: Sequence[Output] = ()
    fates: Sequence[tuple[Fact, Fate]] = ()


@dataclass(frozen=True, slots=True)
class Effect:
    """Something to be done outside, asked for by a state; its result comes back as a fact.

    `id` names one attempt: the same effect asked for again is done once by a process that remembers it.
    """

    id: str
    key: str
    content: object


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
        """One of the state's dues has been reached, or the state is outdated."""

    def dues(self, state: S) -> Sequence[Due]:
        """When to look again: at most one for each thing waited for.

        They are kept beside the state: whoever changes what follows from a state changes the version.
        """

    def outdated(self, state: S, context: Context, /) -> bool:
        """Does the state rest on a policy, sources or runs that are no longer so? Then `due` brings it up to date.

        Asked of every key when the version in force at `at`, the set of silent sources or that of stalled runs has
        changed, when a run is over, and once by a new version of the processor; never without a policy in force. The
        same question may come again.
        """

    def wanted(self, key: str, state: S, /) -> Sequence[Effect]:
        """What the state wants done outside; asked once it is committed, and again after a restart."""

    def encode(self, state: S) -> bytes:
        """The state as it stands in the changelog."""

    def decode(self, raw: bytes, version: int) -> S:
        """The state from the changelog; `version` is the one that wrote it."""
