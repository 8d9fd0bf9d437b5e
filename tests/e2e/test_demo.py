"""The demo as a person runs it: it shows every effect, says what is missing, and leaves nothing behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from standardwebhooks import Webhook

from services.demo import receiver
from services.demo.stack import BROKER_PORT, INGEST_PORT, PROCESSES, REDIS_PORT
from tests.pipeline import ROOT

pytestmark = pytest.mark.slow

FIRST_CHOICES = (BROKER_PORT, REDIS_PORT, INGEST_PORT, receiver.PORT)

# What a reader of the story expects at the customer's endpoint: account, what, stage, recipient.
MESSAGES = {
    ("Northwind", "raised", "at_risk", "ada"),  # nobody accepts
    ("Northwind", "raised", "breached", "ada"),
    ("Northwind", "raised", "breached", "grace"),
    ("Northwind", "raised", "passed_125", "grace"),
    ("Northwind", "raised", "passed_200", "ines"),
    ("Acme", "raised", "at_risk", "ben"),  # accepted in time, as a late event proves
    ("Acme", "raised", "breached", "ben"),
    ("Acme", "raised", "breached", "grace"),
    ("Acme", "retracted", "breached", "ben"),
    ("Acme", "retracted", "breached", "grace"),
    ("Initech", "raised", "at_risk", "chloe"),  # was held until its company was known
    ("Tyrell", "raised", "at_risk", "chloe"),  # accepted too late
    ("Tyrell", "raised", "breached", "chloe"),
    ("Tyrell", "raised", "breached", "hugo"),
    ("Tyrell", "resolved", "breached", "chloe"),
    ("Tyrell", "resolved", "breached", "hugo"),
    ("Quantum Forge", "raised", "at_risk", "dev"),  # a customer created a moment ago
}
OTHERS = {"history", "requests", "attention", "nothing-else"}


@contextmanager
def demo(folder: Path, *options: str, stderr: IO[str] | int = subprocess.STDOUT) -> Iterator[subprocess.Popen[str]]:
    """A demo whose processes and temporary files can be told from everybody else's."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STEWARD_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "services", "demo", *options],
        cwd=ROOT,
        env={**environment, "TMPDIR": str(folder)},
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


