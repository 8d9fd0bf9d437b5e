"""Folds case and desk over a told story on simulated time, with a courier whose answers the story scripts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from schemas import alerts, handoffs, notices
from schemas.accounts import AccountRecord, AccountUpserted
from schemas.envelope import Event
from schemas.policies import PersonRule, Policy
from schemas.renewals import ContractValued, ContractWon, Value, Won
from schemas.topics import ACCOUNTS, ALERTS, HANDOFFS, NOTICES, RENEWALS, Topic
from services.alerting.case import CaseProcessor
from services.alerting.courier import _result
from services.alerting.desk import DeskProcessor
from services.alerting.model import Attempt, Case, Desk, Outcome
from services.core.instants import Instant, instant, moment
from services.core.policy import Policies
from services.core.processor import NEVER, Context, Effect, Fact
from services.handoff.writing import alert_id
from tests.builders import ACCOUNT, minute, policies, policy
from tests.outputs import events_of

DUE = 60  # minutes after START, as every clock of these stories has it
PEOPLE = {
    "ada": PersonRule(name="Ada", manager="max"),
    "max": PersonRule(name="Max", manager="mia"),
    "mia": PersonRule(name="Mia"),
    "loner": PersonRule(),
}
OK = Outcome(delivered=True, message="HTTP 200", status=200)
BROKEN = Outcome(delivered=False, message="HTTP 500", status=500)
BUSY = Outcome(delivered=False, message="HTTP 429", status=429, retry_after=900)
GONE = Outcome(delivered=False, message="HTTP 410", status=410)
SILENT = Outcome(delivered=False, message="no answer")


def rules(**people: PersonRule) -> Policy:
    return policy().model_copy(update={"people": {**PEOPLE, **people}})


def verdict(
    stage: str = "breached",
    at: float = DUE,
    *,
    due: float = DUE,
    n: int = 1,
    correction: int = 0,
    owner: str | None = "ada",
    accepted: float | None = None,
    name: str = "deal-1",
    leg: str = "accept",
    run: str | None = None,
) -> Event:
    """What the handoff processor says of a stage that was reached."""
    kind: Any = {
        "noticed": handoffs.SlaNoticed,
        "at_risk": handoffs.SlaAtRisk,
        "breached": handoffs.SlaBreached,
        "passed_125": handoffs.SlaPassed125,
        "passed_200": handoffs.SlaPassed200,
        "met": handoffs.SlaMet,
    }[stage]
    data = handoffs.Verdict(**_said(stage, due, n, correction, owner, accepted, name, leg))
    event: Event = kind(**_envelope(f"{data.transition}.{correction}", at, run), data=data)
    return event


def retracted(stage: str = "breached", at: float = 50, *, accepted: float | None = 50, **said: Any) -> Event:
    """What it says of a stage that was never reached after all."""
    run = said.pop("run", None)
    about = {"due": DUE, "n": 1, "correction": 0, "owner": "ada", "name": "deal-1", "leg": "accept", **said}
    why: dict[str, Any] = {"stage": stage, "reason": "it was accepted in time"}
    data = handoffs.Retraction(**_said(stage, accepted=accepted, **about), **why)
    return handoffs.SlaRetracted(**_envelope(f"{data.transition}.retracted", at, run), data=data)


def changed(
    state: str = "accepted", at: float = 90, *, due: float = DUE, name: str = "deal-1", run: str | None = None
) -> Event:
    """What it says of a handoff's state; accepted or cancelled at `at`."""
    data = handoffs.Handoff(
        handoff=name,
        kind="deal",
        state=state,  # type: ignore[arg-type]  # the model checks it
        owner="ada",
        opened=moment(minute(0)),
        accepted=moment(minute(at)) if state == "accepted" else None,
        legs=(handoffs.Leg(leg="accept", due=moment(minute(due)), calendar="always:1"),),
        policy=1,
    )
    return handoffs.HandoffChanged(**_envelope(f"{name}.{state}.{at}", at, run), data=data)


