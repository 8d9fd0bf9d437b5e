"""The case: per account what is alarming, whom it concerns and who was told; verdicts in, alerts and notices out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from msgspec.structs import replace

from schemas import alerts, handoffs, notices
from schemas.accounts import AccountUpserted
from schemas.envelope import Event
from schemas.handoffs import Stage
from schemas.policies import Policy
from schemas.renewals import ContractValued, ContractWon
from schemas.topics import ACCOUNTS, ALERTS, HANDOFFS, NOTICES, RENEWALS, Topic
from services.alerting import decide
from services.alerting.decide import Word, instant_of
from services.alerting.model import Alert, Case, Deal, Order, Status, Why, digest_of, notice_id
from services.alerting.policy import is_aged, name_of
from services.core.instants import DAY, Instant, instant, moment
from services.core.outcome import Drop, Fate, Reason
from services.core.processor import LIVE, NEVER, Context, Decision, Due, Effect, Fact, Output
from services.core.states import States

SOURCE = "steward/alerting-case"
SETTLED_KEPT = 60 * DAY
OPEN_KEPT = 400 * DAY  # as long as the handoff itself: after that nothing more is said of it
ALERTS_LIMIT = 1_000  # an account's state is one record of at most 900 KB: deflated, each is some 300 bytes
DEALS_LIMIT = 500
MOST = Decimal(10) ** 12  # what an amount can say

STAGES: dict[type[Event], Stage] = {
    handoffs.SlaAtRisk: "at_risk",
    handoffs.SlaBreached: "breached",
    handoffs.SlaPassed125: "passed_125",
    handoffs.SlaPassed200: "passed_200",
    handoffs.SlaNoticed: "noticed",
    handoffs.SlaMet: "met",
}
EVENTS: dict[str, Callable[..., Event]] = {
    "raised": alerts.AlertRaised,
    "corrected": alerts.AlertCorrected,
    "held": alerts.AlertHeld,
    "resolved": alerts.AlertResolved,
    "retracted": alerts.AlertRetracted,
}


@dataclass(slots=True)
class _Draft:
    """An account while a batch is taken in."""

    account: str
    case: Case
    context: Context
    outputs: list[Output]


class CaseProcessor:
    """Implements services.core.processor.Processor."""

    name = "alerting-case"
    version = 1
    inputs: tuple[Topic, ...] = (HANDOFFS, ACCOUNTS, RENEWALS)
    outputs: tuple[Topic, ...] = (ALERTS, NOTICES)
    _states = States(name, version, Case, deflated=True)

    def empty(self) -> Case:
        return Case()

    def decide(self, key: str, state: Case, batch: Sequence[Fact], context: Context) -> Decision[Case]:
        draft = _Draft(key, state, context, [])
        fates = [(fact, fate) for fact in batch if (fate := _take(draft, fact)) is not None]
        return Decision(_kept(_bounded(draft.case)), draft.outputs, fates)

    def due(self, _key: str, state: Case, context: Context) -> Decision[Case]:
        now = context.reached(LIVE)
        alerts = {name: alert for name, alert in state.alerts.items() if _leaves(alert) > now}
        cancelled = {name: when for name, when in state.cancelled.items() if when[1] + SETTLED_KEPT > now}
        return Decision(_kept(replace(state, alerts=alerts, cancelled=cancelled)))

    def dues(self, state: Case) -> Sequence[Due]:
        leaving = [
            *(_leaves(alert) for alert in state.alerts.values()),
            *(touched + SETTLED_KEPT for _, touched in state.cancelled.values()),
        ]
        return [Due(min(leaving), LIVE)] if leaving else []

    def outdated(self, _state: Case, _context: Context) -> bool:
        return False

    def wanted(self, _key: str, _state: Case) -> Sequence[Effect]:
        return ()

    def encode(self, state: Case) -> bytes:
        return self._states.encode(state)

    def decode(self, raw: bytes, version: int) -> Case:
        return self._states.decode(raw, version)


def _take(draft: _Draft, fact: Fact) -> Fate | None:
    event = fact.event
    match event:
        case AccountUpserted():
            return _take_name(draft, event)
        case ContractWon() | ContractValued():
            return _take_deal(draft, event)
        case handoffs.HandoffChanged():
            return _take_state(draft, event, fact.arrived)
        case handoffs.SlaRetracted():
            return _take_retraction(draft, event, fact.arrived)
        case _ if type(event) in STAGES and isinstance(event.data, handoffs.Verdict):
            return _take_verdict(draft, event, event.data, fact.arrived)
        case _:
            return Drop(Reason.NOT_CONCERNED)


# -- what the account is -------------------------------------------------------------------------------------------


def _take_name(draft: _Draft, event: AccountUpserted) -> Fate | None:
    order = _order(event)
    if event.data.name is None or (draft.case.named is not None and order <= draft.case.named):
        return Drop(Reason.NOT_CONCERNED if event.data.name is None else Reason.DUPLICATE)
    draft.case = replace(draft.case, name=event.data.name, named=order)
    return None


def _take_deal(draft: _Draft, event: ContractWon | ContractValued) -> Fate | None:
    data, order = event.data, _order(event)
    known = draft.case.deals.get(data.home, Deal())
    deal = replace(known, won=known.won or isinstance(event, ContractWon))
    if data.amount is not None and (known.order is None or order > known.order):
        deal = replace(deal, order=order, amount=data.amount, currency=data.currency)
    if deal == known:
        return Drop(Reason.DUPLICATE)
    draft.case = replace(draft.case, deals={**draft.case.deals, data.home: deal})
    return None


def worth(case: Case) -> tuple[str | None, str | None]:
    """What the won deals are worth a year together, and in which currency; nothing where they are in several."""
    won = [deal for deal in case.deals.values() if deal.won and deal.amount is not None]
    total = sum((Decimal(deal.amount or 0) for deal in won), Decimal(0))
    if len({deal.currency for deal in won}) != 1 or total >= MOST:
        return None, None
    return f"{total:f}", won[0].currency


# -- what is alarming ----------------------------------------------------------------------------------------------


def _take_verdict(draft: _Draft, event: Event, said: handoffs.Verdict, arrived: Instant) -> Fate | None:
    stage, at = STAGES[type(event)], instant(event.time)
    rules = draft.context.policies.in_force(at)
    alert = draft.case.alerts.get(said.alert, Alert(said.handoff, said.kind, said.leg))
    due = instant_of(said.due)
    heard = decide.Heard(
        said=said,
        stage=stage,
        at=at,
        is_history=_is_history(draft, event.run, at if due is None else due),
        is_aged=_is_aged(draft, at if due is None else due, rules),
        step=alert.steps.get(stage),
        over=instant_of(said.accepted) or draft.case.cancelled.get(said.handoff, (alert.over, 0))[0],
        rules=rules,
    )
    alert, answer, words = decide.with_verdict(alert, heard)
    if answer.what == "dropped":
        return Drop(Reason.NOT_CONCERNED if answer.why is Why.NO_ALERT else Reason.DUPLICATE)
    _say(draft, said.alert, alert, words, event, arrived)
    return None


def _take_retraction(draft: _Draft, event: handoffs.SlaRetracted, arrived: Instant) -> Fate | None:
    said = event.data
    if said.stage not in decide.ALERTING:
        return Drop(Reason.NOT_CONCERNED)
    known = draft.case.alerts.get(said.alert)
    if known is None:
        return Drop(Reason.DUPLICATE)
    alert, words = decide.with_retraction(known, said.stage, said)
    if alert is known:
        return Drop(Reason.DUPLICATE)
    _say(draft, said.alert, alert, words, event, arrived, said.reason)
    return None


def _take_state(draft: _Draft, event: handoffs.HandoffChanged, arrived: Instant) -> Fate | None:
    """Only that it is over concerns alerts; once it is, it stays so, because facts are only ever added."""
    said = event.data
    if said.state not in {"accepted", "cancelled"}:
        return Drop(Reason.NOT_CONCERNED)
    accepted = instant_of(said.accepted)
    # A cancellation's own time is not said; it is the last fact's, or an earlier one.
    over = instant(event.time) if accepted is None else accepted
    if accepted is None:  # kept also if an earlier acceptance comes to light: verdicts say that themselves
        draft.case = replace(draft.case, cancelled={**draft.case.cancelled, said.handoff: (over, max(over, arrived))})
    dues = {leg.leg: instant_of(leg.due) for leg in said.legs}
    for name, known in list(draft.case.alerts.items()):
        if known.handoff == said.handoff:
            alert, words = decide.with_end(known, over, accepted, dues.get(known.leg))
            if alert is not known:
                _say(draft, name, alert, words, event, arrived)
    return None


# -- what is said of it --------------------------------------------------------------------------------------------


def _say(
    draft: _Draft,
    name: str,
    alert: Alert,
    words: Sequence[Word],
    event: Event,
    arrived: Instant,
    reason: str | None = None,
) -> None:
    """Keep the alert and publish the words, each to its recipients; ids say what is said, never when."""
    alert = replace(alert, touched=max(alert.touched, instant(event.time), arrived))
    draft.case = replace(draft.case, alerts={**draft.case.alerts, name: alert})
    rules = draft.context.policies.in_force(instant(event.time)) if words else None
    for word in words:
        assert rules is not None  # noqa: S101  # there are words
        writer = _Writer(draft, name, alert, word, event, rules)
        draft.outputs.append(Output(ALERTS, writer.alert()))
        draft.outputs += [Output(NOTICES, writer.notice(person, reason)) for person in word.to]


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes what one word becomes."""

    draft: _Draft
    name: str
    known: Alert
    word: Word
    cause: Event
    rules: Policy

    def alert(self) -> Event:
        word, step, known = self.word, self.word.step, self.known
        data = alerts.Alert(
            alert=self.name,
            transition=step.transition,
            correction=step.correction,
            stage=word.stage,
            handoff=known.handoff,
            kind=known.kind,
            leg=known.leg,
            due=_moment(step.due),
            accepted=_moment(known.accepted),
            owner=step.owner,
            recipients=tuple(word.to),
            reason=word.why.value,
            policy=self.rules.version,
        )
        id = digest_of(step.transition, str(step.correction), word.what)
        return self._event(EVENTS[word.what], id, self.draft.account, data)

    def notice(self, person: str, reason: str | None) -> Event:
        word, known, rules = self.word, self.known, self.rules
        stage = word.to[person]
        step = known.steps[stage]
        what = "raised" if word.what == "held" else word.what
        amount, currency = worth(self.draft.case)
        since = step.at if step.due is None else step.due
        id = notice_id(step.transition, step.correction, what, person)
        data = notices.Notice(
            notice=id,
            what=what,
            alert=self.name,
            transition=step.transition,
            stage=stage,
            account=self.draft.account,
            account_name=self.draft.case.name,
            amount=amount,
            currency=currency,
            handoff=known.handoff,
            kind=known.kind,
            leg=known.leg,
            due=_moment(step.due),
            accepted=_moment(known.accepted),
            owner=step.owner,
            owner_name=name_of(step.owner, rules),
            recipient=person,
            recipient_name=name_of(person, rules),
            reason=word.why.value if reason is None else reason,
            digest=what != "retracted" and _is_aged(self.draft, since, rules),
            policy=rules.version,
        )
        kind = notices.NoticeCancelled if what == "retracted" else notices.NoticeDue
        return self._event(kind, id, person, data)

    def _event(self, kind: Callable[..., Event], id: str, key: str, data: object) -> Event:
        return kind(
            id=id, source=SOURCE, subject=key, partitionkey=key, time=self.cause.time, run=self.cause.run, data=data
        )


