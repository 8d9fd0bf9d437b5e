"""A processor whose states say what they rest on, and which counts what the engine asks of it."""

from collections.abc import Sequence

import msgspec

from schemas.topics import OWNERSHIP, Topic
from services.core.instants import MINUTE, Instant
from services.core.policy import PolicyMissing
from services.core.processor import CLOCK_ALONE, Context, Decision, Due, Effect, Fact
from services.core.states import States

LOOK = 60 * MINUTE


class Seen(msgspec.Struct, frozen=True):
    """The policy's version (0: none in force) and the silent sources when the key was last decided; its next look."""

    version: int = 0
    silent: frozenset[str] = frozenset()
    look: Instant | None = None


def seen(context: Context) -> Seen:
    """What a key decided in this context rests on, without its look."""
    try:
        version = context.policies.in_force(context.at).version
    except PolicyMissing:
        version = 0
    return Seen(version, frozenset(context.silent))


class Mirror:
    """Implements services.core.processor.Processor. `has_looks`: its keys also want to be looked at every hour."""

    name = "mirror"
    version = 1
    inputs: tuple[Topic, ...] = (OWNERSHIP,)
    outputs: tuple[Topic, ...] = ()
    _states = States(name, version, Seen)

    def __init__(self, *, has_looks: bool = False) -> None:
        self.asked: list[Seen] = []
        self.woken: list[str] = []
        self._has_looks = has_looks

    def empty(self) -> Seen:
        return Seen()

    def decide(self, key: str, state: Seen, batch: Sequence[Fact], context: Context) -> Decision[Seen]:
        return Decision(self._looked(context))

    def due(self, key: str, state: Seen, context: Context) -> Decision[Seen]:
        self.woken.append(key)
        return Decision(self._looked(context))

    def dues(self, state: Seen) -> Sequence[Due]:
        return [] if state.look is None else [Due(state.look, CLOCK_ALONE)]

    def outdated(self, state: Seen, context: Context) -> bool:
        self.asked.append(state)
        now = seen(context)
        return (state.version, state.silent) != (now.version, now.silent)

    def wanted(self, key: str, state: Seen) -> Sequence[Effect]:
        return ()

    def encode(self, state: Seen) -> bytes:
        return self._states.encode(state)

    def decode(self, raw: bytes, version: int) -> Seen:
        return self._states.decode(raw, version)

    def _looked(self, context: Context) -> Seen:
        return msgspec.structs.replace(seen(context), look=max(context.at, 0) + LOOK if self._has_looks else None)
