"""The live days of the demo: which sales close, what becomes of them, and which requests the vendors send when."""

from collections.abc import Iterator
from dataclasses import dataclass

from services.core.instants import SECOND, Instant
from services.demo.company import (
    BILLING,
    CRM,
    CURRENCY,
    DESK,
    FIRST_COMPANY,
    FIRST_DEAL,
    SALES,
    TROUBLED,
    Agreement,
    Company,
    Sale,
    companies,
    customer,
    history,
)
from services.demo.contacts import ticket_of
from services.demo.vendors import (
    Item,
    Request,
    company_created,
    company_named,
    deal_changed,
    deal_linked,
    graded,
    solved,
    valued,
)

SENT_AFTER = 20 * SECOND  # HubSpot collects changes for some seconds
OWNER_AFTER = 10 * SECOND
END = 13.5  # quarters of the target since the first morning


@dataclass(frozen=True, slots=True)
class Plot:
    """A sale of the live days, in quarters of the target since the first morning; amounts in thousands a year.

    `heard`: when the webhook about the acceptance comes, where that is long after it. `linked`: the same for the
    deal's company. `valued`: what billing says of it later than the CRM.
    """

    company: int | None
    owner: str
    won: float
    amount: int
    accepted: float | None = None
    heard: float | None = None
    linked: float | None = None
    valued: int | None = None


NORTHWIND, ACME, INITECH, TYRELL = range(4)
NEWCOMER = Company(FIRST_COMPANY + 900, "Quantum Forge")  # the CRM creates it in the live days
CREATED = 8.9
RAISED, SOLVED = 2.9, 11.1  # when the desk finds a ticket to be of severity 1, and when it solves it
FORGED = 2.6  # when a stranger claims that Northwind was accepted
REDELIVERED = (0, 6)  # deals whose sale HubSpot delivers twice
PLOTS: tuple[Plot, ...] = (
    Plot(NORTHWIND, "ada", 0.5, 40, valued=48),  # nobody accepts
    Plot(ACME, "ben", 1.0, 18, accepted=4.5, heard=5.6),  # in time, but the webhook comes after the breach
    Plot(INITECH, "chloe", 1.5, 25, accepted=5.2, linked=3.1),  # its company comes long after the sale
    Plot(TYRELL, "chloe", 8.3, 32, accepted=12.8),  # late
    Plot(None, "dev", 9.1, 60, accepted=12.6),
    # Everybody else is quick.
    Plot(4, "ada", 0.2, 12, accepted=1.2),
    Plot(5, "dev", 2.2, 9, accepted=3.6),
    Plot(6, "ben", 3.3, 21, accepted=4.2),
    Plot(7, "dev", 6.1, 15, accepted=7.9),
    Plot(8, "ada", 7.2, 30, accepted=8.6),
    Plot(9, "ben", 10.4, 7, accepted=12.2),
)


@dataclass(frozen=True, slots=True)
class Live:
    """A sale of the live days, and when the webhooks about it come: None where none comes, or none of its own.

    Instants are whole seconds, because HubSpot counts milliseconds.
    """

    sale: Sale
    heard: Instant | None
    linked: Instant | None
    valued: tuple[Instant, int] | None

    @property
    def worth(self) -> int:
        """A year, when everything is known."""
        return self.sale.amount if self.valued is None else self.valued[1]


@dataclass(frozen=True, slots=True)
class Post:
    """A request that is sent at `at`, and what it means in words."""

    at: Instant
    request: Request
    news: str


def live(agreed: Agreement) -> list[Live]:
    """The sales of the live days, in the order of the plots."""
    known = companies()
    found = []
    for number, plot in enumerate(PLOTS):
        company = NEWCOMER if plot.company is None else known[plot.company]
        won, accepted = _at(agreed, plot.won), _if_ever(agreed, plot.accepted)
        sale = Sale(FIRST_DEAL + SALES + number, company, plot.owner, plot.amount * 1_000, won, accepted)
        late = _if_ever(agreed, plot.heard)
        heard = accepted + SENT_AFTER if late is None and accepted is not None else late
        said = None if plot.valued is None else (won + 15 * 60 * SECOND, plot.valued * 1_000)
        found.append(Live(sale, heard, _if_ever(agreed, plot.linked), said))
    return found


def ends(agreed: Agreement) -> Instant:
    """When everything that is to come of the story has become due."""
    return agreed.at(END)


