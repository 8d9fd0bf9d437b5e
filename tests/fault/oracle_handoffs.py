"""The verdicts of handoffs, computed from facts and marks alone; part of the oracle."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from tests.fault.oracle import (
    HANDOFFS,
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

INPUTS = (OWNERSHIP, RENEWALS)
STOPS = {"accepted": "accepted", "cancelled": "cancelled"}
LEG = "accept"
MET = "met"  # a fact; every other stage is read from silence, hence only by a mark that allows it
SUSPECTED = "suspected"
PASSED = timedelta(hours=2)  # between due, the fourth stage and the fifth, for legs of seconds

Key = tuple[str, str]  # handoff and stage


@dataclass(frozen=True, slots=True)
class Raised:
    """A verdict that stands: what it says is due, and the transition that a retraction must name."""

    due: datetime
    transition: str


@dataclass(slots=True)
class Story:
    """One handoff as its facts have it."""

    account: str
    name: str
    facts: list[Fact] = field(default_factory=list)

    @property
    def opening(self) -> Fact | None:
        return min((fact for fact in self.facts if fact.what == "opened"), key=lambda fact: fact.time, default=None)

    @property
    def stop(self) -> Fact | None:
        """The first fact after the opening that stops the clock."""
        opening = self.opening
        stops = [fact for fact in self.facts if fact.what in STOPS and opening and fact.time >= opening.time]
        return min(stops, key=lambda fact: fact.time, default=None)

    def stages(self, leg: timedelta) -> dict[str, datetime]:
        """When each stage is reached by the facts; those that are not are missing."""
        found, stop = self.silent(leg), self.stop
        if stop is None or not found:
            return found
        met = {MET: stop.time} if stop.what == "accepted" and stop.time <= found["breached"] else {}
        return {stage: at for stage, at in found.items() if at < stop.time} | met

    def silent(self, leg: timedelta) -> dict[str, datetime]:
        """When each stage would be reached if nothing ever stopped the clock."""
        if self.opening is None:
            return {}
        due = self.opening.time + leg
        return {"at_risk": due - leg / 2, "breached": due, "passed_125": due + PASSED, "passed_200": due + 2 * PASSED}


def judge(log: Log) -> None:
    """Everything about the handoff processor that is not as it must be goes into the log's problems."""
    stories = _stories(log.facts)
    once(log, HANDOFFS)
    letters(log, "handoff", INPUTS)
    positions(log, "handoff", INPUTS)
    published = _published(log)
    by_account: dict[str, list[Fact]] = defaultdict(list)
    for story in stories.values():
        by_account[story.account] += story.facts
    _net(log, stories, by_account, published.net)
    _entitled(log, stories, by_account, published.raised)
    _shown(log, stories, published.shown)
    _kept(log, stories, published.net)
    log.counts["handoffs"] = len(stories)
    log.counts["verdicts"] = len(published.raised)
    log.counts["breaches"] = sum(stage == "breached" for (_, stage), _, _ in published.raised)
    log.counts["retractions"] = published.retractions


def _stories(facts: Iterable[Fact]) -> dict[str, Story]:
    found: dict[str, Story] = {}
    for fact in facts:
        if fact.handoff is not None:
            found.setdefault(fact.handoff, Story(fact.account, fact.handoff)).facts.append(fact)
    return found


@dataclass(slots=True)
class _Published:
    """What was said of all handoffs: net, raw, and the last state shown of each."""

    net: dict[Key, Raised] = field(default_factory=dict)
    raised: list[tuple[Key, Record, Raised]] = field(default_factory=list)
    shown: dict[str, dict[str, Any]] = field(default_factory=dict)
    retractions: int = 0


def _published(log: Log) -> _Published:
    said = _Published()
    for record, event in log.events(HANDOFFS):
        data, kind = event["data"], event["type"].removeprefix("steward.").removesuffix(".v1")
        if kind == "handoff.changed":
            said.shown[data["handoff"]] = data
        elif kind == "sla.retracted":
            _retract(log, said, (data["handoff"], data["stage"]), data)
        elif kind == "sla.cleared":
            _retract(log, said, (data["handoff"], "suspected"), data)
        elif kind.startswith("sla.") and data["leg"] == LEG:
            key = data["handoff"], kind.removeprefix("sla.").replace("-", "_")
            verdict = Raised(datetime.fromisoformat(data["due"]), data["transition"])
            if key in said.net:
                log.blame(f"{HANDOFFS}: {key} was raised while it stood (offset {record.offset})")
            said.net[key] = verdict
            said.raised.append((key, record, verdict))
    return said


def _retract(log: Log, said: _Published, key: Key, data: dict[str, Any]) -> None:
    stands = said.net.pop(key, None)
    said.retractions += key[1] == "breached"
    if stands is None or stands.transition != data["transition"]:
        log.blame(f"{HANDOFFS}: {key} was taken back before it was raised")


