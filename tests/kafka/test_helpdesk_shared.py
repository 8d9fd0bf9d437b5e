"""The real hand-over log with its work shared among workers, one of which is killed: the same breaches."""

from pathlib import Path

import pytest

from services.runtime.embedded.server import Server
from tests import oracle
from tests.pipeline import ROOT, Process, running, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.data, pytest.mark.slow]

MAP = ROOT / "deploy/mapping/helpdesk.yaml"
PARTITIONS = 12


def owned(process: Process) -> set[int]:
    said = process.said("serving")
    return set(said[-1]["partitions"]) if said else set()


@pytest.mark.parametrize("is_one_killed", [False, True], ids=["both live", "one is killed"])
def test_two_workers_on_twelve_partitions_find_the_breaches_of_the_log(
    kafka: Server, prefix: str, tmp_path: Path, shared_data: Path, is_one_killed: bool
) -> None:
    log = shared_data / "handoffs" / "helpdesk.csv.gz"
    expected = oracle.breaches(oracle.helpdesk(log))
    # Twelve partitions, ten times a second, are more transactions than a busy machine of two cores gets through.
    calm = {"steward_flush_ms": "250", "steward_clock_interval_ms": "500"}
    with running(kafka.bootstrap, prefix, tmp_path, PARTITIONS, **calm) as pipeline:
        pipeline.start("clock")
        first, second = pipeline.start("handoff"), pipeline.start("handoff")
        wait_until(
            lambda: min(len(owned(first)), len(owned(second))) == PARTITIONS // 2,
            "two workers have half of the partitions each",
            90,
            first,
        )
        pipeline.done("source", "register", "helpdesk")
        importer = pipeline.start("ingest", "import", str(log), "--map", str(MAP))
        if is_one_killed:
            wait_until(lambda: pipeline.ends("cs.handoffs") > 500, "judging has begun", 120, pause=0.05)
            first.kill()
            assert len(pipeline.verdicts()) < len(expected), "the kill came when all was judged"
        assert importer.popen.wait(90) == 0, importer.log.read_text()
        run = str(pipeline.progress("steward.run.started.v1")[-1]["run"])
        pipeline.await_quiet(run)

        assert pipeline.breaches() == expected
        assert pipeline.retractions() == []
        assert pipeline.records("dlq.handoff") == []
