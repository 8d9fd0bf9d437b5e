"""Global tables: topics that every worker reads whole, kept up to date beside the stream."""

import asyncio
from collections.abc import Mapping

from aiokafka import ConsumerRecord, TopicPartition

from schemas import codec
from schemas.topics import POLICY
from services.core.policy import Policies
from services.runtime import kafka, log
from services.runtime.settings import Settings


class Tables:
    """The policy and the positions read so far; `covers` tells whether a mark's tables have been read."""

    def __init__(self, settings: Settings) -> None:
        self.policies = Policies()
        self._settings = settings
        self._read: dict[TopicPartition, int] = {}
        self._loaded = asyncio.Event()

    def covers(self, ends: Mapping[str, tuple[int, ...]]) -> bool:
        """Has every global topic been read up to these ends? Topics that are not read here do not count."""
        wanted = ends.get(POLICY.name, ())
        return all(
            self._read.get(partition, 0) >= end for partition, end in zip(self._partitions, wanted, strict=False)
        )

    async def loaded(self) -> None:
        """Wait until the tables have been read to the end they had at start."""
        await self._loaded.wait()

    async def follow(self) -> None:
        """Read to the present end, then go on; ends only when cancelled."""
        async with kafka.reader(self._settings) as consumer:
            self._read.update(await kafka.scan(consumer, self._partitions, self._take))
            self._loaded.set()
            while True:
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    for record in records:
                        self._take(record)
                for partition in self._partitions:
                    self._read[partition] = await consumer.position(partition)

    @property
    def _partitions(self) -> list[TopicPartition]:
        return kafka.partitions(self._settings, POLICY)

    def _take(self, record: ConsumerRecord) -> None:
        if record.value is None:
            return
        try:
            self.policies = self.policies.after(codec.decode(POLICY, record.value))
        except codec.SchemaError as error:
            # A newer writer's policy must not take the clocks down; the version in force stays.
            log.get().error("policy record ignored", offset=record.offset, partition=record.partition, why=str(error))
