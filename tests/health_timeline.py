"""Folds the health processor over a told story on simulated time, and doubts everything that it publishes.

A story begins at START, a Monday at ten in Berlin. A fact is one line, and says how far from START it happened:
`call("c1", days=-3)` is a call with c1 three days before. The clock is moved by `until(days=2)`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from schemas import accounts, handoffs, interactions, ownership, renewals, topics
from schemas.envelope import Event
from schemas.health import Change, Closing, HealthChanged, HealthClosed, HealthScored, Scored
from schemas.policies import Policy
from schemas.topics import Topic
from services.core.instants import HOUR, MINUTE, Instant, instant
from services.core.policy import Policies
from services.core.processor import NEVER, Context, Decision, Fact
from services.health.model import Account
from services.health.policy import compile_health
from services.health.processor import HealthProcessor
from services.health.score import Judge, Verdict
from services.runtime.documents import load
from tests.outputs import events_of

ACCOUNT = "acme"
START = datetime(2026, 3, 2, 9, tzinfo=UTC)
SHIPPED = load(Path(__file__).parents[1] / "deploy/policy/steward.yaml", Policy)
READ = (topics.INTERACTIONS, topics.OWNERSHIP, topics.RENEWALS, topics.ACCOUNTS, topics.HANDOFFS)
TOPIC_OF: dict[type[Event], Topic] = {kind: topic for topic in READ for kind in topic.types}


# ---------------------------------------------------------------- policies


def rules(version: int = 1, **changes: Any) -> Policy:
    """The shipped policy; `changes` replace parts of its rules of health."""
    told = SHIPPED.model_dump(mode="json", exclude_none=True)
    return Policy.model_validate_json(json.dumps(told | {"version": version, "health": told["health"] | changes}))


def whole(version: int = 1, **changes: Any) -> Policy:
    """Looks only at what is measured, so that an account can be green. Not narrow, and not soon thin."""
    groups = {
        "engagement": ["activity", "two_way_contact", "breadth"],
        "support": ["open_load"],
        "ownership": ["owner", "handoff"],
    }
    profiles = {"whole": {"groups": {"engagement": 40, "support": 30, "ownership": 30}}}
    caps = {
        "sev1_open": {"limit": 60, "after_hours": 48},
        "no_owner": {"limit": 70, "after_working_hours": 16},
        "handoff_breach": {"limit": 65},
        "thin_data": {"limit": 74, "coverage": 0.2},
    }
    parts = {"groups": groups, "profiles": profiles, "resolve": [{"profile": "whole"}], "caps": caps}
    return rules(version, **parts | changes)


def plain(version: int = 1, **changes: Any) -> Policy:
    """The score is 100 at a contact and falls by five points a day; nothing else counts."""
    parts: dict[str, Any] = {
        "groups": {"contact": ["two_way_contact"]},
        "profiles": {"plain": {"groups": {"contact": 100}}},
        "resolve": [{"profile": "plain"}],
        "curves": {"two_way_contact": [[0, 100], [20, 0]]},
        "caps": {},
    }
    return rules(version, **parts | changes)


def mute(version: int = 1) -> Policy:
    """A policy without rules of health."""
    return SHIPPED.model_copy(update={"version": version, "health": None})


def versions(first: Policy, *later: tuple[Instant, Policy]) -> Policies:
    """The first in force for all time, each later one from an instant on."""
    told = [(0, first), *later]
    return Policies({one.version: one for _, one in told}, tuple((at, one.version) for at, one in told))


# ---------------------------------------------------------------- facts


def at(**when: float) -> Instant:
    """So far from START."""
    return instant(START + timedelta(**when))


def call(
    contact: str | None = None, direction: interactions.Direction = "mutual", *, id: str | None = None, **when: Any
) -> Event:
    data = interactions.Interaction(channel="call", direction=direction, contact=contact)
    return interactions.InteractionLogged(**_envelope("call", contact, id, when), data=data)


def purchase(*, id: str | None = None, **when: Any) -> Event:
    return interactions.PurchaseMade(**_envelope("purchase", None, id, when), data=interactions.Purchase())


def ticket(
    name: str = "t1", severity: int = 3, contact: str | None = None, *, id: str | None = None, **when: Any
) -> Event:
    data = interactions.Ticket(ticket=name, severity=severity, contact=contact)
    return interactions.TicketOpened(**_envelope("opened", name, id, when), data=data)


def updated(name: str = "t1", severity: int | None = None, *, id: str | None = None, **when: Any) -> Event:
    data = interactions.TicketUpdate(ticket=name, severity=severity)
    return interactions.TicketUpdated(**_envelope("updated", name, id, when), data=data)


def solved(name: str = "t1", *, id: str | None = None, **when: Any) -> Event:
    return interactions.TicketSolved(**_envelope("solved", name, id, when), data=interactions.Solution(ticket=name))


def reopened(name: str = "t1", severity: int | None = None, *, id: str | None = None, **when: Any) -> Event:
    data = interactions.TicketUpdate(ticket=name, severity=severity)
    return interactions.TicketReopened(**_envelope("reopened", name, id, when), data=data)


def assigned(owner: str = "ada", role: str = "owner", *, id: str | None = None, **when: Any) -> Event:
    data = ownership.Assignment(role=role, owner=owner)
    return ownership.OwnerAssigned(**_envelope("assigned", owner, id, when), data=data)


def removed(owner: str | None = None, role: str = "owner", *, id: str | None = None, **when: Any) -> Event:
    data = ownership.Removal(role=role, owner=owner)
    return ownership.OwnerRemoved(**_envelope("removed", owner, id, when), data=data)


def taken(owner: str | None = "ada", handoff: str = "h1", *, id: str | None = None, **when: Any) -> Event:
    """A handoff was accepted, as the CRM tells it."""
    data = ownership.Acceptance(handoff=handoff, owner=owner)
    return ownership.HandoffAccepted(**_envelope("taken", handoff, id, when), data=data)


def won(owner: str | None = None, *, id: str | None = None, **when: Any) -> Event:
    data = renewals.Won(home="crm:deal:7", owner=owner)
    return renewals.ContractWon(**_envelope("won", owner, id, when), data=data)


def upserted(*, id: str | None = None, **when: Any) -> Event:
    return accounts.AccountUpserted(**_envelope("account", None, id, when), data=accounts.AccountRecord(name="Acme"))


def handoff(state: handoffs.State = "open", name: str = "h1", *, id: str | None = None, **when: Any) -> Event:
    """The handoff processor says how a handoff stands."""
    data = handoffs.Handoff(handoff=name, kind="deal", state=state, opened=START, legs=(), policy=1)
    return handoffs.HandoffChanged(**_envelope(state, name, id, {"source": "steward/handoff", **when}), data=data)


def sla(
    stage: handoffs.Stage = "breached", name: str = "h1", leg: str = "accept", *, id: str | None = None, **when: Any
) -> Event:
    """The handoff processor says that a stage was reached; the verdict is named `<handoff>/<leg>/<stage>`."""
    kind = {
        "noticed": handoffs.SlaNoticed,
        "at_risk": handoffs.SlaAtRisk,
        "breached": handoffs.SlaBreached,
        "passed_125": handoffs.SlaPassed125,
        "passed_200": handoffs.SlaPassed200,
        "met": handoffs.SlaMet,
    }[stage]
    data = handoffs.Verdict(**_verdict(name, leg, stage))
    event: Event = kind(**_envelope(stage, name, id, {"source": "steward/handoff", **when}), data=data)
    return event


def retracted(
    stage: handoffs.Stage = "breached", name: str = "h1", leg: str = "accept", *, id: str | None = None, **when: Any
) -> Event:
    """The handoff processor says that it never was."""
    data = handoffs.Retraction(**_verdict(name, leg, stage), stage=stage, reason="it was in time")
    envelope = _envelope(f"{stage}:back", name, id, {"source": "steward/handoff", **when})
    return handoffs.SlaRetracted(**envelope, data=data)


def _verdict(name: str, leg: str, stage: str) -> dict[str, Any]:
    place = f"{name}/{leg}"
    told: dict[str, Any] = {
        "handoff": name,
        "kind": "deal",
        "leg": leg,
        "alert": place,
        "transition": f"{place}/{stage}",
    }
    return told | {"n": 1, "correction": 0, "policy": 1}


def _envelope(what: str, about: str | None, id: str | None, told: Mapping[str, Any]) -> dict[str, Any]:
    """`told`: attributes by their names, and how far from START it happened, as timedelta takes it."""
    named = {name: value for name, value in told.items() if name in Event.model_fields}
    time = START + timedelta(**{name: value for name, value in told.items() if name not in named})
    id = id or ":".join(part for part in (what, about, f"{time:%m-%dT%H:%M:%S}") if part)
    return {"id": id, "source": "crm", "subject": ACCOUNT, "partitionkey": ACCOUNT, "time": time, **named}


# ---------------------------------------------------------------- a story


@dataclass
class Story:
    """One account, its state, and everything published.

    Every decision is taken twice: with the state at hand, and by a processor that has just restored it. Both must say
    the same, so that each story is also one of a crash between any two of its steps.
    """

    known: Policies = field(default_factory=lambda: versions(SHIPPED))
    at: Instant = field(default_factory=at)
    silent: dict[str, Instant] = field(default_factory=dict)
    promises: dict[str, Instant] = field(default_factory=dict)
    closed: dict[str, Instant] = field(default_factory=dict)
    stalled: frozenset[str] = frozenset()
    processor: HealthProcessor = field(default_factory=HealthProcessor)
    state: Account | None = None
    published: list[Event] = field(default_factory=list)
    fates: list[tuple[str, str]] = field(default_factory=list)

    @property
    def context(self) -> Context:
        return Context(self.at, self.at, self.promises, self.closed, self.known, self.silent, self.stalled)

    def hears(self, *events: Event, arrived: Instant | None = None) -> list[Event]:
        """Facts come in one batch, each when it happened unless `arrived` says otherwise."""
        batch = [Fact(TOPIC_OF[type(one)], one, instant(one.time) if arrived is None else arrived) for one in events]
        return self._apply(lambda processor, state: processor.decide(ACCOUNT, state, batch, self.context))

    def until(self, **when: float) -> list[Event]:
        """Time passes in one step, and what is due by then is done."""
        assert self.at <= at(**when)
        self.at = at(**when)
        return self._catches_up()

    def hourly(self, **when: float) -> list[Event]:
        """Time passes hour by hour."""
        goal, found = at(**when), list[Event]()
        while self.at < goal:
            self.at = min(goal, self.at + HOUR)
            found += self._catches_up()
        return found

    def falls_silent(self, source: str, **heard: float) -> list[Event]:
        """Nothing has come from a source since then, it turns out now."""
        self.silent = {**self.silent, source: at(**heard)}
        return self._catches_up()

    def is_heard_again(self, source: str) -> list[Event]:
        self.silent = {name: heard for name, heard in self.silent.items() if name != source}
        return self._catches_up()

    def ends(self, run: str) -> list[Event]:
        """An import is over, as the mark of the next minute says."""
        self.promises = {name: until for name, until in self.promises.items() if name != run}
        self.closed = {**self.closed, run: self.at}
        self.at += MINUTE
        return self._catches_up()

    def _catches_up(self) -> list[Event]:
        if self.state is None or not self.is_due():
            return []
        found = self._apply(lambda processor, state: processor.due(ACCOUNT, state, self.context))
        assert not self.is_due(), "it would be woken for ever"
        return found

    def is_due(self) -> bool:
        """Would the engine wake it?"""
        assert self.state is not None
        dues = self.processor.dues(self.state)
        is_reached = any(due.at <= self.context.reached(due.wait) for due in dues)
        return is_reached or (self.at > NEVER and self.processor.outdated(self.state, self.context))

    def _apply(self, decide: Callable[[HealthProcessor, Account], Decision[Account]]) -> list[Event]:
        state = self.processor.empty() if self.state is None else self.state
        decision, restored = decide(self.processor, state), HealthProcessor()
        assert decide(restored, restored.decode(restored.encode(state), restored.version)) == decision
        if decision.state is not None:
            restored.encode(decision.state)
        self.state = decision.state
        self.fates += [(fact.event.id, fate.reason.value) for fact, fate in decision.fates]
        events = events_of(decision.outputs)
        for event in events:
            self._doubt(event)
            self.published.append(event)
        return events

    # -- what it said --------------------------------------------------------------------------------------------

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.published if isinstance(event, kind)]

    @property
    def scores(self) -> list[Scored]:
        return [event.data for event in self.told(HealthScored)]

    @property
    def score(self) -> Scored:
        """As last published."""
        return self.scores[-1]

    @property
    def changes(self) -> list[Change]:
        return [event.data for event in self.told(HealthChanged)]

    @property
    def change(self) -> Change:
        return self.changes[-1]

    @property
    def closings(self) -> list[Closing]:
        return [event.data for event in self.told(HealthClosed)]

    @property
    def bands(self) -> list[tuple[Instant, str]]:
        """Since when, to the minute, the band was what."""
        return [
            (minute_of(event.time), event.data.after)
            for event in self.told(HealthChanged)
            if event.data.before != event.data.after
        ]

    @property
    def caps(self) -> list[str]:
        return [cap.code for cap in self.score.caps]

    def signal(self, name: str) -> float | None:
        """The score of a signal as last published."""
        return next(line.score for line in self.score.contributions if line.signal == name)

    # -- what must hold of everything it says --------------------------------------------------------------------

    def _doubt(self, event: Event) -> None:
        assert all(one == event for one in self.published if one.id == event.id), "an id says one thing"
        assert event.partitionkey == event.subject == ACCOUNT
        assert instant(event.time) <= self.at
        if self.published:
            assert self.published[-1].time <= event.time
        match event:
            case HealthScored():
                _doubt_score(event)
                assert event.data.band == self.change.after
                assert {cap.code for cap in event.data.caps} == _held(self.changes)
            case HealthChanged():
                _doubt_change(event.data, self.changes)
            case HealthClosed():
                assert event.data.day not in {one.day for one in self.closings}
                assert event.data.band == self.change.after
            case _:
                raise AssertionError(f"{event.type} is none of its outputs")


def _doubt_score(event: HealthScored) -> None:
    """The parts make the whole, to the last digit."""
    data = event.data
    assert data.as_of == event.time
    assert data.raw == min(max(data.prior + sum(line.points for line in data.contributions), 0), 100_000)
    assert data.score == min([data.raw, *(cap.limit for cap in data.caps)])
    assert data.coverage == round(sum(line.weight * line.trust for line in data.contributions), 9)
    assert abs(sum(line.weight for line in data.contributions) - 1) < 1e-9
    for line in data.contributions:
        whole = 0.0 if line.score is None else line.weight * line.trust * (1_000 * line.score - data.prior)
        assert line.points == round(whole)
        assert (line.missing is None) == (line.trust > 0)
        assert list(line.evidence) == sorted(line.evidence, key=lambda one: one.at, reverse=True)
        assert line.at == (line.evidence[0].at if line.evidence else None)
    ages = [line.at for line in data.contributions if line.at is not None]
    assert data.oldest_input == min(ages, default=None)
    assert data.since <= data.as_of
    assert all(cap.since <= data.as_of for cap in data.caps)
    assert (data.band == "na") == bool(data.unsure)
    assert data.outlook is None or (data.outlook.at > data.as_of and data.outlook.band != data.band)


def _doubt_change(now: Change, before: Sequence[Change]) -> None:
    """Each change goes on from the one before, and its deltas say all of the difference."""
    last = before[-1] if before else None
    assert now.n == len(before) + 1
    assert now.before == (last.after if last else None)
    assert now.score_before == (last.score if last else None)
    assert now.cap_effect_before == (last.cap_effect if last else None)
    assert now.before != now.after or now.caps_began or now.caps_ended
    held = _held(before)
    assert not held & set(now.caps_began)
    assert held >= set(now.caps_ended)
    if last is not None and now.policy == last.policy:
        raw, raw_before = now.score - now.cap_effect, last.score - last.cap_effect
        assert raw - raw_before == sum(one.points for one in now.deltas)
    sizes = [abs(one.points) for one in now.deltas]
    assert sizes == sorted(sizes, reverse=True)


def _held(changes: Sequence[Change]) -> set[str]:
    """The caps that hold after these changes."""
    held = set[str]()
    for change in changes:
        held = held - set(change.caps_ended) | set(change.caps_began)
    return held


def minute_of(time: datetime) -> Instant:
    """To the minute: points are whole milli-points, so a crossing lies some seconds beside the one on paper."""
    return instant(time + timedelta(seconds=30)) // 60_000_000 * 60_000_000


# ---------------------------------------------------------------- an account to begin with

OLD = upserted(days=-20)  # of an account that has been known long enough to have a band


def judged(story: Story, at: Instant) -> Verdict:
    """The score at any instant from what is known now."""
    assert story.state is not None
    policy = compile_health(story.known.in_force(at))
    assert policy is not None
    return Judge(story.state.known, policy, story.silent).at(at)


def talks() -> list[Event]:
    return [call(f"c{number}", days=-number) for number in (1, 2, 3)]


def healthy(**changes: Any) -> Story:
    """An account with an owner, three people who talk to us and no open ticket; green under a policy that allows it."""
    story = Story(versions(whole(**changes)))
    story.hears(OLD, assigned("ada", days=-20), ticket("t0", days=-9), solved("t0", days=-8), *talks())
    assert (story.score.band, story.caps) == ("green", [])
    return story
