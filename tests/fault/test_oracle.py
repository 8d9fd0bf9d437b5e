"""The oracle finds nothing in a right log, and each wrong that is planted in it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any
from zlib import crc32

import msgspec
import pytest

from tests.fault import oracle_handoffs, oracle_ledger
from tests.fault.oracle import CLOCK, HANDOFFS, INTERACTIONS, LEDGER, META, OWNERSHIP, Log, Record

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
LEG = timedelta(seconds=4)
Topics = dict[str, list[Record]]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def put(topics: Topics, topic: str, event: dict[str, Any], seconds: float, key: bytes = b"acme") -> None:
    """Append a record; offsets count from 0."""
    records = topics.setdefault(topic, [])
    records.append(Record(topic, 0, len(records), at(seconds), key, json.dumps(event).encode(), {}))


def fact(topics: Topics, topic: str, kind: str, id: str, happened: float, sent: float, **data: Any) -> None:
    event = {"id": id, "source": "crm", "type": f"steward.{kind}.v1", "partitionkey": "acme", "time": str(at(happened))}
    put(topics, topic, {**event, "data": data}, sent)


def mark(topics: Topics, seconds: float, safe: float | None = None, **promises: float) -> None:
    """A mark that covers what stands in the topics so far."""
    data = {
        "at": str(at(seconds)),
        "safe": str(at(seconds if safe is None else safe)),
        "promises": {name: str(at(until)) for name, until in promises.items()},
        "ends": {name: len(records) for name, records in topics.items() if name.startswith("crm.")},
    }
    put(topics, CLOCK, {"type": "steward.clock.advanced.v1", "data": data}, seconds)


def state(topics: Topics, processor: str, key: bytes, value: bytes) -> None:
    topics.setdefault(f"steward-{processor}-state", []).append(
        Record("", 0, len(topics.get("", [])), START, key, value, {})
    )


def verdict(topics: Topics, kind: str, seconds: float, handoff: str = "deal", **more: Any) -> None:
    data = {"handoff": handoff, "leg": "accept", "due": str(at(4)), "transition": kind.partition(".")[2], **more}
    name = f"{kind}:{len(topics.get(HANDOFFS, []))}"
    put(topics, HANDOFFS, {"id": name, "type": f"steward.{kind}.v1", "data": data}, seconds)


def stages(topics: Topics, *raised: str) -> None:
    """The state of the one account, with a ledger that says that these stages stand."""
    names = [f"{event['source']}/{event['id']}" for one in topics[OWNERSHIP] if (event := one.event)]
    kept = [[0, 0, 0, *name.split("/", 1)] for name in dict.fromkeys(names)]
    ledger = {f"accept/{stage}": [1, True, 0, None] for stage in raised}
    state(topics, "handoff", b"acme", b"\x01" + msgspec.msgpack.encode([{"deal": [kept, ledger]}, []]))
    positions = {OWNERSHIP: len(topics[OWNERSHIP]), "crm.renewals": 0}
    state(topics, "handoff", META, json.dumps({"positions": positions}).encode())


def breached() -> Topics:
    """A handoff that nobody takes, judged by marks that allow it."""
    topics: Topics = {}
    fact(topics, OWNERSHIP, "handoff.opened", "o", 0, 0, handoff="deal")
    verdict(topics, "handoff.changed", 0.1, state="open")
    for seconds in (1, 2, 4):
        mark(topics, seconds)
    verdict(topics, "sla.at-risk", 2.1)
    verdict(topics, "sla.breached", 4.1)
    stages(topics, "at_risk", "breached")
    return topics


def handoffs(topics: Topics) -> list[str]:
    log = Log(topics, LEG)
    oracle_handoffs.judge(log)
    return log.problems


def without(topics: Topics, topic: str, kind: str) -> Topics:
    kept = [record for record in topics[topic] if kind not in (record.event or {})["type"]]
    return {**topics, topic: kept}


def test_a_right_log_has_no_problem() -> None:
    assert handoffs(breached()) == []


def forgotten(topics: Topics) -> Topics:
    return without(topics, HANDOFFS, "breached")


def twice(topics: Topics) -> Topics:
    verdict(topics, "sla.breached", 4.2)
    return topics


def repeated(topics: Topics) -> Topics:
    last = topics[HANDOFFS][-1]
    again = Record(HANDOFFS, 0, last.offset + 1, last.appended, last.key, last.value, {})
    return {**topics, HANDOFFS: [*topics[HANDOFFS], again]}


def too_early(topics: Topics) -> Topics:
    records = [record for record in topics[CLOCK] if record.appended < at(4)]
    topics = {**topics, CLOCK: records}
    mark(topics, 5)
    return topics


def ahead(topics: Topics) -> Topics:
    """The mark that allows the breach was ten minutes ahead, and no other follows in time."""
    records = [record for record in topics[CLOCK] if record.appended < at(4)]
    ahead_of_time = json.loads(topics[CLOCK][-1].value or b"")
    ahead_of_time["data"] |= {"at": str(at(604)), "safe": str(at(604))}
    wrong = Record(CLOCK, 0, 9, at(4), b"0", json.dumps(ahead_of_time).encode(), {})
    topics = {**topics, CLOCK: [*records, wrong]}
    mark(topics, 6)
    return topics


def restrained(topics: Topics) -> Topics:
    records = [record for record in topics[CLOCK] if record.appended < at(4)]
    topics = {**topics, CLOCK: records}
    mark(topics, 4, crm=3)
    mark(topics, 6, crm=6)
    return topics


def against_a_fact(topics: Topics) -> Topics:
    """An acceptance in time stood before the end of the mark; taking the breach back later does not mend it."""
    fact(topics, OWNERSHIP, "handoff.accepted", "a", 3, 3, handoff="deal")
    topics = without({**topics, CLOCK: topics[CLOCK][:2], HANDOFFS: topics[HANDOFFS][:2]}, HANDOFFS, "nothing")
    del topics["steward-handoff-state"]
    mark(topics, 4)
    verdict(topics, "sla.breached", 4.1)
    verdict(topics, "sla.retracted", 4.2, stage="breached", transition="breached")
    verdict(topics, "sla.met", 4.2)
    verdict(topics, "handoff.changed", 4.2, state="accepted")
    stages(topics, "at_risk", "met")
    return topics


def taken_back_first(topics: Topics) -> Topics:
    verdict(topics, "sla.retracted", 4.2, stage="met", transition="met")
    return topics


def suspected(topics: Topics) -> Topics:
    """Nobody is silent, and the suspicion stands all the same."""
    verdict(topics, "sla.suspected", 4.2)
    return topics


def of_nothing(topics: Topics) -> Topics:
    verdict(topics, "sla.breached", 4.2, handoff="unheard-of")
    return topics


def unread(topics: Topics) -> Topics:
    fact(topics, OWNERSHIP, "handoff.opened", "o", 0, 5, handoff="deal")  # a repeat, but a record
    return topics


def state_lost(topics: Topics) -> Topics:
    return {**topics, "steward-handoff-state": topics["steward-handoff-state"][1:]}


def letter_missing(topics: Topics) -> Topics:
    put(topics, OWNERSHIP, {"type": "steward.handoff.mislaid.v1"}, 1)
    del topics["steward-handoff-state"]
    event = topics[OWNERSHIP].pop()
    stages(topics, "at_risk", "breached")
    topics[OWNERSHIP].append(event)
    topics["steward-handoff-state"][-1] = Record(
        "", 0, 9, START, META, json.dumps({"positions": {OWNERSHIP: 2, "crm.renewals": 0}}).encode(), {}
    )
    return topics


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (forgotten, "was forgotten"),
        (twice, "was raised while it stood"),
        (repeated, "stands there 2 times"),
        (too_early, "raised before any mark allowed it"),
        (ahead, "raised before any mark allowed it"),
        (restrained, "raised before any mark allowed it"),
        (against_a_fact, "which the mark covers"),
        (taken_back_first, "taken back before it was raised"),
        (suspected, "'suspected') stands, and the facts say otherwise"),
        (of_nothing, "which no fact opens"),
        (unread, "was not read past"),
        (state_lost, "the state of deal is missing"),
        (letter_missing, "dlq.handoff"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_wrong_verdict_is_found(plant: Callable[[Topics], Topics], said: str) -> None:
    problems = handoffs(plant(breached()))
    assert any(said in problem for problem in problems), problems


# -- the ledger --------------------------------------------------------------------------------------------------------


def books(order: tuple[str, ...] = ("a", "b", "c"), counted: int = 3) -> Topics:
    """Three facts of one window, entered in this order."""
    topics: Topics = {}
    for name in "abc":
        fact(topics, INTERACTIONS, "interaction.logged", name, 0.1, 0.1)
    mark(topics, 4)
    chain, total, start = "", 0, int(START.timestamp()) // 3 * 3_000_000
    for number, name in enumerate(order, start=1):
        chain = blake2b(f"{chain} crm/{name}".encode(), digest_size=8).hexdigest()
        total += crc32(f"crm/{name}".encode()) % 1000
        entry = {
            "topic": INTERACTIONS, "fact": f"crm/{name}", "number": number, "place": number, "chain": chain,
            "total": total,
        }  # fmt: skip
        taken = {"id": f"{number}{name}", "type": "steward.fault.taken.v1", "partitionkey": "acme", "data": entry}
        put(topics, LEDGER, taken, 1)
    window = {"start": start, "count": counted, "at": 0, "safe": 0}
    put(topics, LEDGER, {"id": "w", "type": "steward.fault.window.v1", "partitionkey": "acme", "data": window}, 4.1)
    book = {
        "count": len(order), "total": total, "chains": {INTERACTIONS: chain}, "places": {INTERACTIONS: len(order)},
        "seen": [f"crm/{name}" for name in order], "windows": {str(start): 3}, "closed": [start], "sources": ["crm"],
    }  # fmt: skip
    state(topics, "ledger", b"acme", b"\x01" + json.dumps(book).encode())
    positions = {OWNERSHIP: 0, "crm.renewals": 0, INTERACTIONS: 3}
    state(topics, "ledger", META, json.dumps({"positions": positions}).encode())
    return topics


def ledger(topics: Topics) -> str:
    log = Log(topics, LEG)
    oracle_ledger.judge(log)
    return " ".join(log.problems)


def test_right_books_have_no_problem() -> None:
    assert ledger(books()) == ""


def test_lost_doubled_and_reordered_facts_and_an_early_window_are_found() -> None:
    assert "lost ['crm/b']" in ledger(books(("a", "c")))
    assert "1 doubled" in ledger(books(("a", "b", "b", "c")))
    assert "order kept: False" in ledger(books(("a", "c", "b")))
    assert "counted 2 of 3 facts" in ledger(books(counted=2))
    assert "before any mark allowed it" in ledger({**books(), CLOCK: []})
