"""Faust's consumer, delivering what one fetch brought of each partition at once instead of record by record."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from services.runtime.engine.raw import Raw
from services.runtime.kafka.replaying import hand_out_bare
from services.runtime.patience import hold_empty_fetches

FETCH_WAIT_MS = 50
FETCH_BYTES = 4 << 20
LOOK_AGAIN_SECONDS = 0.02  # until a partition that took no records may take some again


class Receiver(Protocol):
    """Who takes the batches."""

    incarnation: int

    def takes(self, number: int) -> bool:
        """Shall records of this partition be fetched now?"""

    def seeks(self) -> Mapping[tuple[str, int], int]:
        """Where each partition that serves goes on, by topic name on the broker and number."""

    async def feed(self, incarnation: int, topic: str, number: int, records: Sequence[Raw], position: int) -> None:
        """What a fetch under an incarnation brought of one partition, and where the next fetch begins."""


class BatchThread(driver.AIOKafkaConsumerThread):
    """The consumer itself, in its thread; reads committed records only."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Read when the fetcher is built in start(), so setting them here is in time.
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        consumer._max_partition_fetch_bytes = FETCH_BYTES
        return consumer

    async def on_start(self) -> None:
        await super().on_start()
        consumer = self._ensure_consumer()
        hold_empty_fetches(consumer)
        hand_out_bare(consumer)

    async def is_member(self, generation: int) -> bool:
        """Does the group still count this process as a member of this generation?"""
        coordinator = self._ensure_consumer()._coordinator
        alive = await self.call_thread(coordinator._do_heartbeat)
        return bool(alive) and coordinator.generation == generation

    def next_offset(self, tp: TP) -> int | None:
        """Where the next fetch begins, markers of transactions included; None while a seek is under way."""
        assignment = self._ensure_consumer()._subscription.subscription.assignment
        state = assignment.state_value(tp) if assignment else None
        return state.position if state and state.has_valid_position else None


class BatchConsumer(driver.Consumer):
    """Hands batches to the engine and commits nothing: positions are the engine's state."""

    _must_seek = False

    @property
    def _engine(self) -> Receiver:
        engine: Receiver = self.app.engine  # type: ignore[attr-defined]  # EngineApp has it
        return engine

    def _new_consumer_thread(self) -> BatchThread:
        return BatchThread(self, loop=self.loop, beacon=self.beacon)

    async def is_member(self) -> bool:
        """Is this process still a member of the generation that assigned its partitions?"""
        thread = self._thread
        assert isinstance(thread, BatchThread)
        return await thread.is_member(self.app.consumer_generation_id)

    async def perform_seek(self) -> None:
        """Faust asks for a seek after each rebalance; the drain does it between two fetches."""
        self.seek_soon()

    def seek_soon(self) -> None:
        """Go on where the engine's partitions stand, from the next fetch on."""
        self._must_seek = True

    async def _getmany(self, active_partitions: Any, timeout: float) -> Any:  # noqa: ASYNC109  # as Faust has it
        """Fetch of those partitions only that take records: one that is full or being restored stops no other."""
        wanted = {tp for tp in active_partitions or () if self._engine.takes(tp.partition)}
        if not wanted:  # an empty set would mean all
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            return {}
        is_all = len(wanted) == len(active_partitions)
        return await super()._getmany(wanted, timeout if is_all else LOOK_AGAIN_SECONDS)

    def _seek_all(self) -> None:
        self._must_seek = False
        wanted = self._engine.seeks()
        for tp in self.assignment():
            if (tp.topic, tp.partition) in wanted:
                self._thread.seek(tp, wanted[tp.topic, tp.partition])

    async def _drain_messages(self, fetcher: Any) -> None:
        stopping = self._stopped.is_set
        try:
            while not (stopping() or fetcher._stopped.is_set()):
                if self._must_seek and self.flow_active:
                    self._seek_all()
                # Taken before the fetch: whatever changes while it waits makes its records stale.
                before = self._engine.incarnation, self.app.consumer_generation_id
                fetched, _ = await self._wait_next_records(1.0)
                if (
                    self._engine.incarnation,
                    self.app.consumer_generation_id,
                ) != before or not self.flow_active:
                    self._must_seek = True
                    await asyncio.sleep(0)
                    continue
                await self._deliver(fetched or {}, before[0])
                await asyncio.sleep(0)
        except self.consumer_stopped_errors:
            if not self.transport.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.transport.app.should_stop:  # told to stop before it served, Faust would call it a crash
                raise

    async def _deliver(self, fetched: Mapping[Any, Sequence[Raw]], incarnation: int) -> None:
        thread = self._thread
        assert isinstance(thread, BatchThread)
        # All positions are read before the first await: afterwards the next fetch may have moved them.
        moved = [(tp, fetched.get(tp, ()), thread.next_offset(tp)) for tp in self.assignment()]
        for tp, records, position in moved:
            if not self._engine.takes(tp.partition) and not records:
                continue
            if position is None:
                self._must_seek = True
            else:
                await self._engine.feed(incarnation, tp.topic, tp.partition, records, position)
        if self._engine.incarnation != incarnation:  # a partition was opened anew while others were served
            self._must_seek = True


class BatchTransport(driver.Transport):
    Consumer = BatchConsumer
