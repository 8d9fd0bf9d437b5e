"""How a processor's states stand in the changelog: msgpack, deflated where they grow large, each beside its version."""

from dataclasses import dataclass, field
from typing import Generic
from zlib import compress, decompress

import msgspec

from services.core.processor import S

FAST = 1
ENCODER = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True)
class States(Generic[S]):
    """The states of one processor. Whoever changes their form so that old ones cannot be read changes the version."""

    name: str
    version: int
    type: type[S]
    deflated: bool = False
    _decoder: msgspec.msgpack.Decoder[S] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_decoder", msgspec.msgpack.Decoder(self.type))

    def encode(self, state: S) -> bytes:
        """The bytes that stand behind the one for the version."""
        raw = ENCODER.encode(state)
        return compress(raw, FAST) if self.deflated else raw

    def decode(self, raw: bytes, version: int) -> S:
        """The state in what `version` wrote. Raises ValueError where that is another than this one."""
        if version != self.version:
            raise ValueError(
                f"state version {version} of the {self.name} processor is not known; this is {self.version}"
            )
        return self._decoder.decode(decompress(raw) if self.deflated else raw)
