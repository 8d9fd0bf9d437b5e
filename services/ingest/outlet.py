"""Writes what was decided to Kafka, and holds the answer back until every replica has it."""

import asyncio
from collections.abc import Sequence
from hashlib import sha256
from typing import Self

from schemas import codec
from schemas.topics import dead_letters
from services.core.errors import OperatorError
from services.core.instants import Instant
from services.core.outcome import Reason
from services.ingest.model import Accepted, Refused, Unknown
from services.runtime import kafka, log
from services.runtime.settings import Settings

LETTERS = dead_letters("ingest")
ACK_SECONDS = 9.0  # below the producer's own limit, which would count as a broken connection
AGAIN_SECONDS = 1.0
LETTER_BYTES = 800_000  # with its headers a dead letter must fit into one batch
MESSAGE_LENGTH = 500
VERSION = 1


class Away(OperatorError):
    """Kafka has not acknowledged: what was to be written may be there or not. To send it again is safe."""


class Outlet:
    """A publisher that is replaced when it is dead."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._publisher: kafka.Publisher | None = None
        self._opening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Raises BrokerAway."""
        self._publisher = await kafka.Publisher(self._settings).__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._opening is not None:
            self._opening.cancel()
        if self._publisher is not None:
            await self._publisher.__aexit__(*error)

    @property
    def is_open(self) -> bool:
        """Is there a publisher just now?"""
        return self._publisher is not None

    async def write(self, records: Sequence[kafka.Outgoing]) -> None:
        """Everything is acknowledged by all replicas when this returns. Raises Away."""
        publisher = self._publisher
        if publisher is None:
            raise Away("the connection to Kafka is being made anew")
        try:
            await publisher.deliver(records, ACK_SECONDS)
        except kafka.Unacknowledged as error:
            raise Away(str(error)) from None
        except kafka.Refused as error:
            self._replace(publisher, error)
            raise Away(str(error)) from None

    def _replace(self, dead: kafka.Publisher, why: kafka.Refused) -> None:
        if self._publisher is dead:
            log.get().warning("publisher replaced", why=str(why))
            self._publisher = None
            self._opening = asyncio.create_task(self._reopen(dead))

    async def _reopen(self, dead: kafka.Publisher) -> None:
        await dead.__aexit__(None, None, None)
        while self._publisher is None:
            try:
                self._publisher = await kafka.Publisher(self._settings).__aenter__()
            except Exception as error:  # noqa: BLE001  # a task that ended unseen would leave every request refused
                log.get().warning("publisher not opened", why=str(error))
                await asyncio.sleep(AGAIN_SECONDS)


def value(accepted: Accepted) -> bytes:
    """A fact as it stands in its topic."""
    return codec.encode(accepted.event)


def fact(accepted: Accepted) -> kafka.Outgoing:
    """The record of a fact."""
    return accepted.topic, accepted.event.partitionkey, value(accepted), ()


def reason(outcome: Refused | Unknown) -> Reason:
    """Why an item gave no fact."""
    return Reason.SCHEMA if isinstance(outcome, Refused) else Reason.UNKNOWN_TYPE


def letter(source: str, outcome: Refused | Unknown, route: str, arrival: Instant) -> kafka.Outgoing:
    """The record of an item that gave no fact: as it came, with the reason."""
    match outcome:
        case Refused():
            told = {"stage": "decode", "message": f"{outcome.field}: {outcome.why}"}
        case Unknown():
            told = {"stage": "map", "message": outcome.why, "what": outcome.what}
    told |= {"service": "ingest", "reason": reason(outcome), "route": route, "timestamp": str(arrival // 1000)}
    told |= {"attempts": "1", "version": str(VERSION)}
    original = outcome.original
    if len(original) > LETTER_BYTES:
        told["left-out"] = f"{len(original)} bytes, sha256 of the value {sha256(original).hexdigest()}"
        original = b""
    headers = [(f"dlq.{name}", text[:MESSAGE_LENGTH].encode(errors="replace")) for name, text in told.items()]
    return LETTERS, source, original, headers
