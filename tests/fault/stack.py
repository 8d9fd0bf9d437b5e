"""The processes of one run: processors and the clock writer on a prefix of their own, restarted when they end."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from services.runtime.embedded.process import Child
from tests.fault.failpoint import Failpoint

ROOT = Path(__file__).parents[2]
PARTITIONS = 3
LEG_SECONDS = 4
SESSION_SECONDS = 3
RESTART_SECONDS = 0.3
MOST_PROCESSES = 40  # a worker that ends again and again is no fault that heals
POLICY = f"""
version: 1
owner: A test
calendar: always
calendars:
  always: {{zone: UTC, week: {{mon-sun: [["00:00", "24:00"]]}}}}
handoffs:
  quick: {{legs: {{accept: {{hours: {LEG_SECONDS / 3600}}}}}}}
  sale_to_onboarding: {{legs: {{accept: {{hours: {LEG_SECONDS / 3600}}}}}}}
"""

Role = Literal["handoff", "ledger", "clock"]


@dataclass
class Process:
    """One process and the file through which its failpoint is armed; the others of its name write other logs."""

    role: Role
    child: Child
    failpoint: Path
    is_wanted: bool = True  # ended by itself, it is started again

    @property
    def is_alive(self) -> bool:
        return self.child.exit_code() is None

    def said(self, event: str) -> list[dict[str, Any]]:
        """Its log lines about one event."""
        found = []
        for line in self.child.log.read_text(errors="replace").splitlines():
            with suppress(ValueError):
                said = json.loads(line)
                if isinstance(said, dict) and said.get("event") == event:
                    found.append(said)
        return found

    def arm(self, point: Failpoint) -> None:
        point.arm(self.failpoint)

    def tell(self) -> None:
        """Have it write to its log where all of its tasks stand."""
        self.signal(signal.SIGUSR1)

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            if self.is_alive:
                os.kill(self.child.pid, number)


@dataclass
class Stack:
    """One installation. `bootstrap` is the straight way to the broker, `way` that of its processes."""

    bootstrap: str
    way: str
    prefix: str
    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    without: str | None = None
    processes: list[Process] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    holds_clock: bool = False  # no clock writer is started again
    _ended: set[int] = field(default_factory=set)
    _begun: float = field(default_factory=time.monotonic)

    def note(self, what: str) -> None:
        """Remember what was done to the run, and when."""
        self.notes.append(f"{time.monotonic() - self._begun:6.1f} {what}")

    def start(self, role: Role, *arguments: str) -> Process:
        self.folder.mkdir(parents=True, exist_ok=True)
        policy = self.folder / "policy.yaml"
        policy.write_text(POLICY)
        name = f"{role}-{len(self.processes)}"
        failpoint = self.folder / f"{name}.failpoint"
        environment = {
            "STEWARD_KAFKA": self.way,
            "STEWARD_PREFIX": self.prefix,
            "STEWARD_PARTITIONS": str(PARTITIONS),
            "STEWARD_POLICY": str(policy),
            "STEWARD_SESSION_SECONDS": str(SESSION_SECONDS),
            "STEWARD_TRANSACTION_SECONDS": "40",
            "STEWARD_GRACE_SECONDS": "0",
            "STEWARD_REDELIVERY_SECONDS": "0",
            "PYTHONPATH": str(ROOT),
            **self.settings,
        }
        command = [sys.executable, "-m", "tests.fault.child", role, "--failpoint", str(failpoint), *arguments]
        if self.without is not None and role != "clock":
            command += ["--without", self.without]
        child = Child(name, command, self.folder, environment=environment)
        self.processes.append(Process(role, child, failpoint))
        return self.processes[-1]

    def alive(self, *roles: Role) -> list[Process]:
        """The wanted processes of these roles that run."""
        return [one for one in self.processes if one.role in roles and one.is_wanted and one.is_alive]

    async def serving(self, process: Process, seconds: float = 90) -> Process:
        await until(lambda: bool(process.said("serving")), f"{process.child.name} serves", seconds, process)
        return process

    async def keep(self) -> None:
        """Start again whatever ends by itself, and a clock writer where there is none; until cancelled."""
        while True:
            for number, one in enumerate(list(self.processes)):
                if number in self._ended or one.is_alive:
                    continue
                self._ended.add(number)
                self.note(f"{one.child.name} ended with {one.child.exit_code()}")
                if one.is_wanted and one.role != "clock" and len(self.processes) < MOST_PROCESSES:
                    await asyncio.sleep(RESTART_SECONDS)
                    self.start(one.role)
            if not self.holds_clock and not self.alive("clock") and len(self.processes) < MOST_PROCESSES:
                self.start("clock")
            await asyncio.sleep(0.1)

    @property
    def given_up(self) -> int:
        """How many workers ended by themselves because they could not go on."""
        return sum(one.child.exit_code() == 1 for one in self.processes if one.role != "clock")

    def hits(self) -> list[dict[str, Any]]:
        """Every failpoint that was passed armed."""
        return [said for one in self.processes if one.role != "clock" for said in one.said("failpoint")]

    def stop(self) -> None:
        """SIGKILL to all."""
        for one in self.processes:
            one.is_wanted = False
            one.child.kill()


async def until(
    condition: Callable[[], bool], what: str, seconds: float, process: Process | None = None, pause: float = 0.1
) -> None:
    """Wait for a condition; fails naming what did not happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process is not None and not process.is_alive:
            code = process.child.exit_code()
            raise AssertionError(f"waiting until {what}: it ended with {code}.{process.child.last_words()}")
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}{process.child.last_words() if process else ''}")
        await asyncio.sleep(pause)


def lines(processes: Sequence[Process], event: str) -> int:
    """How often several processes said the same."""
    return sum(len(one.said(event)) for one in processes)


async def waited(
    condition: Callable[[], Awaitable[bool]], what: str, seconds: float, process: Process | None = None
) -> None:
    """As `until`, for a condition that has to ask somebody."""
    deadline = time.monotonic() + seconds
    while not await condition():
        last = process.child.last_words() if process else ""
        assert process is None or process.is_alive, f"waiting until {what}: the process ended.{last}"
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}{last}"
        await asyncio.sleep(0.2)
