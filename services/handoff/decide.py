"""The verbs: take facts of a handoff in, and say what has become true that was not published, or false that was.

verdict = fold(facts) at the time its clock has reached; outputs = verdict - ledger, retractions included.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import TypedDict

from msgspec.structs import replace

from schemas import handoffs as out
from schemas.envelope import Data, Event
from services.core.instants import DAY, Instant, moment
from services.handoff.machine import State, View, fold, reached_at
from services.handoff.model import Entry, Handoff, Happening, Stage, What
from services.handoff.policy import LegPolicy

SOURCE = "steward/handoff"
NOT_RAISED = Entry(0, raised=False, correction=0, due=None)
FACTS_LIMIT = 200
MAX_LATENESS = 60 * DAY
SUMMARY_KEPT = 400 * DAY

EVENTS: dict[Stage, Callable[..., Event]] = {
    Stage.NOTICED: out.SlaNoticed,
    Stage.AT_RISK: out.SlaAtRisk,
    Stage.BREACHED: out.SlaBreached,
    Stage.PASSED_125: out.SlaPassed125,
    Stage.PASSED_200: out.SlaPassed200,
    Stage.MET: out.SlaMet,
}


@dataclass(frozen=True, slots=True)
class Clock:
    """One leg as the facts have it: when it is due, and which stages it reaches when."""

    leg: LegPolicy
    due: Instant
    stages: dict[Stage, Instant]


@dataclass(frozen=True, slots=True)
class Rules:
    """The legs of a handoff's kind and the policy version they come from."""

    legs: Sequence[LegPolicy]
    version: int


def with_fact(handoff: Handoff, fact: Happening, arrived: Instant) -> Handoff | None:
    """The handoff with the fact in its place; None when it is a duplicate or one too many."""
    if is_known(handoff, fact) or len(handoff.facts) >= FACTS_LIMIT:
        return None
    facts = tuple(sorted((*handoff.facts, fact), key=lambda known: known.order))
    return replace(handoff, facts=facts, arrived=max(handoff.arrived, arrived))


def is_known(handoff: Handoff, fact: Happening) -> bool:
    """Has this fact, by source and id, been taken in before?"""
    return any(known.id == fact.id and known.source == fact.source for known in handoff.facts)


def opening(handoff: Handoff) -> Happening | None:
    """The opening that counts, where there is one."""
    return next((fact for fact in handoff.facts if fact.what is What.OPENED), None)


def clocks(view: View, legs: Sequence[LegPolicy]) -> list[Clock]:
    """Each leg's due time and stages. A stage is reached strictly before the clock stops: exactly due is in time."""
    found = []
    for leg in legs:
        due = reached_at(view, leg.calendar, leg.target)
        stages = {Stage(name): reached_at(view, leg.calendar, worked) for name, worked in leg.offsets.items()}
        stopped = view.stopped
        if stopped is not None:
            stages = {stage: at for stage, at in stages.items() if at < stopped}
        if view.accepted is not None and view.accepted <= due:
            stages[Stage.MET] = view.accepted
        found.append(Clock(leg, due, stages))
    return found


def settle(account: str, name: str, handoff: Handoff, rules: Rules, reached: Instant) -> tuple[Handoff, list[Event]]:
    """The handoff with its ledger brought up to `reached`, and the events that say what changed."""
    # Silence once believed stays believed, also when an earlier opening makes another run the one that counts.
    reached = max(reached, handoff.reached)
    view = fold(handoff.facts)
    if view is None:
        return replace(handoff, wake=handoff.arrived + MAX_LATENESS, run=None), []
    running = clocks(view, rules.legs)
    writer = _Writer(account, name, handoff, view, rules.version)
    ledger = dict(handoff.ledger)
    events = [*_verdicts(writer, running, ledger, reached), *_orphans(writer, running, ledger)]
    pending = [at for clock in running for stage, at in clock.stages.items() if not _raised(ledger, clock, stage)]
    last = handoff.facts[-1].at
    settled = not pending
    # What nobody ever took is waited for longer: its acceptance may still come.
    patience = SUMMARY_KEPT if view.stopped is None else MAX_LATENESS
    wake = max(last, handoff.arrived) + patience if settled else min(pending)
    shown, changed = writer.state(running)
    changed_handoff = replace(
        handoff,
        ledger=ledger,
        wake=wake,
        run=None if settled else view.opening.run,
        settled=settled,
        reached=reached,
        shown=shown,
    )
    return changed_handoff, [*([changed] if changed else []), *events]


