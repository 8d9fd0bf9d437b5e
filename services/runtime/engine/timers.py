"""When each key wants to be looked at again: an index over dues, rebuilt from state after a restore."""

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush

from services.core.instants import Instant
from services.core.processor import Due, Wait

SLACK = 1000


class Timers:
    """One heap for each thing waited for. Cancelling is lazy: stale entries are skipped when popped."""

    def __init__(self) -> None:
        self._heaps: dict[Wait, list[tuple[Instant, str]]] = {}
        self._armed: dict[str, dict[Wait, Instant]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._armed.values()))

    def arm(self, key: str, dues: Sequence[Due]) -> None:
        """Replace what was armed for this key."""
        before = self._armed.get(key)
        if not dues:
            if before:
                del self._armed[key]
            return
        now = {due.wait: due.at for due in dues}
        if now == before:
            return
        self._armed[key] = now
        for wait, at in now.items():
            if before is None or before.get(wait) != at:
                self._push(wait, at, key)

    def pop(self, reached: Callable[[Wait], Instant], limit: int) -> list[str]:
        """At most `limit` keys with a due that the clock it waits for has reached; each once."""
        keys: dict[str, None] = {}
        for wait, heap in list(self._heaps.items()):
            until = reached(wait)
            while heap and heap[0][0] <= until and len(keys) < limit:
                at, key = heappop(heap)
                armed = self._armed.get(key)
                if armed is not None and armed.get(wait) == at:
                    del armed[wait]
                    keys[key] = None
                    if not armed:
                        del self._armed[key]
            if not heap:
                del self._heaps[wait]
        return list(keys)

    def _push(self, wait: Wait, at: Instant, key: str) -> None:
        heap = self._heaps.setdefault(wait, [])
        heappush(heap, (at, key))
        if len(heap) > 2 * len(self._armed) + SLACK:  # mostly stale: one rebuild pays for many pushes
            heap[:] = [(due[wait], key) for key, due in self._armed.items() if wait in due]
            heapify(heap)
