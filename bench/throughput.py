"""Throughput: our engine and its peers in turn on the same work, with no figure where results differ."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import profiling, report, standing, step
from bench.contest import EXACTLY_ONCE, SYSTEMS
from bench.goals import Goal, told
from bench.measuring import LEFT, PARTITIONS, SLOW_SHARE, WARM_UP, Arena, Work
from bench.peers import streams
from bench.small import work
from bench.standing import GROWTH, ONE_WORKER, TWO_WORKERS, Measured, grown
from bench.step import JVM, Step
from bench.systems import ROOT
from services.runtime import log
from services.runtime.embedded.apache import start_kafka

EVENTS = 400_000
SAMPLES = 3
GROWTH_EVENTS = 200_000  # after every account has had one

NOTES = (
    f"""Every system reads the same records from the same topic of one Apache Kafka (full compiler, warmed by a run of
    the handoff processor that is not counted); stock Faust reads the first {SLOW_SHARE}th of them. A record is a
    CloudEvent with the attributes the contract asks for, checked by each system: types, lengths, bounds, a time with
    its zone. One in {work.SPOILED_EVERY} breaks a rule and must be refused.""",
    """In each sample the final state of every account and the outputs of every account in their order, byte for byte,
    were those of a naive reference.""",
    f"""Watched from outside in the same way for all: outputs count when readers of committed records may see them. The
    first {WARM_UP:.0%} warm the system up and the last {LEFT:.0%} are left out, so that what it works on ahead of what
    can be seen counts once. CPU is that of the system's processes, all threads, in the same time.""",
    """Our engine keeps refused records as dead letters and checks each key's partition and each time against its
    arrival; the peers only drop and count nothing. Compression: ours zstd, peers none, which costs them least.""",
    """Kafka Streams: one stream thread; a cache, so that an account is written once a commit to the changelog, as our
    engine does it. At least once it commits every second (its default is 30 s; ours is every 50 ms).""",
    """Workers: the processes share four partitions before the first event is written; what two cores give beside the
    broker, which runs on the same cores, is its CPU subtracted from two.""",
)


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured; `growth` adds rows for numbers of accounts, which take long."""

    events: int = EVENTS
    accounts: int = 1_000
    samples: int = SAMPLES
    growth: bool = False


def run(size: Size, command: str, kept: Path | None) -> None:
    """Measure and print; the same as JSON into `kept`. Raises Different, and then prints no figures."""
    log.configure("bench", "warning")
    streams.command()  # fetched and compiled before anything is measured
    machine = report.facts(command) | {"confluent-kafka": version("confluent-kafka"), "java": streams.java()}
    taken = list[Measured]()
    with TemporaryDirectory(prefix="steward-bench-") as name, start_kafka(Path(name, "kafka"), flags=JVM) as broker:
        folder = Path(name)
        real = Step(broker.bootstrap, folder / "step", min(step.EVENTS, max(size.events, step.LEAST_EVENTS)), 1_000)
        print("filling topics, warming the broker", flush=True)
        real.warm_up()
        arena = Arena(broker, folder, size.events, size.accounts)
        for number in range(1, size.samples + 1):
            taken += _round(arena, number)
            real.round(number)
            print(f"round {number} of {size.samples}: all systems gave the same results", flush=True)
        if size.growth:
            taken += _growth(arena, size.samples)
        identity = _identity(arena.work, size)
    summary, steady = standing.summary(taken), standing.steadiness(taken)
    reach = standing.goals(summary)
    found = {
        "machine": machine,
        "work": identity,
        "systems": {one.name: {"guarantee": one.guarantee, "state": one.state} for one in SYSTEMS},
        "steadiness": steady,
        "doubts": standing.doubts(steady),
        "summary": summary,
        "goals": told(reach),
        "samples": [standing.as_json(sample) for sample in taken],
        "real_step": real.told(),
        "profiles": {
            "the engine and the small reducer in memory": profiling.told(step.EVENTS, size.accounts, is_small=True),
            "the engine and the handoff processor in memory": profiling.told(step.EVENTS, size.accounts),
        },
        "notes": [" ".join(note.split()) for note in NOTES],
    }
    _show(found, reach)
    if kept:
        _warn_of_another_work(kept, identity)
        kept.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _round(arena: Arena, number: int) -> list[Measured]:
    """A sample of each system, each round beginning with another one, then of one worker and of two."""
    shift = (number - 1) % len(SYSTEMS)
    found = list[Measured]()
    for place, system in enumerate((*SYSTEMS[shift:], *SYSTEMS[:shift])):
        found.append(arena.sample(system, f"{number}-{place}"))
        print(standing.line(found[-1]), flush=True)
    for workers, row in ((1, ONE_WORKER), (2, TWO_WORKERS)):
        found.append(arena.sample_workers(EXACTLY_ONCE, row, f"{number}-{workers}w", workers))
        print(standing.line(found[-1]), flush=True)
    return found


def _growth(arena: Arena, samples: int) -> list[Measured]:
    """Our engine with more and more accounts, each of which has a state before the counting begins."""
    found = list[Measured]()
    for number in range(1, samples + 1):
        for accounts in GROWTH:
            records = list(work.records(accounts + GROWTH_EVENTS, accounts, each_first=True))
            given = Work.of(records, accounts)
            row = grown(accounts)
            found.append(arena.sample_workers(EXACTLY_ONCE, row, f"{number}-{accounts}", 1, given))
            print(standing.line(found[-1]), flush=True)
    return found


def _show(found: Mapping[str, Any], reach: Sequence[Goal]) -> None:
    for title in ("machine", "work"):
        print(f"\n{report.block(title, found[title])}")
    print("\nsystems")
    for name, system in found["systems"].items():
        print(f"  {name}\n    {system['guarantee']}\n    state: {system['state']}")
    print(f"\n{standing.table(found['summary'])}\n", *(goal.line for goal in reach), sep="\n")
    print("", *found["doubts"], *(f"- {note}" for note in found["notes"]), "\nthe real step", sep="\n")
    step.show({}, found["real_step"])


def _identity(given: Work, size: Size) -> dict[str, object]:
    """What was done, so that results of different work are not compared."""
    files = work.contract(ROOT)
    return {
        "events": size.events,
        "warm_up": given.warm_up,
        "left": given.left,
        "accounts": size.accounts,
        "partitions": PARTITIONS,
        "outputs": given.answer.outputs,
        "bytes_per_event": round(sum(len(value) for _, value in given.records) / size.events),
        "records_sha256": work.digest(given.records),
        "contract_sha256": sha256(json.dumps(files, sort_keys=True).encode()).hexdigest(),
        "contract_files": list(files),
    }


def _warn_of_another_work(kept: Path, identity: Mapping[str, object]) -> None:
    """Say when the figures that are replaced were those of another work: they must not be compared."""
    if not kept.is_file():
        return
    before = json.loads(kept.read_text(encoding="utf-8")).get("work", {}).get("contract_sha256")
    if before != identity["contract_sha256"]:
        print(f"\nThe files of the work have changed since {kept.name} was written: do not compare its figures.")
