"""Runs one command in several processes: passes signals on, starts again what ends by itself, leaves none behind."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

from services.core.errors import OperatorError
from services.runtime import clock, log
from services.runtime.settings import PREFIX, Settings

REFUSED = 2  # exit code of a worker that cannot start at all; starting it again would not help
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
SETTLED_SECONDS = 60.0  # whoever lived this long has not ended because it cannot start
STOP_SECONDS = 25.0  # for the last flush and alerts in flight; less than what a container is given
LOOK_SECONDS = 0.1
HIGHEST_PORT = 65535
PR_SET_PDEATHSIG = 1
TOLD = {0, -signal.SIGTERM, -signal.SIGINT}  # how a process may end that was told to


class PortsOverlap(OperatorError):
    """The workers' ports do not exist, or are wanted for something else."""


def ports(settings: Settings, count: int) -> list[int | None]:
    """Where each worker serves /metrics: the port of the settings and those after it; 0 stays 0, None stays None.

    Raises PortsOverlap.
    """
    first = settings.http_port
    if not first:
        return [first] * count
    last = first + count - 1
    if last > HIGHEST_PORT:
        raise PortsOverlap(
            f"{count} workers from STEWARD_HTTP_PORT={first} on would need port {last}, and {HIGHEST_PORT} is the "
            f"highest; set it to {HIGHEST_PORT - count + 1} or less, or start fewer --workers"
        )
    if first <= settings.ingest_port <= last:
        raise PortsOverlap(
            f"{count} workers from STEWARD_HTTP_PORT={first} on would take port {settings.ingest_port}, where "
            "STEWARD_INGEST_PORT receives webhooks; set one of the two elsewhere"
        )
    return list(range(first, last + 1))


@dataclass(slots=True)
class Pauses:
    """How long to wait before a worker is started again: longer each time, until one has lived for a while."""

    next: float = FIRST_PAUSE

    def after(self, lived: float) -> float:
        """The pause, in seconds, after a worker that lived so long."""
        if lived >= SETTLED_SECONDS:
            self.next = FIRST_PAUSE
        pause, self.next = self.next, min(2 * self.next, LONGEST_PAUSE)
        return pause


class Worker:
    """One of the processes, started again and again."""

    def __init__(self, number: int, start: Callable[[int], "subprocess.Popen[bytes]"]) -> None:
        self.number = number
        self._start = start
        self._pauses = Pauses()
        self._process: subprocess.Popen[bytes] | None = None
        self._told = False
        self._has_run = False
        self._began = 0.0
        self._due = 0.0

    def look(self) -> bool:
        """Start it when that is due; False when it has ended because it cannot start at all.

        Once it has run, a refusal may pass: of a broker that is away, say.
        """
        if self._process is None:
            if clock.elapsed() >= self._due:
                self._began = clock.elapsed()
                self._process = self._start(self.number)
                log.get().info("worker started", worker=self.number, pid=self._process.pid)
            return True
        code = self._process.poll()
        if code is None:
            return True
        self._process = None
        if code == REFUSED and not self._has_run:
            return False
        self._has_run = True
        pause = self._pauses.after(clock.elapsed() - self._began)
        self._due = clock.elapsed() + pause
        log.get().error("worker ended by itself", worker=self.number, code=code, again_in_seconds=pause)
        return True

    def tell(self, number: int) -> None:
        """Send a signal, once: a second one would end a process that is about to end in its own way."""
        if self._process is not None and not self._told:
            self._told = True
            self._process.send_signal(number)

    def end(self, deadline: float) -> bool:
        """Wait until it has ended, and kill it at the deadline; did it end as it was told?"""
        if self._process is None:
            return True
        try:
            return self._process.wait(max(0.0, deadline - clock.elapsed())) in TOLD
        except subprocess.TimeoutExpired:
            log.get().error("worker killed", worker=self.number, pid=self._process.pid, why="it did not end in time")
            self._process.kill()
            self._process.wait()
            return False


def run(settings: Settings, count: int, command: Sequence[str], stop_seconds: float = STOP_SECONDS) -> int:
    """Keep `count` processes of a command running, started like this one, until SIGINT or SIGTERM.

    Answers the exit code: 0, or 1 when a worker did not end well, or REFUSED when one cannot start.

    Raises PortsOverlap before anything is started.
    """
    serving = ports(settings, count)
    start = _starter(command, serving)
    workers = [Worker(number, start) for number in range(count)]
    told: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        told.append(number)
        for worker in workers:
            worker.tell(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    log.get().info("workers start", count=count, ports=[port for port in serving if port])
    code = 0
    while not told and not code:
        for worker in workers:
            if not told and not code and not worker.look():
                log.get().critical("workers end", why=f"worker {worker.number} cannot start; its sentence is above")
                code = REFUSED
        time.sleep(LOOK_SECONDS)
    # Also where a signal was passed on: it may have come between the start of a worker and the note of its process.
    for worker in workers:
        worker.tell(told[0] if told else signal.SIGTERM)
    deadline = clock.elapsed() + stop_seconds
    ended = [worker.end(deadline) for worker in workers]
    return code or (0 if all(ended) else 1)


def _starter(command: Sequence[str], serving: Sequence[int | None]) -> Callable[[int], "subprocess.Popen[bytes]"]:
    # Loaded here: between fork and exec as little as possible may happen.
    kernel = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    parent = os.getpid()
    arguments = len(sys.argv) - 1
    this = [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - arguments]]  # `-m services`, or `steward`

    def leave_with_parent() -> None:
        """The kernel kills a worker whose parent is gone, however that ended; elsewhere than on Linux it stays."""
        if kernel is not None:
            kernel.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:  # gone before that was said
                os._exit(1)

    def start(number: int) -> "subprocess.Popen[bytes]":
        port = serving[number]
        own = {} if port is None else {f"{PREFIX}HTTP_PORT": str(port)}
        return subprocess.Popen(
            [*this, *command],
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            preexec_fn=leave_with_parent,  # noqa: PLW1509  # this process has one thread
        )

    return start
