"""The real step: the handoff processor and stock Faust in turn on one topic, with no figure where results differ."""

import asyncio
import json
from collections.abc import Mapping, Sequence
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
    with TemporaryDirectory(prefix="steward-bench-") as name, start_kafka(Path(name, "kafka"), flags=JVM) as kafka:
        step = Step(kafka.bootstrap, Path(name), events, accounts)
        print("warming the broker", flush=True)
        step.warm_up()
        for number in range(1, samples + 1):
            step.round(number)
            print(f"round {number} of {samples}: both systems gave the same results", flush=True)
        told = step.told()
    show(machine, told)
    if kept:
        text = json.dumps({"machine": machine, **told}, indent=2, ensure_ascii=False)
        kept.write_text(text + "\n", encoding="utf-8")


def show(machine: Mapping[str, object], told: Mapping[str, object]) -> None:
    """Print what `told` answered, beside the facts of the machine."""
    for title, facts in (("machine", machine), ("work", told["work"]), ("results", told["results"])):
        if facts:
            print(f"\n{report.block(title, facts)}")
    samples, summary, notes = told["samples"], told["summary"], told["notes"]
    assert isinstance(samples, list)
    assert isinstance(summary, dict)
    assert isinstance(notes, list)
    print("\nsamples in order", *map(report.line, samples), sep="\n")
    print(f"\n{report.table(summary)}\n", *(f"- {note}" for note in notes), sep="\n")


class Step:
    """Rounds of the real step on a broker that others may use between them; each on topics of its own."""

    def __init__(self, bootstrap: str, folder: Path, events: int, accounts: int) -> None:
        self._bootstrap = bootstrap
        self._folder = folder
        self._events = events
        self._accounts = accounts
        self._facts = work.facts(events, accounts)
        self._warm: Sample | None = None
        self._rounds = list[Round]()

    def warm_up(self) -> None:
        """A run of the handoff processor that is not counted, for the broker's compiler."""
        settings = _prepared(self._bootstrap, "bench-warm-", self._facts)
        self._warm = systems.run_ours(settings, self._events, self._folder / "warm")

    def round(self, number: int) -> None:
        """One sample of each. Raises Different."""
        settings = _prepared(self._bootstrap, f"bench-{number}-", self._facts)
        self._rounds.append(_round(settings, self._facts, self._folder / str(number)))

    def told(self) -> dict[str, object]:
        """Everything that was measured, for people and files."""
        measured = [sample for taken in self._rounds for sample in taken.samples]
        summary = report.summary(measured)
        return {
            "work": {
                "events": self._events,
                "accounts": self._accounts,
                "partitions": work.PARTITIONS,
                "bytes_per_event": round(sum(len(value) for _, value in self._facts) / self._events),
                "sha256": work.digest(self._facts),
            },
            "results": self._rounds[-1].results,
            "summary": summary,
            "ratio": report.ratios(summary),
            "samples": [report.as_json(sample) for sample in measured],
            "warm_up_not_counted": report.as_json(self._warm) if self._warm else None,
            "notes": [" ".join(note.split()) for note in NOTES],
        }


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
