"""Starts everything a small installation needs as child processes, waits until it serves, and stops it again."""

import asyncio
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout
from pydantic import SecretStr

from services.core.errors import OperatorError
from services.core.instants import SECOND
from services.demo import receiver, vendors
from services.demo.company import BILLING, CRM, DESK
from services.demo.effects import GRACE
from services.runtime import clock
from services.runtime.embedded.broker import start_broker
from services.runtime.embedded.ports import HOST, pick_port
from services.runtime.embedded.process import Child
from services.runtime.embedded.redis import start_redis
from services.runtime.settings import Settings

PARTITIONS = 4
BROKER_PORT, REDIS_PORT, INGEST_PORT = 29_092, 26_379, 28_080  # first choices
PROCESSES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "clock": (),  # the demo writes it itself, because its time is simulated
    "ingest": (("ingest", "serve"),),
    "identity": (("identity",),),
    "handoff": (("handoff",),),
    "health": (("health",),),
    "alerting": (("alerting-case",), ("alerting-desk",)),
    "view": (("view", "serve"),),
}
LOOK_SECONDS = 0.1
STOP_SECONDS = 4.0


class ServiceEnded(OperatorError):
    """A service ended although nobody asked it to."""


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs: the settings to reach it, the services with their ports for /ready, and services in this process."""

    settings: Settings
    services: Mapping[Child, int]
    tasks: dict[str, "asyncio.Task[None]"] = field(default_factory=dict)

    @property
    def ingest_url(self) -> str:
        return f"http://{self.settings.ingest_host}:{self.settings.ingest_port}"

    def check(self) -> None:
        """Raises ServiceEnded with the end of the log when a service is gone."""
        for child in self.services:
            if (code := child.exit_code()) is not None:
                raise ServiceEnded(f"the {child.name} service ended with code {code}.{child.last_words()}")
        for name, task in self.tasks.items():
            if task.done():
                raise ServiceEnded(f"the {name} ended: {task.exception() or 'it was told to'}")

    async def ready(self, seconds: float, stopping: asyncio.Event) -> list[str]:
        """Wait until every service serves; answers the names of those that do not in time. Raises ServiceEnded."""
        waiting = dict(self.services)
        deadline = clock.elapsed() + seconds
        async with ClientSession(timeout=ClientTimeout(total=2.0)) as session:
            while waiting and clock.elapsed() < deadline and not stopping.is_set():
                self.check()
                for child, port in list(waiting.items()):
                    if await _is_ready(session, port):
                        del waiting[child]
                await asyncio.sleep(LOOK_SECONDS)
        return [child.name for child in waiting]


async def _is_ready(session: ClientSession, port: int) -> bool:
    try:
        async with session.get(f"http://{HOST}:{port}/ready") as answer:
            return answer.status == 200
    except (ClientError, TimeoutError):
        return False


@contextmanager
def started(folder: Path, policy: Path, alert_url: str, without: frozenset[str] = frozenset()) -> Iterator[Stack]:
    """Broker, Redis and the services on them; all gone when the block ends, however it ends.

    `without` names services to leave out.
    """
    with ExitStack() as running:
        broker = running.enter_context(start_broker(folder / "broker", BROKER_PORT))
        redis = running.enter_context(start_redis(folder / "redis", REDIS_PORT))
        settings = _settings(folder, policy, broker.bootstrap, redis.url, alert_url)
        services: dict[Child, int] = {}
        running.callback(_stop, services)
        for name, commands in PROCESSES.items():
            for command in commands if name not in without else ():
                port = pick_port()
                while port in services.values():  # nobody listens there yet, so it may be picked twice
                    port = pick_port()
                services[_service(folder, command, settings, port)] = port
        yield Stack(settings, services)


def _settings(folder: Path, policy: Path, kafka: str, redis: str, alert_url: str) -> Settings:
    port = pick_port(INGEST_PORT)
    mappings = folder / "mapping"
    mappings.mkdir()
    (mappings / f"{CRM}.yaml").write_text(vendors.MAP)
    return Settings(
        kafka=kafka,
        redis=redis,
        prefix="",
        partitions=PARTITIONS,
        replication=1,
        policy=policy,
        log_level="info",
        http_port=None,
        clock_interval_ms=50,
        grace_seconds=GRACE // SECOND,
        simulated=True,
        ingest_host=HOST,
        ingest_port=port,
        public_url=f"http://{HOST}:{port}",
        source_secrets={
            CRM: (SecretStr(vendors.CRM_SECRET),),
            BILLING: (SecretStr(vendors.BILLING_SECRET),),
            DESK: (SecretStr(vendors.DESK_SECRET),),
        },
        mappings=mappings,
        alert_url=alert_url,
        alert_secrets=(SecretStr(receiver.SECRET),),
        alert_allow_private=True,
    )


def _service(folder: Path, command: tuple[str, ...], settings: Settings, port: int) -> Child:
    environment = settings.environment() | {"STEWARD_HTTP_PORT": str(port)}
    name = command[0]
    return Child(name, (sys.executable, "-m", "services", *command), folder / name, environment=environment)


def _stop(services: Mapping[Child, int]) -> None:
    """Stop all of them at once."""
    if services:
        with ThreadPoolExecutor(len(services)) as pool:
            list(pool.map(partial(Child.stop, patience=STOP_SECONDS), services))
