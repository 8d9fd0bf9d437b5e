"""`--workers N`: a parent that keeps N processes of a command running, and leaves none behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from services.runtime.embedded.ports import pick_port
from services.runtime.embedded.server import Server
from tests.pipeline import PARTITIONS, ROOT, Pipeline, Process, running, status_of, wait_until

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from services.runtime import log
from services.runtime.settings import load
from services.runtime.workers import run

log.configure("test")
what, folder = sys.argv[1], Path(sys.argv[2])
if what.startswith("parent"):
    sys.exit(run(load(), 2, [what.removeprefix("parent-"), str(folder)], stop_seconds=2.0))
if what == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if what == "ending":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if what == "failing":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
(folder / str(os.getpid())).write_text(os.environ.get("STEWARD_HTTP_PORT", ""))
if what == "refused":
    sys.exit(2)
if what == "refused later" and len(list(folder.iterdir())) > 2:
    sys.exit(2)
if what in ("broken", "refused later"):
    sys.exit(1)
while True:
    time.sleep(0.05)
"""
Start = Callable[[str], Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a parent of two workers that need no broker; answers it when both left their number or it ended."""
    script, log = tmp_path / "several.py", tmp_path / "log"
    script.write_text(SCRIPT)
    (tmp_path / "pids").mkdir()
    begun: list[Process] = []

    def parent(what: str, **environment: str) -> Process:
        command = [sys.executable, str(script), f"parent-{what}", str(tmp_path / "pids")]
        path = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
        with log.open("wb") as output:
            popen = subprocess.Popen(
                command, env={**os.environ, "PYTHONPATH": path, **environment}, stdout=output, stderr=output
            )
        begun.append(Process(popen, log))
        # One that is refused at once may end them all before the other has begun.
        wait_until(lambda: len(pids(tmp_path)) >= 2 or popen.poll() is not None, "two workers run", 30)
        return begun[-1]

    yield parent
    for process in begun:
        process.kill()
        wait_until(lambda: not alive(pids(tmp_path)), "its workers are gone", 10)


def pids(folder: Path) -> list[int]:
    return [int(path.name) for path in (folder / "pids").iterdir()]


def alive(numbers: list[int]) -> list[int]:
    """Those that run; a zombie whose parent has not taken its exit code does not."""
    found = []
    for number in numbers:
        try:
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            continue
        if state != "Z":
            found.append(number)
    return found


@pytest.mark.parametrize(("what", "number"), [("ending", signal.SIGTERM), ("sleeping", signal.SIGINT)])
def test_a_signal_is_passed_on_and_the_parent_waits(
    start: Start, tmp_path: Path, what: str, number: signal.Signals
) -> None:
    parent = start(what)
    parent.signal(number)
    assert parent.popen.wait(10) == 0
    assert alive(pids(tmp_path)) == []
    assert parent.said("worker ended by itself") == []


def test_a_worker_that_does_not_end_well_is_no_clean_end(start: Start, tmp_path: Path) -> None:
    assert start("failing").stop() == 1
    assert alive(pids(tmp_path)) == []


def test_a_worker_that_does_not_end_in_time_is_killed(start: Start, tmp_path: Path) -> None:
    parent = start("deaf")
    assert parent.stop() == 1
    assert alive(pids(tmp_path)) == []
    assert len(parent.said("worker killed")) == 2


def test_no_worker_outlives_a_parent_that_was_killed(start: Start, tmp_path: Path) -> None:
    parent = start("deaf")
    assert len(alive(pids(tmp_path))) == 2
    parent.kill()
    wait_until(lambda: not alive(pids(tmp_path)), "no worker runs", 10)


def test_a_worker_that_cannot_start_ends_all_with_its_code(start: Start, tmp_path: Path) -> None:
    parent = start("refused")
    assert parent.popen.wait(10) == 2
    assert alive(pids(tmp_path)) == []
    assert len(parent.said("workers end")) == 1


def test_a_worker_that_ends_by_itself_is_started_again_ever_later(start: Start, tmp_path: Path) -> None:
    parent = start("broken")
    wait_until(lambda: len(parent.said("worker ended by itself")) >= 6, "each has ended three times", 30)
    told = parent.said("worker ended by itself")
    for number in (0, 1):
        mine = [one for one in told if one["worker"] == number]
        assert [one["again_in_seconds"] for one in mine][:3] == [1, 2, 4][: len(mine)]
        assert {one["code"] for one in mine} == {1}
    assert parent.popen.poll() is None
    assert parent.stop() == 0


def test_a_worker_that_has_run_is_started_again_also_when_it_is_refused_once(start: Start) -> None:
    parent = start("refused later")
    wait_until(lambda: 2 in [one["code"] for one in parent.said("worker ended by itself")], "one is refused", 30)
    wait_until(lambda: len(parent.said("worker started")) >= 5, "it is started again", 30, parent)
    assert parent.stop() == 0


def test_a_killed_worker_is_replaced_and_the_other_goes_on(start: Start, tmp_path: Path) -> None:
    parent = start("sleeping")
    first, second = (one["pid"] for one in parent.said("worker started"))
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(parent.said("worker started")) == 3, "it is replaced", 15, parent)
    again = parent.said("worker started")[-1]
    assert (again["worker"], parent.said("worker ended by itself")[0]["code"]) == (0, -signal.SIGKILL)
    assert alive([first, second, again["pid"]]) == [second, again["pid"]]


# ---------------------------------------------------------------- a processor


def served(port: int) -> list[int]:
    """The partitions that the worker at this port serves; it must be ready."""
    with urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
        body = json.load(answer)
    assert (body["ready"], body["missing"], body["guarantee"]) == (True, None, "exactly once")
    partitions: list[int] = body["partitions"]["serving"]
    assert partitions == body["partitions"]["assigned"]
    return partitions


def both_ready(first: int) -> bool:
    return all(status_of(f"http://127.0.0.1:{port}/ready") == 200 for port in (first, first + 1))


def shared(first: int) -> bool:
    """Do the two workers serve all partitions between them, each some?"""
    if not both_ready(first):
        return False
    one, other = served(first), served(first + 1)
    return bool(one) and bool(other) and sorted(one + other) == list(range(PARTITIONS))


def two_ports() -> int:
    """A free port with a free one after it."""
    while True:
        first = pick_port()
        if status_of(f"http://127.0.0.1:{first + 1}/live") is None and pick_port(first + 1) == first + 1:
            return first


def start_two(pipeline: Pipeline) -> tuple[Process, int]:
    first = two_ports()
    pipeline.settings["STEWARD_HTTP_PORT"] = str(first)
    parent = pipeline.start("handoff", "--workers", "2")
    wait_until(lambda: shared(first), "two workers share the partitions", 90, parent)
    return parent, first


def test_two_workers_share_the_partitions_and_end_together(noida: Server, prefix: str, tmp_path: Path) -> None:
    with running(noida.bootstrap, prefix, tmp_path) as pipeline:
        parent, first = start_two(pipeline)
        started = [one["pid"] for one in parent.said("worker started")]
        assert len(started) == 2
        assert parent.stop(40) == 0
        assert alive(started) == []
        assert status_of(f"http://127.0.0.1:{first}/live") is None


def test_a_mistake_of_the_operator_ends_the_parent_with_the_sentence(
    noida: Server, prefix: str, tmp_path: Path
) -> None:
    with running(noida.bootstrap, prefix, tmp_path) as pipeline:
        pipeline.done("topics", "apply")
        pipeline.settings["STEWARD_PARTITIONS"] = "7"
        ended = pipeline.run("handoff", "--workers", "2")
        assert ended.returncode == 2
        assert "set STEWARD_PARTITIONS=4" in ended.stderr


@pytest.mark.kafka
@pytest.mark.slow
def test_a_killed_worker_of_a_processor_comes_back_and_serves_again(kafka: Server, prefix: str, tmp_path: Path) -> None:
    with running(kafka.bootstrap, prefix, tmp_path) as pipeline:
        parent, first = start_two(pipeline)
        os.kill(parent.said("worker started")[0]["pid"], signal.SIGKILL)
        wait_until(lambda: len(parent.said("worker started")) == 3, "it is replaced", 15, parent)
        wait_until(lambda: shared(first), "two workers share the partitions again", 90, parent)
        assert parent.stop(40) == 0
