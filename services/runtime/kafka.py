"""The one door to Kafka outside the engine's consumer: topics, readers, publishers and transactions.

BrokerAway        nobody answers at the address
Unacknowledged    the broker has not answered a write in time
TopicMismatch     a topic on the broker is not as the catalogue says
Refused           the broker refused a write: the producer is dead
├── Fenced        another writer has taken over
└── TooLarge      one record is larger than a batch may be
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaConnectionError,
    KafkaError,
    ProducerFenced,
    TopicAlreadyExistsError,
    for_code,
)
from aiokafka.partitioner import murmur2

from services.core.errors import OperatorError
from services.runtime import clock
from services.runtime.patience import hold_empty_fetches
from services.runtime.settings import Settings

Key = bytes | None
Header = tuple[str, bytes]
Record = tuple[Key, bytes | None, list[Header]]
Outgoing = tuple[object, str, bytes, Sequence[Header]]  # topic, key, value, headers

BATCH_BYTES = 900_000  # the broker refuses batches over 1 MiB, and aiokafka does not check
REQUEST_MS = 10_000
CLOSE_SECONDS = 5.0
ANSWER_SECONDS = 5.0
CREATE_TRIES = 40
BULK = 50  # records at once, from which on batches of their own cost less


class BrokerAway(OperatorError):
    """Nobody answers at the broker's address."""


class Unacknowledged(OperatorError):
    """The broker has not acknowledged in time; the records may be written yet."""


class TopicMismatch(OperatorError):
    """A topic on the broker is not as the catalogue and the settings say."""


class Refused(OperatorError):
    """The broker refused a write, or another writer took over; this producer must not be used again."""


class Fenced(Refused):
    """Another producer with the same transactional id has taken over."""


class TooLarge(Refused):
    """One record is larger than the broker takes."""


def partition_of(key: bytes, partitions: int) -> int:
    """The partition in which every Kafka client with the default (murmur2) partitioner puts this key."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


@asynccontextmanager
async def admin(settings: Settings, patience: float = 10.0) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client. Raises BrokerAway when nobody answers within `patience` seconds."""
    deadline = clock.elapsed() + patience
    while True:
        client = AIOKafkaAdminClient(bootstrap_servers=settings.kafka, request_timeout_ms=REQUEST_MS)
        try:
            await asyncio.wait_for(client.start(), patience)
            break
        except (KafkaConnectionError, TimeoutError, OSError, AttributeError):
            # AttributeError: the broker answers, but no controller is in its metadata yet.
            await _bounded(client.close())
            if clock.elapsed() > deadline:
                raise BrokerAway(
                    f"no Kafka broker answers at {settings.kafka} (waited {patience:.0f} s); "
                    "start one with `make kafka` or set STEWARD_KAFKA to its host:port"
                ) from None
            await asyncio.sleep(0.25)
    try:
        yield client
    finally:
        await _bounded(client.close())


async def ensure_topics(
    settings: Settings, wanted: Mapping[str, Mapping[str, str]], patience: float = 10.0
) -> list[str]:
    """Create the topics that are missing (name without prefix → settings) and check the others' partitions.

    Answers the names created. Raises TopicMismatch with a sentence, BrokerAway.
    """
    async with admin(settings, patience) as client:
        there = await client.list_topics()
        missing = [name for name in wanted if settings.topic(name) not in there]
        for name in missing:
            await _create(client, settings, name, dict(wanted[name]))
        await _check_partitions(client, settings, wanted)
    return missing


async def existing(settings: Settings, wanted: Sequence[str], patience: float = 10.0) -> list[str]:
    """Those of the wanted topics that exist. Raises TopicMismatch with a sentence, BrokerAway."""
    async with admin(settings, patience) as client:
        there = await client.list_topics()
        found = [name for name in wanted if settings.topic(name) in there]
        await _check_partitions(client, settings, found)
    return found


async def _check_partitions(client: AIOKafkaAdminClient, settings: Settings, names: Iterable[str]) -> None:
    for topic in await _described(client, [settings.topic(name) for name in names]):
        found = len(topic["partitions"])
        if found != settings.partitions:
            raise TopicMismatch(
                f"topic {topic['topic']} has {found} partitions, STEWARD_PARTITIONS says {settings.partitions}; "
                f"a topic's partitions are chosen once: set STEWARD_PARTITIONS={found}, or use another STEWARD_PREFIX"
            )


