"""Which records of a topic are facts for a processor, and how a record that is none is kept."""

from collections.abc import Callable
from hashlib import sha256

from schemas import codec
from schemas.envelope import Event
from schemas.topics import Topic
from services.core.instants import MINUTE, instant
from services.core.outcome import DeadLetter, Drop, Reason
from services.core.processor import Fact
from services.runtime.engine.raw import Raw
from services.runtime.kafka import Header, Record, partition_of

AHEAD_OF_ARRIVAL = 5 * MINUTE  # an event may be this much younger than its arrival: clocks differ
MESSAGE_LENGTH = 500
LETTER_BYTES = 800_000  # of key and value; with the headers a dead letter must still fit into one batch
EMPTY = Drop(Reason.EMPTY)


def admit(topic: Topic, record: Raw, decode: Callable[[bytes], Event]) -> Fact | Drop | DeadLetter:
    """The fact in a record, or why it is none. `decode`: what reads records of the topic."""
    key, value = record.key, record.value
    if value is None:
        return EMPTY
    try:
        event = decode(value)
    except codec.UnknownType as error:
        return DeadLetter(Reason.UNKNOWN_TYPE, str(error))
    except codec.SchemaError as error:
        return DeadLetter(Reason.SCHEMA, str(error))
    if key is None or key != event.partitionkey.encode():
        return DeadLetter(Reason.SCHEMA, f"partitionkey is {event.partitionkey!r}, but the record's key is {key!r}")
    appended = record.timestamp * 1000
    arrived = appended if event.receivedat is None else instant(event.receivedat)
    if arrived > appended + AHEAD_OF_ARRIVAL:
        return DeadLetter(Reason.FUTURE, f"receivedat {event.receivedat} is more than 5 min after the record itself")
    if instant(event.time) > arrived + AHEAD_OF_ARRIVAL:
        return DeadLetter(Reason.FUTURE, f"time {event.time.isoformat()} is more than 5 min after its arrival")
    return Fact(topic, event, arrived)


def misplaced(key: str, number: int, count: int) -> DeadLetter | None:
    """Why a key does not belong in this one of `count` partitions; None: it does."""
    if (right := partition_of(key.encode(), count)) == number:
        return None
    return DeadLetter(
        Reason.WRONG_PARTITION,
        f"key {key!r} belongs in partition {right}, not {number}; set partitioner=murmur2_random in the producer",
    )


def letter(topic: Topic, number: int, record: Raw, fate: DeadLetter, service: str, version: int) -> Record:
    """The record as it was, with the reason in its headers; of one too large to be copied stays its hash."""
    told = {
        "topic": topic.name,
        "partition": number,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "service": service,
        "stage": "decode" if fate.reason in {Reason.SCHEMA, Reason.UNKNOWN_TYPE} else "decide",
        "reason": fate.reason.value,
        "message": fate.message[:MESSAGE_LENGTH],
        "attempts": 1,
        "version": version,
    }
    headers: list[Header] = [*record.headers]
    headers += [(f"dlq.{field}", str(text).encode()) for field, text in told.items()]
    key, value = record.key or b"", record.value or b""
    if len(key) + len(value) <= LETTER_BYTES:
        return record.key, record.value, headers
    size = f"{len(key)} + {len(value)} bytes, sha256 of the value {sha256(value).hexdigest()}"
    return key[:200], b"", [*headers, ("dlq.left-out", size.encode())]
