"""Facts about what happens between a customer and us: contacts, tickets, purchases."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from schemas.envelope import Data, Event, Id
from schemas.renewals import Amount, Currency

Channel = Literal["email", "call", "meeting", "chat", "message", "visit", "product", "other"]
Direction = Literal["inbound", "outbound", "mutual"]
DIGITS = frozenset("1234")

# Maps of files and webhooks give text; a number of one digit cannot be misread.
Severity = Annotated[
    int,
    Field(ge=1, le=4, description="1 is the worst."),  # before the function, or they would be functions themselves
    BeforeValidator(lambda value: int(value) if isinstance(value, str) and value in DIGITS else value),
]


class Interaction(Data):
    channel: Channel
    direction: Direction = Field(description="Who spoke; `mutual` where both did, as in a call or a meeting.")
    contact: Id | None = Field(default=None, description="Reference of the customer's person; no name, no address.")
    person: Id | None = Field(default=None, description="Who it was on our side.")


class Purchase(Data):
    order: Id | None = None
    amount: Amount | None = None
    currency: Currency | None = None

    @model_validator(mode="after")
    def _amount_has_a_currency(self) -> "Purchase":
        if (self.amount is None) != (self.currency is None):
            raise ValueError("amount and currency belong together; give both or neither")
        return self


class Ticket(Data):
    ticket: Id
    severity: Severity
    contact: Id | None = Field(default=None, description="Reference of the customer's person; no name, no address.")


class TicketUpdate(Data):
    ticket: Id
    severity: Severity | None = Field(default=None, description="Absent: as before.")


class Solution(Data):
    ticket: Id


class InteractionLogged(Event):
    """Somebody of the customer and somebody of ours were in contact, or the customer used the product."""

    type: Literal["steward.interaction.logged.v1"] = "steward.interaction.logged.v1"
    data: Interaction


class PurchaseMade(Event):
    """The customer bought something."""

    type: Literal["steward.purchase.made.v1"] = "steward.purchase.made.v1"
    data: Purchase


class TicketOpened(Event):
    """The customer asked for help."""

    type: Literal["steward.ticket.opened.v1"] = "steward.ticket.opened.v1"
    data: Ticket


class TicketUpdated(Event):
    """Something about a ticket changed, such as its severity."""

    type: Literal["steward.ticket.updated.v1"] = "steward.ticket.updated.v1"
    data: TicketUpdate


class TicketSolved(Event):
    """The ticket needs nothing more from us."""

    type: Literal["steward.ticket.solved.v1"] = "steward.ticket.solved.v1"
    data: Solution


class TicketReopened(Event):
    """It was not solved after all."""

    type: Literal["steward.ticket.reopened.v1"] = "steward.ticket.reopened.v1"
    data: TicketUpdate
