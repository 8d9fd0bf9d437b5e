"""The verbs: which field of the view a record concerns, what the field says afterwards, and the fact in one line."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from schemas import accounts, alerts, handoffs, ownership, renewals
from schemas.envelope import Event
from services.board.model import (
    Alert,
    Deal,
    Delivery,
    Field,
    Handoff,
    Leg,
    Name,
    Order,
    Retraction,
    Seen,
    Step,
    StepState,
    Verdict,
)
from services.core.instants import Instant, instant

T = TypeVar("T")
DELIVERIES_KEPT = 100
TEXT_KEPT = 160

STAGES: dict[type[Event], handoffs.Stage] = {
    handoffs.SlaNoticed: "noticed",
    handoffs.SlaAtRisk: "at_risk",
    handoffs.SlaBreached: "breached",
    handoffs.SlaPassed125: "passed_125",
    handoffs.SlaPassed200: "passed_200",
    handoffs.SlaMet: "met",
}
STEPS: dict[type[Event], StepState] = {
    alerts.AlertRaised: "raised",
    alerts.AlertCorrected: "corrected",
    alerts.AlertHeld: "held",
    alerts.AlertRetracted: "retracted",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a field stands: `part` is the hash of the account, `field` its name there."""

    part: str
    account: str
    field: str


@dataclass(frozen=True, slots=True)
class Read:
    """An event, its offset in its partition, and the field it changes, if any."""

    event: Event
    offset: int
    place: Place | None


KINDS: dict[str, type[Field]] = {"name": Name, "deal": Deal, "handoff": Handoff, "alert": Alert}
_encoder = msgspec.json.Encoder()
_decoders = {name: msgspec.json.Decoder(kind) for name, kind in KINDS.items()}


def place_of(event: Event) -> Place | None:
    """The field that an event changes; None where it is a fact of the account and no more."""
    account = event.partitionkey
    match event:
        case accounts.AccountUpserted():
            return Place("acct", account, "name")
        case renewals.ContractWon() | renewals.ContractValued():
            return Place("deals", account, f"deal:{event.data.home}")
        case _ if isinstance(event.data, handoffs.Handoff | handoffs.Verdict):
            return Place("acct", account, f"handoff:{event.data.handoff}")
        case _ if isinstance(event.data, alerts.Alert | alerts.Delivery):
            return Place("acct", account, f"alert:{event.data.alert}")
        case _:
            return None


def encoded(value: Field | Seen) -> bytes:
    """The value as it stands in Redis; the same value gives the same bytes."""
    return _encoder.encode(value)


def decoded(name: str, raw: bytes | str) -> Field:
    """The field of that name from its JSON. Raises msgspec.MsgspecError."""
    return _decoders[name.partition(":")[0]].decode(raw)


def is_open(field: Field) -> bool:
    """Does this field keep its account in the list of those that need somebody?"""
    return isinstance(field, Handoff | Alert) and field.is_open


def fold(reads: Iterable[Read], known: Mapping[Place, Field]) -> dict[Place, Field]:
    """The fields that these records change, from what is known of them.

    Records come in the order of their partitions. One that a field has seen already changes nothing.
    """
    changed: dict[Place, Field] = {}
    for read in reads:
        if (place := read.place) is None:
            continue
        before = changed.get(place) or known.get(place)
        if before is None or before.offset < read.offset:
            changed[place] = _after(before, read.event, read.offset)
    return changed


def _after(before: Field | None, event: Event, offset: int) -> Field:
    match event:
        case accounts.AccountUpserted():
            return _name(before if isinstance(before, Name) else Name(offset=offset), event, offset)
        case renewals.ContractWon() | renewals.ContractValued():
            return _deal(before if isinstance(before, Deal) else Deal(offset=offset), event, offset)
        case handoffs.HandoffChanged():
            known = before if isinstance(before, Handoff) else None
            return _changed(known, event.data, offset)
        case _ if isinstance(event.data, handoffs.Verdict):
            known = before if isinstance(before, Handoff) else Handoff(offset=offset, kind=event.data.kind)
            return _judged(known, event, event.data, offset)
        case _:
            alert = before if isinstance(before, Alert) else Alert(offset=offset)
            return replace(_alerted(alert, event), offset=offset)


def _order(event: Event) -> Order:
    return instant(event.time), event.sourcerank, event.source, event.id


def _name(before: Name, event: accounts.AccountUpserted, offset: int) -> Name:
    order = _order(event)
    if event.data.name is None or (before.order is not None and before.order >= order):
        return replace(before, offset=offset)
    return Name(offset=offset, order=order, name=event.data.name)


def _deal(before: Deal, event: renewals.ContractWon | renewals.ContractValued, offset: int) -> Deal:
    won = before.won or isinstance(event, renewals.ContractWon)
    order = _order(event)
    if event.data.amount is None or (before.order is not None and before.order >= order):
        return replace(before, offset=offset, won=won)
    return Deal(offset=offset, won=won, order=order, amount=event.data.amount, currency=event.data.currency)