def upserted(name: str, at: float = 0, id: str = "account") -> Event:
    return AccountUpserted(**_envelope(id, at, None), data=AccountRecord(name=name))


def won(deal: str = "crm:deal:1", amount: str | None = None, currency: str | None = None, at: float = 0) -> Event:
    data = Won(home=deal, amount=amount, currency=currency)
    return ContractWon(**_envelope(f"won.{deal}.{at}", at, None), data=data)


def valued(deal: str, amount: str, currency: str = "EUR", at: float = 0, id: str | None = None) -> Event:
    data = Value(home=deal, amount=amount, currency=currency)
    return ContractValued(**_envelope(id or f"valued.{deal}.{at}", at, None), data=data)


def _said(
    stage: str, due: float, n: int, correction: int, owner: str | None, accepted: float | None, name: str, leg: str
) -> dict[str, Any]:
    return {
        "handoff": name,
        "kind": "deal",
        "leg": leg,
        "alert": alert_id(name, leg),
        "transition": f"{name}/{leg}/{stage}/{n}",
        "n": n,
        "correction": correction,
        "due": moment(minute(due)),
        "accepted": None if accepted is None else moment(minute(accepted)),
        "owner": owner,
        "policy": 1,
    }


def _envelope(id: str, at: float, run: str | None) -> dict[str, Any]:
    time: datetime = moment(minute(at))
    return {"id": id, "source": "test", "subject": ACCOUNT, "partitionkey": ACCOUNT, "time": time, "run": run}


TOPIC: dict[type[Event], Topic] = {
    AccountUpserted: ACCOUNTS,
    ContractWon: RENEWALS,
    ContractValued: RENEWALS,
}


