"""The partitions that this process owns: takes them over, feeds them, gives them up."""

import asyncio
import gc
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic

from schemas.topics import CLOCK, POLICY, Topic
from services.core.processor import Processor, S
from services.runtime import clock, kafka, log
from services.runtime.engine import restore
from services.runtime.engine.courier import Courier, Idle
from services.runtime.engine.flush import Lane, Owner
from services.runtime.engine.keep import Kept, unchanged
from services.runtime.engine.names import changelog_of, group_of
from services.runtime.engine.partition import Meta, Partition
from services.runtime.engine.raw import Raw
from services.runtime.engine.steps import Passed, Step, unobserved
from services.runtime.engine.tables import Tables
from services.runtime.engine.transport import BatchConsumer
from services.runtime.kafka import AtLeastOnce, BrokerAway, Refused, Transactions, Writer
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings

OPEN_SECONDS = 600.0
WRITER_SECONDS = 60.0  # InitProducerId alone; aiokafka asks again for ever
REOPEN_SECONDS = 120.0
REVOKE_SECONDS = 5.0
MEMBER_SECONDS = 5.0
SLICE = 250  # records reduced in one turn of the loop; a whole fetch would keep commits waiting for a second


class Engine(Generic[S]):
    """The partitions this process owns. Anything it cannot mend ends the process: the next one starts from the log."""

    def __init__(
        self,
        settings: Settings,
        processor: Processor[S],
        metrics: Metrics,
        courier: Courier,
        passed: Passed = unobserved,
    ) -> None:
        self.incarnation = 0
        self.transactional = True  # whether the broker has transactions; told before the start
        self.tables = Tables(settings)
        self._settings = settings
        self._processor = processor
        self._metrics = metrics
        self._courier = courier
        self._acts = not isinstance(courier, Idle)
        self._passed = passed
        self._owner: Owner[S] = Owner(courier.perform, self._reopen, self.abort, passed)
        self._changelog = changelog_of(processor.name)
        self._inputs = (*processor.inputs, CLOCK)
        self._topics = {settings.topic(topic): topic for topic in self._inputs}
        self._lanes: dict[int, Lane[S]] = {}
        self._kept: dict[int, Kept[S]] = {}
        self.restoring: dict[int, restore.Snapshot] = {}  # as they fill
        self._settled = False
        self._revocations = 0
        self._failing: set[int] = set()
        self._assigned: frozenset[int] = frozenset()
        self._consumer: BatchConsumer | None = None
        self._following: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._log = log.get()

    @property
    def subscription(self) -> list[str]:
        """Names on the broker of what the group reads."""
        return sorted(self._topics)

    @property
    def ready(self) -> bool:
        """Does every assigned partition serve? Not before the first assignment, nor during a rebalance."""
        lanes = dict(self._lanes)
        return self._settled and all(number in lanes and lanes[number].ready for number in self._assigned)

    @property
    def lanes(self) -> dict[int, Lane[S]]:
        """The partitions that were opened; a copy, for other threads too."""
        return dict(self._lanes)

    @property
    def assigned(self) -> frozenset[int]:
        """The partitions of the last assignment."""
        return self._assigned

    @property
    def settled(self) -> bool:
        """Has there been an assignment, and no revocation since?"""
        return self._settled

    @property
    def guarantee(self) -> str:
        """What the flushes of this process are worth, in the words of /ready."""
        return "exactly once" if self.transactional else "at least once"

    def attach(self, consumer: BatchConsumer) -> None:
        """The consumer that was assigned what this engine serves."""
        self._consumer = consumer

    def takes(self, number: int) -> bool:
        """Shall records of this partition be fetched now? Not before it is restored, nor while it is full."""
        lane = self._lanes.get(number)
        return lane is not None and lane.takes

    def seeks(self) -> dict[tuple[str, int], int]:
        """Where each serving partition's inputs go on."""
        return {
            (name, number): lane.partition.meta.positions[topic.name]
            for number, lane in self._lanes.items()
            if lane.ready
            for name, topic in self._topics.items()
        }

    async def feed(self, incarnation: int, topic: str, number: int, records: Sequence[Raw], position: int) -> None:
        """Reduce what a fetch brought, in bounded turns of the loop.

        Records fetched under another incarnation are dropped: a partition opened since then reads them again.
        """
        if records:
            self._metrics.batch.observe(len(records))
        for start in range(0, max(len(records), 1), SLICE):
            lane = self._lanes.get(number)
            if lane is None or not lane.ready or self.incarnation != incarnation:
                return
            taken = records[start : start + SLICE]
            is_last = start + SLICE >= len(records)
            self._take(lane, self._topics[topic], taken, position if is_last else taken[-1].offset + 1)
            lane.touched()
            if not is_last:
                await asyncio.sleep(0)

    def _take(self, lane: Lane[S], topic: Topic, records: Sequence[Raw], position: int) -> None:
        try:
            lane.partition.take(topic, records, position)
        except Exception as error:  # noqa: BLE001  # ours, not the record's: skipping it would lose an event
            offsets = [record.offset for record in (*records[:1], *records[-1:])]
            self.abort(f"cannot reduce {topic} partition {lane.partition.number}, offsets {offsets}: {error}", error)

    async def assign(self, numbers: Sequence[int]) -> None:
        """Begin to open every partition: fence the predecessor, restore, let the consumer seek.

        Returns before that is done: a rebalance that comes meanwhile must not wait for a long restore.
        """
        if self._following is None:
            self._following = asyncio.create_task(self._follow())
            await self._courier.start()
        self._assigned, self._settled = frozenset(numbers), True
        self._kept = {number: kept for number, kept in self._kept.items() if number in self._assigned}
        self._metrics.rebalances.labels(self._processor.name).inc()
        self._metrics.assigned.labels(self._processor.name).set(len(numbers))
        self._opening = asyncio.create_task(self._take_over(numbers))

    async def revoke(self) -> None:
        """Finish what is in flight, flush once more, forget everything but what may be kept."""
        self._settled = False
        self._revocations += 1
        opening, self._opening = self._opening, None
        if opening is not None and not opening.done():
            opening.cancel()
            await asyncio.wait([opening], timeout=REVOKE_SECONDS)
        lanes, self._lanes = self._lanes, {}
        self.incarnation += 1
        for number in lanes:
            await self._passed(Step.REVOKING, number)
        kept = await asyncio.gather(*(lane.close() for lane in lanes.values()))
        self._kept |= {one.partition.number: one for one in kept if one is not None}
        await self._courier.revoked()
        for number in lanes:
            await self._passed(Step.REVOKED, number)

    async def stop(self) -> None:
        """The worker ends: nothing more is done outside."""
        await self._courier.stop()

    def observe(self) -> None:
        """Publish the gauges."""
        self._metrics.ready.labels(self._processor.name).set(self.ready)
        for lane in self._lanes.values():
            lane.partition.observe()

    def abort(self, why: str, error: BaseException | None = None) -> None:
        """End the process at once; whatever was not committed is aborted by the next owner."""
        self._log.critical("worker ends", why=why, error=repr(error))
        sys.stderr.flush()
        os._exit(1)

    async def _follow(self) -> None:
        try:
            await self.tables.follow()
        except Exception as error:  # noqa: BLE001  # without its tables the worker would decide by an old policy
            self.abort(f"cannot read {POLICY.name}: {error}", error)

    # -- taking over ---------------------------------------------------------------------------------------------

    async def _take_over(self, numbers: Sequence[int]) -> None:
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await self.tables.loaded()
                kept = [number for number in numbers if number in self._kept]
                # Apart: what was kept goes on at once, and does not wait for what must be read.
                await asyncio.gather(self._open(kept), self._open([one for one in numbers if one not in kept]))
        except TimeoutError as error:
            self.abort(f"partitions {numbers} could not be taken over within {OPEN_SECONDS:.0f} s", error)
        except Exception as error:  # noqa: BLE001  # a worker that cannot restore must not look alive
            self.abort(f"cannot take over partitions {numbers}: {error}", error)
        self._log.info("serving", partitions=sorted(self._lanes))

    async def _open(self, numbers: Sequence[int]) -> None:
        if not numbers:
            return
        begun, name, revocations = clock.elapsed(), self._processor.name, self._revocations
        writers = {number: self._writer(number) for number in numbers}
        opened: dict[int, Kept[S]] = {}
        try:
            # Before the restore: it ends the predecessor's open transactions, so the restore sees all there will be.
            await asyncio.gather(*(_begun(number, writer) for number, writer in writers.items()))
            await self._passing(Step.OPENED, numbers)
            await self._restore(numbers, opened)
            await self._passing(Step.RESTORED, numbers)
        except BaseException:  # a rebalance, too: another process may own these by now
            await asyncio.shield(self._drop(writers.values(), opened))
            raise
        if self._revocations != revocations:  # and this task's cancellation is under way
            await self._drop(writers.values(), opened)
            return
        for number, held in opened.items():
            self._lanes[number] = Lane(
                self._settings, held, self._changelog, writers[number], self._metrics, self._owner
            )
        self.incarnation += 1
        if self._consumer is not None:
            self._consumer.seek_soon()
        self._metrics.restore_seconds.labels(name).set(clock.elapsed() - begun)
        gc.collect()
        gc.freeze()
        await self._passing(Step.SERVING, numbers)

    def _writer(self, number: int) -> Writer:
        if not self.transactional:
            return AtLeastOnce(self._settings)
        return Transactions(self._settings, f"{group_of(self._processor.name)}-{number}")

    async def _restore(self, numbers: Sequence[int], opened: dict[int, Kept[S]]) -> None:
        """Put each partition with its state into `opened`, one after the other: what is there stays if this ends."""
        kept = {number: self._kept.pop(number) for number in numbers if number in self._kept}
        if kept:
            ids = await kafka.topic_ids(self._settings, [*(topic.name for topic in self._inputs), self._changelog])
            for number, held in kept.items():
                restore.check(f"kept partition {number}", held.partition.meta, ids, transactional=self.transactional)
        same = await unchanged(self._settings, self._changelog, self._inputs, kept)
        for number, ends in same.items():
            kept[number].partition.again(ends)
            opened[number] = kept[number]
            self._log.info("kept", partition=number, flush=kept[number].partition.meta.flush)
        restored = await self._read([number for number in numbers if number not in same])
        for number, (snapshot, meta) in restored.items():
            partition = Partition(
                number, self._settings.partitions, self._processor, self.tables, self._metrics, acts=self._acts
            )
            partition.restore(snapshot.states, meta, snapshot.ends, snapshot.dues)
            opened[number] = Kept(partition, snapshot.offset)
            self._metrics.restored.labels(self._processor.name).inc(snapshot.records)
            self._log.info(
                "restored",
                partition=number,
                records=snapshot.records,
                accounts=len(snapshot.states),
                positions=meta.positions,
                flush=meta.flush,
            )
            snapshot.states, snapshot.dues = {}, {}
            self.restoring.pop(number, None)
            await asyncio.sleep(0)

    async def _read(self, numbers: Sequence[int]) -> dict[int, tuple[restore.Snapshot, Meta]]:
        if not numbers:
            return {}
        settings, changelog, inputs = self._settings, self._changelog, self._inputs
        return await restore.restore(
            settings, changelog, inputs, numbers, self.restoring, transactional=self.transactional
        )

    async def _drop(self, writers: Iterable[Writer], opened: Mapping[int, Kept[S]]) -> None:
        self._kept |= opened
        await asyncio.gather(*(writer.close() for writer in writers))

    async def _passing(self, step: Step, numbers: Iterable[int]) -> None:
        for number in numbers:
            await self._passed(step, number)

    # -- after a failed flush ------------------------------------------------------------------------------------

    async def _reopen(self, lane: Lane[S], error: Exception) -> None:
        """Start the partition again from the log, or end the process."""
        number = lane.partition.number
        self._log.error("flush failed", partition=number, error=repr(error.__cause__ or error), why=str(error))
        self.incarnation += 1
        await lane.abandon()
        if number in self._failing and not lane.has_flushed:
            self.abort(f"partition {number} failed twice without a flush in between: {error}", error)
        self._failing.add(number)
        deadline = clock.elapsed() + REOPEN_SECONDS
        while self._lanes.get(number) is lane:  # a rebalance in between takes it away
            if clock.elapsed() > deadline:
                self.abort(f"partition {number} could not be opened again within {REOPEN_SECONDS:.0f} s", error)
            # A process the group has given up on must not fence the rightful owner.
            if await self._is_member() and await self._opened_again(number):
                return
            await asyncio.sleep(0.5)

    async def _opened_again(self, number: int) -> bool:
        try:
            async with asyncio.timeout(REOPEN_SECONDS):
                await self._open([number])
        except (BrokerAway, Refused, OSError) as error:  # also TimeoutError: what stopped the flush may last
            self._log.warning("partition not opened", partition=number, why=str(error) or repr(error))
            return False
        return True

    async def _is_member(self) -> bool:
        if self._consumer is None:
            return False
        try:
            async with asyncio.timeout(MEMBER_SECONDS):
                return await self._consumer.is_member()
        except Exception as error:  # noqa: BLE001  # not to know is not to be
            self._log.warning("membership unknown", error=repr(error))
            return False


async def _begun(number: int, writer: Writer) -> None:
    try:
        async with asyncio.timeout(WRITER_SECONDS):
            await writer.open()
    except TimeoutError:
        raise BrokerAway(
            f"Kafka has not let partition {number} write for {WRITER_SECONDS:.0f} s: what its predecessor left open "
            "is not ended yet, or the coordinator of transactions is not well"
        ) from None
