"""Figures as a table for people and as JSON to keep, with the facts of the machine they hold for."""

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from bench.systems import ALONE, OURS, STOCK, Sample
from services.runtime.embedded.distribution import VERSION

LIBRARIES = ("faust-streaming", "aiokafka", "uvloop", "pydantic", "msgspec")

Spread = dict[str, float]


def facts(command: str) -> dict[str, object]:
    """When, where and with what it was measured."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "kafka": VERSION,
        **{library: version(library) for library in LIBRARIES},
    }


def summary(samples: Sequence[Sample]) -> dict[str, dict[str, Spread]]:
    """Median, least and greatest of each figure, by system."""
    return {
        system: {
            "events_per_second": spread([sample.rate for sample in samples if sample.system == system]),
            "cpu_us_per_event": spread([sample.cost for sample in samples if sample.system == system]),
        }
        for system in (OURS, STOCK, ALONE)
    }


def ratios(found: dict[str, dict[str, Spread]]) -> dict[str, float]:
    """The processor to stock Faust: how many times the events, how many times less CPU for one."""
    ours, stock = found[OURS], found[STOCK]
    return {
        "events_per_second": round(ours["events_per_second"]["median"] / stock["events_per_second"]["median"], 2),
        "cpu_us_per_event": round(stock["cpu_us_per_event"]["median"] / ours["cpu_us_per_event"]["median"], 2),
    }


def as_json(sample: Sample) -> dict[str, object]:
    return {
        "system": sample.system,
        "calibration_us": round(sample.calibration_us),
        "events": sample.events,
        "timed_events": sample.timed,
        "seconds": round(sample.seconds, 3),
        "cpu_seconds": round(sample.cpu, 3),
        "events_per_second": round(sample.rate, 1),
        "cpu_us_per_event": round(sample.cost, 1),
    }


def block(title: str, told: object) -> str:
    """Facts, one a line."""
    assert isinstance(told, dict)
    return "\n".join([title, *(f"  {name:<24}  {value}" for name, value in told.items())])


def line(sample: Mapping[str, Any]) -> str:
    """One sample of `as_json`, as it is told to people."""
    return (
        f"  {sample['system']:<18} calibration {sample['calibration_us']:>7,.0f} µs   "
        f"{sample['events_per_second']:>9,.0f} events/s ({sample['timed_events']:,} in {sample['seconds']:.2f} s)   "
        f"{sample['cpu_us_per_event']:>7,.1f} CPU-µs/event"
    )


def table(found: dict[str, dict[str, Spread]]) -> str:
    rows = [f"{'system':<18}  {'events/s, median (min–max)':<34}  CPU-µs/event, median (min–max)"]
    for system, figures in found.items():
        rate, cost = figures["events_per_second"], figures["cpu_us_per_event"]
        rates = f"{rate['median']:,.0f} ({rate['min']:,.0f}–{rate['max']:,.0f})"
        costs = f"{cost['median']:,.1f} ({cost['min']:,.1f}–{cost['max']:,.1f})"
        rows.append(f"{system:<18}  {rates:<34}  {costs}")
    times = ratios(found)
    rate_ratio, cost_ratio = f"× {times['events_per_second']:.1f}", f"÷ {times['cpu_us_per_event']:.1f}"
    rows.append(f"{'ours to stock':<18}  {rate_ratio:<34}  {cost_ratio}")
    return "\n".join(rows)


def spread(values: Sequence[float], digits: int = 1) -> Spread:
    return {
        "median": round(median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def _cpu_model() -> str:
    for row in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = row.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
