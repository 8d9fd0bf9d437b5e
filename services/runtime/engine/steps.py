"""The steps of a partition's life between which a process may die; tests stop it exactly there."""

from collections.abc import Awaitable, Callable
from enum import StrEnum


class Step(StrEnum):
    """In the order in which they are passed: taking over, one flush after the other, giving up."""

    OPENED = "opened"  # InitProducerId was answered: the predecessor is fenced, what it left open is aborted
    RESTORED = "restored"
    SERVING = "serving"
    CUT = "cut"  # what the flush writes is fixed, nothing of it is sent
    BEGUN = "begun"
    WRITTEN = "written"  # every record is acknowledged, none is visible
    COMMITTED = "committed"  # visible; this process has not noted it yet
    APPLIED = "applied"  # noted, and what the states want done has begun
    REVOKING = "revoking"
    REVOKED = "revoked"


Passed = Callable[[Step, int], Awaitable[None]]
"""Told of each step and the number of its partition; the flush waits for it."""


async def unobserved(step: Step, number: int) -> None:
    """Nobody asks."""
