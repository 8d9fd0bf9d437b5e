"""The table of openings, acceptances and breaches per leg, counted from `cs.handoffs`."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table as Grid

from schemas import codec
from schemas import handoffs as out
from schemas.envelope import Event
from schemas.topics import HANDOFFS
from services.runtime import kafka
from services.runtime.settings import Settings


@dataclass(slots=True)
class Row:
    """One leg of one kind. Verdicts are net: retracted ones are counted apart."""

    openings: set[str] = field(default_factory=set)
    acceptances: set[str] = field(default_factory=set)
    met: set[str] = field(default_factory=set)
    breached: set[str] = field(default_factory=set)
    retracted: int = 0


Rows = dict[tuple[str, str], Row]


async def read(settings: Settings) -> Rows:
    """The table from every committed record up to the present end. Raises BrokerAway, TopicMismatch."""
    await kafka.ensure_topics(settings, {HANDOFFS.name: HANDOFFS.config})
    records = await kafka.read_all(settings, HANDOFFS)
    return count(codec.decode(HANDOFFS, record.value) for record in records if record.value)


def count(events: Iterable[Event]) -> Rows:
    """The table of events in the order of their partitions."""
    rows: Rows = defaultdict(Row)
    for event in events:
        match event:
            case out.HandoffChanged():
                for leg in event.data.legs:
                    row = rows[event.data.kind, leg.leg]
                    row.openings.add(event.data.handoff)
                    if event.data.accepted:
                        row.acceptances.add(event.data.handoff)
            case out.SlaBreached():
                rows[event.data.kind, event.data.leg].breached.add(event.data.alert)
            case out.SlaMet():
                rows[event.data.kind, event.data.leg].met.add(event.data.alert)
            case out.SlaRetracted():
                row = rows[event.data.kind, event.data.leg]
                taken_back = {"breached": row.breached, "met": row.met}.get(event.data.stage, set())
                taken_back.discard(event.data.alert)
                row.retracted += event.data.stage == "breached"
            case _:
                pass
    return rows


def as_json(rows: Rows) -> list[dict[str, object]]:
    """A list of legs with their counts."""
    return [{"kind": kind, "leg": leg, **_counts(row)} for (kind, leg), row in sorted(rows.items())]


def as_text(rows: Rows) -> str:
    """A table for people."""
    grid = Grid("kind", "leg")
    for name in ("opened", "accepted", "met", "breached", "retracted"):  # short: a terminal has 80 columns
        grid.add_column(name, justify="right")
    for (kind, leg), row in sorted(rows.items()):
        grid.add_row(kind, leg, *(f"{number:,}" for number in _counts(row).values()))
    console = Console(width=80)
    with console.capture() as capture:
        console.print(grid)
    return capture.get()


def _counts(row: Row) -> dict[str, int]:
    return {
        "openings": len(row.openings),
        "acceptances": len(row.acceptances),
        "met": len(row.met),
        "breaches": len(row.breached),
        "retracted": row.retracted,
    }
