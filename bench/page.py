"""Writes docs/benchmarks.md: the kept figures beside what they should reach, and where the time of a miss goes."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.standing import BROKER, COST, RATE

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/benchmarks.md"
BENCHES: Mapping[str, str] = {
    "throughput": "Throughput beside others",
    "latency": "Latency",
    "recovery": "Restore and failover",
    "health": "The health step",
}
INTRO = (
    "<!-- Written by `python -m bench.page` from bench/results; measure again, then run it again. -->",
    "# Benchmarks",
    "",
    "What Steward was found to do, beside what it should reach on two cores. Every figure is from one run of the",
    "command named, on the machine named, with the broker, the load and the readers on the same cores. Compare within",
    "a table; between machines only ratios mean anything. What each figure means stands in the notes of its file in",
    "`bench/results`.",
)

Told = Mapping[str, Any]


def page(found: Mapping[str, Told]) -> str:
    """The page for the kept figures by bench."""
    return "\n".join([*INTRO, *(line for name, told in found.items() for line in _section(name, told))]) + "\n"


def kept() -> dict[str, Told]:
    """What stands in bench/results, in the order of the page."""
    files = {name: ROOT / f"bench/results/{name}.json" for name in BENCHES}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in files.items()}


def _section(name: str, told: Told) -> Iterator[str]:
    machine = told["machine"]
    yield from ("", f"## {BENCHES[name]}", "")
    yield f"`{machine['command']}`, {machine['date'][:10]}; {machine['cores']} cores, {machine['cpu']}; Python"
    yield f"{machine['python']}, Apache Kafka {machine['kafka']}, aiokafka {machine['aiokafka']}."
    yield from told.get("doubts", ())
    if "cpu_pressure" in told:
        yield f"In the minute before its end, {told['cpu_pressure']:.0f} % of the time something waited for a core."
    yield from ("", "| what | found | reach | |", "|---|---|---|---|")
    for goal in told["goals"]:
        bound = "≥" if goal["at_least"] else "≤"
        verdict = "reached" if goal["is_met"] else "**missed**"
        yield f"| {goal['what']} | {goal['found']:,.1f} {goal['unit']} | {bound} {goal['limit']:,.1f} | {verdict} |"
    if "systems" in told:
        yield from _systems(told)
    if "parts_cpu_us_per_event" in told:
        yield from _parts(told["parts_cpu_us_per_event"])
    for title, lines in told.get("profiles", {}).items():
        yield from ("", f"Where the time goes, {title}:", "", "```", *_trimmed(lines), "```")


def _systems(told: Told) -> Iterator[str]:
    yield from ("", "| system | events/s, median (min–max) | CPU-µs/event | of the broker |", "|---|---|---|---|")
    for row, figures in told["summary"].items():
        rate, cost, broker = figures[RATE], figures[COST], figures[BROKER]
        rates = f"{rate['median']:,.0f} ({rate['min']:,.0f}–{rate['max']:,.0f})"
        costs = f"{cost['median']:.1f} ({cost['min']:.1f}–{cost['max']:.1f})"
        yield f"| {row} | {rates} | {costs} | {broker['median']:.1f} |"


def _parts(parts: Mapping[str, float]) -> Iterator[str]:
    accounts = parts["accounts"]
    yield from ("", f"| part of the step, {accounts:,} accounts | CPU-µs/event |", "|---|---|")
    yield from (f"| {part} | {took:.1f} |" for part, took in parts.items() if part != "accounts")


def _trimmed(lines: Sequence[str]) -> Iterator[str]:
    """A profile without empty lines and ends."""
    return (line.rstrip() for line in lines if line.strip())


def main(arguments: Sequence[str]) -> int:
    """Write the page; with --check only say whether it is as it should be."""
    wanted = page(kept())
    if arguments == ["--check"]:
        is_stale = not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != wanted
        if is_stale:
            print("docs/benchmarks.md is stale; run `python -m bench.page`", file=sys.stderr)
        return int(is_stale)
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
