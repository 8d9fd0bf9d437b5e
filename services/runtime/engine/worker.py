"""Runs a processor: a Faust worker whose partitions are restored, fed, flushed and revoked by the engine."""

import asyncio
import gc
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, Protocol, cast

import faust
import uvloop

from schemas.topics import CLOCK, POLICY, Topic, dead_letters
from services.core.processor import Effect, Processor, S
from services.runtime import clock, http, kafka, log
from services.runtime.engine import restore
from services.runtime.engine.flush import Lane
from services.runtime.engine.partition import Partition, Raw
from services.runtime.engine.tables import Tables
from services.runtime.engine.transport import BatchConsumer, BatchTransport
from services.runtime.kafka import Transactions
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings

OPEN_SECONDS = 120.0
SLICE = 250  # records reduced in one turn of the loop; a whole fetch would keep commits waiting for a second
COLLECT_AFTER = 100_000  # allocations; state is long-lived, and looking through it again and again is in vain
REOPEN_SECONDS = 120.0
MEMBER_SECONDS = 5.0
CHANGELOG = {
    "cleanup.policy": "compact",
    "segment.bytes": str(16 << 20),  # the active segment is never compacted, and it is what a restore reads
    "min.cleanable.dirty.ratio": "0.1",
    "max.compaction.lag.ms": "3600000",
}


def group_of(processor: str) -> str:
    """Consumer group, Faust app and stem of the transactional ids of a processor."""
    return f"steward-{processor}"


def changelog_of(processor: str) -> str:
    """Where a processor's state stands."""
    return f"{group_of(processor)}-state"


def topics_of(processor: Processor[Any]) -> Mapping[str, Mapping[str, str]]:
    """Every topic a processor touches, with the settings to create it with."""
    known: Iterable[Topic] = (
        *processor.inputs,
        *processor.outputs,
        CLOCK,
        POLICY,
        dead_letters(processor.name),
    )
    return {topic.name: topic.config for topic in known} | {changelog_of(processor.name): CHANGELOG}


class Courier(Protocol):
    """Does outside what states want done, and publishes what came of it. Each effect's id once, as far as it knows."""

    async def start(self) -> None:
        """Called in the worker's loop before the first partition is served."""

    def perform(self, effects: Sequence[Effect]) -> None:
        """Begin what is new among these; called after the commit of the states that want them."""

    async def revoked(self) -> None:
        """Partitions are being taken away: end what is under way within 5 s, and forget what has not begun."""

    async def stop(self) -> None:
        """The worker ends; effects that come after this are left to the next one."""


class Idle:
    """A courier for processors that want nothing done."""

    async def start(self) -> None:
        pass

    def perform(self, effects: Sequence[Effect]) -> None:
        pass

    async def revoked(self) -> None:
        pass

    async def stop(self) -> None:
        pass


class Engine(Generic[S]):
    """The partitions this process owns. Anything it cannot mend ends the process: the next one starts from the log."""

    def __init__(self, settings: Settings, processor: Processor[S], metrics: Metrics, courier: Courier) -> None:
        self.incarnation = 0
        self.tables = Tables(settings)
        self._settings = settings
        self._processor = processor
        self._metrics = metrics
        self._courier = courier
        self._inputs = (*processor.inputs, CLOCK)
        self._topics = {settings.topic(topic): topic for topic in self._inputs}
        self._lanes: dict[int, Lane[S]] = {}
        self._assignment = 0  # counts revocations
        self._settled = False
        self._failing: set[int] = set()
        self._assigned: frozenset[int] = frozenset()
        self._consumer: BatchConsumer | None = None
        self._following: asyncio.Task[None] | None = None
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

    def attach(self, consumer: BatchConsumer) -> None:
        """The consumer that was assigned what this engine serves."""
        self._consumer = consumer

    def seeks(self) -> dict[tuple[str, int], int]:
        """Where each serving partition's inputs go on."""
        return {
            (name, number): lane.partition.meta.positions[topic.name]
            for number, lane in self._lanes.items()
            if lane.ready
            for name, topic in self._topics.items()
        }

    async def feed(self, incarnation: int, topic: str, number: int, records: Sequence[Raw], position: int) -> None:
        """Reduce what a fetch brought; waits while too much of the partition is unflushed.

        Records fetched under another incarnation are dropped: a partition opened since then reads them again.
        """
        for start in range(0, max(len(records), 1), SLICE):
            lane = self._lanes.get(number)
            if lane is None or not lane.ready or self.incarnation != incarnation:
                return
            taken = records[start : start + SLICE]
            is_last = start + SLICE >= len(records)
            self._take(lane, self._topics[topic], taken, position if is_last else taken[-1].offset + 1)
            lane.touched()
            await lane.room()
            if not is_last:
                await asyncio.sleep(0)

    def _take(self, lane: Lane[S], topic: Topic, records: Sequence[Raw], position: int) -> None:
        try:
            lane.partition.take(topic, records, position)
        except Exception as error:  # noqa: BLE001  # ours, not the record's: skipping it would lose an event
            offsets = [record.offset for record in (*records[:1], *records[-1:])]
            self.abort(f"cannot reduce {topic} partition {lane.partition.number}, offsets {offsets}: {error}", error)

    async def assign(self, numbers: Sequence[int]) -> None:
        """Open every partition: fence the predecessor, restore, and let the consumer seek."""
        if self._following is None:
            self._following = asyncio.create_task(self._follow())
            await self._courier.start()
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await self.tables.loaded()
                await self._open(numbers)
        except Exception as error:  # noqa: BLE001  # a worker that cannot restore must not look alive
            self.abort(f"cannot take over partitions {numbers}: {error}", error)
        self._assigned, self._settled = frozenset(numbers), True
        self._metrics.rebalances.labels(self._processor.name).inc()
        self._metrics.assigned.labels(self._processor.name).set(len(self._lanes))
        self._log.info("serving", partitions=sorted(self._lanes))

    async def revoke(self) -> None:
        """Finish what is in flight, flush once more, forget everything."""
        self._settled = False
        lanes, self._lanes = self._lanes, {}
        self._assignment += 1
        self.incarnation += 1
        await asyncio.gather(*(lane.close() for lane in lanes.values()))
        await self._courier.revoked()

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

    async def _open(self, numbers: Sequence[int]) -> None:
        if not numbers:
            self.incarnation += 1
            return
        begun, assignment = clock.elapsed(), self._assignment
        name, changelog = self._processor.name, changelog_of(self._processor.name)
        producers = {number: Transactions(self._settings, f"{group_of(name)}-{number}") for number in numbers}
        # Before the restore: it ends the predecessor's open transactions, so the restore sees all there will be.
        await asyncio.gather(*(producer.open() for producer in producers.values()))
        restored = await restore.restore(self._settings, changelog, self._inputs, numbers)
        if self._assignment != assignment:  # revoked while it was restored: another process owns these now
            await asyncio.gather(*(producer.close() for producer in producers.values()))
            return
        for number, (snapshot, meta) in restored.items():
            partition = Partition(number, self._settings.partitions, self._processor, self.tables, self._metrics)
            partition.restore(snapshot.states, meta, snapshot.ends)
            self._lanes[number] = Lane(
                self._settings,
                partition,
                changelog,
                producers[number],
                self._metrics,
                self._courier.perform,
                self._reopen,
                self.abort,
            )
            self._metrics.restored.labels(name).inc(snapshot.records)
            self._log.info(
                "restored",
                partition=number,
                records=snapshot.records,
                accounts=len(snapshot.states),
                positions=meta.positions,
                flush=meta.flush,
            )
        self.incarnation += 1
        self._metrics.restore_seconds.labels(name).set(clock.elapsed() - begun)
        gc.collect()
        gc.freeze()

    async def _reopen(self, lane: Lane[S], error: Exception) -> None:
        """After a failed flush: start the partition again from the log, or end the process."""
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
            if self._consumer is not None and await self._is_member(self._consumer):
                async with asyncio.timeout(REOPEN_SECONDS):
                    await self._open([number])
                await self._consumer.perform_seek()
                return
            await asyncio.sleep(0.5)

    async def _is_member(self, consumer: BatchConsumer) -> bool:
        try:
            async with asyncio.timeout(MEMBER_SECONDS):
                return await consumer.is_member()
        except Exception as error:  # noqa: BLE001  # not to know is not to be
            self._log.warning("membership unknown", error=repr(error))
            return False