def _is_aged(draft: _Draft, due: Instant, rules: Policy) -> bool:
    return draft.context.at != NEVER and is_aged(due, draft.context.at, rules)


def _is_history(draft: _Draft, run: str | None, due: Instant) -> bool:
    """Was it over before the import that opened it was? What an import left open breaches live like any other."""
    if run is None:
        return False
    closed = draft.context.closed.get(run)
    return closed is None or due <= closed


def _order(event: Event) -> Order:
    return instant(event.time), event.sourcerank, event.source, event.id


def _moment(at: Instant | None) -> datetime | None:
    return None if at is None else moment(at)


# -- what is forgotten ---------------------------------------------------------------------------------------------


def _leaves(alert: Alert) -> Instant:
    return alert.touched + (OPEN_KEPT if alert.status is Status.OPEN else SETTLED_KEPT)


def _bounded(case: Case) -> Case:
    """Without what is longest untouched of an account that has too much for one record, settled alerts first."""
    if len(case.alerts) > ALERTS_LIMIT:
        ranked = sorted(case.alerts.items(), key=lambda one: (one[1].status is Status.OPEN, one[1].touched))
        case = replace(case, alerts=dict(ranked[len(ranked) - ALERTS_LIMIT :]))
    if len(case.cancelled) > ALERTS_LIMIT:
        case = replace(case, cancelled=dict(sorted(case.cancelled.items(), key=lambda one: one[1][1])[-ALERTS_LIMIT:]))
    if len(case.deals) > DEALS_LIMIT:
        ranked_deals = sorted(case.deals.items(), key=lambda one: (one[1].won, one[1].order or (0, 0, "", "")))
        case = replace(case, deals=dict(ranked_deals[-DEALS_LIMIT:]))
    return case


def _kept(case: Case) -> Case | None:
    """None for a case that nothing is known of."""
    return case if case.named or case.deals or case.alerts or case.cancelled else None
