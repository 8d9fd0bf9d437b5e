"""Starts everything a small installation needs as child processes, and stops it again."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.core.errors import OperatorError
from services.runtime.embedded.broker import start_broker
from services.runtime.embedded.process import Child
from services.runtime.embedded.redis import start_redis
from services.runtime.settings import Settings

PARTITIONS = 4
SERVICES = ("clock", "handoff")
BROKER_PORT, REDIS_PORT = 29092, 26379


class ServiceEnded(OperatorError):
    """A service ended although nobody asked it to."""


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs: the settings to reach it and the services."""

    settings: Settings
    services: tuple[Child, ...]

    def check(self) -> None:
        """Raises ServiceEnded with the end of the log when a service is gone."""
        for child in self.services:
            if (code := child.exit_code()) is not None:
                raise ServiceEnded(f"the {child.name} service ended with code {code}.{child.last_words()}")


@contextmanager
def started(folder: Path, policy: Path, without: frozenset[str] = frozenset()) -> Iterator[Stack]:
    """Broker, Redis, clock writer and handoff processor; all gone when the block ends, however it ends.

    `without` names services to leave out.
    """
    with ExitStack() as running:
        broker = running.enter_context(start_broker(folder / "broker", BROKER_PORT))
        redis = running.enter_context(start_redis(folder / "redis", REDIS_PORT))
        settings = Settings(
            kafka=broker.bootstrap, redis=redis.url, partitions=PARTITIONS, policy=policy.resolve(), log_level="info"
        )
        wanted = [name for name in SERVICES if name not in without]
        services = tuple(_service(running, name, folder, settings) for name in wanted)
        yield Stack(settings, services)


def _service(running: ExitStack, name: str, folder: Path, settings: Settings) -> Child:
    command = (sys.executable, "-m", "services", name)
    child = Child(name, command, folder / name, environment=settings.environment())
    running.callback(child.stop)
    return child
