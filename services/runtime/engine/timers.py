"""When each key wants to be looked at again: an index over dues, rebuilt from state after a restore."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from services.core.instants import Instant
from services.core.processor import Due, Wait

SLACK = 1000

# When, who, and the number of the heap; no references besides the key, so that the collector need not look at it.
_Entry = tuple[Instant, str, int]


@dataclass(slots=True)
class _Heap:
    """Those who wait for the same thing; `live` of its entries still count."""

    wait: Wait
    number: int
    entries: list[_Entry] = field(default_factory=list)
    live: int = 0


class Timers:
    """One heap for each thing waited for. Cancelling is lazy: stale entries are skipped when popped.

    An entry counts while the index holds the very same object. `taken`: of each key that the last `pop` answered, what
    it waited for and for how many microseconds its due had been reached.
    """

    def __init__(self) -> None:
        self.taken: list[tuple[Wait, int]] = []
        self._heaps: dict[Wait, _Heap] = {}
        self._numbered: dict[int, _Heap] = {}
        self._next = 0
        self._one: dict[str, _Entry] = {}
        self._several: dict[str, tuple[_Entry, ...]] = {}

    def __len__(self) -> int:
        return len(self._one) + sum(map(len, self._several.values()))

    def load(self, dues: Iterable[tuple[str, Sequence[Due]]]) -> None:
        """Arm every key at once, in an index that is empty; each key comes once."""
        for key, wanted in dues:
            if len(wanted) == 1:  # as nearly all have, and all else waits until a million keys are armed
                due = wanted[0]
                heap = self._heaps.get(due.wait) or self._heap(due.wait)
                entry = self._one[key] = due.at, key, heap.number
                heap.entries.append(entry)
            elif wanted:
                several = []
                for wait, at in {due.wait: due.at for due in wanted}.items():
                    heap = self._heap(wait)
                    several.append((at, key, heap.number))
                    heap.entries.append(several[-1])
                self._index(key, tuple(several))
        for heap in self._heaps.values():
            heap.live = len(heap.entries)
            heapify(heap.entries)

    def arm(self, key: str, dues: Sequence[Due]) -> None:
        """Replace what was armed for this key."""
        before = self._entries(key)
        entries: tuple[_Entry, ...] = ()
        for due in dues if len(dues) < 2 else {due.wait: due for due in dues}.values():  # one: no twin
            heap = self._heaps.get(due.wait) or self._heap(due.wait)
            at, number = due.at, heap.number
            for entry in before:
                if entry[0] == at and entry[2] == number:
                    break
            else:
                entry = at, key, number
                heappush(heap.entries, entry)
                heap.live += 1
            entries += (entry,)
        if entries == before:
            return
        self._index(key, entries)
        for entry in before:
            if entry not in entries:  # as values: two of one wait at one instant are one
                heap = self._numbered[entry[2]]
                heap.live -= 1
                self._tidy(heap)

    def pop(self, reached: Callable[[Wait], Instant], limit: int) -> list[str]:
        """At most `limit` keys with a due that the clock it waits for has reached; each once."""
        keys: dict[str, None] = {}
        self.taken = []
        for heap in list(self._heaps.values()):
            until, entries = reached(heap.wait), heap.entries
            while entries and entries[0][0] <= until and len(keys) < limit:
                entry = heappop(entries)
                key = entry[1]
                if self._one.get(key) is entry:
                    del self._one[key]
                else:
                    left = self._without(entry)
                    if left is None:
                        continue
                    self._index(key, left)
                heap.live -= 1
                if key not in keys:
                    keys[key] = None
                    self.taken.append((heap.wait, until - entry[0]))
            self._tidy(heap)
        return list(keys)

    def overdue(self, reached: Callable[[Wait], Instant]) -> int:
        """For how many microseconds the earliest due has been reached and not been taken; 0: none has."""
        late = 0
        for heap in self._heaps.values():
            while self._without(heap.entries[0]) is None:  # stale; the heap has live ones, or it would be gone
                heappop(heap.entries)
            late = max(late, reached(heap.wait) - heap.entries[0][0])
        return late

    def _heap(self, wait: Wait) -> _Heap:
        heap = self._heaps.get(wait)
        if heap is None:
            self._next += 1
            heap = self._heaps[wait] = self._numbered[self._next] = _Heap(wait, self._next)
        return heap

    def _entries(self, key: str) -> tuple[_Entry, ...]:
        one = self._one.get(key)
        return (one,) if one is not None else self._several.get(key, ())

    def _index(self, key: str, entries: tuple[_Entry, ...]) -> None:
        if len(entries) == 1:
            self._one[key] = entries[0]
            self._several.pop(key, None)
        else:
            self._one.pop(key, None)
            if entries:
                self._several[key] = entries
            else:
                self._several.pop(key, None)

    def _without(self, entry: _Entry) -> tuple[_Entry, ...] | None:
        """What else is armed for its key; None for an entry that does not count any more."""
        entries = self._entries(entry[1])
        left = tuple(other for other in entries if other is not entry)
        return left if len(left) < len(entries) else None

    def _tidy(self, heap: _Heap) -> None:
        """Drop a heap without live entries; one that is mostly stale is made anew, which pays for many pushes."""
        if not heap.live:
            del self._heaps[heap.wait], self._numbered[heap.number]
        elif len(heap.entries) > 2 * heap.live + SLACK:
            heap.entries = [entry for entry in heap.entries if self._without(entry) is not None]
            heapify(heap.entries)