class EngineApp(faust.App):
    """Faust's application with the engine in the place of its tables and commits."""

    engine: Engine[Any]

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Nothing is kept on disk."""

    async def on_stop(self) -> None:
        await self.engine.stop()
        await super().on_stop()

    async def _on_partitions_revoked(self, revoked: Any) -> None:
        self.consumer.stop_flow()
        await self.engine.revoke()
        await super()._on_partitions_revoked(revoked)

    async def _on_partitions_assigned(self, assigned: Any, generation_id: int = 0) -> None:
        if not self.should_stop:
            self.engine.attach(cast("BatchConsumer", self.consumer))
            await self.engine.assign(sorted({tp.partition for tp in assigned}))
        await super()._on_partitions_assigned(assigned, generation_id)


def app_for(settings: Settings, engine: Engine[Any], name: str) -> EngineApp:
    """The Faust application that runs an engine."""
    session = float(settings.session_seconds)
    app = EngineApp(
        f"{settings.prefix}{group_of(name)}",
        broker=[f"kafka://{address}" for address in settings.kafka.split(",")],
        datadir=tempfile.gettempdir(),
        web_enabled=False,
        web_tables_enabled=False,
        web_router_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,  # the engine created them, with their settings
        topic_partitions=settings.partitions,
        # Any value above 0 selects Faust's own assignor, which keeps equal partitions of all topics together.
        table_standby_replicas=1,
        broker_session_timeout=session,
        broker_heartbeat_interval=session / 5,
        broker_rebalance_timeout=max(10.0, session),
        broker_max_poll_records=5000,
        consumer_auto_offset_reset="earliest",
        worker_redirect_stdouts=False,
    )
    app.engine = engine
    app.topics.add(app.topic(*engine.subscription, key_type=bytes, value_type=bytes, acks=False))
    return app


def run(
    settings: Settings,
    processor: Processor[Any],
    *,
    courier: Courier | None = None,
    metrics: Metrics | None = None,
) -> None:
    """Run a processor until SIGINT or SIGTERM; exits non-zero when it cannot go on.

    Raises BrokerAway and TopicMismatch before anything is started.
    """
    metrics = metrics or Metrics()
    engine = Engine(settings, processor, metrics, courier or Idle())
    uvloop.install()
    gc.set_threshold(COLLECT_AFTER, 50, 100)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(kafka.ensure_topics(settings, topics_of(processor)))
    app = app_for(settings, engine, processor.name)

    @app.task  # type: ignore[untyped-decorator]  # Faust leaves it so
    async def observe() -> None:
        while True:
            engine.observe()
            await asyncio.sleep(1.0)

    with http.serve(settings.http_port, metrics, lambda: engine.ready):
        worker = app.Worker(loop=loop, quiet=True, override_logging=False, redirect_stdouts=False)
        worker.spinner = None
        worker.execute_from_commandline()