def folded(handoff: Handoff) -> Handoff:
    """Without its facts: too old for a late fact to count; the ledger stays to know what was published."""
    return replace(handoff, facts=(), folded=True, run=None, wake=(handoff.wake or 0) + SUMMARY_KEPT - MAX_LATENESS)


def _raised(ledger: dict[str, Entry], clock: Clock, stage: Stage) -> bool:
    entry = ledger.get(f"{clock.leg.name}/{stage}")
    return entry is not None and entry.raised


def _verdicts(
    writer: "_Writer", running: Sequence[Clock], ledger: dict[str, Entry], reached: Instant
) -> Iterator[Event]:
    for clock in running:
        for stage in Stage:
            place = f"{clock.leg.name}/{stage}"
            entry = ledger.get(place, NOT_RAISED)
            at = clock.stages.get(stage)
            # Acceptance is a fact and needs no silence to be believed; the other stages are read from silence.
            if at is not None and (at <= reached or stage is Stage.MET):
                said = _said(entry, clock.due)
                if said != entry:
                    ledger[place] = said
                    yield writer.verdict(clock, stage, said, at)
            elif entry.raised:
                ledger[place] = replace(entry, raised=False)
                yield writer.retraction(clock, stage, entry)


def _orphans(writer: "_Writer", running: Sequence[Clock], ledger: dict[str, Entry]) -> Iterator[Event]:
    """Take back what was published of legs that the handoff's rules do not have (any more)."""
    legs = {clock.leg.name for clock in running}
    for place, entry in list(ledger.items()):
        leg, _, stage = place.rpartition("/")
        if entry.raised and leg not in legs:
            ledger[place] = replace(entry, raised=False)
            yield writer.orphan(leg, Stage(stage), entry)


def _said(entry: Entry, due: Instant) -> Entry:
    """The entry once a stage that is true has been published: raised, corrected, or as it was."""
    if not entry.raised:
        return Entry(entry.n + 1, raised=True, correction=0, due=due)
    if entry.due != due:
        return replace(entry, due=due, correction=entry.correction + 1)
    return entry


class _Said(TypedDict):
    """What every verdict says, as keywords."""

    handoff: str
    kind: str
    leg: str
    alert: str
    transition: str
    n: int
    correction: int
    due: datetime | None
    accepted: datetime | None
    owner: str | None
    policy: int


