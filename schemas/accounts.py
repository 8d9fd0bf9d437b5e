"""Facts about accounts: the customers that everything else is keyed by."""

from typing import Literal

from schemas.envelope import Data, Event, Line


class AccountRecord(Data):
    name: Line | None = None


class AccountUpserted(Event):
    """An account exists, or its record changed; the system of record says so."""

    type: Literal["steward.account.upserted.v1"] = "steward.account.upserted.v1"
    data: AccountRecord
