"""A real hand-over log through the whole pipe, against truth computed from its CSV alone."""

import gzip
import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from services.runtime.embedded.server import Server
from tests import oracle
from tests.pipeline import ROOT, Pipeline, running, wait_until

pytestmark = [pytest.mark.data, pytest.mark.slow]

TABLE = {"accept-8h": 2475, "accept-24h": 2108, "accept-48h": 1833}
MAP = ROOT / "deploy/mapping/helpdesk.yaml"


@pytest.fixture(scope="module")
def log(shared_data: Path) -> Path:
    return shared_data / "handoffs" / "helpdesk.csv.gz"


@pytest.fixture(scope="module")
def steps(log: Path) -> list[oracle.Step]:
    return oracle.helpdesk(log)


@pytest.fixture
def pipeline(kafka: Server, prefix: str, tmp_path: Path) -> Iterator[Pipeline]:
    with running(kafka.bootstrap, prefix, tmp_path) as pipeline:
        yield pipeline


def importing(log: Path, *options: str) -> tuple[str, ...]:
    return ("ingest", "import", str(log), "--map", str(MAP), *options)


def the_run(pipeline: Pipeline) -> str:
    return str(pipeline.progress("steward.run.started.v1")[-1]["run"])


def per_leg(breaches: oracle.Breaches) -> Counter[str]:
    return Counter(leg for _, leg in breaches)


def test_one_pass_gives_the_whole_table(
    broker: Server, prefix: str, tmp_path: Path, log: Path, steps: list[oracle.Step]
) -> None:
    with running(broker.bootstrap, prefix, tmp_path) as pipeline:
        pipeline.serve()
        pipeline.done("source", "register", "helpdesk")
        pipeline.done(*importing(log))
        pipeline.await_quiet(the_run(pipeline))

        found = pipeline.breaches()
        assert found == oracle.breaches(steps)
        assert per_leg(found) == TABLE
        assert pipeline.retractions() == []
        assert pipeline.records("dlq.handoff") == []
        report = pipeline.done("handoffs", "report")
        assert all(f"{count:,}" in report for count in TABLE.values())