def members(folder: Path) -> dict[int, str]:
    """The processes that know the folder, with their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
                about = command + (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in about:
                found[int(entry.name)] = command.replace(b"\0", b" ").decode()
    return found


def left_behind(folder: Path) -> list[str]:
    """Command lines of processes that know the folder, and what still lies in it."""
    return [*map(str, folder.iterdir()), *members(folder).values()]


def ended(process: subprocess.Popen[str], seconds: float = 150) -> tuple[int, str]:
    said, _ = process.communicate(timeout=seconds)
    return process.returncode, said


def test_once_every_effect_stands_in_the_receivers_log_signed_and_once(tmp_path: Path) -> None:
    folder, log, errors = tmp_path / "temporary", tmp_path / "receiver.jsonl", tmp_path / "stderr.txt"
    folder.mkdir()
    with errors.open("w") as stderr, demo(folder, "--once", "--json", "--log", str(log), stderr=stderr) as process:
        code, said = ended(process)
    assert code == 0, f"{said}{errors.read_text()}"
    shown = json.loads(said)  # and nothing else stands on standard output
    assert shown["exit"] == 0
    assert {effect["name"] for effect in shown["effects"] if effect["seconds"] is None} == OTHERS
    assert [effect["name"] for effect in shown["effects"] if not effect["seen"]] == []
    assert len(shown["effects"]) == len(MESSAGES) + len(OTHERS)
    requests = [json.loads(line) for line in log.read_text().splitlines()]
    told = [_verified(request) for request in requests]
    assert Counter(told) == Counter(MESSAGES)
    keys = Counter(request["headers"]["webhook-id"] for request in requests)
    assert max(keys.values()) == 1
    assert left_behind(folder) == []


def _verified(request: dict[str, Any]) -> tuple[str, ...]:
    """What an independent implementation finds authentic."""
    data = Webhook(receiver.SECRET).verify(request["body"], request["headers"])["data"]
    return data["account_name"], data["what"], data["stage"], data["recipient"]


@pytest.mark.parametrize(
    ("service", "missing", "seen"),
    [
        ("alerting", ["breach alert of Northwind reached ada", "alert of Acme taken back at ben"], ["180 days"]),
        ("handoff", ["180 days of history", "at-risk alert of Tyrell reached chloe"], ["all 27 requests"]),
        ("ingest", ["all 27 requests", "at-risk alert of Northwind reached ada"], ["180 days"]),
        ("identity", ["at-risk alert of Initech reached chloe"], ["breach alert of Tyrell reached hugo"]),
        ("view", ["the attention list"], ["breach alert of Northwind reached ada"]),
        ("clock", ["180 days of history", "breach alert of Northwind reached ada"], []),
    ],
)
def test_with_a_service_withheld_it_fails_and_names_what_is_missing(
    tmp_path: Path, service: str, missing: list[str], seen: list[str]
) -> None:
    with demo(tmp_path, "--once", "--without", service) as process:
        code, said = ended(process)
    assert code == 1, said
    lines = said.splitlines()
    assert [text for text in missing if not any(line.startswith(f"MISSING  {text}") for line in lines)] == [], said
    assert [text for text in seen if any(line.startswith(f"MISSING  {text}") for line in lines)] == [], said
    assert "Traceback" not in said
    assert left_behind(tmp_path) == []


def test_services_that_can_be_withheld_are_all_of_them() -> None:
    assert set(PROCESSES) == {"clock", "ingest", "identity", "handoff", "alerting", "view"}


def test_a_service_that_it_does_not_have_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with demo(tmp_path, "--without", "view,health") as process:
        code, said = ended(process)
    assert code == 2
    assert said == (
        "steward: 'health' is no service of the demo; those are clock, ingest, identity, handoff, alerting, view\n"
    )


def test_a_second_run_with_every_first_choice_of_a_port_taken_does_as_well(tmp_path: Path) -> None:
    with ExitStack() as taken:
        for port in FIRST_CHOICES:
            held = taken.enter_context(socket.socket())
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", port))
            held.listen()
        with demo(tmp_path, "--once") as process:
            code, said = ended(process)
    assert code == 0, said
    assert f"All {len(MESSAGES) + len(OTHERS)} effects were seen" in said
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    "after", [0.3, 2.0, 5.0, 11.0], ids=["at once", "while it starts", "while it imports", "in the live days"]
)
def test_an_interrupt_ends_it_cleanly_at_any_moment(tmp_path: Path, after: float) -> None:
    with demo(tmp_path) as process:
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        code, said = ended(process, 40)
    assert code in {0, 130, -signal.SIGINT}, said  # it had shown everything already, or not yet begun
    assert "Traceback" not in said
    assert left_behind(tmp_path) == []


def test_after_everything_was_shown_it_runs_on_until_it_is_interrupted(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        assert process.stdout is not None
        assert any("Ctrl-C ends it" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        code, said = ended(process, 40)
    assert code == 0, said
    assert left_behind(tmp_path) == []


def test_a_service_that_dies_ends_it_with_the_end_of_its_log(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        assert process.stdout is not None
        said = next(line for line in process.stdout if "Imported" in line)  # everything serves
        (desk,) = [pid for pid, command in members(tmp_path).items() if command.endswith(" alerting-desk ")]
        os.kill(desk, signal.SIGKILL)
        code, said = ended(process, 60)
    assert code == 2, said
    assert "steward: the alerting-desk service ended with code -9. The end of its log:" in said
    assert "Traceback" not in said
    assert left_behind(tmp_path) == []
