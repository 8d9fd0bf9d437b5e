"""Nouns of ingest: who sends, whose a home is, what a payload says, and what becomes of each item of a request."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Protocol

import msgspec

from schemas.envelope import Event
from schemas.identity import IdentityMapped
from schemas.topics import Topic
from services.core.instants import Instant, instant


def account_of(home: str) -> str:
    """The id of an account that is created from a home: the same for the same home, whoever creates it."""
    return "acc_" + blake2b(home.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Sender:
    """A registered source whose request has been authenticated. `creates`: it is the system of record."""

    source: str
    rank: int
    creates: bool = False


# ---------------------------------------------------------------- whose a home is


class Known(Protocol):
    """What is known of homes and accounts."""

    def account(self, home: str) -> str | None:
        """The account that the home is mapped to."""

    def has(self, account: str) -> bool:
        """Is any home mapped to this account?"""


Order = tuple[Instant, int, str, str]  # by which the last mapping of a home is found, in whatever order they come


@dataclass(slots=True)
class Mappings:
    """The mapping in force of every home: a fold over `crm.identity`."""

    _homes: dict[str, tuple[Order, str]] = field(default_factory=dict)
    _accounts: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._homes)

    def account(self, home: str) -> str | None:
        mapped = self._homes.get(home)
        return None if mapped is None else mapped[1]

    def has(self, account: str) -> bool:
        return account in self._accounts

    def learn(self, event: IdentityMapped) -> None:
        """Take a mapping in; again, or after a later one, it changes nothing."""
        home, account = event.data.home, event.data.account
        order = (instant(event.time), event.sourcerank, event.source, event.id)
        before = self._homes.get(home)
        if before is not None and before[0] >= order:
            return
        self.forget(home)
        self._homes[home] = (order, account)
        self._accounts[account] = self._accounts.get(account, 0) + 1

    def forget(self, home: str) -> None:
        """The home is mapped no more."""
        before = self._homes.pop(home, None)
        if before is None:
            return
        account = before[1]
        self._accounts[account] -= 1
        if not self._accounts[account]:
            del self._accounts[account]


# ---------------------------------------------------------------- what a vendor's payload says


class Unfit(Exception):
    """An item is refused: the field at fault, and why."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}")
        self.where = where
        self.why = why


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact that lacks only its account."""

    id: str
    type: str
    at: Instant
    home: str
    data: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Customer:
    """The vendor's record of a customer, which is a home that stands for an account."""

    id: str
    at: Instant
    home: str
    name: str | None


@dataclass(frozen=True, slots=True)
class Link:
    """A home belongs to the account of a customer's home. One that is not the primary link replaces none."""

    id: str
    at: Instant
    home: str
    customer: str
    is_primary: bool


Said = Fact | Customer | Link


@dataclass(frozen=True, slots=True)
class Heard:
    """What one item of a vendor is about (in its own words), and what it says; `why` it says nothing we know."""

    what: str
    said: tuple[Said, ...]
    why: str = ""


# ---------------------------------------------------------------- what becomes of an item


class Accepted(msgspec.Struct, frozen=True):
    """A fact for a topic. `account` is whose it is; `held` is the home that is mapped to none yet."""

    topic: Topic
    event: Event
    account: str | None = None
    held: str | None = None


class Refused(msgspec.Struct, frozen=True):
    """The item at this position, from 0, is not taken; `original` as it came."""

    item: int
    field: str
    why: str
    original: bytes


class Unknown(msgspec.Struct, frozen=True):
    """The item is authentic, and nobody has said what it means; `original` as it came."""

    what: str
    why: str
    original: bytes


Outcome = Accepted | Refused | Unknown
