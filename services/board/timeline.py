"""The facts of an account, one line each."""

from schemas import accounts, interactions, ownership, renewals
from schemas.envelope import Event
from services.board.model import Seen
from services.core.instants import instant

TEXT_KEPT = 160


def seen(event: Event) -> Seen | None:
    """The fact in one line; None for what Steward itself concluded. The same fact gives the same line."""
    text = _phrase(event)
    if text is None:
        return None
    return Seen(instant(event.time), event.type, event.source, event.id, text[:TEXT_KEPT])


def _phrase(event: Event) -> str | None:
    if isinstance(event.data, renewals.Won | renewals.Value):
        what = "won" if isinstance(event.data, renewals.Won) else "valued"
        return f"deal {event.data.home} {what}{_worth(event.data)}"
    match event:
        case accounts.AccountUpserted():
            return f"account is called {event.data.name}" if event.data.name else "account recorded"
        case ownership.OwnerAssigned():
            return f"{event.data.owner} assigned as {event.data.role}"
        case ownership.OwnerRemoved():
            return f"{event.data.owner or 'whoever it was'} removed as {event.data.role}"
        case interactions.InteractionLogged():
            people = [name for name in (event.data.contact, event.data.person) if name]
            return ", ".join([event.data.channel, event.data.direction, *people])
        case interactions.PurchaseMade():
            order = f"order {event.data.order}" if event.data.order else "something bought"
            return f"{order}, {event.data.currency} {event.data.amount}" if event.data.amount else order
        case _:
            return _of_handoff(event) or _of_ticket(event)


def _of_handoff(event: Event) -> str | None:
    match event:
        case ownership.HandoffOpened():
            return f"handoff {event.data.handoff} opened{_to(event.data.owner)}"
        case ownership.HandoffAccepted():
            return f"handoff {event.data.handoff} accepted{_by(event.data.owner)}"
        case ownership.HandoffPaused():
            return f"handoff {event.data.handoff} paused: {event.data.reason.replace('_', ' ')}"
        case ownership.HandoffResumed() | ownership.HandoffCancelled():
            what = "resumed" if isinstance(event, ownership.HandoffResumed) else "cancelled"
            return f"handoff {event.data.handoff} {what}{_note(event.data.note)}"
        case _:
            return None


def _of_ticket(event: Event) -> str | None:
    match event:
        case interactions.TicketOpened():
            return f"ticket {event.data.ticket} opened{_by(event.data.contact)}, severity {event.data.severity}"
        case interactions.TicketUpdated() | interactions.TicketReopened():
            what = "updated" if isinstance(event, interactions.TicketUpdated) else "reopened"
            severity = f", severity {event.data.severity}" if event.data.severity else ""
            return f"ticket {event.data.ticket} {what}{severity}"
        case interactions.TicketSolved():
            return f"ticket {event.data.ticket} solved"
        case _:
            return None


def _worth(data: renewals.Won | renewals.Value) -> str:
    return f", {data.currency} {data.amount} a year" if data.amount else ""


def _to(owner: str | None) -> str:
    return f" for {owner}" if owner else ""


def _by(person: str | None) -> str:
    return f" by {person}" if person else ""


def _note(note: str | None) -> str:
    return f": {note}" if note else ""