async def _described(client: AIOKafkaAdminClient, names: Sequence[str]) -> list[dict[str, Any]]:
    # A topic just created may be unknown to the broker that answers, or not have its partitions yet.
    described: list[dict[str, Any]] = []
    for _ in range(CREATE_TRIES if names else 0):
        described = await client.describe_topics(names)
        if all(topic["partitions"] for topic in described):
            return described
        await asyncio.sleep(0.25)
    return described


async def _create(client: AIOKafkaAdminClient, settings: Settings, name: str, config: dict[str, str]) -> None:
    new = NewTopic(settings.topic(name), settings.partitions, settings.replication, topic_configs=config)
    for attempt in range(CREATE_TRIES):
        try:
            response = await client.create_topics([new])
        except TopicAlreadyExistsError:
            return
        except (AttributeError, KafkaError):
            if attempt == CREATE_TRIES - 1:
                raise
        else:
            error = for_code(response.topic_errors[0][1])
            if error.errno in {0, TopicAlreadyExistsError.errno}:
                return
            if attempt == CREATE_TRIES - 1:
                raise error(f"creating topic {new.name}: {response.topic_errors[0]}")
        await asyncio.sleep(0.25)


@asynccontextmanager
async def reader(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of committed records without a group; the caller assigns and seeks explicitly."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=8 << 20,
        fetch_max_bytes=64 << 20,
        request_timeout_ms=REQUEST_MS,
    )
    try:
        await consumer.start()
    except KafkaConnectionError:
        await _bounded(consumer.stop())
        raise BrokerAway(f"no Kafka broker answers at {settings.kafka}; is STEWARD_KAFKA right?") from None
    hold_empty_fetches(consumer)
    try:
        yield consumer
    finally:
        await _bounded(consumer.stop())


def partitions(settings: Settings, topic: object) -> list[TopicPartition]:
    """Every partition of a topic, by its name on the broker."""
    return [TopicPartition(settings.topic(str(topic)), number) for number in range(settings.partitions)]


async def scan(
    consumer: AIOKafkaConsumer, assigned: Sequence[TopicPartition], take: Callable[[ConsumerRecord], None]
) -> dict[TopicPartition, int]:
    """Hand every committed record from the beginning to the present end to `take`; answers the ends.

    Seeks explicitly: `seek_to_beginning` may land at the end. Compares positions, not record offsets, with the
    end: markers of transactions move the position without being records.
    """
    consumer.assign(assigned)
    begins = await consumer.beginning_offsets(assigned)
    ends: dict[TopicPartition, int] = await consumer.end_offsets(assigned)
    for partition in assigned:
        consumer.seek(partition, begins[partition])
    waiting = {partition for partition in assigned if begins[partition] < ends[partition]}
    while waiting:
        fetched = await consumer.getmany(*waiting, timeout_ms=200)
        for records in fetched.values():
            for record in records:
                take(record)
        waiting = {partition for partition in waiting if await consumer.position(partition) < ends[partition]}
    return ends


class Received(Protocol):
    """A record as the broker delivers it; `timestamp` is when the broker took it in, in milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


async def read_all(settings: Settings, topic: object) -> list[Received]:
    """Every committed record of a topic, partition by partition."""
    found: list[Received] = []
    async with reader(settings) as consumer:
        await scan(consumer, partitions(settings, topic), found.append)
    return sorted(found, key=lambda record: (record.partition, record.offset))


async def latest(settings: Settings, topic: object, number: int, look_back: int) -> list[Received]:
    """The committed records among the last `look_back` offsets of one partition."""
    partition = TopicPartition(settings.topic(str(topic)), number)
    found: list[Received] = []
    async with reader(settings) as consumer:
        consumer.assign([partition])
        begin, end = await consumer.beginning_offsets([partition]), await consumer.end_offsets([partition])
        consumer.seek(partition, max(begin[partition], end[partition] - look_back))
        while await consumer.position(partition) < end[partition]:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found.extend(records)
    return found


class Followed:
    """Whole topics, read from the beginning and then as they grow."""

    def __init__(self, consumer: AIOKafkaConsumer, assigned: Sequence[TopicPartition]) -> None:
        self._consumer = consumer
        self._assigned = assigned
        self._scanned = False

    async def fresh(self) -> list[Received]:
        """What came since the last call; the first call answers everything up to the present end."""
        found: list[Received] = []
        if not self._scanned:
            await scan(self._consumer, self._assigned, found.append)
            self._scanned = True
            return found
        for records in (await self._consumer.getmany(timeout_ms=0)).values():
            found.extend(records)
        return found


@asynccontextmanager
async def follow(settings: Settings, topics: Sequence[object]) -> AsyncIterator[Followed]:
    """Follow topics whole, without a group."""
    async with reader(settings) as consumer:
        yield Followed(consumer, [partition for topic in topics for partition in partitions(settings, topic)])


class Offsets:
    """Asks where topics end."""

    def __init__(self, settings: Settings, consumer: AIOKafkaConsumer) -> None:
        self._settings = settings
        self._consumer = consumer

    async def ends(self, topics: Sequence[object]) -> dict[str, tuple[int, ...]]:
        """The last stable offset of each partition, by the topic's name in the catalogue."""
        wanted = {str(topic): partitions(self._settings, topic) for topic in topics}
        try:
            found = await self._consumer.end_offsets([one for several in wanted.values() for one in several])
        except KafkaError as error:
            raise BrokerAway(f"Kafka at {self._settings.kafka} answers no more: {error!r}") from error
        return {name: tuple(found[one] for one in several) for name, several in wanted.items()}


