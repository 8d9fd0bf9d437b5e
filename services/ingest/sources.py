"""Registration of sources on `cs.sources`."""

from schemas import codec
from schemas.envelope import Event
from schemas.sources import Registration, SourceRegistered
from schemas.topics import SOURCES
from services.core.errors import OperatorError
from services.core.instants import moment
from services.runtime import clock, kafka
from services.runtime.settings import Settings


class SourceError(OperatorError):
    """The source cannot be registered so; the text says why."""


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


async def register(settings: Settings, name: str, rank: int, role: str | None) -> str:
    """Register a source and say so; again with the same rank changes nothing but the role.

    Raises SourceError when the source stands there with another rank: facts already carry it.
    """
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
        data=Registration(source=name, rank=rank, role=role),
    )
    async with kafka.Publisher(settings) as publisher:
        await publisher.send(SOURCES, name, codec.encode(event))
    return f"source '{name}' is registered with rank {rank}"
