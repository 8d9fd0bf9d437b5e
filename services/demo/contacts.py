"""Half a year of contact between the demo's company and its customers: talks, use of the product, tickets."""

from collections.abc import Iterator
from dataclasses import dataclass

from schemas.interactions import Channel, Direction
from services.core.instants import DAY, HOUR, MINUTE, Instant
from services.demo.company import (
    CAST,
    CRM,
    DESK,
    FADING,
    HISTORY_DAYS,
    OWNERS,
    TROUBLED,
    Agreement,
    Company,
    companies,
    share,
)
from services.demo.fading import Tale, tale

WAYS: tuple[tuple[float, Channel, Direction], ...] = (  # the share up to which each occurs
    (0.30, "email", "inbound"),
    (0.58, "email", "outbound"),
    (0.76, "call", "mutual"),
    (0.90, "meeting", "mutual"),
    (1.00, "chat", "inbound"),
)
WITH_TICKETS, UNSOLVED = 0.3, 0.08  # of all customers, and of their tickets that are not of severity 1
SEVERITIES = ((0.05, 1), (0.25, 2), (0.80, 3), (1.00, 4))
TICKET_OPENED = 26 * HOUR  # before the history ends, that of which the live days tell: open for long when they begin


@dataclass(frozen=True, slots=True)
class Habit:
    """How often a customer and the company are in touch, in days, on average. `until`: whether that has an end."""

    share: float  # up to which customers have it
    every: float
    ends: bool = False
    is_use: bool = False


NEVER = Habit(0.04, 0.0)  # nobody has ever noted a contact
WEEKLY = Habit(0.42, 8.0)
HABITS = (NEVER, Habit(0.08, 1.3, is_use=True), WEEKLY, Habit(0.84, 17.0), Habit(1.0, 9.0, ends=True))


@dataclass(frozen=True, slots=True)
class Contact:
    """Somebody of the customer (a reference, no name) and somebody of ours were in touch."""

    company: Company
    at: Instant
    channel: Channel
    direction: Direction
    whom: str
    who: str


@dataclass(frozen=True, slots=True)
class Ticket:
    """`solved`: None where it is open when the history ends."""

    id: str
    company: Company
    severity: int
    whom: str
    opened: Instant
    solved: Instant | None


def habit(company: Company) -> Habit:
    """How a customer behaves; those of whom the live days tell have been in touch all the time."""
    if company.name in {*CAST, TROUBLED}:
        return WEEKLY
    drawn = share(company.name, "habit")
    return next(one for one in HABITS if drawn < one.share)


def talked(agreed: Agreement) -> list[Contact]:
    """Every contact of the history."""
    told = tale(agreed)
    return [contact for company in companies() for contact in _of(agreed, company, told)]


def tickets(agreed: Agreement) -> list[Ticket]:
    """Every ticket of the history."""
    told = tale(agreed)
    return [ticket for company in companies() for ticket in _tickets(agreed, company, told)]


def in_touch(agreed: Agreement) -> set[str]:
    """The names of the customers with whom any contact was noted."""
    return {contact.company.name for contact in talked(agreed)}


def ticket_of(company: Company) -> str:
    """The one of which the live days tell, as the desk numbers it."""
    return f"{DESK}:{company.number}-9"


def whom(company: Company, number: int) -> str:
    """A reference of a person of the customer, as the CRM numbers them."""
    return f"{CRM}:contact:{company.number}{number}"


def _of(agreed: Agreement, company: Company, told: Tale | None) -> Iterator[Contact]:
    if told is not None and company.name == FADING:
        for at in told.fading.talks:
            yield Contact(company, at, "meeting", "mutual", whom(company, 1), _who(company))
        return
    kept, name, at, number = habit(company), company.name, agreed.start - HISTORY_DAYS * DAY, 0
    people = 1 + round(share(name, "people") * 1_000) % 3
    # Who stopped did so at least a month ago.
    end = agreed.eve - kept.ends * round((25 + 90 * share(name, "ends")) * DAY)
    while kept is not NEVER:
        number += 1
        drawn = share(name, f"contact {number}")
        at += round(kept.every * (0.4 + 1.2 * drawn) * DAY)
        when = agreed.calendar.add(at, 1 + round(share(name, f"hour {number}") * 6 * HOUR))
        if when >= end:
            return
        person = whom(company, 1 + round(share(name, f"person {number}") * 1_000) % people)
        channel, direction = _way(kept, share(name, f"way {number}"))
        yield Contact(company, when, channel, direction, person, _who(company))


def _way(kept: Habit, drawn: float) -> tuple[Channel, Direction]:
    if kept.is_use:
        return "product", "inbound"
    return next((channel, direction) for part, channel, direction in WAYS if drawn < part)


def _who(company: Company) -> str:
    return OWNERS[company.number % len(OWNERS)]


def _tickets(agreed: Agreement, company: Company, told: Tale | None) -> Iterator[Ticket]:
    name = company.name
    if told is not None and name == FADING:
        opened, solved = told.fading.opened, told.fading.solved
        yield Ticket(f"{DESK}:{company.number}-1", company, 3, whom(company, 1), opened, solved)
    elif name == TROUBLED:
        yield Ticket(ticket_of(company), company, 3, whom(company, 1), agreed.eve - TICKET_OPENED, None)
    elif share(name, "tickets") < WITH_TICKETS and habit(company) is not NEVER:
        for number in range(1, 2 + round(share(name, "how many") * 2)):
            yield _ticket(agreed, company, number)


def _ticket(agreed: Agreement, company: Company, number: int) -> Ticket:
    name = f"{company.name} ticket {number}"
    severity = next(grade for part, grade in SEVERITIES if share(name, "severity") < part)
    day = round(share(name, "opened") * (HISTORY_DAYS - 5) * DAY)
    opened = agreed.calendar.add(agreed.start - HISTORY_DAYS * DAY + day, 1 + round(share(name, "hour") * 6 * HOUR))
    solved = agreed.calendar.add(opened, 30 * MINUTE + round(share(name, "worked") * severity * 9 * HOUR))
    is_solved = solved < agreed.eve and (severity == 1 or share(name, "solved") >= UNSOLVED)
    id = f"{DESK}:{company.number}-{number}"
    return Ticket(id, company, severity, whom(company, 1), opened, solved if is_solved else None)