def _net(log: Log, stories: dict[str, Story], by_account: dict[str, list[Fact]], net: dict[Key, Raised]) -> None:
    """What stands is what the facts say up to the last mark, with the due times they say."""
    wanted: dict[Key, datetime] = {}
    for story in stories.values():
        opening = story.opening
        if opening is not None:
            sources = {fact.source for fact in by_account[story.account] if fact.run is None}
            until = log.marks[opening.partition][-1].reached(opening.run, sources)
            due = opening.time + log.leg
            wanted |= {
                (story.name, stage): due for stage, at in story.stages(log.leg).items() if at <= until or stage == MET
            }
    for key in sorted(wanted.keys() | net.keys()):
        if key not in net:
            log.blame(f"{HANDOFFS}: {key} was forgotten; its facts say so and nothing stands")
        elif key not in wanted:
            if key[1] != SUSPECTED or not _is_unheard(log, stories.get(key[0]), by_account):
                log.blame(f"{HANDOFFS}: {key} stands, and the facts say otherwise")
        elif net[key].due != wanted[key]:
            log.blame(f"{HANDOFFS}: {key} says due {net[key].due}, the facts {wanted[key]}")


def _is_unheard(log: Log, story: Story | None, by_account: dict[str, list[Fact]]) -> bool:
    """Is a source of the account silent in the end? Until it is heard again, what was suspected stays so."""
    if story is None or story.opening is None:
        return False
    sources = {fact.source for fact in by_account[story.account] if fact.run is None}
    return bool(sources & log.marks[story.opening.partition][-1].silent)


def _entitled(
    log: Log,
    stories: dict[str, Story],
    by_account: dict[str, list[Fact]],
    raised: Sequence[tuple[Key, Record, Raised]],
) -> None:
    """No silence was believed before a mark allowed it, nor against a fact which that mark covers."""
    for (name, stage), record, _ in raised:
        if stage in {MET, SUSPECTED}:
            continue
        story = stories.get(name, Story("", name))
        opening = story.opening
        if opening is None:
            log.blame(f"{HANDOFFS}: {stage} of {name}, which no fact opens")
            continue
        at = story.silent(log.leg)[stage]
        mark = _first(log.marks.get(record.partition, []), opening, at, by_account[story.account])
        where = f"{HANDOFFS}: {stage} of {name} (partition {record.partition}, offset {record.offset})"
        if mark is None or record.appended < mark.appended:
            log.blame(f"{where} was raised before any mark allowed it: it is reached at {at}")
            continue
        stop = story.stop
        if stop is not None and stop.time <= at and mark.covers(stop):
            log.blame(f"{where} was raised although {stop.name}, which the mark covers, says it is not so")


def _first(marks: Sequence[Mark], opening: Fact, at: datetime, facts: Sequence[Fact]) -> Mark | None:
    """The first mark by which the stage may be believed; sources restrain it once they have sent a live fact."""
    for mark in marks:
        if mark.safe < at and opening.run is None:
            continue
        sources = {fact.source for fact in facts if fact.run is None and mark.covers(fact)}
        if mark.reached(opening.run, sources) >= at:
            return mark
    return None


def _shown(log: Log, stories: dict[str, Story], shown: dict[str, dict[str, Any]]) -> None:
    """The last state shown of each handoff is that of its facts."""
    for name, story in sorted(stories.items()):
        if story.opening is None:
            continue
        stop, last = story.stop, shown.get(name)
        state = STOPS[stop.what] if stop else "open"
        if last is None or last["state"] != state:
            log.blame(f"{HANDOFFS}: {name} is shown as {last and last['state']}, the facts say {state}")
    for name in sorted(shown.keys() - stories.keys()):
        log.blame(f"{HANDOFFS}: {name} is shown, and no fact speaks of it")


def _kept(log: Log, stories: dict[str, Story], net: dict[Key, Raised]) -> None:
    """The states hold every fact once, and a ledger that says what stands."""
    kept: dict[str, list[Any]] = {}
    for raw in states(log, "handoff").values():
        kept |= msgspec.msgpack.decode(raw)[0]
    for name in sorted(kept.keys() | stories.keys()):
        handoff = kept.get(name)
        if handoff is None or name not in stories:
            log.blame(f"handoff: the state of {name} is {'missing' if handoff is None else 'of no fact'}")
            continue
        held = sorted(f"{fact[3]}/{fact[4]}" for fact in handoff[0])
        wanted = sorted(fact.name for fact in stories[name].facts)
        if held != wanted:
            log.blame(f"handoff: the state of {name} holds {held}, the topics {wanted}")
        stands = {place.rpartition("/")[2] for place, entry in handoff[1].items() if entry[1]}
        published = {stage for handoff_name, stage in net if handoff_name == name}
        if stands != published:
            log.blame(f"handoff: the ledger of {name} says {sorted(stands)}, published is {sorted(published)}")
