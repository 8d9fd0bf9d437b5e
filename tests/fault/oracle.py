"""What must stand in the topics once everything is quiet, computed from the source topics and the clock marks alone.

Shares no code with what it judges. Every problem is one sentence; no problem means that nothing was lost, doubled,
reordered, raised too early or forgotten.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

SALE = "sale_to_onboarding"
AHEAD = timedelta(minutes=5)  # an event younger than its arrival by more is refused
MARK_AHEAD = timedelta(seconds=5)
NEVER = datetime.min.replace(tzinfo=UTC)
CLOCK, HANDOFFS, LEDGER, OWNERSHIP, RENEWALS = (
    "cs.clock", "cs.handoffs", "fault.ledger", "crm.ownership", "crm.renewals"
)  # fmt: skip
INTERACTIONS = "crm.interactions"
TYPES = {
    OWNERSHIP: {f"steward.handoff.{what}.v1" for what in ("opened", "accepted", "cancelled")},
    RENEWALS: {"steward.contract.won.v1"},
    INTERACTIONS: {"steward.interaction.logged.v1"},
}
META = b"\x00meta"


@dataclass(frozen=True, slots=True)
class Record:
    """A record as a plain client read it; `appended` is the broker's time."""

    topic: str
    partition: int
    offset: int
    appended: datetime
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, str]

    @property
    def event(self) -> dict[str, Any] | None:
        """The value as a JSON object, where it is one."""
        try:
            parsed = json.loads(self.value or b"null")
        except ValueError:
            return None
        return parsed if isinstance(parsed, dict) else None


@dataclass(frozen=True, slots=True)
class Fact:
    """An accepted fact where it stands first."""

    topic: str
    partition: int
    offset: int
    name: str  # source/id
    source: str
    account: str
    run: str | None
    time: datetime
    what: str
    handoff: str | None
    owner: str | None


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark that a processor may believe, with every run that is over by then."""

    offset: int
    appended: datetime
    at: datetime
    safe: datetime
    promises: Mapping[str, datetime]
    closed: frozenset[str]
    ends: Mapping[str, int]
    silent: frozenset[str]

    def covers(self, fact: Fact) -> bool:
        return fact.offset < self.ends.get(fact.topic, 0)

    def reached(self, run: str | None, sources: Iterable[str]) -> datetime:
        """How far silence may be believed by this mark, for a run or for live facts of these sources."""
        if run is not None:
            return self.safe if run in self.closed else self.promises.get(run, NEVER)
        return min([self.safe, *(self.promises[name] for name in sources if name in self.promises)])


@dataclass
class Log:
    """Committed records by topic (names without prefix, in order of partition and offset), and the legs' length."""

    topics: Mapping[str, Sequence[Record]]
    leg: timedelta
    problems: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def of(self, topic: str) -> Sequence[Record]:
        return self.topics.get(topic, ())

    def events(self, topic: str) -> list[tuple[Record, dict[str, Any]]]:
        return [(record, event) for record in self.of(topic) if (event := record.event) is not None]

    @cached_property
    def marks(self) -> dict[int, list[Mark]]:
        """By partition; those ahead of their own append time and those that go back are none."""
        found: dict[int, list[Mark]] = defaultdict(list)
        closed: dict[int, frozenset[str]] = defaultdict(frozenset)
        for record, event in self.events(CLOCK):
            if event.get("type") != "steward.clock.advanced.v1":
                continue
            data, number = event["data"], record.partition
            at = _time(data["at"])
            if at > record.appended + MARK_AHEAD and not data.get("simulated", False):
                continue
            closed[number] |= frozenset(data.get("closed", {}))
            if found[number] and at < found[number][-1].at:
                continue
            promises = {name: _time(until) for name, until in data.get("promises", {}).items()}
            safe, silent = _time(data["safe"]), frozenset(data.get("silent", ()))
            found[number].append(
                Mark(record.offset, record.appended, at, safe, promises, closed[number], data["ends"], silent)
            )
        return found

    @cached_property
    def facts(self) -> list[Fact]:
        """Every fact that may count, at its first place; repeats and what is refused left out."""
        found: dict[tuple[str, str], Fact] = {}
        for topic in TYPES:
            for record, event in self.events(topic):
                fact = _fact(record, event)
                if fact is not None:
                    found.setdefault((fact.account, fact.name), fact)
        return list(found.values())

    @cached_property
    def refused(self) -> set[tuple[str, int, int]]:
        """The places of the records that must become dead letters."""
        return {
            (topic, record.partition, record.offset)
            for topic in TYPES
            for record in self.of(topic)
            if (event := record.event) is None or _fact(record, event) is None
        }

    def blame(self, sentence: str) -> None:
        self.problems.append(sentence)


def _fact(record: Record, event: dict[str, Any]) -> Fact | None:
    if event.get("type") not in TYPES[record.topic]:
        return None
    time = _time(event["time"])
    if time > record.appended + AHEAD:
        return None
    what = event["type"].split(".")[2]
    data = event["data"]
    handoff = f"{data['home']}/{SALE}" if what == "won" else data.get("handoff")
    name, source = f"{event['source']}/{event['id']}", event["source"]
    account, run, owner = event["partitionkey"], event.get("run"), data.get("owner")
    what = "opened" if what == "won" else what
    return Fact(record.topic, record.partition, record.offset, name, source, account, run, time, what, handoff, owner)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def once(log: Log, topic: str) -> None:
    """No event stands twice among the committed records of an output topic."""
    counted = Counter(event["id"] for _, event in log.events(topic))
    for name, count in counted.items():
        if count > 1:
            log.blame(f"{topic}: event {name} stands there {count} times")


def letters(log: Log, processor: str, inputs: Sequence[str]) -> None:
    """Exactly what had to be refused was, each once."""
    found = Counter(
        (letter.headers["dlq.topic"], int(letter.headers["dlq.partition"]), int(letter.headers["dlq.offset"]))
        for letter in log.of(f"dlq.{processor}")
    )
    wanted = {place for place in log.refused if place[0] in inputs}
    for place in sorted(wanted | set(found)):
        if found[place] != (place in wanted):
            log.blame(
                f"dlq.{processor}: the record {place} stands there {found[place]} times, expected {place in wanted}"
            )


def positions(log: Log, processor: str, inputs: Sequence[str]) -> None:
    """Every partition's last meta has read each input to its last record."""
    metas = {
        record.partition: json.loads(record.value or b"{}")
        for record in log.of(f"steward-{processor}-state")
        if record.key == META
    }
    for topic in inputs:
        for record in log.of(topic):
            meta = metas.get(record.partition)
            if meta is None or meta["positions"][topic] <= record.offset:
                log.blame(f"{processor}: {topic} partition {record.partition} was not read past {record.offset}")


def states(log: Log, processor: str) -> dict[str, bytes]:
    """What the changelog holds of each key, without the byte for the version."""
    found: dict[str, bytes] = {}
    for record in log.of(f"steward-{processor}-state"):
        if record.key == META or record.key is None:
            continue
        if record.value is None:
            found.pop(record.key.decode(), None)
        else:
            found[record.key.decode()] = record.value[1:]
    return found
