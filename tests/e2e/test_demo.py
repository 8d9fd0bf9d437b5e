"""The demo as a person runs it: it shows every effect, says what is missing, and leaves nothing behind."""

import json
import os
import signal
import socket
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from services.demo import receiver
from services.demo.stack import BROKER_PORT, INGEST_PORT, PROCESSES, REDIS_PORT
from tests.showing import demo, ended, left_behind, members

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
# What a reader expects of scores on the topics.
TURNS = {
    "oceanic-ticket-cap",  # open for days already, it is found to be of severity 1
    "oceanic-ticket-cap-ends",
    "northwind-breach-cap",
    "acme-breach-cap",
    "acme-breach-cap-ends",  # with the retraction
    "tyrell-breach-cap",
    "tyrell-breach-cap-ends",
    "cyberdyne-falls",  # at night, because nobody talks to it
    "quantum-forge-provisional",
}
OTHERS = {"history", "scores", "requests", "attention", "cyberdyne-listed", "nothing-else"}
ALL = len(MESSAGES) + len(TURNS) + len(OTHERS)


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
    assert {effect["name"] for effect in shown["effects"]} > TURNS | OTHERS
    assert len(shown["effects"]) == ALL
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


SCORED = ["each of the 200 customers has a score", "Cyberdyne, of whom nothing was heard", "a ticket of Oceanic"]


@pytest.mark.parametrize(
    ("service", "missing", "seen"),
    [
        (
            "alerting",
            ["breach alert of Northwind reached ada", "alert of Acme taken back at ben"],
            ["180 days", *SCORED, "the breach caps"],
        ),
        (
            "handoff",
            ["180 days of history", "at-risk alert of Tyrell reached chloe", "the breach caps the score of Northwind"],
            ["all 29 requests", *SCORED],
        ),
        (
            "health",
            [*SCORED, "the breach caps the score of Northwind", "the attention list shows Cyberdyne and why"],
            ["180 days", "all 29 requests", "breach alert of Northwind reached ada", "the attention list shows as"],
        ),
        (
            "ingest",
            ["all 29 requests", "at-risk alert of Northwind reached ada", "a ticket of Oceanic"],
            ["180 days", "each of the 200 customers has a score", "Cyberdyne, of whom nothing was heard"],
        ),
        ("identity", ["at-risk alert of Initech reached chloe"], ["breach alert of Tyrell reached hugo", *SCORED]),
        ("view", ["the attention list"], ["breach alert of Northwind reached ada", *SCORED]),
        ("clock", ["180 days of history", "breach alert of Northwind reached ada", *SCORED[1:]], []),
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
    assert set(PROCESSES) == {"clock", "ingest", "identity", "handoff", "health", "alerting", "view"}


def test_a_service_that_it_does_not_have_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with demo(tmp_path, "--without", "view,portfolio") as process:
        code, said = ended(process)
    assert code == 2
    assert said == (
        "steward: 'portfolio' is no service of the demo; "
        "those are clock, ingest, identity, handoff, health, alerting, view\n"
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
    assert f"All {ALL} effects were seen" in said
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    "after", [0.3, 2.0, 6.0, 16.0], ids=["at once", "while it starts", "while it imports", "in the live days"]
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