@dataclass
class Office:
    """The case of one account, the desks of its people, a courier, and everything that was said and sent."""

    known: Policies = field(default_factory=lambda: policies(rules()))
    endpoints: Sequence[str] = ("webhook",)
    answer: Callable[[Attempt], Outcome] = lambda _attempt: OK
    at: Instant = NEVER
    closed: dict[str, Instant] = field(default_factory=dict)
    simulated: bool = False
    case_processor: CaseProcessor = field(default_factory=CaseProcessor)
    case: Case | None = None
    desks: dict[str, Desk] = field(default_factory=dict)
    inbox: dict[str, list[Fact]] = field(default_factory=dict)
    queue: dict[str, Effect] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    noticed: list[Event] = field(default_factory=list)
    published: list[Event] = field(default_factory=list)
    sent: list[Attempt] = field(default_factory=list)
    fates: list[tuple[str, str]] = field(default_factory=list)

    @cached_property
    def desk_processor(self) -> DeskProcessor:
        return DeskProcessor(self.endpoints, simulated=self.simulated)

    def restart(self) -> None:
        """Crash and restore: only what the changelogs hold survives, and the courier knows nothing any more."""
        case, desk = self.case_processor, self.desk_processor
        self.case = self.case and case.decode(case.encode(self.case), case.version)
        self.desks = {name: desk.decode(desk.encode(one), desk.version) for name, one in self.desks.items()}
        self.seen, self.queue = set(), {}
        for recipient, one in self.desks.items():
            self._ask(recipient, one)

    @property
    def context(self) -> Context:
        return Context(self.at, self.at, {}, self.closed, self.known)

    def hears(self, *events: Event, arrived: float | None = None) -> list[Event]:
        """Events reach the case in one batch; answers what it published."""
        late = None if arrived is None else minute(arrived)
        batch = [Fact(TOPIC.get(type(event), HANDOFFS), event, late or instant(event.time)) for event in events]
        state = self.case if self.case is not None else self.case_processor.empty()
        decision = self.case_processor.decide(ACCOUNT, state, batch, self.context)
        self.case = decision.state
        return self._take(decision)

    def desk_reads(self, recipient: str, most: int = 1_000) -> None:
        """A desk takes up to so many records of its topic in as one batch, and commits."""
        waiting = self.inbox.get(recipient, [])
        batch, self.inbox[recipient] = waiting[:most], waiting[most:]
        state = self.desks.get(recipient, self.desk_processor.empty())
        self._keep(recipient, self.desk_processor.decide(recipient, state, batch, self.context))

    def courier_works(self, most: int = 1_000) -> None:
        """Up to so many attempts are made, and their results published."""
        for id in list(self.queue)[:most]:
            attempt = self.queue.pop(id).content
            assert isinstance(attempt, Attempt)
            self.sent.append(attempt)
            result = _result(attempt, self.answer(attempt))
            stamped = result.model_copy(update={"time": moment(max(self.at, minute(0)))})
            self._post(stamped)

    def settles(self) -> "Office":
        """Everything that can happen without the clock happens."""
        while self.queue or any(self.inbox.values()):
            for recipient in [name for name, waiting in self.inbox.items() if waiting]:
                self.desk_reads(recipient)
            self.courier_works()
        return self

    def until(self, at: float) -> "Office":
        """Time passes, due time by due time, and everything settles at each."""
        goal = minute(at)
        self.settles()
        while (wake := self._wake()) is not None and wake <= goal:
            self.at = max(self.at, wake)
            self._fire()
            self.settles()
        self.at = max(self.at, goal)
        return self.settles()

    def told(self, recipient: str | None = None) -> list[str]:
        """What was delivered, in order, as `what stage` (and to whom, unless asked for one)."""
        found = []
        for event in self.published:
            if isinstance(event, alerts.AlertDelivered) and recipient in {None, event.data.recipient}:
                notice = self.notice(event.data.notice)
                to = "" if recipient else f" to {event.data.recipient}"
                found.append(f"{notice.what} {notice.stage}{to}")
        return found

    def notice(self, id: str) -> notices.Notice:
        return next(event.data for event in self.noticed if isinstance(event.data, notices.Notice) and event.id == id)

    def said(self) -> list[str]:
        """What the case published of alerts, as `what stage: reason`."""
        return [
            f"{event.type.split('.')[2]} {event.data.stage}: {event.data.reason}"
            for event in self.published
            if isinstance(event.data, alerts.Alert)
        ]

    def failed(self) -> list[tuple[str, int, str]]:
        """Deliveries given up: to whom, after how many attempts, why."""
        return [
            (event.data.recipient, event.data.attempt, event.data.reason)
            for event in self.published
            if isinstance(event, alerts.AlertFailed)
        ]

    def _wake(self) -> Instant | None:
        dues = [due.at for due in (self.case_processor.dues(self.case) if self.case else ())]
        dues += [due.at for desk in self.desks.values() for due in self.desk_processor.dues(desk)]
        return min(dues, default=None)

    def _fire(self) -> None:
        if self.case and any(due.at <= self.at for due in self.case_processor.dues(self.case)):
            decision = self.case_processor.due(ACCOUNT, self.case, self.context)
            self.case = decision.state
            self._take(decision)
        for recipient, desk in list(self.desks.items()):
            if any(due.at <= self.at for due in self.desk_processor.dues(desk)):
                self._keep(recipient, self.desk_processor.due(recipient, desk, self.context))

    def _keep(self, recipient: str, decision: Any) -> None:
        if decision.state is None:
            self.desks.pop(recipient, None)
        else:
            self.desks[recipient] = decision.state
            self._ask(recipient, decision.state)
        self._take(decision)

    def _ask(self, recipient: str, desk: Desk) -> None:
        for effect in self.desk_processor.wanted(recipient, desk):
            if effect.id not in self.seen:
                self.seen.add(effect.id)
                self.queue[effect.id] = effect

    def _take(self, decision: Any) -> list[Event]:
        self.fates += [(fact.event.id, fate.reason.value) for fact, fate in decision.fates]
        events = events_of(decision.outputs)
        for output in decision.outputs:
            if output.topic is ALERTS:
                self.published.append(output.event)
            else:
                self.noticed.append(output.event)
                self._post(output.event)
        return events

    def _post(self, event: Event) -> None:
        self.inbox.setdefault(event.partitionkey, []).append(Fact(NOTICES, event, instant(event.time)))
