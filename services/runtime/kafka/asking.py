"""Questions for which aiokafka has no method, asked over a connection of their own.

`transactional`   may producers here write everything or nothing?
`idempotent`      may they at least write everything once?
`topic_ids`       which incarnation of a topic is this?
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import (
    ConcurrentTransactions,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    IncompatibleBrokerVersion,
    InvalidRequestError,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    NoError,
    NotCoordinatorError,
    RequestTimedOutError,
    UnsupportedVersionError,
    for_code,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from services.runtime import clock
from services.runtime.kafka.connection import REQUEST_MS, bounded
from services.runtime.kafka.errors import BrokerAway, Refused
from services.runtime.settings import Settings

PROBE = "steward-probe"  # the transactional id that asks; nothing is ever written under it
PATIENCE = 30.0  # seconds; a coordinator may be on its way for as long as a broker starts
PAUSE = 0.25
CLOSED_TIMES = 3  # a broker that closes the connection so often upon a request does not know it
UNKNOWN_ID = bytes(16)

# What a broker without them says; ours is the request that every broker with them has known from the first version.
REFUSALS = (UnsupportedVersionError, IncompatibleBrokerVersion, NotImplementedError, InvalidRequestError)
NOT_YET = (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError, NodeNotReadyError)


@asynccontextmanager
async def client(settings: Settings) -> AsyncIterator[AIOKafkaClient]:
    """A connection that takes any request. Raises BrokerAway."""
    asking = AIOKafkaClient(bootstrap_servers=settings.kafka, request_timeout_ms=REQUEST_MS)
    try:
        try:
            await asking.bootstrap()
        except KafkaConnectionError:
            raise BrokerAway(f"no Kafka broker answers at {settings.kafka}; is STEWARD_KAFKA right?") from None
        yield asking
    finally:
        await bounded(asking.close())


async def transactional(settings: Settings, patience: float = PATIENCE) -> bool:
    """Does the broker give producers transactions?

    Only a plain refusal is a no. Raises BrokerAway when nobody says so within `patience` seconds, Refused when the
    broker has transactions but not for us.
    """
    return await _gives_ids(settings, f"{settings.prefix}{PROBE}", patience)


async def idempotent(settings: Settings, patience: float = PATIENCE) -> bool:
    """Does the broker know repeats of one producer's batches? Raises as `transactional` does."""
    return await _gives_ids(settings, None, patience)


async def _gives_ids(settings: Settings, transactional_id: str | None, patience: float) -> bool:
    deadline, closed, last = clock.elapsed() + patience, 0, "nothing"
    async with client(settings) as asking:
        while clock.elapsed() < deadline:
            try:
                code = await _init_producer_id(asking, transactional_id, settings.transaction_seconds * 1000)
            except REFUSALS:
                return False
            except (*NOT_YET, RequestTimedOutError) as error:
                last = repr(error)
            except KafkaConnectionError as error:
                closed, last = closed + 1, repr(error)
                # The same broker answers other questions, or else this one were only away.
                if closed >= CLOSED_TIMES and await asking.force_metadata_update():
                    return False
            except KafkaError as error:
                raise Refused(
                    f"Kafka at {settings.kafka} does not say whether it has transactions: {error!r}"
                ) from error
            else:
                verdict = _verdict(code, transactional_id)
                if verdict is not None:
                    return verdict
                last = for_code(code).__name__
            await asyncio.sleep(PAUSE)
    raise BrokerAway(
        f"Kafka at {settings.kafka} has not said within {patience:.0f} s whether it has transactions "
        f"(last: {last}); is the broker well?"
    )


def _verdict(code: int, transactional_id: str | None) -> bool | None:
    """None: ask again. Raises Refused."""
    error = for_code(code)
    if error in {NoError, ConcurrentTransactions}:
        return True
    if error in REFUSALS:
        return False
    if error in NOT_YET:
        return None
    wanted = f"the transactional id {transactional_id}" if transactional_id else "an idempotent producer"
    raise Refused(f"the broker does not let us have {wanted}: {error.__name__}; give our user the right to it")


async def _init_producer_id(asking: AIOKafkaClient, transactional_id: str | None, timeout_ms: int) -> int:
    """The error code of the answer. Raises KafkaError."""
    if transactional_id is None:
        node = asking.get_random_node()
    else:
        node = await asking.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
    answer = await asking.send(node, InitProducerIdRequest(transactional_id, timeout_ms))
    return int(answer.error_code)


async def topic_ids(settings: Settings, names: Iterable[str]) -> dict[str, str]:
    """The id of each topic (name without prefix → 32 hex digits), another one after it was deleted and made anew.

    "" where the broker gives topics no ids, or has no such topic. Raises BrokerAway.
    """
    wanted = {settings.topic(name): name for name in names}
    async with client(settings) as asking:
        try:
            answer = await asking.send(asking.get_random_node(), _IdsRequest(list(wanted)))
        except REFUSALS:
            return dict.fromkeys(wanted.values(), "")
        except KafkaError as error:
            raise BrokerAway(f"Kafka at {settings.kafka} does not describe its topics: {error!r}") from error
    found = {name: ident for error, name, ident, *_ in answer.topics if not error and ident != UNKNOWN_ID}
    return {name: found.get(on_broker, b"").hex() for on_broker, name in wanted.items()}


class _Uuid:
    """Sixteen bytes; aiokafka has no such type."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)

    @classmethod
    def repr(cls, value: bytes) -> str:
        return value.hex()


_PARTITION = (
    *(("error_code", Int16), ("index", Int32), ("leader", Int32), ("leader_epoch", Int32)),
    *((name, CompactArray(Int32)) for name in ("replicas", "in_sync", "offline")),
    ("tags", TaggedFields),
)
_NODE = (("node", Int32), ("host", CompactString()), ("port", Int32), ("rack", CompactString()), ("tags", TaggedFields))
_TOPIC = (
    *(("error_code", Int16), ("name", CompactString()), ("id", _Uuid), ("is_internal", Boolean)),
    *(("partitions", CompactArray(*_PARTITION)), ("operations", Int32), ("tags", TaggedFields)),
)


class _IdsAnswer(Response):  # type: ignore[misc]  # aiokafka is untyped
    """Metadata, the first version after aiokafka's own whose topics are asked for by name and answer with an id."""

    API_KEY, API_VERSION = 3, 12
    SCHEMA = Schema(
        *(("throttle_ms", Int32), ("nodes", CompactArray(*_NODE)), ("cluster", CompactString())),
        *(("controller", Int32), ("topics", CompactArray(*_TOPIC)), ("tags", TaggedFields)),
    )


class _IdsQuestion(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, FLEXIBLE_VERSION = 3, 12, True
    RESPONSE_TYPE = _IdsAnswer
    SCHEMA = Schema(
        ("topics", CompactArray(("id", _Uuid), ("name", CompactString()), ("tags", TaggedFields))),
        *(("create", Boolean), ("operations", Boolean), ("tags", TaggedFields)),
    )


class _IdsRequest(Request[_IdsQuestion]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def build(self, question: Any) -> Any:
        return question([(UNKNOWN_ID, name, {}) for name in self._names], False, False, {})
