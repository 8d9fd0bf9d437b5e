"""A processor that hangs or stands still ends by itself, and its log says where."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.runtime.embedded.ports import pick_port
from services.runtime.embedded.server import Server
from tests.metrics import Scrape, scrape
from tests.pipeline import ROOT, Pipeline, Process, running, status_of, wait_until

# The processor as it is shipped, with less patience, and with a defect that a file brings about.
SCRIPT = """
import asyncio, ctypes, functools, sys, time
from pathlib import Path
from services.handoff.processor import HandoffProcessor
from services.runtime import log, watchdog
from services.runtime.engine import watch, worker
from services.runtime.engine.progress import Progress
from services.runtime.engine.transport import BatchConsumer
from services.runtime.settings import load

defect, sign = sys.argv[1], Path(sys.argv[2])
watchdog.BLOCKED_SECONDS, watchdog.END_SECONDS, watchdog.LOG_SECONDS = 2.0, 6.0, 1.0
watch.Progress = functools.partial(Progress, 4.0 if defect == "stops fetching" else 4000.0)
fetch = BatchConsumer._getmany

def where_it_hangs():
    if defect == "hangs":
        time.sleep(600)
    if defect == "holds the interpreter":
        ctypes.PyDLL(None).sleep(600)

async def fetch_or_not(self, active_partitions, timeout):
    if not sign.exists():
        return await fetch(self, active_partitions, timeout)
    where_it_hangs()
    sign.with_name("stopped").touch()
    await asyncio.sleep(0.1)
    return {}

BatchConsumer._getmany = fetch_or_not
log.configure("handoff")
worker.run(load(), HandoffProcessor())
"""
Begin = Callable[[str], Process]


@pytest.fixture
def pipeline(noida: Server, prefix: str, tmp_path: Path) -> Iterator[Pipeline]:
    with running(noida.bootstrap, prefix, tmp_path) as pipeline:
        yield pipeline


@pytest.fixture
def begin(pipeline: Pipeline, tmp_path: Path) -> Begin:
    """Starts a processor with a defect; answers it once it serves."""
    script = tmp_path / "defective.py"
    script.write_text(SCRIPT)

    def begun(defect: str) -> Process:
        path = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
        log = tmp_path / "defective.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [sys.executable, str(script), defect, str(tmp_path / "sign")],
                env={**pipeline.environment, "PYTHONPATH": path},
                stdout=output,
                stderr=output,
            )
        process = Process(popen, log)
        pipeline.processes.append(process)
        wait_until(lambda: process.said("serving"), "it serves", 60, process)
        return process

    return begun


def ended(process: Process, seconds: float = 60) -> int:
    wait_until(lambda: process.popen.poll() is not None, "it ends", seconds)
    code: int = process.popen.returncode
    return code


def stop_fetching(folder: Path) -> None:
    (folder / "sign").touch()
    wait_until((folder / "stopped").exists, "the last fetch is over", 20)


def test_a_consumer_that_brings_nothing_any_more_ends_the_process_with_the_partition(
    pipeline: Pipeline, begin: Begin, tmp_path: Path
) -> None:
    process = begin("stops fetching")
    stop_fetching(tmp_path)
    pipeline.publish("crm.ownership", [("acme", b"{}", 2), ("acme", b"{}", 2)])
    assert ended(process) == 1
    (said,) = process.said("worker ends")
    assert said["level"] == "critical"
    place, _, rest = said["why"].partition(" for ")
    assert place == "crm.ownership partition 2 has stood at offset 0"
    assert rest.endswith(" s, and there is more up to 2")


def test_a_consumer_that_has_nothing_to_bring_ends_nothing(pipeline: Pipeline, begin: Begin, tmp_path: Path) -> None:
    process = begin("stops fetching")
    stop_fetching(tmp_path)
    with pytest.raises(AssertionError, match="it ends"):
        ended(process, 12)
    assert process.stop() == 0


@pytest.mark.parametrize("port", [True, False], ids=["with a port", "without a port"])
def test_a_main_loop_that_hangs_is_not_live_and_ends_the_process_with_the_place(
    pipeline: Pipeline, begin: Begin, tmp_path: Path, port: bool
) -> None:
    live = f"http://127.0.0.1:{(number := pick_port())}/live"
    if port:
        pipeline.settings["STEWARD_HTTP_PORT"] = str(number)
    process = begin("hangs")
    assert status_of(live) == (200 if port else None)
    (tmp_path / "sign").touch()
    if port:
        wait_until(lambda: status_of(live) == 503, "it is not live", 20, process, pause=0.05)
    assert ended(process) == 1
    (blocked,), (last,) = process.said("main loop blocked"), process.said("worker ends")
    assert "the main loop has not turned for " in last["why"]
    for said in (blocked, last):
        assert said["where"][-1].endswith(" where_it_hangs")


def test_what_holds_the_interpreter_itself_is_ended_too(pipeline: Pipeline, begin: Begin, tmp_path: Path) -> None:
    process = begin("holds the interpreter")
    (tmp_path / "sign").touch()
    assert ended(process) == 1
    assert "where_it_hangs" in process.log.read_text()


def test_what_was_not_read_is_the_lag(pipeline: Pipeline, begin: Begin, tmp_path: Path) -> None:
    pipeline.settings["STEWARD_HTTP_PORT"] = str(port := pick_port())
    process = begin("rests")
    stop_fetching(tmp_path)
    pipeline.publish("crm.ownership", [("acme", b"{}", 2), ("acme", b"{}", 2), ("acme", b"{}", 3)])
    wait_until(lambda: scrape(port).sum("consumer_lag_records") == 3, "the lag is seen", 20, process)
    seen = scrape(port)
    assert seen.by("consumer_lag_records", "partition", topic="crm.ownership") == {"0": 0, "1": 0, "2": 2, "3": 1}
    wait_until(lambda: len(behind(scrape(port))) == 2, "the partitions are behind", 20, process)
    assert behind(scrape(port)) == {"2", "3"}
    assert scrape(port).by("caught_up", "partition") == {"0": 1, "1": 1, "2": 0, "3": 0}
    assert status_of(f"http://127.0.0.1:{port}/live") == 200


def behind(seen: Scrape) -> set[str]:
    return {number for number, seconds in seen.by("lag_seconds", "partition").items() if seconds > 0}
