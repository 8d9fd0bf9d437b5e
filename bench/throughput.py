"""Throughput: the handoff processor and stock Faust in turn on one topic, with no figure where results differ."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import compare, report, systems, work
from bench.compare import Result
from bench.systems import OURS, ROOT, STOCK, Sample
from services.runtime import log
from services.runtime.embedded.apache import start_kafka
from services.runtime.settings import Settings

# The full compiler and a heap that is not the bottleneck. One collector thread: the cores are for the systems.
JVM = ("-XX:+UseSerialGC", "-Xms512m", "-Xmx512m")
LEAST_EVENTS = 30_000  # of fewer, hardly any handoff is accepted: see work.py
EVENTS = 40_000
SAMPLES = 3

NOTES = (
    """Both systems read the same topic of one Apache Kafka (full compiler; warmed by a run of the handoff processor
    that is not counted) with the same reducer, codec and policy. In every round the states of all accounts and all
    published events, compared whole, were the same.""",
    """steward handoff: as shipped, exactly once, durable state. Rate: from the first moment at which it has reduced
    events until all are committed, without those it had reduced by then. CPU: the whole process, consumer thread and
    transactions included, from its `serving` to that end, for all events.""",
    """stock Faust: one event at a time, a table with changelog in memory, nothing waits for acknowledgements; it loses
    data under faults. Rate and CPU: the whole process from its first event to the flush of its producer after the
    last.""",
    """An opening and its acceptance stand at least one fetch apart, because the handoff processor shows a handoff once
    for all facts of a fetch.""",
    """reducer and codec: what both have in common, one event at a time in memory: decoding, reducing, encoding what is
    published. It bounds what any engine can save. On a busy machine rates suffer more than CPU per event.""",
    """No clock runs: verdicts come from facts alone, and no due time fires.""",
)


class Different(RuntimeError):
    """The systems did not give the same results."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round gave. The results themselves are not kept: the collector would walk them in the next round."""

    samples: tuple[Sample, ...]
    results: dict[str, object]


def run(events: int, accounts: int, samples: int, command: str, kept: Path | None) -> None:
    """Measure and print; the same as JSON into `kept`. Raises Different, and then prints no figures."""
    log.configure("bench", "warning")
    machine = report.facts(command)
    facts = work.facts(events, accounts)
    rounds = list[Round]()
    with TemporaryDirectory(prefix="steward-bench-") as name, start_kafka(Path(name, "kafka"), flags=JVM) as kafka:
        folder = Path(name)
        print("warming the broker", flush=True)
        warm_up = _prepared(kafka.bootstrap, "bench-warm-", facts)
        warm = systems.run_ours(warm_up, events, folder / "warm")
        for number in range(1, samples + 1):
            settings = _prepared(kafka.bootstrap, f"bench-{number}-", facts)
            rounds.append(_round(settings, facts, folder / str(number)))
            print(f"round {number} of {samples}: both systems gave the same results", flush=True)
    measured = [sample for taken in rounds for sample in taken.samples]
    summary = report.summary(measured)
    notes = [" ".join(note.split()) for note in NOTES]
    told: dict[str, object] = {
        "machine": machine,
        "work": {
            "events": events,
            "accounts": accounts,
            "partitions": work.PARTITIONS,
            "bytes_per_event": round(sum(len(value) for _, value in facts) / events),
            "sha256": work.digest(facts),
        },
        "results": rounds[-1].results,
        "summary": summary,
        "ratio": report.ratios(summary),
        "samples": [report.as_json(sample) for sample in measured],
        "warm_up_not_counted": report.as_json(warm),
        "notes": notes,
    }
    for title in ("machine", "work", "results"):
        print(f"\n{report.block(title, told[title])}")
    print("\nsamples in order", *(report.line(sample) for sample in measured), sep="\n")
    print(f"\n{report.table(summary)}\n", *(f"- {note}" for note in notes), sep="\n")
    if kept:
        kept.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _prepared(bootstrap: str, prefix: str, facts: Sequence[work.Fact]) -> Settings:
    policy = ROOT / "deploy" / "policy" / "steward.yaml"
    settings = Settings(kafka=bootstrap, prefix=prefix, partitions=work.PARTITIONS, policy=policy)
    asyncio.run(systems.prepare(settings))
    asyncio.run(work.fill(settings, facts))
    return settings


def _round(settings: Settings, facts: Sequence[work.Fact], folder: Path) -> Round:
    events = len(facts)
    taken = (
        systems.run_ours(settings, events, folder),
        systems.run_stock(settings, events, folder),
        systems.run_alone(settings, facts),
    )
    ours, stock = asyncio.run(compare.ours(settings)), asyncio.run(compare.stock(settings))
    if found := compare.differences((OURS, STOCK), ours, stock):
        raise Different("\n".join([f"{OURS} and {STOCK} differ, so there are no figures:", *found]))
    return Round(taken, _results(ours, stock))


def _results(ours: Result, stock: Result) -> dict[str, object]:
    return {
        "accounts": len(ours.accounts),
        "published": ours.published,
        "state_bytes_per_account": round(ours.state_bytes / len(ours.accounts)),
        "changelog_offsets": {OURS: ours.changelog_written, STOCK: stock.changelog_written},
    }
