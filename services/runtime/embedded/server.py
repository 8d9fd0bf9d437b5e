"""A server that runs as a child process, and how it is brought up."""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from services.runtime.embedded.errors import StartFailed
from services.runtime.embedded.ports import HOST, is_free, is_held_by, pick_port
from services.runtime.embedded.process import Child

_LOOK_EVERY = 0.02  # seconds between two looks whether a server answers


@dataclass(frozen=True, slots=True)
class Server:
    """A server that has answered on 127.0.0.1; as a context manager it stops at the end."""

    child: Child
    port: int
    data_dir: Path

    @property
    def bootstrap(self) -> str:
        """host:port, as Kafka clients take it."""
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """As Redis clients take it."""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        return self.child.pid

    def stop(self) -> None:
        """An orderly end; SIGKILL if that takes too long."""
        self.child.stop()

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self.child.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()


@dataclass(frozen=True, slots=True)
class Program:
    """How a kind of server is started and recognised as ready."""

    name: str
    command: Callable[[int], Sequence[str]]  # for the port it shall listen on
    answers: Callable[[int], bool]  # whether it answers there in its own protocol
    patience: float  # seconds until the first answer
    at_parents_end: signal.Signals = signal.SIGKILL


def launch(program: Program, data_dir: Path, port: int | None, *, insist: bool) -> Server:
    """Start the program and return once it answers; `port` is the only choice if the caller insists.

    PortTaken or StartFailed if it cannot be started; then nothing is left running.
    """
    chosen = pick_port(port, insist=insist)
    try:
        return _start(program, data_dir, chosen)
    except StartFailed:
        if is_free(chosen):
            raise
    # Another program took the port after we looked.
    return _start(program, data_dir, pick_port(port, insist=insist))


def _start(program: Program, data_dir: Path, port: int) -> Server:
    child = Child(program.name, program.command(port), data_dir, at_parents_end=program.at_parents_end)
    try:
        _await_answer(program, child, port)
    except BaseException:
        child.kill()
        raise
    return Server(child, port, data_dir)


def _await_answer(program: Program, child: Child, port: int) -> None:
    deadline = time.monotonic() + program.patience
    while time.monotonic() < deadline:
        # Another server may have taken the port after we looked, and answer while ours is still on its way.
        if program.answers(port) and is_held_by(child.pid, port):
            return
        code = child.exit_code()
        if code is not None:
            raise StartFailed(f"{program.name} ended with code {code} before it was ready.{child.last_words()}")
        time.sleep(_LOOK_EVERY)
    late = f"{program.name} did not answer on {HOST}:{port} within {program.patience:.0f} s."
    raise StartFailed(f"{late}{child.last_words()}")