@asynccontextmanager
async def offsets(settings: Settings) -> AsyncIterator[Offsets]:
    """A connection that answers where topics end."""
    async with reader(settings) as consumer:
        yield Offsets(settings, consumer)


Spot = tuple[str, int]  # a topic, without the prefix, and the number of a partition


class Tail:
    """Partitions read on from positions that the caller keeps.

    Every method raises BrokerAway when the broker does not answer in time.
    """

    def __init__(self, settings: Settings, consumer: AIOKafkaConsumer) -> None:
        self._settings = settings
        self._consumer = consumer

    def seek(self, positions: Mapping[Spot, int]) -> None:
        """Go on from here, with these partitions and no others."""
        self._consumer.assign([self._named(spot) for spot in positions])
        for spot, position in positions.items():
            self._consumer.seek(self._named(spot), position)

    async def bounds(self, spots: Iterable[Spot]) -> dict[Spot, tuple[int, int]]:
        """Where each partition begins and ends; its end is the last stable offset."""
        named = {spot: self._named(spot) for spot in spots}
        begins = await self._answer(self._consumer.beginning_offsets(named.values()))
        ends = await self._answer(self._consumer.end_offsets(named.values()))
        return {spot: (begins[one], ends[one]) for spot, one in named.items()}

    async def fresh(self, most: int, timeout_ms: int) -> tuple[list[tuple[Spot, Received]], dict[Spot, int]]:
        """Committed records, in order within each partition, and the position of every partition after them."""
        found: list[tuple[Spot, Received]] = []
        try:
            fetched = await self._consumer.getmany(timeout_ms=timeout_ms, max_records=most)
        except KafkaError as error:
            raise BrokerAway(f"Kafka at {self._settings.kafka} gives no records: {error!r}") from error
        for partition, records in fetched.items():
            spot = self._spot(partition)
            found += [(spot, record) for record in records]
        return found, await self._answer(self._positions())

    async def _positions(self) -> dict[Spot, int]:
        return {self._spot(one): await self._consumer.position(one) for one in self._consumer.assignment()}

    async def _answer(self, asked: Any) -> Any:
        try:
            return await asyncio.wait_for(asked, ANSWER_SECONDS)
        except (KafkaError, TimeoutError) as error:
            raise BrokerAway(f"Kafka at {self._settings.kafka} answers no more: {error!r}") from error

    def _named(self, spot: Spot) -> TopicPartition:
        return TopicPartition(self._settings.topic(spot[0]), spot[1])

    def _spot(self, partition: TopicPartition) -> Spot:
        return str(partition.topic).removeprefix(self._settings.prefix), int(partition.partition)


@asynccontextmanager
async def tail(settings: Settings) -> AsyncIterator[Tail]:
    """A connection that reads partitions on from given positions, without a group."""
    async with reader(settings) as consumer:
        yield Tail(settings, consumer)


@dataclass(slots=True)
class Write:
    """Records for one partition of one topic, in order."""

    topic: str
    partition: int
    records: list[Record] = field(default_factory=list)


