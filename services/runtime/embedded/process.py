"""Child processes that end with their parent and leave a log behind."""

import atexit
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path

from services.runtime.embedded.errors import StartFailed

# Runs in the child before the program: asks Linux for a signal when the parent ends (1 = PR_SET_PDEATHSIG,
# which outlives exec), and does not start the program if the parent has ended already. It runs in a fresh
# interpreter, because code between fork and exec of a process with threads may deadlock.
_TIE_TO_PARENT = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, int(sys.argv[1]))
if os.getppid() == int(sys.argv[2]):
    os.execvp(sys.argv[3], sys.argv[3:])
"""

# Left out of error messages: frames of Java's stack traces would push out what they are about, and noida's
# binary, which can use a newer C library, runs well without it.
_NOISE = ("\tat ", "\t... ", "weak version `GLIBC")


class Child:
    """A program in a session of its own, so that Ctrl-C reaches its parent alone; logs to `folder/name.log`.

    `environment` is added to ours. On Linux the program gets `at_parents_end` when its parent dies in whatever
    way. Elsewhere it is stopped when the parent exits normally.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        *,
        at_parents_end: signal.Signals = signal.SIGKILL,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as output:
            self._log_start = output.tell()
            starting = _spawner(os.getpid()).submit(
                subprocess.Popen[bytes],
                _tied(command, at_parents_end),
                cwd=folder,
                env=None if environment is None else {**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._popen = starting.result()
        atexit.register(self.stop)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def exit_code(self) -> int | None:
        """None while it runs; negative if a signal ended it."""
        return self._popen.poll()

    def wait(self, seconds: float | None = None) -> int:
        """Its exit code; StartFailed if it still runs after so many seconds. It is gone in any case."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise StartFailed(f"{self.name} did not end within {seconds} s.{self.last_words()}") from None
        finally:
            self.kill()

    def stop(self, patience: float = 10.0) -> None:
        """SIGTERM, and SIGKILL after `patience` seconds; harmless when it has ended."""
        try:
            self._popen.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(patience)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to the program and whatever it started; harmless when it has ended."""
        if self._popen.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._popen.wait()
        atexit.unregister(self.stop)

    def last_words(self, lines: int = 15) -> str:
        """The end of what this run wrote to its log, as the closing part of an error message."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            text = log.read().decode(errors="replace")
        said = [line for line in text.splitlines() if line.strip() and not any(noise in line for noise in _NOISE)]
        if not said:
            return " It wrote nothing to its log."
        return "\n".join([" The end of its log:", *said[-lines:]])


def run(name: str, command: Sequence[str], folder: Path, seconds: float) -> None:
    """Run a program to its end; StartFailed unless it succeeds in time."""
    child = Child(name, command, folder)
    if code := child.wait(seconds):
        raise StartFailed(f"{name} ended with code {code}.{child.last_words()}")


def _tied(command: Sequence[str], at_parents_end: signal.Signals) -> list[str]:
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-ISc", _TIE_TO_PARENT, str(at_parents_end.value), str(os.getpid()), *command]


@cache
def _spawner(pid: int) -> ThreadPoolExecutor:
    """The one thread that starts children, and lives as long as the process with this id.

    Linux ties a child to the thread that started it, not to the process: a server started by a short-lived
    worker thread would die with that thread.
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"spawner-{pid}")