def _changed(before: Handoff | None, data: handoffs.Handoff, offset: int) -> Handoff:
    return Handoff(
        offset=offset,
        kind=data.kind,
        state=data.state,
        owner=data.owner,
        sender=data.sender,
        opened=instant(data.opened),
        accepted=_instant(data.accepted),
        legs=tuple(Leg(leg.leg, _instant(leg.due), leg.calendar) for leg in data.legs),
        policy=data.policy,
        reached=before.reached if before else {},
        retracted=before.retracted if before else {},
    )


def _judged(before: Handoff, event: Event, data: handoffs.Verdict, offset: int) -> Handoff:
    at = instant(event.time)
    reached = {leg: dict(stages) for leg, stages in before.reached.items()}
    retracted = {leg: dict(stages) for leg, stages in before.retracted.items()}
    if isinstance(data, handoffs.Retraction):
        reached.get(data.leg, {}).pop(data.stage, None)
        retracted.setdefault(data.leg, {})[data.stage] = Retraction(at, data.n, data.transition, data.reason)
    else:
        stage = STAGES[type(event)]
        retracted.get(data.leg, {}).pop(stage, None)
        verdict = Verdict(at, _instant(data.due), data.n, data.correction, data.transition)
        reached.setdefault(data.leg, {})[stage] = verdict
    return replace(before, offset=offset, reached=_filled(reached), retracted=_filled(retracted))


def _filled(legs: dict[str, dict[str, T]]) -> dict[str, dict[str, T]]:
    return {leg: stages for leg, stages in legs.items() if stages}


def _alerted(before: Alert, event: Event) -> Alert:
    at = instant(event.time)
    match event:
        case alerts.AlertDelivered() | alerts.AlertFailed():
            return replace(before, deliveries=_deliveries(before, event, at))
        case alerts.AlertResolved():
            return replace(_about(before, event.data), resolved=at)
        case _ if isinstance(event.data, alerts.Alert) and type(event) in STEPS:
            alert, data = _about(before, event.data), event.data
            step = Step(
                STEPS[type(event)],
                at,
                _instant(data.due),
                data.owner,
                data.recipients,
                data.reason,
                data.transition,
                data.correction,
            )
            # Raised again after its end: an acceptance turned out to be none.
            resolved = None if isinstance(event, alerts.AlertRaised) else alert.resolved
            return replace(alert, stages={**alert.stages, data.stage: step}, resolved=resolved)
        case _:
            return before


def _about(alert: Alert, data: alerts.Alert) -> Alert:
    return replace(alert, handoff=data.handoff, kind=data.kind, leg=data.leg, accepted=_instant(data.accepted))


def _deliveries(alert: Alert, event: alerts.AlertDelivered | alerts.AlertFailed, at: Instant) -> dict[str, Delivery]:
    data = event.data
    delivery = Delivery(
        at,
        "delivered" if isinstance(event, alerts.AlertDelivered) else "failed",
        data.notice,
        data.recipient,
        data.endpoint,
        data.attempt,
        data.status,
        data.reason,
    )
    known = {name: one for name, one in alert.deliveries.items() if name != data.delivery}
    known[data.delivery] = delivery
    return dict(list(known.items())[-DELIVERIES_KEPT:])


def _instant(at: datetime | None) -> Instant | None:
    return None if at is None else instant(at)


# ---------------------------------------------------------------- facts


def seen(event: Event) -> Seen | None:
    """The fact in one line; None for what Steward itself concluded. The same fact gives the same line."""
    text = _phrase(event)
    if text is None:
        return None
    return Seen(instant(event.time), event.type, event.source, event.id, text[:TEXT_KEPT])


def _phrase(event: Event) -> str | None:
    match event:
        case accounts.AccountUpserted():
            return f"account is called {event.data.name}" if event.data.name else "account recorded"
        case renewals.ContractWon():
            return f"deal {event.data.home} won{_worth(event.data)}"
        case renewals.ContractValued():
            return f"deal {event.data.home} valued{_worth(event.data)}"
        case ownership.HandoffOpened():
            return f"handoff {event.data.handoff} opened{_to(event.data.owner)}"
        case ownership.HandoffAccepted():
            by = f" by {event.data.owner}" if event.data.owner else ""
            return f"handoff {event.data.handoff} accepted{by}"
        case ownership.HandoffPaused():
            return f"handoff {event.data.handoff} paused: {event.data.reason.replace('_', ' ')}"
        case ownership.HandoffResumed() | ownership.HandoffCancelled():
            what = "resumed" if isinstance(event, ownership.HandoffResumed) else "cancelled"
            return f"handoff {event.data.handoff} {what}{_note(event.data.note)}"
        case _:
            return None


def _worth(data: renewals.Won | renewals.Value) -> str:
    return f", {data.currency} {data.amount} a year" if data.amount else ""


def _to(owner: str | None) -> str:
    return f" for {owner}" if owner else ""


def _note(note: str | None) -> str:
    return f": {note}" if note else ""
