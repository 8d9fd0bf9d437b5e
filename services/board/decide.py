"""The verbs: which field of the view a record concerns, and what the field says afterwards."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from schemas import accounts, alerts, handoffs, health, ownership, renewals
from schemas.envelope import Event
from services.board.model import (
    FALL_STANDS,
    NAMINGS_KEPT,
    Alert,
    Cap,
    Change,
    Closing,
    Contribution,
    Course,
    Deal,
    Delivery,
    Delta,
    Evidence,
    Field,
    Handoff,
    Health,
    Leg,
    Name,
    Naming,
    Order,
    Outlook,
    Owner,
    Retraction,
    Seen,
    Step,
    StepState,
    Turn,
    Verdict,
)
from services.core.instants import Instant, instant

T = TypeVar("T")
DELIVERIES_KEPT = 100
CHANGES_KEPT = 10
CLOSINGS_KEPT = 8  # the last one, and one for each of the seven days before
ROLE = "owner"
TELLING = frozenset({"events", "decay", "cap"})
WORSE: dict[health.Band, int] = {"green": 0, "yellow": 1, "red": 2}

STAGES: dict[type[Event], str] = {
    handoffs.SlaNoticed: "noticed",
    handoffs.SlaAtRisk: "at_risk",
    handoffs.SlaBreached: "breached",
    handoffs.SlaPassed125: "passed_125",
    handoffs.SlaPassed200: "passed_200",
    handoffs.SlaSuspected: "suspected",
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


KINDS: dict[str, type[Field]] = {
    "name": Name,
    "owner": Owner,
    "deal": Deal,
    "handoff": Handoff,
    "alert": Alert,
    "health": Health,
    "change": Course,
}
_encoder = msgspec.json.Encoder()
_decoders = {name: msgspec.json.Decoder(kind) for name, kind in KINDS.items()}


def place_of(event: Event) -> Place | None:
    """The field that an event changes; None where it is a fact of the account and no more."""
    match event:
        case accounts.AccountUpserted():
            field = "name"
        case ownership.OwnerAssigned() | ownership.OwnerRemoved() if event.data.role == ROLE:
            field = "owner"
        case ownership.HandoffAccepted() if event.data.owner is not None:
            field = "owner"
        case renewals.ContractWon() | renewals.ContractValued():
            field = f"deal:{event.data.home}"
        case _ if isinstance(event.data, handoffs.Handoff | handoffs.Verdict):
            field = f"handoff:{event.data.handoff}"
        case _ if isinstance(event.data, alerts.Alert | alerts.Delivery):
            field = f"alert:{event.data.alert}"
        case health.HealthScored():
            field = "health"
        case health.HealthChanged() | health.HealthClosed():
            field = "change"
        case _:
            return None
    return Place("deals" if field.startswith("deal:") else "acct", event.partitionkey, field)


def encoded(value: Field | Seen) -> bytes:
    """The value as it stands in Redis; the same value gives the same bytes."""
    return _encoder.encode(value)


def decoded(name: str, raw: bytes | str) -> Field:
    """The field of that name from its JSON. Raises msgspec.MsgspecError."""
    return _decoders[name.partition(":")[0]].decode(raw)


def is_open(field: Field) -> bool:
    """Does this field keep its account in the list of those that need somebody?"""
    return isinstance(field, Handoff | Alert | Health | Course) and field.is_open


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
        case ownership.OwnerAssigned() | ownership.OwnerRemoved() | ownership.HandoffAccepted():
            return _owned(before if isinstance(before, Owner) else Owner(offset=offset), event, offset)
        case health.HealthScored():
            return _scored(event.data, offset)
        case health.HealthChanged() | health.HealthClosed():
            return _went(before if isinstance(before, Course) else Course(offset=offset), event, offset)
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
    deal = replace(before, offset=offset)
    if isinstance(event, renewals.ContractWon):
        named = [one for one in (before.named, _naming(event)) if one is not None]
        deal = replace(deal, won=True, named=max(named, key=_turn, default=None))
    order = _order(event)
    if event.data.amount is None or (before.order is not None and before.order >= order):
        return deal
    return replace(deal, order=order, amount=event.data.amount, currency=event.data.currency)


def _owned(before: Owner, event: Event, offset: int) -> Owner:
    naming = _naming(event)
    if naming is None or naming in before.namings:
        return replace(before, offset=offset)
    # The last of all in whatever order they came.
    return Owner(offset, tuple(sorted((*before.namings, naming), key=_turn)[-NAMINGS_KEPT:]))


def _naming(event: Event) -> Naming | None:
    """What the fact says of who owns the account; None where it names nobody."""
    is_named = not isinstance(event, ownership.OwnerRemoved)
    owner: str | None = getattr(event.data, "owner", None)
    if is_named and owner is None:
        return None
    return Naming((instant(event.time), int(is_named), event.sourcerank, event.source, event.id), is_named, owner)


def _turn(naming: Naming) -> Turn:
    return naming.turn


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
    elif isinstance(data, handoffs.Clearance):
        reached.get(data.leg, {}).pop("suspected", None)
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


# ---------------------------------------------------------------- health


def _scored(data: health.Scored, offset: int) -> Health:
    return Health(
        offset=offset,
        score=data.score,
        raw=data.raw,
        prior=data.prior,
        band=data.band,
        colour=data.colour,
        since=instant(data.since),
        coverage=data.coverage,
        contributions=tuple(map(_contribution, data.contributions)),
        profile=data.profile,
        profile_reason=data.profile_reason,
        as_of=instant(data.as_of),
        policy=data.policy,
        unsure=data.unsure,
        caps=tuple(
            Cap(cap.code, cap.limit, instant(cap.since), cap.reason, _evidence(cap.evidence)) for cap in data.caps
        ),
        trend=data.trend,
        oldest_input=_instant(data.oldest_input),
        outlook=None if data.outlook is None else Outlook(data.outlook.band, instant(data.outlook.at)),
    )


def _contribution(one: health.Contribution) -> Contribution:
    return Contribution(
        one.signal,
        one.group,
        one.weight,
        one.value,
        one.score,
        one.trust,
        one.points,
        _instant(one.at),
        _evidence(one.evidence),
        one.missing,
    )


def _evidence(facts: Sequence[health.Evidence]) -> tuple[Evidence, ...]:
    return tuple(Evidence(fact.source, fact.id, instant(fact.at)) for fact in facts)


def _went(before: Course, event: health.HealthChanged | health.HealthClosed, offset: int) -> Course:
    at = instant(event.time)
    course = replace(before, offset=offset)
    if before.fell is not None and at - before.fell.at > FALL_STANDS:
        course = replace(course, fell=None)
    match event:
        case health.HealthChanged():
            return _moved(course, _change(event.data, at))
        case health.HealthClosed():
            closing = Closing(event.data.day, at, event.data.score, event.data.band)
            days = {one.day: one for one in (*course.closings, closing)}
            return replace(course, closings=tuple(days[day] for day in sorted(days)[-CLOSINGS_KEPT:]))


def _moved(course: Course, change: Change) -> Course:
    earlier = tuple(replace(one, evidence=(), deltas=()) for one in course.changes)
    changes = (*earlier, change)[-CHANGES_KEPT:]
    if change.after == "na":
        return replace(course, changes=changes)
    # A band that was not known for a while is compared with the last one that was.
    last = course.colour if change.before in {None, "na"} else change.before
    fell = course.fell
    if last is not None and WORSE[change.after] > WORSE[last]:
        # A new rule and a dead connector are no doing of the customer: others are told of those.
        fell = replace(change, before=last) if change.cause in TELLING else fell
    elif last is not None and WORSE[change.after] < WORSE[last]:
        fell = None
    return replace(course, changes=changes, fell=fell, colour=change.after)


def _change(data: health.Change, at: Instant) -> Change:
    return Change(
        at=at,
        n=data.n,
        before=data.before,
        after=data.after,
        score_before=data.score_before,
        score=data.score,
        cause=data.cause,
        reason=data.reason,
        evidence=_evidence(data.evidence),
        deltas=tuple(Delta(one.signal, one.points) for one in data.deltas),
        cap_effect_before=data.cap_effect_before,
        cap_effect=data.cap_effect,
        caps_began=data.caps_began,
        caps_ended=data.caps_ended,
        policy=data.policy,
    )
