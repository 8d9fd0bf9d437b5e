"""A place at which a processor's process stops, fails or waits; armed from outside through a file."""

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

Action = Literal["kill", "stop", "raise", "sleep"]


@dataclass(frozen=True, slots=True)
class Failpoint:
    """At the `count`-th time of one of these steps (of one partition, or of any) since it was armed."""

    steps: Sequence[str]
    action: Action
    count: int = 1
    partition: int | None = None
    seconds: float = 0.0

    def arm(self, path: Path) -> None:
        """For the process that was started with this path."""
        whole = path.with_suffix(".new")
        whole.write_text(json.dumps(asdict(self)))
        whole.rename(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls(**json.loads(path.read_text()))


class Injected(RuntimeError):
    """What a failpoint raises."""


class Trigger:
    """Told of every step by the engine. Says on its output what it does before it does it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._armed: Failpoint | None = None
        self._seen = 0

    async def __call__(self, step: str, number: int) -> None:
        if self._path.exists():
            self._armed, self._seen = Failpoint.read(self._path), 0
            self._path.unlink(missing_ok=True)
        point = self._armed
        if point is None or step not in point.steps or point.partition not in {None, number}:
            return
        self._seen += 1
        if self._seen < point.count:
            return
        self._armed = None
        said = {"event": "failpoint", "step": step, "partition": number, "action": point.action, "pid": os.getpid()}
        print(json.dumps(said), flush=True)
        await _act(point, step)


async def _act(point: Failpoint, step: str) -> None:
    match point.action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "raise":
            raise Injected(f"injected after {step}")
        case "sleep":
            await asyncio.sleep(point.seconds)
