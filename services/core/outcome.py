"""What became of a record, as a value: one interpreter in the engine turns it into IO and a counter."""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a record changed nothing. The closed list that counters and dead letters speak."""

    DUPLICATE = "duplicate"
    NOT_CONCERNED = "not_concerned"
    TOO_LATE = "too_late"
    EMPTY = "empty"
    SCHEMA = "schema"
    UNKNOWN_TYPE = "unknown_type"
    WRONG_PARTITION = "wrong_partition"
    FUTURE = "future"
    POLICY = "policy"
    TOO_MANY_FACTS = "too_many_facts"


@dataclass(frozen=True, slots=True)
class Drop:
    """The record was understood and needs nothing; counted."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The record was refused; it is kept with the reason until a person has looked."""

    reason: Reason
    message: str


Fate = Drop | DeadLetter
