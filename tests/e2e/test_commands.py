"""Wrong input to the commands, on purpose: a clear sentence, exit code 2, nothing sent."""

import gzip
import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.runtime.embedded.server import Server
from tests.pipeline import ROOT, Pipeline, running, wait_until

MAP = """\
source: crm
format: csv
account: {home: "crm:company:{customer}", create: true}
id: "{file}:{row}"
facts:
  - when: {step: opened}
    type: handoff.opened
    time: "{at}"
    data: {handoff: "{deal}", kind: ticket, owner: "{person}"}
"""
ROWS = "deal,customer,step,person,at\n" + "".join(
    f"d{number},c{number % 3},opened,ada,2026-01-{number + 1:02}T10:00:00+00:00\n" for number in range(20)
)


@pytest.fixture
def pipeline(noida: Server, prefix: str, tmp_path: Path) -> Iterator[Pipeline]:
    with running(noida.bootstrap, prefix, tmp_path) as pipeline:
        yield pipeline


@pytest.fixture
def nobody() -> str:
    """An address at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def refused(pipeline: Pipeline, *command: str) -> str:
    """What a command says that cannot do what is asked."""
    ended = pipeline.run(*command)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
    return ended.stderr


@pytest.mark.parametrize(
    "command",
    [("clock",), ("handoff",), ("topics", "apply"), ("source", "list"), ("handoffs", "report")],
    ids=" ".join,
)
def test_no_broker_at_start_is_one_sentence(command: tuple[str, ...], nobody: str, tmp_path: Path) -> None:
    with running(nobody, "", tmp_path) as pipeline:
        said = refused(pipeline, *command)
    assert f"no Kafka broker answers at {nobody}" in said
    assert "STEWARD_KAFKA" in said


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("log.csv", b"", "is empty"),
        ("log.csv", ROWS.splitlines()[0].encode(), "there is a header and no row"),
        ("log.csv", b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe", "log.csv"),
        ("log.csv", b"deal,customer\nd1,c1\n", "at"),
        ("log.csv.gz", gzip.compress(ROWS.encode() * 500)[:-400], "log.csv.gz"),
        ("log.csv", ROWS.replace("2026-01", "soon").encode(), "none of its 20 rows gives a fact"),
    ],
    ids=["empty", "header only", "not CSV", "columns missing", "truncated gzip", "unreadable times"],
)
def test_a_file_that_cannot_be_imported_sends_nothing(
    pipeline: Pipeline, tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    (tmp_path / "map.yaml").write_text(MAP)
    (tmp_path / name).write_bytes(content)
    pipeline.done("source", "register", "crm")
    rejects = ("--rejects", str(tmp_path / "rejects.csv"))
    said = refused(pipeline, "ingest", "import", str(tmp_path / name), "--map", str(tmp_path / "map.yaml"), *rejects)
    assert sentence in said
    assert pipeline.done("ingest", "runs") == ""


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ('home: "crm:company:{customer}"', '"{custmer}"'),
        ("type: handoff.opened", "type: handoff.opend"),
        ("facts:", "fatcs:"),
    ],
    ids=["unknown column", "unknown type", "misspelt key"],
)
def test_a_map_that_cannot_be_followed_is_named_with_its_line(
    pipeline: Pipeline, tmp_path: Path, wrong: str, sentence: str
) -> None:
    replacement = sentence if sentence.startswith(("type", "fatcs")) else wrong.replace("{customer}", "{custmer}")
    (tmp_path / "map.yaml").write_text(MAP.replace(wrong, replacement))
    (tmp_path / "log.csv").write_text(ROWS)
    said = refused(pipeline, "ingest", "import", str(tmp_path / "log.csv"), "--map", str(tmp_path / "map.yaml"))
    assert next(word for word in ("custmer", "handoff.opend", "fatcs") if word in replacement) in said


def test_a_source_nobody_registered_and_a_clock_nobody_writes_are_named(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text(MAP)
    (tmp_path / "log.csv").write_text(ROWS)
    command = ("ingest", "import", str(tmp_path / "log.csv"), "--map", str(tmp_path / "map.yaml"))
    assert "run `steward source register crm`" in refused(pipeline, *command)
    pipeline.done("source", "register", "crm")
    said = refused(pipeline, *command)
    assert "steward clock" in said
    assert pipeline.records("crm.ownership") == []
    clock = pipeline.start("clock")
    wait_until(lambda: clock.said("clock runs"), "the clock runs", 30, clock)
    assert "20 of 20 facts" in pipeline.done(*command), "the same command goes on"


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("hours: 4", "hourz: 4", "did you mean 'hours'"),
        ('mon-sun: [["00:00", "24:00"]]', "mon-sun: []", "always"),
        ("calendar: business ", "calendar: buisness ", "calendar names calendar 'buisness'"),
        ("09:00", "19:00", "business"),
        ("Europe/Berlin", "Europe/Berlun", "Berlun"),
    ],
    ids=["misspelt key", "calendar without hours", "unknown calendar", "end before start", "unknown zone"],
)
def test_a_policy_that_cannot_be_kept_is_refused_before_anything_starts(
    pipeline: Pipeline, tmp_path: Path, before: str, after: str, sentence: str
) -> None:
    policy = tmp_path / "policy.yaml"
    shipped = (ROOT / "deploy/policy/steward.yaml").read_text()
    assert before in shipped
    policy.write_text(shipped.replace(before, after, 1))
    pipeline.settings["STEWARD_POLICY"] = str(policy)
    said = refused(pipeline, "handoff")
    assert sentence in said
    assert "policy.yaml" in said
    check = pipeline.run("check")
    assert check.returncode == 2
    assert sentence in check.stdout


def test_a_second_clock_writer_refuses_to_start_beside_the_first(pipeline: Pipeline) -> None:
    first = pipeline.start("clock")
    wait_until(lambda: first.said("clock runs"), "the clock runs", 30, first)
    assert "another clock writer" in refused(pipeline, "clock")
    assert first.popen.poll() is None


def test_a_clock_writer_whose_place_was_taken_ends_with_a_sentence(pipeline: Pipeline) -> None:
    frozen = pipeline.start("clock")
    wait_until(lambda: frozen.said("clock runs"), "the clock runs", 30, frozen)
    wait_until(lambda: pipeline.records("cs.clock"), "marks are written", 30, frozen)
    frozen.signal(signal.SIGSTOP)
    heir = pipeline.start("clock")
    wait_until(lambda: heir.said("clock runs"), "the heir runs", 30, heir)
    frozen.signal(signal.SIGCONT)
    assert frozen.popen.wait(20) == 2
    assert "only one `steward clock` may run" in frozen.log.read_text()
    marks = [record.event["data"] for record in pipeline.records("cs.clock") if record.partition == 0]
    assert [mark["at"] for mark in marks] == sorted(mark["at"] for mark in marks)


def test_a_taken_port_and_a_wrong_setting_are_named(pipeline: Pipeline) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        pipeline.settings["STEWARD_HTTP_PORT"] = str(taken.getsockname()[1])
        assert "set STEWARD_HTTP_PORT" in refused(pipeline, "handoff")
    pipeline.settings["STEWARD_HTTP_PORT"] = "everywhere"
    assert "STEWARD_HTTP_PORT: " in refused(pipeline, "handoff")


def test_other_partitions_than_the_topics_have_are_refused(pipeline: Pipeline) -> None:
    pipeline.done("topics", "apply")
    pipeline.settings["STEWARD_PARTITIONS"] = "7"
    assert "set STEWARD_PARTITIONS=4" in refused(pipeline, "clock")


def test_a_source_keeps_the_rank_it_was_first_given(pipeline: Pipeline) -> None:
    pipeline.done("source", "register", "crm", "--rank", "10")
    assert "with rank 10" in refused(pipeline, "source", "register", "crm", "--rank", "20")
    assert pipeline.done("source", "list") == "crm  rank 10\n"


def test_an_abandoned_run_may_be_imported_anew(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text(MAP)
    (tmp_path / "log.csv").write_text(ROWS)
    clock = pipeline.start("clock")
    wait_until(lambda: clock.said("clock runs"), "the clock runs", 30, clock)
    pipeline.done("source", "register", "crm")
    command = ("ingest", "import", str(tmp_path / "log.csv"), "--map", str(tmp_path / "map.yaml"))
    pipeline.done(*command, "--stop-after", "5")
    run = pipeline.progress("steward.run.advanced.v1")[-1]["run"]
    assert "abandoned after 5 of 20" in pipeline.done("ingest", "abandon", run)
    assert "is not known" in refused(pipeline, "ingest", "abandon", "crm:nonsense")
    pipeline.done(*command)
    assert pipeline.progress("steward.run.finished.v1")[-1]["run"] == f"{run}-2"


def test_the_report_speaks_json(pipeline: Pipeline) -> None:
    assert json.loads(pipeline.done("handoffs", "report", "--json")) == []


def test_check_says_what_is_well_and_what_is_not(pipeline: Pipeline, redis_url: str, nobody: str) -> None:
    pipeline.settings["STEWARD_REDIS"] = redis_url
    well = pipeline.done("check")
    assert all(line.startswith("ok") for line in well.splitlines())
    pipeline.settings |= {"STEWARD_REDIS": f"redis://{nobody}", "STEWARD_PARTITONS": "4"}
    ended = pipeline.run("check")
    assert ended.returncode == 2
    assert "no Redis answers" in ended.stdout
    assert "STEWARD_PARTITONS is no setting" in ended.stdout
