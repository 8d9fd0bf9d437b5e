"""The demo as a person runs it: it shows every effect, says what is missing, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.demo.stack import BROKER_PORT, REDIS_PORT
from tests.pipeline import ROOT

pytestmark = pytest.mark.slow


@contextmanager
def demo(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A demo whose processes and temporary files can be told from everybody else's."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STEWARD_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "services", "demo", *options],
        cwd=ROOT,
        env={**environment, "TMPDIR": str(folder), "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def left_behind(folder: Path) -> list[str]:
    """Command lines of processes that know the folder, and what still lies in it."""
    found = [str(path) for path in folder.iterdir()]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                about = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in about:
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def ended(process: subprocess.Popen[str], seconds: float = 120) -> tuple[int, str]:
    said, _ = process.communicate(timeout=seconds)
    return process.returncode, said


def test_once_shows_every_breach_and_ends_with_0(tmp_path: Path) -> None:
    with demo(tmp_path, "--once") as process:
        code, said = ended(process)
    assert code == 0, said
    assert "All 109 breaches of the story were seen on cs.handoffs, each with its due time." in said
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    ("service", "missing"),
    [("handoff", "109 breaches never seen on cs.handoffs"), ("clock", "steward clock")],
)
def test_with_a_service_withheld_it_fails_and_names_what_is_missing(tmp_path: Path, service: str, missing: str) -> None:
    with demo(tmp_path, "--once", "--without", service) as process:
        code, said = ended(process)
    assert code == 1, said
    assert "Missing" in said
    assert missing in said
    assert left_behind(tmp_path) == []


def test_taken_ports_do_not_matter(tmp_path: Path) -> None:
    with socket.socket() as first, socket.socket() as second:
        for taken, port in ((first, BROKER_PORT), (second, REDIS_PORT)):
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", port))
            taken.listen()
        with demo(tmp_path, "--once") as process:
            code, said = ended(process)
    assert code == 0, said
    assert f":{BROKER_PORT}" not in said


@pytest.mark.parametrize("after", [0.3, 2.0, 4.5], ids=["while it starts", "a little later", "in the middle"])
def test_an_interrupt_ends_it_cleanly_at_any_moment(tmp_path: Path, after: float) -> None:
    with demo(tmp_path) as process:
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        code, said = ended(process, 30)
    assert code in {0, 130, -signal.SIGINT}, said  # it had shown everything already, or not yet begun
    assert "Traceback" not in said
    assert left_behind(tmp_path) == []


def test_after_everything_was_shown_it_runs_on_until_it_is_interrupted(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        assert process.stdout is not None
        assert any("Ctrl-C ends it" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        code, said = ended(process, 30)
    assert code == 0, said
    assert left_behind(tmp_path) == []
