"""Writes what follows from the services: docs/metrics.md and docs/handoff-states.md."""

import sys
from collections.abc import Iterator
from pathlib import Path

from schemas.generate import NOTE, ROOT, main, table
from services.handoff import machine
from services.runtime.metrics import Metrics

SUFFIXES = {"counter": "_total", "histogram": "_bucket, _sum, _count"}


def files() -> dict[Path, str]:
    """Every generated file and its text."""
    documents = {"metrics": _metrics(), "handoff-states": _states()}
    return {ROOT / f"docs/{name}.md": "\n".join(lines) + "\n" for name, lines in documents.items()}


def _metrics() -> Iterator[str]:
    yield from _head("Metrics")
    yield "What `/metrics` answers. No label ever names an account or a person."
    yield ""
    metrics = Metrics().registry.collect()
    yield from table(
        ("name", "kind", "meaning"), ((_exposed(m.name, m.type), m.type, m.documentation) for m in metrics)
    )


def _exposed(name: str, kind: str) -> str:
    """The name as a query needs it: prometheus_client keeps it without its suffix."""
    suffixes = SUFFIXES.get(kind, "").split(", ")
    return ", ".join(f"`{name}{suffix}`" for suffix in suffixes)


def _states() -> Iterator[str]:
    yield from _head("States of a handoff")
    yield "A fact without an arrow from the present state changes nothing: a second opening, an acceptance after the"
    yield "first, a resume without a pause. Facts count in the order in which they happened, not in which they came."
    yield from ("", "```mermaid", machine.diagram(), "```")


def _head(title: str) -> Iterator[str]:
    yield from (NOTE.format(module="services.generate"), "", f"# {title}", "")


if __name__ == "__main__":
    sys.exit(main(files(), sys.argv[1:]))
