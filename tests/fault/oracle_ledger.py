"""The books of the ledger, computed from facts and marks alone; part of the oracle."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any
from zlib import crc32

from tests.fault.oracle import (
    INTERACTIONS,
    LEDGER,
    OWNERSHIP,
    RENEWALS,
    Fact,
    Log,
    Mark,
    Record,
    letters,
    once,
    positions,
    states,
)

INPUTS = (OWNERSHIP, RENEWALS, INTERACTIONS)
WINDOW = 3_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(slots=True)
class Book:
    """What the books of one key must be."""

    partition: int
    chains: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # topic → (fact, chain after it)
    windows: dict[int, list[Fact]] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)


def judge(log: Log) -> None:
    """Everything about the ledger that is not as it must be goes into the log's problems."""
    books = _books(log.facts)
    once(log, LEDGER)
    letters(log, "ledger", INPUTS)
    positions(log, "ledger", INPUTS)
    entries: dict[str, list[tuple[Record, dict[str, Any]]]] = defaultdict(list)
    closed: dict[str, list[tuple[Record, dict[str, Any]]]] = defaultdict(list)
    for record, event in log.events(LEDGER):
        kept = entries if event["type"] == "steward.fault.taken.v1" else closed
        kept[event["partitionkey"]].append((record, event["data"]))
    held = {key: json.loads(raw) for key, raw in states(log, "ledger").items()}
    for key in sorted(books.keys() | entries.keys() | held.keys()):
        book = books.get(key)
        if book is None:
            log.blame(f"ledger: there are books of {key}, of which no fact speaks")
            continue
        _entries(log, key, book, entries[key])
        _windows(log, key, book, closed[key])
        _state(log, key, book, held.get(key))
    log.counts["entries"] = sum(map(len, entries.values()))
    log.counts["windows"] = sum(map(len, closed.values()))


def _books(facts: Iterable[Fact]) -> dict[str, Book]:
    books: dict[str, Book] = {}
    for fact in sorted(facts, key=lambda one: (one.topic, one.partition, one.offset)):
        book = books.setdefault(fact.account, Book(fact.partition))
        book.facts.append(fact)
        chain = book.chains.setdefault(fact.topic, [])
        before = chain[-1][1] if chain else ""
        chain.append((fact.name, blake2b(f"{before} {fact.name}".encode(), digest_size=8).hexdigest()))
        if fact.run is None:
            start = (fact.time - EPOCH) // MICROSECOND // WINDOW * WINDOW
            book.windows.setdefault(start, []).append(fact)
    return books


def _entries(log: Log, key: str, book: Book, entries: Sequence[tuple[Record, dict[str, Any]]]) -> None:
    """One entry for each fact, per topic in the order of the topic, with running numbers and sums."""
    total = 0
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for number, (record, data) in enumerate(entries, start=1):
        total += crc32(data["fact"].encode()) % 1000
        found[data["topic"]].append((data["fact"], data["chain"]))
        if (data["number"], data["total"]) != (number, total) or record.partition != book.partition:
            log.blame(f"{LEDGER}: entry {data['fact']} of {key} is number {data['number']}, expected {number}")
            break
    for topic, chain in book.chains.items():
        if found[topic] != chain:
            wanted, there = [name for name, _ in chain], [name for name, _ in found[topic]]
            lost, more = sorted(set(wanted) - set(there)), len(there) - len(set(there))
            log.blame(
                f"{LEDGER}: {topic} of {key} has {len(there)} entries for {len(wanted)} facts; lost {lost[:3]}, "
                f"{more} doubled, order kept: {there == wanted}"
            )


def _windows(log: Log, key: str, book: Book, closed: Sequence[tuple[Record, dict[str, Any]]]) -> None:
    """Each window closes once, by a mark that allows it, and counts every fact that this mark covers."""
    found = {data["start"]: (record, data) for record, data in closed}
    for start in sorted(book.windows.keys() ^ found.keys()):
        log.blame(
            f"{LEDGER}: the window {start} of {key} {'was forgotten' if start in book.windows else 'is of no fact'}"
        )
    live = [fact for fact in book.facts if fact.run is None]
    marks = log.marks.get(book.partition, [])
    for start, (record, data) in found.items():
        facts = book.windows.get(start, [])
        end = EPOCH + (start + WINDOW) * MICROSECOND
        mark = _first(marks, end, live)
        if mark is None or record.appended < mark.appended:
            log.blame(f"{LEDGER}: the window {start} of {key} closed before any mark allowed it")
        elif not sum(map(mark.covers, facts)) <= data["count"] <= len(facts):
            log.blame(
                f"{LEDGER}: the window {start} of {key} counted {data['count']} of {len(facts)} facts, of which "
                f"the mark covers {sum(map(mark.covers, facts))}"
            )


def _first(marks: Sequence[Mark], end: datetime, live: Sequence[Fact]) -> Mark | None:
    for mark in marks:
        if mark.safe >= end and mark.reached(None, {fact.source for fact in live if mark.covers(fact)}) >= end:
            return mark
    return None


def _state(log: Log, key: str, book: Book, held: dict[str, Any] | None) -> None:
    names = [fact.name for fact in book.facts]
    wanted = {
        "count": len(names),
        "total": sum(crc32(name.encode()) % 1000 for name in names),
        "chains": {topic: chain[-1][1] for topic, chain in book.chains.items()},
        "places": {topic: len(chain) for topic, chain in book.chains.items()},
        "seen": sorted(names),
        "windows": {str(start): len(facts) for start, facts in book.windows.items()},
        "closed": sorted(book.windows),
    }
    shown = (
        None
        if held is None
        else {name: sorted(held[name]) if name in {"seen", "closed"} else held[name] for name in wanted}
    )
    if shown is None:
        log.blame(f"ledger: the state of {key} is missing, with {len(names)} facts")
    elif shown != wanted:
        differ = {name: (shown[name], wanted[name]) for name in wanted if shown[name] != wanted[name]}
        log.blame(f"ledger: the state of {key} differs (kept, expected): {differ!s:.300}")