def open_ones(agreed: Agreement) -> set[str]:
    """The accounts with a sale that nobody has taken over at the end, by name."""
    sold = [*history(agreed), *(one.sale for one in live(agreed))]
    return {sale.company.name for sale in sold if sale.accepted is None}


def posts(agreed: Agreement) -> list[Post]:
    """Every request of the live days, in order of time; no two at the same instant."""
    found = [_creation(_at(agreed, CREATED))]
    for number, one in enumerate(live(agreed)):
        found += _posts(one, is_redelivered=number in REDELIVERED)
    found.append(_forgery(live(agreed)[NORTHWIND].sale, _at(agreed, FORGED)))
    found += ticket_posts(agreed)
    return sorted(found, key=lambda post: post.at)


def _posts(one: Live, *, is_redelivered: bool) -> Iterator[Post]:
    sale, name = one.sale, one.sale.company.name
    items: list[Item] = [
        deal_changed(sale.deal, "amount", str(sale.amount), sale.won),
        deal_changed(sale.deal, "onboarding_owner", sale.owner, sale.won + OWNER_AFTER),
        deal_changed(sale.deal, "dealstage", "closedwon", sale.won),
    ]
    whose = f"a customer not named yet (deal {sale.deal})" if one.linked else name
    if one.linked is None:
        items.insert(0, deal_linked(sale.deal, sale.company.number, sale.won))
    else:
        link = Request(CRM, [deal_linked(sale.deal, sale.company.number, one.linked - SENT_AFTER)])
        yield Post(one.linked, link, f"deal {sale.deal} belongs to {name}: what was held of it is released")
    sold = Request(CRM, items)
    yield Post(
        sale.won + SENT_AFTER, sold, f"{whose}: sold, {CURRENCY} {sale.amount:,} a year; {sale.owner} is to take over"
    )
    if is_redelivered:
        yield Post(sale.won + 31 * SENT_AFTER, sold.again(), f"{name}: HubSpot delivers the sale once more")
    if one.valued is not None:
        at, amount = one.valued
        said = Request(BILLING, [valued(sale.home, amount, at)])
        yield Post(at + SENT_AFTER, said, f"{name}: billing says {CURRENCY} {amount:,} a year")
    if one.heard is not None and sale.accepted is not None:
        accepted = Request(CRM, [deal_changed(sale.deal, "onboarding_accepted_by", sale.owner, sale.accepted)])
        is_late = one.heard > sale.accepted + SENT_AFTER
        yield Post(
            one.heard, accepted, f"{name}: {sale.owner} accepted{' long ago, as we hear now' if is_late else ''}"
        )


def ticket_posts(agreed: Agreement) -> tuple[Post, Post]:
    """The desk's two requests: a ticket, open for days, is found to be of severity 1; it is solved."""
    company, sent = customer(TROUBLED), (_at(agreed, RAISED), _at(agreed, SOLVED))
    ticket = ticket_of(company)
    said = graded(company.home, ticket, 1, sent[0] - SENT_AFTER), solved(company.home, ticket, sent[1] - SENT_AFTER)
    news = f"its ticket {ticket} is of severity 1, as the desk says now", f"the desk has solved ticket {ticket}"
    first, last = (
        Post(at, Request(DESK, [item]), f"{company.name}: {text}")
        for at, item, text in zip(sent, said, news, strict=True)
    )
    return first, last


def _creation(at: Instant) -> Post:
    number, name = NEWCOMER.number, NEWCOMER.name
    # HubSpot sends what changed before what was created, as it likes.
    items = [company_named(number, name, at - SENT_AFTER), company_created(number, at - SENT_AFTER)]
    return Post(at, Request(CRM, items), f"{name}: a new customer")


def _forgery(sale: Sale, at: Instant) -> Post:
    item = deal_changed(sale.deal, "onboarding_accepted_by", "mallory", at - SENT_AFTER)
    news = f"{sale.company.name}: a stranger says it is accepted; the signature is wrong, and it is refused"
    return Post(at, Request(CRM, [item], "a stranger's"), news)


def _at(agreed: Agreement, quarters: float) -> Instant:
    return agreed.at(quarters) // SECOND * SECOND


def _if_ever(agreed: Agreement, quarters: float | None) -> Instant | None:
    return None if quarters is None else _at(agreed, quarters)
