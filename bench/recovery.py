"""Recovery: how fast state is read back after a start, and how soon a dead worker's partitions go on."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import failover, goals, report, restoring
from bench.running import pressure
from bench.step import JVM
from bench.systems import ROOT
from services.runtime import log
from services.runtime.embedded.apache import start_kafka
from services.runtime.settings import Settings

SIZES = (100_000, 1_000_000)  # accounts
REPETITIONS = 5


def run(sizes: Sequence[int], repetitions: int, command: str, kept: Path | None) -> None:
    """Measure and print; the same as JSON into `kept`. Raises Stuck."""
    log.configure("bench", "warning")
    machine = report.facts(command)
    stock = min(*sizes, restoring.STOCK_ACCOUNTS)
    with ExitStack() as running:
        folder = Path(running.enter_context(TemporaryDirectory(prefix="steward-bench-")))
        broker = running.enter_context(start_kafka(folder / "kafka", flags=JVM))
        base = Settings(kafka=broker.bootstrap, prefix="restore-", policy=ROOT / "deploy/policy/steward.yaml")
        restored = list[restoring.Restored]()
        print("restore", flush=True)
        for one in restoring.measure(base, sizes, stock, ("handoff", "health"), folder):
            restored.append(one)
            print(one.line, flush=True)
        print("\nfailover", flush=True)
        failed = failover.measure(base.model_copy(update={"prefix": "failover-"}), repetitions, folder)
    wanted = [*restoring.goals(restored), *failover.goals(failed)]
    notes = [" ".join(note.split()) for note in (*restoring.NOTES, *failover.NOTES)]
    told = {
        "machine": machine,
        "cpu_pressure": pressure(),
        "restore": [one.as_json() for one in restored],
        "failover": failed.as_json(),
        "goals": goals.told(wanted),
        "notes": notes,
    }
    print(f"\n{report.block('machine', machine)}", "", *(goal.line for goal in wanted), sep="\n")
    print("", *(f"- {note}" for note in notes), sep="\n")
    if kept:
        kept.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
