"""Idempotent writes outside the engine."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError

from services.runtime.kafka.asking import idempotent
from services.runtime.kafka.batches import BATCH_BYTES, Header, Outgoing, Write, all_acknowledged, checked, partition_of
from services.runtime.kafka.connection import REQUEST_MS, bounded
from services.runtime.kafka.errors import BrokerAway, Refused, Unacknowledged
from services.runtime.settings import Settings

BULK = 50  # records at once, from which on batches of their own cost less


class Publisher:
    """Writes outside the engine, once each where the broker knows repeats, acknowledged by all replicas.

    Partitioned as every client does it.
    """

    _producer: AIOKafkaProducer

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def __aenter__(self) -> Self:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.kafka,
            enable_idempotence=await idempotent(self._settings),
            acks="all",
            compression_type="zstd",
            linger_ms=5,
            max_batch_size=BATCH_BYTES,
            request_timeout_ms=REQUEST_MS,
        )
        try:
            await self._producer.start()
        except KafkaConnectionError:
            await bounded(self._producer.stop())
            raise BrokerAway(f"no Kafka broker answers at {self._settings.kafka}; is STEWARD_KAFKA right?") from None
        except KafkaError as error:
            await bounded(self._producer.stop())
            raise BrokerAway(f"Kafka at {self._settings.kafka} takes no producer in now: {error!r}") from None
        return self

    async def __aexit__(self, *_: object) -> None:
        await bounded(self._producer.stop())

    async def put(self, topic: object, key: str, value: bytes, headers: Sequence[Header] = ()) -> "asyncio.Future[Any]":
        """Queue one record; the future resolves with the broker's acknowledgement. Raises TooLarge."""
        name = self._settings.topic(str(topic))
        raw = key.encode()
        checked(name, raw, value, headers)
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
                await all_acknowledged(self._producer, self._writes(records))
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
