"""Takes facts into what is known of an account: sets, last values and exact sums, so that no order matters."""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from schemas import handoffs as out
from schemas import interactions, ownership
from schemas.envelope import Event
from schemas.renewals import ContractWon
from services.core import sums
from services.core.instants import DAY, Instant, instant
from services.core.outcome import Drop, Reason
from services.health.model import Area, Handoff, Known, Mention, Stage, Tenure, Ticket, Total, What
from services.health.policy import Rules

LATEST_KEPT = 3
CONTACTS_KEPT = 16  # the curve of breadth is flat from far fewer on
TENURES_KEPT = 64
TICKETS_KEPT = 200
PAST_KEPT = 500
HANDOFFS_KEPT = 200
SOURCES_KEPT = 20
COUNTED_KEPT = 2_048  # hashes per source; a source above that rate sends totals
POSITIONS_KEPT = 50
COUNTED_AFTER = 8 * DAY  # vendors redeliver for about a week
COUNTED_LEAST = DAY
TOO_LATE = 8 * DAY  # its hash would be gone
FORGOTTEN = 60 * DAY  # solved tickets and closed handoffs

LATE_STAGES: dict[type[Event], str] = {
    out.SlaAtRisk: "at_risk",
    out.SlaBreached: "breached",
    out.SlaPassed125: "passed_125",
    out.SlaPassed200: "passed_200",
}
TICKETS: dict[type[Event], What] = {
    interactions.TicketOpened: What.TICKET_OPENED,
    interactions.TicketUpdated: What.TICKET_UPDATED,
    interactions.TicketSolved: What.TICKET_SOLVED,
    interactions.TicketReopened: What.TICKET_REOPENED,
}


class Taken(Struct, frozen=True):
    """What is known after a fact, and why it did not add to sums, where it did not."""

    known: Known
    fate: Drop | None = None


Changes = dict[str, Any]


def take(known: Known, event: Event, arrived: Instant, applied: Instant, rules: Rules) -> Taken:
    """Take one fact of the account in; the same object is known afterwards where it says nothing new.

    `applied` is the clock's time, `rules` those in force when the fact happened.
    """
    if isinstance(event.data, out.Handoff | out.Verdict):
        return Taken(_with(known, _handoff(known, event)))
    at = instant(event.time)
    changes: Changes = {}
    fate = None
    areas = {_AREAS[type(event)]} if type(event) in _AREAS else set[Area]()
    if event.type in rules.meaningful and not _is_outbound(event):
        areas.add("engagement")
        changes = _active(known, event, at)
        fate = _refusal(known, event, at, arrived)
        if fate is None:
            changes |= _counted(known, event, at, applied, rules)
    if known.oldest is None or at < known.oldest:
        changes["oldest"] = at
    told = _TELLERS.get(type(event))
    if told is not None:
        changes |= told(known, event, at, rules)
    if "tenures" in changes:
        areas.add("ownership")
    if getattr(event.data, "contact", None) is not None:
        areas.add("engagement")
    return Taken(_with(known, changes | _fed(known, areas, event.source)), fate)


def _with(known: Known, changes: Changes) -> Known:
    return replace(known, **changes) if changes else known


def _is_outbound(event: Event) -> bool:
    return isinstance(event, interactions.InteractionLogged) and event.data.direction == "outbound"


def _mention(event: Event, at: Instant, what: What) -> Mention:
    return Mention(at, what, event.sourcerank, event.source, event.id)


# ---------------------------------------------------------------- activity


def _active(known: Known, event: Event, at: Instant) -> Changes:
    changes: Changes = {}
    day = at // DAY
    bits, first = with_day(known.days, known.first_day, day)
    if bits is not known.days:
        changes |= {"days": bits, "first_day": first}
    mention = _mention(event, at, What.SPOKEN)
    if mention not in known.latest and (len(known.latest) < LATEST_KEPT or mention > known.latest[-1]):
        changes["latest"] = tuple(sorted((*known.latest, mention), reverse=True))[:LATEST_KEPT]
    return changes


