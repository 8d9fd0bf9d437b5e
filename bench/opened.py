"""The events that the benches send: handoffs that open, and how what comes of them is told apart."""

import re
from collections.abc import Callable
from datetime import datetime

from schemas import codec
from schemas.ownership import HandoffOpened, Opening
from services.core.instants import moment
from services.runtime import clock

SOURCE = "crm"
CHANGED = b"steward.handoff.changed.v1"
BREACHED = b"steward.sla.breached.v1"
_TYPE = re.compile(rb'"type":"([^"]+)"')
_HANDOFF = re.compile(rb'"handoff":"([^"]+)"')

Named = Callable[[bytes], str | None]
"""The handoff that a record speaks of; None where it is not what is waited for."""


def opened(
    name: str, account: str, *, kind: str = "sale_to_onboarding", owner: str = "ada", at: datetime | None = None
) -> bytes:
    """The fact that a handoff began, now or `at`."""
    return codec.encode(
        HandoffOpened(
            id=f"{name}:opened",
            source=SOURCE,
            subject=account,
            partitionkey=account,
            time=at or moment(clock.now()),
            data=Opening(handoff=name, kind=kind, owner=owner, sender="bob"),
        )
    )


def naming(kind: bytes) -> Named:
    """Names the handoffs of the records of one type, and of no other; cheaper than parsing all of them."""

    def named(value: bytes) -> str | None:
        found = _TYPE.search(value)
        if found is None or found[1] != kind:
            return None
        handoff = _HANDOFF.search(value)
        return None if handoff is None else handoff[1].decode()

    return named
