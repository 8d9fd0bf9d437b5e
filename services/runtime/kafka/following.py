"""Reading on as topics grow, and asking where they end; no group takes part."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from services.runtime.kafka.errors import BrokerAway
from services.runtime.kafka.readers import Received, locate, partitions, reader, scan
from services.runtime.settings import Settings

ANSWER_SECONDS = 5.0


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
        await self._answer(locate(self._consumer, named.values()))
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
            async with asyncio.timeout(ANSWER_SECONDS):
                return await asked
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
