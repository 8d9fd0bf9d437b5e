"""Writes the events of one handoff; ids are hashes of what they say, never of when it was said."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import TypedDict

from schemas import handoffs as out
from schemas.envelope import Data, Event
from services.core.instants import Instant, moment
from services.core.moulds import mould
from services.handoff.machine import Clock, State, View
from services.handoff.model import SUSPECTED, Entry, Handoff, Stage

SOURCE = "steward/handoff"
GONE = "the handoff turned out to be of another kind or policy, which has no such leg"

_Clearance = mould(out.Clearance)
_Handoff = mould(out.Handoff)
_HandoffChanged = mould(out.HandoffChanged)
_Leg = mould(out.Leg)
_Retraction = mould(out.Retraction)
_SlaCleared = mould(out.SlaCleared)
_SlaRetracted = mould(out.SlaRetracted)
_SlaSuspected = mould(out.SlaSuspected)
_Suspicion = mould(out.Suspicion)
_Verdict = mould(out.Verdict)

EVENTS: dict[Stage, Callable[..., Event]] = {
    Stage.NOTICED: mould(out.SlaNoticed),
    Stage.AT_RISK: mould(out.SlaAtRisk),
    Stage.BREACHED: mould(out.SlaBreached),
    Stage.PASSED_125: mould(out.SlaPassed125),
    Stage.PASSED_200: mould(out.SlaPassed200),
    Stage.MET: mould(out.SlaMet),
}


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


class Writer:
    """Of one handoff as its facts have it, under one version of the policy."""

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
        data = _Handoff(
            handoff=self._name,
            kind=view.opening.kind or "",
            state=view.state.value,
            owner=view.owner,
            sender=view.sender,
            opened=_moment(view.opening.at),
            accepted=_moment_of(view.accepted),
            legs=tuple(
                _Leg(leg=clock.leg.name, due=None if paused else _moment(clock.due), calendar=clock.leg.calendar_label)
                for clock in running
            ),
            policy=self._version,
        )
        # The set of facts names its state: it only grows, and it is the same in whatever batches they came.
        facts = (part for fact in self._handoff.facts for part in (fact.source, fact.id))
        return shown, self._event(_HandoffChanged, _hash(self._name, str(self._version), *facts), self._last, data)

    def verdict(self, clock: Clock, stage: Stage, entry: Entry, at: Instant) -> Event:
        said = self._said(clock.leg.name, stage, entry, clock)
        return self._event(EVENTS[stage], _named(said), at, _Verdict(**said))

    def retraction(self, clock: Clock, stage: Stage, entry: Entry) -> Event:
        said = self._said(clock.leg.name, stage, entry, clock)
        return self._taken_back(said, stage, _why(clock, stage, self._view))

    def orphan(self, leg: str, stage: Stage, entry: Entry) -> Event:
        """Takes back what was said of a leg that the handoff does not have."""
        return self._taken_back(self._said(leg, stage, entry), stage, GONE)

    def suspicion(self, clock: Clock, entry: Entry, unheard: Sequence[str]) -> Event:
        said = self._said(clock.leg.name, SUSPECTED, entry, clock)
        return self._event(_SlaSuspected, _named(said), clock.due, _Suspicion(**said, unheard=tuple(unheard)))

    def confirmation(self, clock: Clock, entry: Entry) -> Event:
        """The end of a suspicion that was right."""
        said = self._said(clock.leg.name, SUSPECTED, entry, clock)
        reason = "everybody who could have told of an acceptance in time was heard, or is waited for no longer"
        return self._cleared(_Clearance(**said, outcome="confirmed", reason=reason), clock.due)

    def exoneration(self, leg: str, entry: Entry, clock: Clock | None) -> Event:
        """The end of a suspicion that was wrong. `clock`: the leg as its clock runs now; None where there is none."""
        said = self._said(leg, SUSPECTED, entry, clock)
        reason = GONE if clock is None else _why(clock, Stage.BREACHED, self._view)
        return self._cleared(_Clearance(**said, outcome="unfounded", reason=reason), self._last)

    @property
    def _last(self) -> Instant:
        return self._handoff.facts[-1].at

    def _cleared(self, data: out.Clearance, at: Instant) -> Event:
        return self._event(_SlaCleared, f"{data.transition}.cleared", at, data)

    def _taken_back(self, said: _Said, stage: Stage, reason: str) -> Event:
        data = _Retraction(**said, stage=stage.value, reason=reason)
        return self._event(_SlaRetracted, f"{data.transition}.retracted", self._last, data)

    def _said(self, leg: str, stage: str, entry: Entry, clock: Clock | None = None) -> _Said:
        view = self._view
        due = entry.due if clock is None else clock.due
        alert = alert_id(self._name, leg)
        return {
            "handoff": self._name,
            "kind": view.opening.kind or "",
            "leg": leg,
            "alert": alert,
            "transition": _hash(alert, stage, str(entry.n)),
            "n": entry.n,
            "correction": entry.correction,
            "due": _moment_of(due),
            "accepted": _moment_of(view.accepted),
            "owner": view.owner if clock is None or clock.leg.accountable == "owner" else view.sender,
            "policy": self._version,
        }

    def _event(self, kind: Callable[..., Event], name: str, at: Instant, data: Data) -> Event:
        return kind(
            id=name,
            source=SOURCE,
            subject=self._account,
            partitionkey=self._account,
            time=_moment(at),
            run=self._view.opening.run,
            data=data,
        )


def alert_id(handoff: str, leg: str) -> str:
    """One per clock, whatever becomes of the account, the owner or the due time."""
    return _hash(handoff, leg)


def _named(said: _Said) -> str:
    """A correction has a name of its own."""
    transition, correction = said["transition"], said["correction"]
    return f"{transition}.{correction}" if correction else transition


def _hash(*parts: str) -> str:
    return blake2b("\x00".join(parts).encode(), digest_size=16).hexdigest()


_moment = lru_cache(maxsize=4_096)(moment)  # one instant stands in several places of a record, and in many records


def _moment_of(at: Instant | None) -> datetime | None:
    return None if at is None else _moment(at)


def _why(clock: Clock, stage: Stage, view: View) -> str:
    if stage is Stage.MET:
        return "an earlier opening or a later acceptance shows that it was not in time"
    if view.accepted is not None and view.accepted <= clock.due:
        return f"it was accepted at {_moment(view.accepted).isoformat()}, in time"
    if view.stopped is not None and view.stopped <= clock.due:
        return f"it was cancelled at {_moment(view.stopped).isoformat()}, in time"
    return f"the clock is due at {_moment(clock.due).isoformat()} now"
