"""Steward's own processes as a bench starts them, and what the system says of them."""

import json
import os
import sys
import time
from collections.abc import Awaitable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from urllib.request import urlopen

from bench.systems import ROOT, Stuck
from services.runtime.embedded.ports import HOST, pick_port
from services.runtime.embedded.process import Child
from services.runtime.settings import Settings

READY_SECONDS = 180.0
LOOK_EVERY = 0.05
TICK = os.sysconf("SC_CLK_TCK")


class Service:
    """A command of Steward in a process of its own, ready when this returns."""

    def __init__(
        self, settings: Settings, words: Sequence[str], folder: Path, *, name: str = "", module: str = "services"
    ) -> None:
        self.port = pick_port()
        mine = settings.model_copy(update={"http_port": self.port})
        environment = {**mine.environment(), "PYTHONPATH": str(ROOT)}
        command = (sys.executable, "-m", module, *words)
        self.child = Child(name or "-".join(words), command, folder, environment=environment)
        deadline = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            if self.child.exit_code() is not None or time.monotonic() > deadline:
                self.child.kill()
                raise Stuck(f"{self.child.name} did not become ready.{self.child.last_words()}")
            time.sleep(LOOK_EVERY)

    @property
    def resident(self) -> int:
        """Bytes of memory that the process holds."""
        return _resident(self.child.pid)

    @property
    def cpu(self) -> float:
        """Seconds of CPU that the process has used."""
        return cpu_of(self.child.pid)

    def said(self, event: str) -> list[dict[str, object]]:
        """Its log lines about one event."""
        lines = self.child.log.read_text(encoding="utf-8", errors="replace").splitlines()
        heard = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [line for line in heard if line.get("event") == event]

    def awaited(self, event: str) -> None:
        """Wait until it has said this. Raises Stuck."""
        deadline = time.monotonic() + READY_SECONDS
        while not self.said(event):
            if time.monotonic() > deadline:
                raise Stuck(f"{self.child.name} did not say '{event}'.{self.child.last_words()}")
            time.sleep(LOOK_EVERY)

    def metric(self, name: str) -> float:
        """A metric, summed over its labels; 0 where it does not say anything yet."""
        with urlopen(f"http://{HOST}:{self.port}/metrics", timeout=10) as answer:
            return total(answer.read().decode(), name)

    @property
    def guarantee(self) -> str:
        """What /ready says of it: `exactly once` or `at least once`; empty where it says nothing."""
        with urlopen(f"http://{HOST}:{self.port}/ready", timeout=10) as answer:
            said = answer.read().decode()
        return next((word for word in ("exactly once", "at least once") if word in said), "")

    def stop(self) -> None:
        self.child.stop()

    def _is_ready(self) -> bool:
        try:
            with urlopen(f"http://{HOST}:{self.port}/ready", timeout=2) as answer:
                return bool(answer.status == HTTPStatus.OK)
        except OSError:
            return False


def total(exposed: str, name: str) -> float:
    """The sum of a metric's values over its labels, from what /metrics answers."""
    rows = [line.rsplit(" ", 1) for line in exposed.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    return sum(float(value) for _, value in rows)


def cpu_of(pid: int) -> float:
    """Seconds of CPU a process has used, in user and kernel mode, with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


async def used(pids: Mapping[str, int], work: Awaitable[object]) -> dict[str, float]:
    """CPU seconds per second of each process while something is done."""
    before, begun = {name: cpu_of(pid) for name, pid in pids.items()}, time.perf_counter()
    await work
    took = time.perf_counter() - begun
    return {name: round((cpu_of(pid) - before[name]) / took, 3) for name, pid in pids.items()}


def pressure() -> float | None:
    """Percent of the last minute in which something waited for a core; None where the system does not say.

    Far above what the bench itself makes wait, and its figures are those of other people's work.
    """
    path = Path("/proc/pressure/cpu")
    return None if not path.exists() else stalled(path.read_text(encoding="ascii"))


def stalled(said: str) -> float:
    """The figure in what the kernel says: `some avg10=0.50 avg60=1.20 …`."""
    return float(said.split("avg60=", 1)[1].split(maxsplit=1)[0])


def _resident(pid: int) -> int:
    rows = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    row = next(row for row in rows if row.startswith("VmRSS:"))
    return int(row.split()[1]) * 1024
