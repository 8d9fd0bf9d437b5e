"""Many states without many decisions: a few made by the real processor, the rest the same under other names."""

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

from bench.systems import ROOT
from schemas import interactions, renewals
from schemas.envelope import Event
from schemas.ownership import HandoffOpened, Opening
from schemas.policies import Policy
from schemas.topics import CLOCK, INTERACTIONS, OWNERSHIP, RENEWALS, Topic
from services.core.instants import instant
from services.core.policy import Policies
from services.core.processor import Context, Fact, Processor
from services.handoff.processor import HandoffProcessor
from services.health.processor import HealthProcessor
from services.runtime import kafka
from services.runtime.documents import load
from services.runtime.engine import names
from services.runtime.engine.partition import DUES, META, Meta
from services.runtime.engine.store import pack
from services.runtime.first_policy import first_version
from services.runtime.kafka import Record, Transactions, Write
from services.runtime.settings import Settings

POLICY = ROOT / "deploy/policy/steward.yaml"
SEED = 20261201
MADE = 500  # states that the processor itself makes; all others are copies with another name
FLUSH = 10_000  # records of a transaction, over all partitions
HISTORY_FACTS = 12  # of an account, in the mean, as in the bench of the health step
HISTORY_DAYS = 180

PROCESSORS: Mapping[str, type[HandoffProcessor] | type[HealthProcessor]] = {
    "handoff": HandoffProcessor,
    "health": HealthProcessor,
}


def name_of(number: int) -> str:
    """An account's name; all are of one length, so that one may stand in the place of another in encoded bytes."""
    return f"acct-{number:08d}"


class Made(NamedTuple):
    """A state as the processor writes it, the version's byte in front, and its dues as the engine packs them."""

    state: bytes
    dues: bytes


def copies(made: Mapping[str, Made], accounts: int) -> Iterator[tuple[bytes, Made]]:
    """Keys and states of so many accounts: each a made one with the other name in the place of its own."""
    pairs = [(name.encode(), one) for name, one in made.items()]
    for number, (own, one) in zip(range(accounts), cycle(pairs), strict=False):
        key = name_of(number).encode()
        yield key, one._replace(state=one.state.replace(own, key))


def made(processor: str, now: datetime, count: int = MADE, policy: Path = POLICY) -> dict[str, Made]:
    """What the processor makes of so many accounts, by account."""
    chance, context = random.Random(SEED), _context(now, policy)
    past = _handoff_past if processor == "handoff" else _health_past
    one: Processor[Any] = PROCESSORS[processor]()
    found = {}
    for number in range(count):
        name = name_of(number)
        facts = [Fact(topic, event, instant(event.time)) for topic, event in past(name, now, number, chance)]
        state = one.decide(name, one.empty(), facts, context).state
        found[name] = Made(bytes([one.version]) + one.encode(state), pack(one.dues(state)))
    return found


async def write(settings: Settings, processor: str, states: Iterator[tuple[bytes, Made]]) -> tuple[int, int]:
    """Write a changelog as the engine does: transactions that begin with a meta. Answers records and their bytes."""
    changelog = settings.topic(names.changelog_of(processor))
    inputs = (*PROCESSORS[processor].inputs, CLOCK)
    positions = {topic.name: 0 for topic in inputs}
    transactions = Transactions(settings, "bench-changelog")
    await transactions.open()
    count, size, flush, pending = 0, 0, 0, 0
    lanes: list[list[Record]] = [[] for _ in range(settings.partitions)]
    try:
        for key, (state, dues) in states:
            lanes[kafka.partition_of(key, settings.partitions)].append((key, state, [(DUES, dues)]))
            count, size, pending = count + 1, size + len(key) + len(state) + len(dues), pending + 1
            if pending >= FLUSH:
                flush, pending = flush + 1, 0
                lanes = await _flushed(transactions, changelog, lanes, Meta(positions=positions, flush=flush))
        await _flushed(transactions, changelog, lanes, Meta(positions=positions, flush=flush + 1))
    finally:
        await transactions.close()
    return count, size


async def _flushed(
    transactions: Transactions, changelog: str, lanes: Sequence[list[Record]], meta: Meta
) -> list[list[Record]]:
    head: Record = (META, meta.encode(), [])
    await transactions.transact([Write(changelog, number, [head, *lane]) for number, lane in enumerate(lanes)])
    return [[] for _ in lanes]


def _context(now: datetime, policy: Path) -> Context:
    policies = Policies()
    for event in first_version(load(policy, Policy), instant(now)):
        policies = policies.after(event)
    return Context(at=instant(now), safe=instant(now), policies=policies)


def _handoff_past(name: str, now: datetime, number: int, chance: random.Random) -> list[tuple[Topic, Event]]:
    """One handoff that is under way, opened so lately that none of its clocks has come to anything."""
    at = now - timedelta(minutes=number / 10)
    data = Opening(handoff=f"{name}:handoff", kind="ticket", owner=_person(chance), sender=_person(chance))
    return [(OWNERSHIP, _event(HandoffOpened, name, "opened", at, data))]


def _health_past(name: str, now: datetime, _number: int, chance: random.Random) -> list[tuple[Topic, Event]]:
    """Half a year of contacts."""
    begin = now - timedelta(days=HISTORY_DAYS)
    won = renewals.Won(home=f"crm:deal:{name}", owner=_person(chance))
    found: list[tuple[Topic, Event]] = [(RENEWALS, _event(renewals.ContractWon, name, "won", begin, won))]
    for number in range(chance.randrange(HISTORY_FACTS // 2, HISTORY_FACTS * 3 // 2)):
        at = begin + timedelta(days=HISTORY_DAYS - 1) * chance.random()
        contact = interactions.Interaction(
            channel=chance.choice(("email", "call", "meeting")),
            direction=chance.choice(("inbound", "outbound", "mutual")),
            contact=f"{name}:c{chance.randrange(4)}",
        )
        found.append((INTERACTIONS, _event(interactions.InteractionLogged, name, f"past-{number}", at, contact)))
    return sorted(found, key=lambda one: one[1].time)


def _event(kind: type[Event], name: str, id: str, at: datetime, data: object) -> Event:
    attributes = {"id": f"{name}:{id}", "source": "crm", "subject": name, "partitionkey": name, "time": at}
    return kind.model_validate({**attributes, "receivedat": at, "data": data})


def _person(chance: random.Random) -> str:
    return f"person-{chance.randrange(40):02d}"