class _Writer:
    """Writes the events of one handoff; ids are hashes of what they say, never of when it was said."""

    def __init__(self, account: str, name: str, handoff: Handoff, view: View, version: int) -> None:
        self._account, self._name, self._handoff, self._view, self._version = (
            account,
            name,
            handoff,
            view,
            version,
        )

    def state(self, running: Sequence[Clock]) -> tuple[str, Event | None]:
        """The digest of the present state, and the event that shows it where it differs from the last one shown."""
        view = self._view
        paused = view.state is State.PAUSED
        dues = ",".join(f"{clock.leg.name}@{clock.due}" for clock in running)
        people = f"{view.owner} {view.sender}"
        shown = _hash(f"{view.state} {view.opening.at} {view.accepted} {people} {self._version} {dues}")
        if shown == self._handoff.shown:
            return shown, None
        data = out.Handoff(
            handoff=self._name,
            kind=view.opening.kind or "",
            state=view.state.value,
            owner=view.owner,
            sender=view.sender,
            opened=moment(view.opening.at),
            accepted=_moment(view.accepted),
            legs=tuple(
                out.Leg(
                    leg=clock.leg.name, due=None if paused else moment(clock.due), calendar=clock.leg.calendar_label
                )
                for clock in running
            ),
            policy=self._version,
        )
        # The set of facts names its state: it only grows, and it is the same in whatever batches they came.
        facts = (part for fact in self._handoff.facts for part in (fact.source, fact.id))
        return shown, self._event(
            out.HandoffChanged, _hash(self._name, str(self._version), *facts), self._handoff.facts[-1].at, data
        )

    def verdict(self, clock: Clock, stage: Stage, entry: Entry, at: Instant) -> Event:
        transition = _transition(self._name, clock.leg.name, stage, entry.n)
        data = out.Verdict(**self._said(clock, transition, entry))
        name = f"{transition}.{entry.correction}" if entry.correction else transition
        return self._event(EVENTS[stage], name, at, data)

    def retraction(self, clock: Clock, stage: Stage, entry: Entry) -> Event:
        transition = _transition(self._name, clock.leg.name, stage, entry.n)
        reason = _why(clock, stage, self._view)
        data = out.Retraction(**self._said(clock, transition, entry), stage=stage.value, reason=reason)
        return self._event(out.SlaRetracted, f"{transition}.retracted", self._handoff.facts[-1].at, data)

    def orphan(self, leg: str, stage: Stage, entry: Entry) -> Event:
        transition = _transition(self._name, leg, stage, entry.n)
        due = None if entry.due is None else moment(entry.due)
        said = self._about(leg, due, self._view.owner, transition, entry)
        reason = "the handoff turned out to be of another kind or policy, which has no such leg"
        data = out.Retraction(**said, stage=stage.value, reason=reason)
        return self._event(out.SlaRetracted, f"{transition}.retracted", self._handoff.facts[-1].at, data)

    def _said(self, clock: Clock, transition: str, entry: Entry) -> "_Said":
        owner = self._view.owner if clock.leg.accountable == "owner" else self._view.sender
        return self._about(clock.leg.name, moment(clock.due), owner, transition, entry)

    def _about(self, leg: str, due: datetime | None, owner: str | None, transition: str, entry: Entry) -> "_Said":
        view = self._view
        return {
            "handoff": self._name,
            "kind": view.opening.kind or "",
            "leg": leg,
            "alert": alert_id(self._name, leg),
            "transition": transition,
            "n": entry.n,
            "correction": entry.correction,
            "due": due,
            "accepted": _moment(view.accepted),
            "owner": owner,
            "policy": self._version,
        }

    def _event(self, kind: Callable[..., Event], name: str, at: Instant, data: Data) -> Event:
        return kind(
            id=name,
            source=SOURCE,
            subject=self._account,
            partitionkey=self._account,
            time=moment(at),
            run=self._view.opening.run,
            data=data,
        )


def alert_id(handoff: str, leg: str) -> str:
    """One per clock, whatever becomes of the account, the owner or the due time."""
    return _hash(handoff, leg)


def _transition(handoff: str, leg: str, stage: Stage, n: int) -> str:
    return _hash(alert_id(handoff, leg), stage.value, str(n))


def _hash(*parts: str) -> str:
    return blake2b("\x00".join(parts).encode(), digest_size=16).hexdigest()


def _moment(at: Instant | None) -> datetime | None:
    return None if at is None else moment(at)


def _why(clock: Clock, stage: Stage, view: View) -> str:
    if stage is Stage.MET:
        return "an earlier opening or a later acceptance shows that it was not in time"
    if view.accepted is not None and view.accepted <= clock.due:
        return f"it was accepted at {moment(view.accepted).isoformat()}, in time"
    return f"the clock is due at {moment(clock.due).isoformat()} now"
