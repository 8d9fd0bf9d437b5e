"""How a processor's states stand in the changelog: msgpack, deflated where they grow large, each beside its version."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic
from zlib import compress, decompress

import msgspec

from services.core.processor import S

FAST = 1
ENCODER = msgspec.msgpack.Encoder()

Upcast = Callable[[Any], Any]
"""From the plain form of a state (lists, dicts, strings, numbers, bytes) to that of the next version. Pure."""


@dataclass(frozen=True, slots=True)
class States(Generic[S]):
    """The states of one processor. Whoever changes their form so that old ones cannot be read changes the version.

    `upcasts[n]` makes of what version n wrote what n + 1 would have written. They reach without a gap from the oldest
    version that can still be read to the present one; all versions are deflated, or none.
    """

    name: str
    version: int
    type: type[S]
    deflated: bool = False
    upcasts: Mapping[int, Upcast] = field(default_factory=dict, compare=False)
    _decoder: msgspec.msgpack.Decoder[S] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if sorted(self.upcasts) != list(range(self._oldest, self.version)):
            known = ", ".join(map(str, sorted(self.upcasts)))
            raise ValueError(
                f"the upcasts of the {self.name} processor begin at versions {known}; they must reach from the oldest "
                f"to {self.version} without a gap"
            )
        object.__setattr__(self, "_decoder", msgspec.msgpack.Decoder(self.type))

    @property
    def _oldest(self) -> int:
        return min(self.upcasts, default=self.version)

    def encode(self, state: S) -> bytes:
        """The bytes that stand behind the one for the version."""
        raw = ENCODER.encode(state)
        return compress(raw, FAST) if self.deflated else raw

    def decode(self, raw: bytes, version: int) -> S:
        """The state in what `version` wrote.

        Raises ValueError where that is none of those that this one reads, and for what does not fit its type.
        """
        packed = decompress(raw) if self.deflated else raw
        if version == self.version:
            return self._decoder.decode(packed)
        if not self._oldest <= version < self.version:
            raise ValueError(self._unknown(version))
        plain = msgspec.msgpack.decode(packed)
        for step in range(version, self.version):
            plain = self.upcasts[step](plain)
        return self._decoder.decode(ENCODER.encode(plain))

    def _unknown(self, version: int) -> str:
        reads = f"this is {self.version}"
        if self.upcasts:
            reads += f", which reads from {self._oldest} on"
        advice = "a newer Steward wrote it" if version > self.version else "start a Steward in between first"
        return f"state version {version} of the {self.name} processor is not known; {reads}: {advice}"
