"""Runs a processor: a Faust worker whose partitions are restored, fed, flushed and revoked by the engine."""

import asyncio
import gc
import tempfile
from typing import Any, cast

import faust
import uvloop

from services.core.processor import Processor
from services.runtime import http, kafka, log
from services.runtime.engine import guards
from services.runtime.engine.courier import Courier, Idle
from services.runtime.engine.engine import Engine
from services.runtime.engine.names import group_of, topics_of
from services.runtime.engine.steps import Passed, unobserved
from services.runtime.engine.transport import BatchConsumer, BatchTransport
from services.runtime.engine.watch import Watch, readiness
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings
from services.runtime.watchdog import Watchdog

COLLECT_AFTER = 100_000  # allocations; state is long-lived, and looking through it again and again is in vain


class EngineApp(faust.App):
    """Faust's application with the engine in the place of its tables and commits."""

    engine: Engine[Any]
    watching: "asyncio.Task[None] | None" = None

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Nothing is kept on disk."""

    async def on_stop(self) -> None:
        if self.watching is not None:
            self.watching.cancel()  # so that the watchdog ends what cannot stop
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
        broker_heartbeat_interval=session / 20,  # this is how the others learn of a dead one
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
    passed: Passed = unobserved,
) -> None:
    """Run a processor until SIGINT or SIGTERM; exits non-zero when it cannot go on.

    `passed` is told of every step of its partitions.

    Raises Moved, BrokerAway and TopicMismatch before anything is started.
    """
    guards.check()
    metrics = metrics or Metrics()
    engine = Engine(settings, processor, metrics, courier or Idle(), passed)
    uvloop.install()
    gc.set_threshold(COLLECT_AFTER, 50, 100)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(kafka.ensure_topics(settings, topics_of(processor)))
    engine.transactional = loop.run_until_complete(kafka.transactional(settings))
    log.get().info("guarantee", guarantee=engine.guarantee, processor=processor.name)
    app = app_for(settings, engine, processor.name)

    with Watchdog() as watchdog, http.serve(settings, metrics, lambda: readiness(engine), watchdog):
        # Not a task of Faust's: those begin after the first assignment.
        app.watching = loop.create_task(Watch(settings, processor, engine, metrics, watchdog).run())
        worker = app.Worker(loop=loop, quiet=True, override_logging=False, redirect_stdouts=False)
        worker.spinner = None
        worker.execute_from_commandline()