class Publisher:
    """Idempotent writes outside the engine, acknowledged by all replicas; partitioned as every client does it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = AIOKafkaProducer(
            bootstrap_servers=settings.kafka,
            enable_idempotence=True,
            compression_type="zstd",
            linger_ms=5,
            max_batch_size=BATCH_BYTES,
            request_timeout_ms=REQUEST_MS,
        )

    async def __aenter__(self) -> Self:
        try:
            await self._producer.start()
        except KafkaConnectionError:
            await _bounded(self._producer.stop())
            raise BrokerAway(f"no Kafka broker answers at {self._settings.kafka}; is STEWARD_KAFKA right?") from None
        except KafkaError as error:
            await _bounded(self._producer.stop())
            raise BrokerAway(f"Kafka at {self._settings.kafka} takes no producer in now: {error!r}") from None
        return self

    async def __aexit__(self, *_: object) -> None:
        await _bounded(self._producer.stop())

    async def put(self, topic: object, key: str, value: bytes, headers: Sequence[Header] = ()) -> "asyncio.Future[Any]":
        """Queue one record; the future resolves with the broker's acknowledgement."""
        name = self._settings.topic(str(topic))
        raw = key.encode()
        partition = partition_of(raw, self._settings.partitions)
        future: asyncio.Future[Any] = await self._producer.send(name, value, raw, partition=partition, headers=headers)
        return future

    async def deliver(self, records: Sequence[Outgoing], seconds: float) -> None:
        """Write records and wait until all are acknowledged.

        Raises Unacknowledged after so many seconds, when they may still come to be written; Refused.
        """
        try:
            async with asyncio.timeout(seconds):
                if len(records) < BULK:  # these share batches with those of others
                    await asyncio.gather(*[await self.put(*record) for record in records])
                    return
                queued = await asyncio.gather(*(_in_batches(self._producer, one) for one in self._writes(records)))
                await asyncio.gather(*(future for futures in queued for future in futures))
        except TimeoutError:
            raise Unacknowledged(f"Kafka at {self._settings.kafka} gave no answer for {seconds:.0f} s") from None
        except KafkaError as error:
            raise Refused(f"the broker refused a record: {error!r}") from error

    def _writes(self, records: Sequence[Outgoing]) -> Iterable[Write]:
        lanes: dict[tuple[str, int], Write] = {}
        for topic, key, value, headers in records:
            raw, name = key.encode(), self._settings.topic(str(topic))
            lane = (name, partition_of(raw, self._settings.partitions))
            lanes.setdefault(lane, Write(*lane)).records.append((raw, value, [*headers]))
        return lanes.values()

    async def send(self, topic: object, key: str, value: bytes) -> None:
        """Write one record and wait for its acknowledgement. Raises Refused when the broker will not have it."""
        try:
            await (await self.put(topic, key, value))
        except KafkaError as error:
            raise Refused(f"the broker refused a record for {topic}: {error!r}") from error


class Transactions:
    """A transactional producer; each `commit` is one transaction. After any error it is dead."""

    def __init__(self, settings: Settings, transactional_id: str) -> None:
        self.transactional_id = f"{settings.prefix}{transactional_id}"
        self._producer = AIOKafkaProducer(
            bootstrap_servers=settings.kafka,
            transactional_id=self.transactional_id,
            transaction_timeout_ms=settings.transaction_seconds * 1000,
            enable_idempotence=True,
            compression_type="zstd",
            max_batch_size=BATCH_BYTES,
            request_timeout_ms=REQUEST_MS,
            retry_backoff_ms=20,
        )

    async def open(self) -> None:
        """InitProducerId: fences whoever wrote under this id and ends what it left open."""
        await self._producer.start()

    async def close(self) -> None:
        await _bounded(self._producer.stop())

    async def commit(self, writes: Iterable[Write]) -> None:
        """Write everything or nothing. Raises Refused.

        Every future is checked before the commit: aiokafka commits a transaction whose batch was refused.
        """
        try:
            await self._producer.begin_transaction()
            futures = [await _in_batches(self._producer, write) for write in writes if write.records]
            await asyncio.gather(*(future for batches in futures for future in batches))
            await self._producer.commit_transaction()
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise Fenced(f"another writer has taken over {self.transactional_id}: {error!r}") from error
        except KafkaError as error:
            raise Refused(f"the broker refused a write of {self.transactional_id}: {error!r}") from error


async def _in_batches(producer: AIOKafkaProducer, write: Write) -> list["asyncio.Future[ConsumerRecord]"]:
    """Queue records as batches of our own, which costs less than one by one."""
    futures, batch = [], producer.create_batch()
    for key, value, headers in write.records:
        if len(value or b"") > BATCH_BYTES:
            raise TooLarge(f"a record of {len(value or b'')} bytes for {write.topic}; the most is {BATCH_BYTES}")
        if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
            futures.append(await producer.send_batch(batch, write.topic, partition=write.partition))
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None, headers=headers)
    futures.append(await producer.send_batch(batch, write.topic, partition=write.partition))
    return futures


async def _bounded(closing: "asyncio.Future[None] | object") -> None:
    # aiokafka's stop() may hang for ever when the broker is gone.
    try:
        await asyncio.wait_for(closing, CLOSE_SECONDS)  # type: ignore[arg-type]  # aiokafka is untyped
    except (TimeoutError, KafkaError, OSError, AttributeError):
        return
