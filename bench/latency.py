"""Latency: to committed outputs, readable scores, breaches and deliveries, beside the peers and the floor."""

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import committed, delivery, due, goals, readable, report
from bench.goals import Found
from bench.running import pressure
from bench.step import JVM
from bench.systems import ROOT
from services.runtime import log
from services.runtime.embedded.apache import start_kafka
from services.runtime.settings import Settings

SECONDS = 15
PARTS = ("committed", "score", "due", "delivery")


def run(
    seconds: int,
    command: str,
    kept: Path | None,
    *,
    parts: Sequence[str] = PARTS,
    timers: int = due.TIMERS,
    mass: int = due.MASS,
) -> None:
    """Measure and print; the same as JSON into `kept`. Fewer timers make a short run. Raises Stuck."""
    log.configure("bench", "warning")
    machine = report.facts(command)
    found = dict[str, Found]()
    for part in parts:
        # A broker for each: topics, transactions and processes of one shall not weigh on the next.
        with ExitStack() as running:
            folder = Path(running.enter_context(TemporaryDirectory(prefix="steward-bench-")))
            broker = running.enter_context(start_kafka(folder / "kafka", flags=JVM))
            base = Settings(kafka=broker.bootstrap, policy=ROOT / "deploy/policy/steward.yaml")
            print(f"\n{part}", flush=True)
            match part:
                case "committed":
                    found[part] = committed.measure(base, seconds, committed.ROUNDS, folder)
                case "score":
                    found[part] = readable.measure(base, broker, seconds, folder)
                case "due":
                    found[part] = due.measure(base, timers, mass, seconds, folder)
                case _:
                    found[part] = delivery.measure(base, seconds, folder)
            found[part].told.update(load_after=round(os.getloadavg()[0], 2), cpu_pressure=pressure())
        print(*found[part].lines, sep="\n", flush=True)
    wanted = [goal for one in found.values() for goal in one.goals]
    notes = [" ".join(note.split()) for one in found.values() for note in one.notes]
    told = {
        "machine": machine,
        "work": {"seconds": seconds, "timers": timers, "mass": mass},
        **{part: one.told for part, one in found.items()},
        "goals": goals.told(wanted),
        "notes": notes,
    }
    print(f"\n{report.block('machine', machine)}", "", *(goal.line for goal in wanted), sep="\n")
    print("", *(f"- {note}" for note in notes), sep="\n")
    if kept:
        kept.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
