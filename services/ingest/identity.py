"""The identity processor: holds the facts of unknown homes back, and releases them when their account is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from schemas import codec
from schemas.envelope import Event
from schemas.findings import Finding, FindingClosed, FindingOpened
from schemas.identity import IdentityMapped
from schemas.topics import CATALOGUE, FINDINGS, HELD, IDENTITY, Topic
from services.core.instants import DAY, Instant, instant, moment
from services.core.outcome import DeadLetter, Drop, Fate, Reason
from services.core.processor import CLOCK_ALONE, Context, Decision, Due, Effect, Fact, Output
from services.core.states import States

SOURCE = "steward/identity"
FACTS_LIMIT = 1_000
BYTES_LIMIT = 750_000  # of all waiting facts: a home's state is one record, and the broker takes 900 kB
OVERHEAD = 48  # bytes of a waiting fact in the state besides its own
KEPT = 400 * DAY  # as crm.held keeps them
TOLD_AT = frozenset({1, 10, 100, 1_000})

TOPIC_OF: dict[type[Event], Topic] = {
    kind: topic
    for topic in CATALOGUE
    if topic is not HELD and "identity" in topic.producers
    for kind in topic.types
    if kind in HELD.types
}


class Mapped(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A mapping of the home; the last one in order of time, rank, source and id is in force."""

    at: Instant
    rank: int
    source: str
    id: str
    account: str

    @property
    def order(self) -> tuple[Instant, int, str, str]:
        return self.at, self.rank, self.source, self.id


