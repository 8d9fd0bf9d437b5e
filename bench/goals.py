"""Figures beside what they should reach; a miss is printed and kept, never raised."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import quantiles
from typing import Any

Distribution = dict[str, float]


@dataclass(frozen=True, slots=True)
class Goal:
    """What was measured and the limit it is held against: at most, or `at_least`."""

    what: str
    found: float
    limit: float
    unit: str
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        return self.found >= self.limit if self.at_least else self.found <= self.limit

    @property
    def line(self) -> str:
        bound = "at least" if self.at_least else "at most"
        verdict = "reached" if self.is_met else "MISSED "
        return f"  {verdict}  {self.what:<66} {self.found:>12,.1f} {self.unit}, {bound} {self.limit:,.1f}"


def told(goals: Sequence[Goal]) -> list[dict[str, object]]:
    """For the results file."""
    return [{**asdict(goal), "is_met": goal.is_met} for goal in goals]


def milliseconds(seconds: Sequence[float]) -> Distribution:
    """p50, p95, p99 and the greatest of durations in seconds, as milliseconds; at least one is needed."""
    if not seconds:
        raise ValueError("nothing was measured, so there is no distribution")
    ordered = sorted(seconds)
    cuts = quantiles(ordered, n=100, method="inclusive") if len(ordered) > 1 else ordered * 99
    found = {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "max": ordered[-1]}
    return {name: round(value * 1000, 1) for name, value in found.items()}


def distribution_line(name: str, count: int, found: Distribution) -> str:
    figures = "   ".join(f"{part} {value:>8,.1f} ms" for part, value in found.items())
    return f"  {name:<44} {figures}   n = {count:,}"


@dataclass(frozen=True, slots=True)
class Found:
    """What one part of a bench found: for the results file, for people, what it is held against, and what to know."""

    told: dict[str, Any]
    lines: Sequence[str]
    goals: Sequence[Goal]
    notes: Sequence[str]
