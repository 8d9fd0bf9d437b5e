"""Facts about contracts: what was sold, and what it is worth."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from schemas.envelope import Data, Event, Id
from schemas.identity import Home

DealHome = Annotated[Home, StringConstraints(max_length=130)]  # with a kind behind it still an id
Amount = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,12}(\.[0-9]{1,4})?$")]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]

SALE = "sale_to_onboarding"


def handoff_of(deal: str, kind: str = SALE) -> str:
    """The id of a deal's handoff of some kind, which any connector can write without asking us."""
    return f"{deal}/{kind}"


class Won(Data):
    home: DealHome = Field(description="The deal, as its source names it.")
    amount: Amount | None = Field(default=None, description="Recurring revenue a year.")
    currency: Currency | None = None
    seller: Id | None = None
    owner: Id | None = Field(default=None, description="Who takes the account over.")

    @model_validator(mode="after")
    def _amount_has_a_currency(self) -> "Won":
        if (self.amount is None) != (self.currency is None):
            raise ValueError("amount and currency belong together; give both or neither")
        return self


class Value(Data):
    home: DealHome
    amount: Amount = Field(description="Recurring revenue a year.")
    currency: Currency


class ContractWon(Event):
    """A deal was won. Opens the handoff `<home>/sale_to_onboarding`; further facts may name it by that id."""

    type: Literal["steward.contract.won.v1"] = "steward.contract.won.v1"
    data: Won


class ContractValued(Event):
    """What a deal is worth; the last word counts, also before it is won."""

    type: Literal["steward.contract.valued.v1"] = "steward.contract.valued.v1"
    data: Value
