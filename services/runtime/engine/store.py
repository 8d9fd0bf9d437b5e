"""The states of one partition: all as they stand in the changelog, those in use decoded, too."""

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Generic

import msgspec

from services.core.processor import Due, Processor, S

USED = 4_096  # decoded states in one generation; decoded, a state is five to eight times as large
NEW = b""

_packed = msgspec.msgpack.Encoder().encode
_unpacked = msgspec.msgpack.Decoder(tuple[Due, ...]).decode


class Store(MutableMapping[str, S], Generic[S]):
    """A mapping from keys to states. Decodes what is asked for, and keeps it for a while.

    In two generations: what nobody asked for while the younger one filled is given up with the older one. Only
    `encode` may make that happen, so that a state that was set stays until it is encoded, and the same object is
    answered until then.
    """

    def __init__(self, processor: Processor[S], used: int = USED) -> None:
        self.bytes = 0
        """Size of all states as they stand in the changelog, without those that were not encoded yet."""
        self._processor = processor
        self._prefix = bytes([processor.version])
        self._limit = used
        self._raw: dict[str, bytes] = {}
        self._young: dict[str, S] = {}
        self._old: dict[str, S] = {}

    def load(self, states: Mapping[bytes, bytes]) -> None:
        """Begin with these, as they were encoded; old versions may stand beside new ones."""
        self._raw = {key.decode(): raw for key, raw in states.items()}
        self._young, self._old = {}, {}
        self.bytes = sum(map(len, states.values()))

    def dues(self, packed: Mapping[bytes, bytes]) -> Iterator[tuple[str, Sequence[Due]]]:
        """When each key wants to be looked at; `packed` has what `pack` gave for some of them, the others are decoded.

        What another version wrote is not believed: this one may see other dues in the same state.
        """
        version = self._prefix[0]
        for key, raw in self._raw.items():
            told = packed.get(key.encode()) if raw[0] == version else None
            yield key, self._processor.dues(self._decoded(raw)) if told is None else _unpacked(told)

    def find(self, key: str) -> S | None:
        """The state, if there is one. As `get`, which costs a multiple."""
        state = self._young.get(key)
        if state is None:
            state = self._old.pop(key, None)
            if state is None:
                raw = self._raw.get(key)
                if raw is None:
                    return None
                state = self._decoded(raw)
            self._young[key] = state
        return state

    def peek(self, key: str) -> S | None:
        """The state, without keeping it decoded: for a look at every key."""
        state = self._young.get(key)
        if state is None:
            state = self._old.get(key)
        if state is None:
            raw = self._raw.get(key)
            state = None if raw is None else self._decoded(raw)
        return state

    def encode(self, keys: Iterable[str]) -> list[bytes | None]:
        """Each of these states as it shall stand in the changelog, None where the key is forgotten."""
        encoded = [self._encoded(key) for key in keys]
        if len(self._young) > self._limit:
            self._young, self._old = {}, self._young
        return encoded

    def _encoded(self, key: str) -> bytes | None:
        before = self._raw.get(key)
        if before is None:
            return None
        raw = self._prefix + self._processor.encode(self[key])
        self._raw[key] = raw
        self.bytes += len(raw) - len(before)
        return raw

    def _decoded(self, raw: bytes) -> S:
        return self._processor.decode(raw[1:], raw[0])

    # -- a mapping -----------------------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> S:
        state = self.find(key)
        if state is None:
            raise KeyError(key)
        return state

    def __setitem__(self, key: str, state: S) -> None:
        self._young[key] = state
        self._old.pop(key, None)
        self._raw.setdefault(key, NEW)

    def __delitem__(self, key: str) -> None:
        self.bytes -= len(self._raw.pop(key))
        self._young.pop(key, None)
        self._old.pop(key, None)

    def __contains__(self, key: object) -> bool:
        return key in self._raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)


def pack(dues: Sequence[Due]) -> bytes:
    """Dues as they stand beside a state, so that a restore need not decode it."""
    return _packed(dues)