def with_day(bits: bytes, first: int, day: int) -> tuple[bytes, int]:
    """The set of days with one more; `first` is the first of them, whose bit is the lowest."""
    if not bits:
        return b"\x01", day
    place = day - first
    if place >= 0:
        if place >> 3 < len(bits) and bits[place >> 3] >> (place & 7) & 1:
            return bits, first
        value = int.from_bytes(bits, "little") | 1 << place
        return value.to_bytes((value.bit_length() + 7) // 8, "little"), first
    value = int.from_bytes(bits, "little") << -place | 1
    return value.to_bytes((value.bit_length() + 7) // 8, "little"), day


def _refusal(known: Known, event: Event, at: Instant, arrived: Instant) -> Drop | None:
    """Why the fact may not be added: it was, or its hash could be gone already."""
    if _hash(event.id) in known.counted.get(event.source, ()):
        return Drop(Reason.DUPLICATE)
    if event.run is not None and event.runposition is not None:
        return Drop(Reason.DUPLICATE) if event.runposition <= known.positions.get(event.run, -1) else None
    return Drop(Reason.TOO_LATE) if event.run is None and arrived - at > TOO_LATE else None


def _counted(known: Known, event: Event, at: Instant, applied: Instant, rules: Rules) -> Changes:
    changes: Changes = {
        "short": added(known.short, at, rules.short),
        "long": added(known.long, at, rules.long),
    }
    if event.run is not None and event.runposition is not None:
        positions = {**known.positions, event.run: event.runposition}
        changes["positions"] = dict(list(positions.items())[-POSITIONS_KEPT:])
        return changes
    until = max(at + COUNTED_AFTER, applied + COUNTED_LEAST)
    of_source = {**known.counted.get(event.source, {}), _hash(event.id): until}
    if len(of_source) > COUNTED_KEPT:
        del of_source[min(of_source, key=lambda one: (of_source[one], one))]
    counted = {**known.counted, event.source: of_source}
    if len(counted) > SOURCES_KEPT:
        del counted[min(counted, key=lambda source: (max(counted[source].values()), source))]
    changes["counted"] = counted
    return changes


def _hash(id: str) -> int:
    return int.from_bytes(blake2b(id.encode(), digest_size=8).digest(), "little")


def added(total: Total, at: Instant, half_life: int) -> Total:
    """A sum with one fact of weight 1 more."""
    before = sums.unpack(total.mantissa, total.exponent)
    return Total(*sums.pack(sums.add(before, at, 1.0, half_life)))


# ---------------------------------------------------------------- contacts


def _interaction(known: Known, event: Event, at: Instant, _rules: Rules) -> Changes:
    assert isinstance(event.data, interactions.Interaction)  # noqa: S101  # its teller
    changes: Changes = {} if known.is_talked_to else {"is_talked_to": True}
    if event.data.direction == "outbound":
        return changes
    mention = _mention(event, at, What.SPOKEN)
    if known.spoken is None or known.spoken < mention:
        changes["spoken"] = mention
    return changes | _contact(known, event.data.contact, mention)


def _contact(known: Known, contact: str | None, mention: Mention) -> Changes:
    """Whom we heard of last; the last value of each person, and the last so many of them."""
    before = None if contact is None else known.contacts.get(contact)
    if contact is None or (before is not None and before >= mention):
        return {}
    contacts = {**known.contacts, contact: mention}
    if len(contacts) > CONTACTS_KEPT:
        least = min(contacts, key=lambda one: contacts[one])
        if least == contact:
            return {}
        del contacts[least]
    return {"contacts": contacts}


# ---------------------------------------------------------------- tickets


def _ticket(known: Known, event: Event, at: Instant, _rules: Rules) -> Changes:
    data, what = event.data, TICKETS[type(event)]
    assert isinstance(data, interactions.Ticket | interactions.TicketUpdate | interactions.Solution)  # noqa: S101
    mention = _mention(event, at, what)
    changes = _contact(known, getattr(data, "contact", None), mention)
    past = known.past.get(_hash(data.ticket))
    if past is not None and (what is not What.TICKET_REOPENED or at <= past):  # solved long ago, and still so
        return changes
    before = known.tickets.get(data.ticket) or Ticket(at)
    after = before if before.opened <= at else replace(before, opened=at)
    if what is not What.TICKET_UPDATED and (after.status is None or after.status < mention):
        after = replace(after, status=mention)
    severity = getattr(data, "severity", None)
    if severity is not None and (after.graded is None or after.graded < mention):
        after = replace(after, graded=mention, severity=severity)
    if after is known.tickets.get(data.ticket):
        return changes
    tickets = {**known.tickets, data.ticket: after}
    excess = len(tickets) - TICKETS_KEPT
    gone = sorted(tickets, key=lambda one: (tickets[one].is_open, tickets[one].told, one))[: max(excess, 0)]
    return changes | _without(known, tickets, gone)


def _without(known: Known, tickets: dict[str, Ticket], gone: Sequence[str]) -> Changes:
    """Tickets without some, of which it is remembered until when they were told of: a late fact opens none again."""
    if not gone:
        return {"tickets": tickets}
    past = {**known.past, **{_hash(name): tickets[name].told for name in gone}}
    kept = sorted(past, key=lambda one: (past[one], one))[-PAST_KEPT:]
    left = {name: ticket for name, ticket in tickets.items() if name not in gone}
    return {"tickets": left, "past": {one: past[one] for one in sorted(kept)}}


# ---------------------------------------------------------------- owners


def _won(known: Known, event: Event, at: Instant, _rules: Rules) -> Changes:
    assert isinstance(event, ContractWon)  # noqa: S101  # its teller
    owner = event.data.owner
    return _tenure(known, Tenure(_mention(event, at, What.NAMED if owner else What.WON), owner))


def _accepted(known: Known, event: Event, at: Instant, _rules: Rules) -> Changes:
    assert isinstance(event, ownership.HandoffAccepted)  # noqa: S101  # its teller
    if event.data.owner is None:
        return {}
    return _tenure(known, Tenure(_mention(event, at, What.NAMED), event.data.owner))


def _assigned(known: Known, event: Event, at: Instant, rules: Rules) -> Changes:
    assert isinstance(event, ownership.OwnerAssigned | ownership.OwnerRemoved)  # noqa: S101  # its teller
    if event.data.role != rules.owner_role:
        return {}
    what = What.NAMED if isinstance(event, ownership.OwnerAssigned) else What.REMOVED
    return _tenure(known, Tenure(_mention(event, at, what), event.data.owner))


def _tenure(known: Known, tenure: Tenure) -> Changes:
    if tenure in known.tenures:
        return {}
    # Under one id a sender may say two things: the name decides, so that their order does not.
    after = tuple(sorted((*known.tenures, tenure), key=lambda one: (one.mention, one.owner or "")))[-TENURES_KEPT:]
    return {} if after == known.tenures else {"tenures": after}


_TELLERS: dict[type[Event], Callable[[Known, Any, Instant, Rules], Changes]] = {
    interactions.InteractionLogged: _interaction,
    **dict.fromkeys(TICKETS, _ticket),
    ContractWon: _won,
    ownership.HandoffAccepted: _accepted,
    ownership.OwnerAssigned: _assigned,
    ownership.OwnerRemoved: _assigned,
}


_AREAS: dict[type[Event], Area] = {
    interactions.InteractionLogged: "engagement",
    **dict.fromkeys(TICKETS, "support"),
}


def _fed(known: Known, areas: set[Area], source: str) -> Changes:
    """With the source among those that told of these areas."""
    fresh = [area for area in areas if source not in known.sources.get(area, ())]
    if not fresh:
        return {}
    told = {area: tuple(sorted((*known.sources.get(area, ()), source)))[:SOURCES_KEPT] for area in sorted(fresh)}
    after = dict(sorted({**known.sources, **told}.items()))
    return {} if after == known.sources else {"sources": after}


# ---------------------------------------------------------------- handoffs


def _handoff(known: Known, event: Event) -> Changes:
    """A handoff's last state and the late stages that stand. Its events count in the order of their partition."""
    data = event.data
    assert isinstance(data, out.Handoff | out.Verdict)  # noqa: S101  # asked by the caller
    before = known.handoffs.get(data.handoff)
    if isinstance(data, out.Handoff):
        after = Handoff(instant(event.time), data.state in {"open", "paused"}, before.stages if before else {})
    elif before is None:  # its state always comes first: it was forgotten
        return {}
    else:
        after = replace(before, stages=_stages(before.stages, event, data))
    if after == before:
        return {}
    known_ones = {**known.handoffs, data.handoff: after}
    if len(known_ones) > HANDOFFS_KEPT:
        del known_ones[min(known_ones, key=lambda name: (known_ones[name].is_open, known_ones[name].at, name))]
    return {"handoffs": known_ones}


def _stages(stages: dict[str, Stage], event: Event, data: out.Verdict) -> dict[str, Stage]:
    if isinstance(data, out.Retraction):
        place = f"{data.leg}/{data.stage}"
        return {name: stage for name, stage in stages.items() if name != place}
    late = LATE_STAGES.get(type(event))
    if late is None:
        return stages
    return {**stages, f"{data.leg}/{late}": Stage(instant(event.time), data.transition)}


# ---------------------------------------------------------------- forgetting


def kept(known: Known, at: Instant) -> Known:
    """Without what can change nothing any more: old hashes, tickets long solved, handoffs long over."""
    changes: Changes = {}
    counted = {
        source: left
        for source, hashes in known.counted.items()
        if (left := {one: until for one, until in hashes.items() if until > at})
    }
    if counted != known.counted:
        changes["counted"] = counted
    gone = [name for name, one in known.tickets.items() if not one.is_open and one.told <= at - FORGOTTEN]
    if gone:
        changes |= _without(known, known.tickets, gone)
    handoffs = {
        name: handoff for name, handoff in known.handoffs.items() if handoff.is_open or handoff.at > at - FORGOTTEN
    }
    if len(handoffs) < len(known.handoffs):
        changes["handoffs"] = handoffs
    return _with(known, changes)
