"""A processor that keeps exact books: whatever is lost, doubled or reordered shows in its states and outputs."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Literal
from zlib import crc32

import msgspec

from schemas.envelope import Data, Event
from schemas.topics import INTERACTIONS, OWNERSHIP, RENEWALS, Kept, Topic
from services.core.instants import SECOND, Instant, instant, moment
from services.core.outcome import Drop, Fate, Reason
from services.core.processor import Context, Decision, Due, Effect, Fact, Output

WINDOW = 3 * SECOND
SOURCE = "steward/ledger"


class Taken(Data):
    """One entry: the fact, its number among those of its key and of its key and topic, and the sums after it."""

    topic: str
    fact: str
    number: int
    place: int
    chain: str
    total: int


class Window(Data):
    """A span of event time that is over: how many facts of it were known, and by which clock it was judged."""

    start: int
    count: int
    at: int
    safe: int


class FactTaken(Event):
    """A fact was entered."""

    type: Literal["steward.fault.taken.v1"] = "steward.fault.taken.v1"
    data: Taken


class WindowClosed(Event):
    """A window is over."""

    type: Literal["steward.fault.window.v1"] = "steward.fault.window.v1"
    data: Window


LEDGER = Topic("fault.ledger", "account", (FactTaken, WindowClosed), Kept(1), ("lab",), ())


class Book(msgspec.Struct, frozen=True):
    """The books of one key. `chains` and `places` are by topic; `windows` counts live facts by start."""

    count: int = 0
    total: int = 0
    chains: Mapping[str, str] = {}
    places: Mapping[str, int] = {}
    seen: tuple[str, ...] = ()
    windows: Mapping[int, int] = {}
    closed: tuple[int, ...] = ()
    sources: tuple[str, ...] = ()


class Ledger:
    """Implements services.core.processor.Processor; `counts_repeats` is the positive control of deduplication."""

    name = "ledger"
    version = 1
    inputs: tuple[Topic, ...] = (OWNERSHIP, RENEWALS, INTERACTIONS)
    outputs: tuple[Topic, ...] = (LEDGER,)

    def __init__(self, *, counts_repeats: bool = False) -> None:
        self._counts_repeats = counts_repeats

    def empty(self) -> Book:
        return Book()

    def decide(self, key: str, state: Book, batch: Sequence[Fact], _context: Context) -> Decision[Book]:
        outputs: list[Output] = []
        fates: list[tuple[Fact, Fate]] = []
        book = state
        for fact in batch:
            if f"{fact.event.source}/{fact.event.id}" in book.seen and not self._counts_repeats:
                fates.append((fact, Drop(Reason.DUPLICATE)))
                continue
            book, entry = _entered(key, book, fact)
            outputs.append(entry)
        return Decision(book if book.count else None, outputs, fates)

    def due(self, key: str, state: Book, context: Context) -> Decision[Book]:
        reached = context.reached(frozenset(state.sources))
        over = [start for start in _open(state) if start + WINDOW <= reached]
        if not over:
            return Decision(state)
        outputs = [_closed(key, start, state.windows[start], context) for start in over]
        return Decision(msgspec.structs.replace(state, closed=tuple(sorted({*state.closed, *over}))), outputs)

    def dues(self, state: Book) -> Sequence[Due]:
        pending = _open(state)
        return [Due(pending[0] + WINDOW, frozenset(state.sources))] if pending else []

    def outdated(self, _state: Book, _context: Context) -> bool:
        return False

    def wanted(self, _key: str, _state: Book) -> Sequence[Effect]:
        return ()

    def encode(self, state: Book) -> bytes:
        return msgspec.json.encode(state)

    def decode(self, raw: bytes, _version: int) -> Book:
        return msgspec.json.decode(raw, type=Book)


def _open(book: Book) -> list[Instant]:
    """The starts of windows that are not closed, the earliest first."""
    return sorted(set(book.windows) - set(book.closed))


def _entered(key: str, book: Book, fact: Fact) -> tuple[Book, Output]:
    event, topic = fact.event, fact.topic.name
    name = f"{event.source}/{event.id}"
    chain = blake2b(f"{book.chains.get(topic, '')} {name}".encode(), digest_size=8).hexdigest()
    place = book.places.get(topic, 0) + 1
    windows = dict(book.windows)
    if event.run is None:
        start = instant(event.time) // WINDOW * WINDOW
        windows[start] = windows.get(start, 0) + 1
    after = Book(
        count=book.count + 1,
        total=book.total + crc32(name.encode()) % 1000,
        chains={**book.chains, topic: chain},
        places={**book.places, topic: place},
        seen=(*book.seen, name),
        windows=windows,
        closed=book.closed,
        sources=tuple(sorted({*book.sources, *([event.source] if event.run is None else [])})),
    )
    entry = Taken(topic=topic, fact=name, number=after.count, place=place, chain=chain, total=after.total)
    return after, Output(LEDGER, _event(FactTaken, key, f"{topic}/{name}", instant(event.time), entry))


def _closed(key: str, start: Instant, count: int, context: Context) -> Output:
    window = Window(start=start, count=count, at=context.at, safe=context.safe)
    return Output(LEDGER, _event(WindowClosed, key, f"{key}/{start}", start + WINDOW, window))


def _event(kind: type[Event], key: str, id: str, at: Instant, data: Data) -> Event:
    return kind(id=id, type=kind.name(), source=SOURCE, subject=key, partitionkey=key, time=moment(at), data=data)
