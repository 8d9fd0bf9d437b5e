"""The work every system is given: the same handoff facts on the same topic, made from a seed.

An opening and its acceptance stand more than one fetch apart. The handoff processor shows a handoff once for all
facts of a fetch, a system that takes one fact at a time shows it once for each, and both must say the same.
"""

import asyncio
import random
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from schemas import codec, ownership
from schemas.envelope import Event
from schemas.topics import OWNERSHIP
from services.runtime import kafka
from services.runtime.settings import Settings

SEED = 20261101
PARTITIONS = 4
FETCH_RECORDS = 5_000  # broker_max_poll_records of the engine: the most that one fetch brings
BEGIN = datetime(2026, 11, 2, 8, 0, tzinfo=UTC)
DAYS = 14
KINDS = ("sale_to_onboarding", "onboarding_to_success", "success_to_expansion", "owner_to_owner", "ticket")
QUEUED = 5_000

Fact = tuple[str, bytes]


def facts(events: int, accounts: int) -> list[Fact]:
    """Keys and values of the whole topic, in order; the same for the same arguments."""
    return [(event.partitionkey, codec.encode(event)) for event in _events(events, accounts)]


def digest(work: Sequence[Fact]) -> str:
    """The identity of the work; results with different digests must not be compared."""
    told = sha256()
    for _, value in work:
        told.update(value)
    return told.hexdigest()


async def fill(settings: Settings, work: Sequence[Fact]) -> None:
    """Write the facts to `crm.ownership`, acknowledged."""
    async with kafka.Publisher(settings) as publisher:
        for begin in range(0, len(work), QUEUED):
            queued = [await publisher.put(OWNERSHIP, key, value) for key, value in work[begin : begin + QUEUED]]
            await asyncio.gather(*queued)


def _events(events: int, accounts: int) -> Iterator[Event]:
    chance = random.Random(SEED)
    written = [0] * PARTITIONS
    waiting: list[deque[tuple[int, str, str, datetime]]] = [deque() for _ in range(PARTITIONS)]
    step = timedelta(days=DAYS) / events
    for number in range(events):
        account = f"acct-{chance.randrange(accounts):06d}"
        partition = kafka.partition_of(account.encode(), PARTITIONS)
        opened = waiting[partition]
        at = BEGIN + number * step
        if opened and written[partition] - opened[0][0] >= FETCH_RECORDS:
            _, account, handoff, since = opened.popleft()
            yield _accepted(account, handoff, since + timedelta(minutes=chance.randrange(5, 3_000)), chance)
        else:
            handoff = f"handoff-{number:07d}"
            opened.append((written[partition], account, handoff, at))
            yield _opened(account, handoff, at, chance)
        written[partition] += 1


def _opened(account: str, handoff: str, at: datetime, chance: random.Random) -> Event:
    return ownership.HandoffOpened(
        id=f"{handoff}:opened",
        source="crm",
        subject=account,
        partitionkey=account,
        time=at,
        receivedat=at + timedelta(seconds=2),
        data=ownership.Opening(
            handoff=handoff, kind=chance.choice(KINDS), owner=_person(chance), sender=_person(chance)
        ),
    )


def _accepted(account: str, handoff: str, at: datetime, chance: random.Random) -> Event:
    return ownership.HandoffAccepted(
        id=f"{handoff}:accepted",
        source="crm",
        subject=account,
        partitionkey=account,
        time=at,
        receivedat=at + timedelta(seconds=2),
        data=ownership.Acceptance(handoff=handoff, owner=_person(chance)),
    )


def _person(chance: random.Random) -> str:
    return f"person-{chance.randrange(40):02d}"
