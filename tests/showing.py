"""Runs the demo as a person does, in a folder by which its processes and files can be told from everybody else's."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.pipeline import ROOT


@contextmanager
def demo(folder: Path, *options: str, stderr: IO[str] | int = subprocess.STDOUT) -> Iterator[subprocess.Popen[str]]:
    """A demo with these options, killed at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "services", "demo", *options],
        cwd=ROOT,
        env={**_environment(), "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def command(settings: dict[str, str], *words: str, seconds: float = 60) -> str:
    """What a command of Steward prints; `settings` are its STEWARD_ variables."""
    done = subprocess.run(
        [sys.executable, "-m", "services", *words],
        cwd=ROOT,
        env={**_environment(), **settings},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("STEWARD_")}


def members(folder: Path) -> dict[int, str]:
    """The processes that know the folder, with their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
                about = line + (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in about:
                found[int(entry.name)] = line.replace(b"\0", b" ").decode()
    return found


def left_behind(folder: Path) -> list[str]:
    """Command lines of processes that know the folder, and what still lies in it."""
    return [*map(str, folder.iterdir()), *members(folder).values()]


def ended(process: subprocess.Popen[str], seconds: float = 150) -> tuple[int, str]:
    """The exit code and everything that was not read before."""
    said, _ = process.communicate(timeout=seconds)
    return process.returncode, said