@pytest.mark.kafka
def test_killed_in_the_middle_it_goes_on_and_breaches_nothing_twice(
    pipeline: Pipeline, log: Path, steps: list[oracle.Step]
) -> None:
    expected = oracle.breaches(steps)
    doomed = pipeline.serve()
    pipeline.done("source", "register", "helpdesk")
    # Whenever the kill comes, two fifths of the log have been judged and two fifths cannot have been.
    pipeline.done(*importing(log, "--stop-after", str(len(steps) * 2 // 5)))
    pipeline.await_quiet()
    settled = pipeline.ends("cs.handoffs")
    middle = pipeline.start(*importing(log, "--stop-after", str(len(steps) * 3 // 5)))
    wait_until(lambda: pipeline.ends("cs.handoffs") > settled, "more is judged", 30, pause=0.01)
    doomed.kill()
    out = len(pipeline.verdicts())
    assert len(expected) / 4 <= out <= len(expected) * 3 / 4, f"killed after {out} of {len(expected)}"
    assert middle.popen.wait(60) == 0, middle.log.read_text()

    heir = pipeline.handoff()
    pipeline.done(*importing(log))
    pipeline.await_quiet(the_run(pipeline))
    restored = heir.said("restored")
    assert sum(line["records"] for line in restored) > 0
    assert all(line["positions"]["crm.ownership"] > 0 for line in restored), "read its sources from 0"
    assert pipeline.breaches() == expected


@pytest.mark.kafka
def test_an_import_stopped_at_random_rows_promises_no_more_than_it_sent(
    pipeline: Pipeline, log: Path, steps: list[oracle.Step]
) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    stops = sorted(random.Random(seed).sample(range(1, len(steps)), 3))
    pipeline.serve()
    pipeline.done("source", "register", "helpdesk")
    for stop in stops:
        pipeline.done(*importing(log, "--stop-after", str(stop)))
        pipeline.await_quiet()
        progress = pipeline.progress("steward.run.advanced.v1")[-1]
        assert progress["sent"] == stop
        assert len(pipeline.records("crm.ownership")) == stop
        through = datetime.fromisoformat(progress["through"])
        assert pipeline.breaches() == oracle.breaches(steps[:stop], through), f"seed {seed}, stopped at {stop}"
    pipeline.done(*importing(log))
    pipeline.await_quiet(the_run(pipeline))
    assert pipeline.breaches() == oracle.breaches(steps)


@pytest.mark.kafka
def test_an_importer_killed_at_random_moments_loses_and_invents_nothing(
    pipeline: Pipeline, log: Path, steps: list[oracle.Step]
) -> None:
    pipeline.serve()
    pipeline.done("source", "register", "helpdesk")
    for _ in range(3):
        before = sent(pipeline)
        importer = pipeline.start(*importing(log))
        await_more(pipeline, before)
        importer.signal(signal.SIGKILL)
        importer.popen.wait()
    last = pipeline.run(*importing(log))
    # The third one may have been killed when it had nothing left to send.
    assert last.returncode == 0 or "the same content was imported" in last.stderr, last.stderr
    pipeline.await_quiet(the_run(pipeline))
    assert pipeline.breaches() == oracle.breaches(steps)
    ids = Counter(record.event["id"] for record in pipeline.records("crm.ownership"))
    assert len(ids) == len(steps)


@pytest.mark.kafka
def test_a_second_import_of_another_copy_doubles_the_records_and_changes_no_breach(
    pipeline: Pipeline, log: Path, steps: list[oracle.Step], tmp_path: Path
) -> None:
    pipeline.serve()
    pipeline.done("source", "register", "helpdesk")
    pipeline.done(*importing(log))
    pipeline.await_quiet(the_run(pipeline))
    first, facts = pipeline.breaches(), [record.event["id"] for record in pipeline.records("crm.ownership")]

    again = pipeline.run(*importing(log))
    assert again.returncode == 2
    assert "the same content was imported" in again.stderr

    copy = tmp_path / log.name
    copy.write_bytes(gzip.compress(gzip.decompress(log.read_bytes()) + b"\n"))
    pipeline.done(*importing(copy))
    pipeline.await_quiet(the_run(pipeline))
    doubled = Counter(record.event["id"] for record in pipeline.records("crm.ownership"))
    assert doubled == Counter(facts + facts)
    assert pipeline.breaches() == first == oracle.breaches(steps)
    assert pipeline.retractions() == []


@pytest.mark.kafka
def test_rows_that_come_in_a_later_run_take_the_false_breaches_back(
    pipeline: Pipeline, log: Path, steps: list[oracle.Step], tmp_path: Path
) -> None:
    lines = gzip.decompress(log.read_bytes()).decode().splitlines()
    early, late = tmp_path / "early.csv", tmp_path / "late.csv"
    withheld = [line for number, line in enumerate(lines[1:]) if oracle.ACCEPTANCE in line and number % 3 == 0]
    kept = set(withheld)
    early.write_text("\n".join(line for line in lines if line not in kept) + "\n")
    late.write_text("\n".join([lines[0], *withheld]) + "\n")
    pipeline.serve()
    pipeline.done("source", "register", "helpdesk")
    for part in (early, late):
        pipeline.done(*importing(part))
        pipeline.await_quiet(the_run(pipeline))

    raised = net(pipeline)
    assert len(pipeline.retractions()) > 0
    assert raised == oracle.breaches(steps)


def net(pipeline: Pipeline) -> oracle.Breaches:
    """The breaches that stand after retractions, in the order of each partition."""
    standing: oracle.Breaches = {}
    for record in pipeline.records("cs.handoffs"):
        data: dict[str, Any] = record.event["data"]
        if record.event["type"] == "steward.sla.breached.v1":
            standing[data["handoff"], data["leg"]] = datetime.fromisoformat(data["due"])
        elif record.event["type"] == "steward.sla.retracted.v1" and data["stage"] == "breached":
            del standing[data["handoff"], data["leg"]]
    return standing


def await_more(pipeline: Pipeline, before: int) -> None:
    wait_until(lambda: sent(pipeline) > before, "the import goes on", 60, pause=0.01)


def sent(pipeline: Pipeline) -> int:
    """How many facts the run has told of."""
    time.sleep(0.02)
    advanced = pipeline.progress("steward.run.advanced.v1")
    return int(advanced[-1]["sent"]) if advanced else 0