class Waiting(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A fact as it stood in crm.held. `identity` is a hash of source and id, `arrived` its first receipt."""

    identity: bytes
    arrived: Instant
    value: bytes

    @property
    def size(self) -> int:
        return len(self.value) + OVERHEAD


class Home(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known of a home. Nothing waits once it is mapped."""

    mapped: Mapped | None = None
    waiting: tuple[Waiting, ...] = ()


@dataclass(slots=True)
class _Draft:
    """A home while a batch is taken in; `size` is that of all that waits."""

    home: str
    mapped: Mapped | None
    waiting: dict[bytes, Waiting]
    size: int
    outputs: list[Output]


class IdentityProcessor:
    """Implements services.core.processor.Processor, keyed by home.

    However crm.held and crm.identity are read beside each other, a home's facts leave in the order of crm.held, changed
    in `subject`, `partitionkey` (the account) and an absent `receivedat` only; attributes that this version's models
    do not know are not passed on. Each leaves once, except: what the account had already is not remembered, so a copy
    that comes through crm.held after the release is released again under its id, and the processors that read it drop
    it. What a re-mapping finds released stays where it is.
    """

    name = "identity"
    version = 1
    inputs: tuple[Topic, ...] = (HELD, IDENTITY)
    outputs: tuple[Topic, ...] = (*dict.fromkeys(TOPIC_OF.values()), FINDINGS)
    _states = States(name, version, Home)

    def empty(self) -> Home:
        return Home()

    def decide(self, key: str, state: Home, batch: Sequence[Fact], context: Context) -> Decision[Home]:  # noqa: ARG002
        waiting = {one.identity: one for one in state.waiting}
        draft = _Draft(key, state.mapped, waiting, sum(one.size for one in state.waiting), [])
        fates = [(fact, fate) for fact in batch if (fate := _take(draft, fact)) is not None]
        after = Home(draft.mapped, tuple(draft.waiting.values()))
        if after == state:  # the engine writes a state down when it is another object
            after = state
        return Decision(None if after == Home() else after, draft.outputs, fates)

    def due(self, key: str, state: Home, context: Context) -> Decision[Home]:
        """Give up what has waited as long as crm.held keeps it."""
        until = context.reached(CLOCK_ALONE) - KEPT
        gone = tuple(one for one in state.waiting if one.arrived <= until)
        if not gone:
            return Decision(state)
        left = tuple(one for one in state.waiting if one.arrived > until)
        at = max(one.arrived for one in gone) + KEPT
        text = f"{key} was unknown for 400 days (facts given up: {len(gone):,}); map it and send them again"
        outputs = [_finding(FindingClosed, key, gone, at, text)]
        if left:
            outputs.append(_opened(key, left, at))
        return Decision(Home(None, left) if left else None, outputs)

    def dues(self, state: Home) -> Sequence[Due]:
        return [Due(min(one.arrived for one in state.waiting) + KEPT, CLOCK_ALONE)] if state.waiting else ()

    def outdated(self, _state: Home, _context: Context) -> bool:
        return False

    def wanted(self, key: str, state: Home) -> Sequence[Effect]:  # noqa: ARG002  # nothing is done outside
        return ()

    def encode(self, state: Home) -> bytes:
        return self._states.encode(state)

    def decode(self, raw: bytes, version: int) -> Home:
        return self._states.decode(raw, version)


def _take(draft: _Draft, fact: Fact) -> Fate | None:
    """Apply a mapping, release the fact or let it wait; or say why not."""
    event = fact.event
    if isinstance(event, IdentityMapped):
        return _map(draft, event, fact.arrived)
    if draft.mapped is not None:  # whoever wrote it did not know of the mapping yet
        draft.outputs.append(_released(event, fact.arrived, draft.mapped.account))
        return None
    return _hold(draft, event, fact.arrived)


def _map(draft: _Draft, event: IdentityMapped, arrived: Instant) -> Fate | None:
    home, before = event.data.home, draft.mapped
    if home != draft.home:
        return DeadLetter(Reason.SCHEMA, f"data.home is {home!r}, but the record's key is {draft.home!r}")
    mapped = Mapped(instant(event.time), event.sourcerank, event.source, event.id, event.data.account)
    if before is not None and mapped.order <= before.order:
        return Drop(Reason.DUPLICATE if mapped.order == before.order else Reason.TOO_LATE)
    draft.mapped = mapped
    if draft.waiting:
        waiting, account = tuple(draft.waiting.values()), mapped.account
        draft.outputs += [_released(codec.decode(HELD, one.value), one.arrived, account) for one in waiting]
        text = f"{home} belongs to account {account} (facts released: {len(waiting):,})"
        draft.outputs.append(_finding(FindingClosed, home, waiting, arrived, text))
        draft.waiting, draft.size = {}, 0
    return None


def _hold(draft: _Draft, event: Event, arrived: Instant) -> Fate | None:
    one = Waiting(_hash(event.source, event.id), arrived, codec.encode(event))
    if one.identity in draft.waiting:
        return Drop(Reason.DUPLICATE)
    if len(draft.waiting) >= FACTS_LIMIT or draft.size + one.size > BYTES_LIMIT:
        return DeadLetter(
            Reason.TOO_MANY_FACTS,
            f"{len(draft.waiting):,} facts of {draft.home} wait already; map it to an account and send this one again",
        )
    draft.waiting[one.identity] = one
    draft.size += one.size
    if len(draft.waiting) in TOLD_AT:
        draft.outputs.append(_opened(draft.home, tuple(draft.waiting.values()), arrived))
    return None


def _released(event: Event, arrived: Instant, account: str) -> Output:
    changed = {"subject": account, "partitionkey": account, "receivedat": event.receivedat or moment(arrived)}
    return Output(TOPIC_OF[type(event)], event.model_copy(update=changed))


def _opened(home: str, waiting: Sequence[Waiting], at: Instant) -> Output:
    text = (
        f"no account is known for {home} (facts held back: {len(waiting):,}); let its source send the record that "
        f"names its account, or map it with an event {IdentityMapped.name()} on {IDENTITY.name}"
    )
    return _finding(FindingOpened, home, waiting, at, text)


def _finding(
    kind: type[FindingOpened | FindingClosed], home: str, waiting: Sequence[Waiting], at: Instant, text: str
) -> Output:
    since = min(one.arrived for one in waiting)
    # The facts it is about name it, in whatever batches they came; `since` tells a second time apart from the first.
    identities = (one.identity.hex() for one in waiting)
    event = kind(
        id=_hash(home, kind.name(), str(since), *identities).hex(),
        source=SOURCE,
        subject=home,
        partitionkey=home,
        time=moment(at),
        data=Finding(kind="unknown_id", about=home, count=len(waiting), since=moment(since), text=text),
    )
    return Output(FINDINGS, event)


def _hash(*parts: str) -> bytes:
    return blake2b("\x00".join(parts).encode(), digest_size=16).digest()
