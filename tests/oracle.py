"""What must come out of a hand-over log, computed from the CSV alone; shares no code with what it judges."""

import csv
import gzip
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

OPENING, ACCEPTANCE = "Assign seriousness", "Take in charge ticket"
HOURS = {"accept-8h": 8, "accept-24h": 24, "accept-48h": 48}

Breaches = dict[tuple[str, str], datetime]


@dataclass(frozen=True)
class Step:
    """A row that opens or accepts a ticket."""

    at: datetime
    ticket: str
    opens: bool


def helpdesk(path: Path) -> list[Step]:
    """Openings and acceptances in the order in which an import sends them: by time, then by row."""
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [
        Step(datetime.fromisoformat(row["time:timestamp"]), row["case_id"], row["concept:name"] == OPENING)
        for row in rows
        if row["concept:name"] in {OPENING, ACCEPTANCE}
    ]
    return sorted(steps, key=lambda step: step.at)  # stable: rows of one instant stay in their order


def breaches(steps: Iterable[Step], through: datetime | None = None) -> Breaches:
    """The due time of each (ticket, leg) that was not accepted in time; up to `through`, or for ever."""
    opened: dict[str, datetime] = {}
    accepted: dict[str, datetime] = {}
    ordered: Sequence[Step] = sorted(steps, key=lambda step: (step.at, not step.opens))
    for step in ordered:
        if step.opens:
            opened.setdefault(step.ticket, step.at)
        elif step.ticket in opened:
            accepted.setdefault(step.ticket, step.at)
    found: Breaches = {}
    for ticket, at in opened.items():
        for leg, hours in HOURS.items():
            due = at + timedelta(hours=hours)
            late = ticket not in accepted or accepted[ticket] > due
            if late and (through is None or due <= through):
                found[ticket, leg] = due
    return found
