"""The sources: their registration on `cs.sources`, and what they sent that no map knows."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from schemas import codec
from schemas.envelope import DEFAULT_RANK, Event
from schemas.sources import Registration, SourceRegistered
from schemas.topics import SOURCES, dead_letters
from services.core.errors import OperatorError
from services.core.instants import Instant, moment
from services.core.outcome import Reason
from services.runtime import clock, kafka
from services.runtime.settings import Settings


class SourceError(OperatorError):
    """The source cannot be registered so; the text says why."""


def described(registration: Registration) -> str:
    """A source in one line."""
    beats = f"heartbeat {registration.heartbeat} s, grace {registration.grace} s" if registration.heartbeat else ""
    parts = (registration.source, f"rank {registration.rank}", registration.role or "", beats)
    return "  ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Stranger:
    """What a source sent that its map does not know: what, how often, and when first and last."""

    source: str
    what: str
    count: int
    first: Instant
    last: Instant

    def __str__(self) -> str:
        first, last = (moment(at).isoformat(" ", "seconds") for at in (self.first, self.last))
        return f"{self.source}  {self.what}  {self.count:,} times, {first} to {last}"


async def strangers(settings: Settings) -> list[Stranger]:
    """Everything on dlq.ingest that no map knows, the most frequent first. Raises BrokerAway, TopicMismatch."""
    letters = dead_letters("ingest")
    await kafka.ensure_topics(settings, {letters.name: letters.config})
    found: dict[tuple[str, str], list[Instant]] = {}
    async with kafka.reader(settings) as consumer:

        def take(record: Any) -> None:  # noqa: ANN401  # aiokafka's, which alone has headers
            told = {name: text.decode(errors="replace") for name, text in record.headers}
            if told.get("dlq.reason") == Reason.UNKNOWN_TYPE:
                source = (record.key or b"").decode(errors="replace")
                found.setdefault((source, told.get("dlq.what", "")), []).append(record.timestamp * 1000)

        await kafka.scan(consumer, kafka.partitions(settings, letters), take)
    listed = [Stranger(*name, len(times), min(times), max(times)) for name, times in found.items()]
    return sorted(listed, key=lambda stranger: (-stranger.count, stranger.source, stranger.what))


async def registered(settings: Settings) -> dict[str, Registration]:
    """Every registered source by name. Raises BrokerAway, TopicMismatch."""
    await kafka.ensure_topics(settings, {SOURCES.name: SOURCES.config})
    events = [_decoded(record.value) for record in await kafka.read_all(settings, SOURCES) if record.value]
    return {event.data.source: event.data for event in events if isinstance(event, SourceRegistered)}


def _decoded(value: bytes) -> Event | None:
    try:
        return codec.decode(SOURCES, value)
    except codec.SchemaError:  # a newer writer's; the clock writer logs it
        return None


async def register(
    settings: Settings,
    name: str,
    rank: int = DEFAULT_RANK,
    role: str | None = None,
    *,
    heartbeat: int | None = None,
    grace: int = 60,
) -> str:
    """Register a source and say so; again it changes everything but the rank. `heartbeat`, `grace` in seconds.

    Raises SourceError when the source stands there with another rank: facts already carry it.
    """
    try:
        registration = Registration(source=name, rank=rank, role=role, heartbeat=heartbeat, grace=grace)
    except ValidationError as error:
        raise SourceError("; ".join(codec.sentences(error))) from None
    known = (await registered(settings)).get(name)
    if known is not None and known.rank != rank:
        raise SourceError(
            f"source '{name}' was registered with rank {known.rank}, and its facts carry it; "
            f"register it with --rank {known.rank}, or register another name"
        )
    now = clock.now()
    event = SourceRegistered(
        id=f"{name}:{now}",
        source="steward/ingest",
        subject=name,
        partitionkey=name,
        time=moment(now),
        data=registration,
    )
    async with kafka.Publisher(settings) as publisher:
        await publisher.send(SOURCES, name, codec.encode(event))
    return f"source '{name}' is registered with rank {rank}"
