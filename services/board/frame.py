"""What all answers have in common: the width, the line that says how fresh they are, tables, times, money."""

from collections.abc import Collection, Iterable, Iterator
from datetime import tzinfo
from decimal import Decimal
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from services.board.attention import Freshness, Money
from services.board.words import plain, span
from services.core.instants import SECOND, Instant, moment

WIDTH = 100

Json = dict[str, Any]
Line = str | Table | Padding


def head(fresh: Freshness, zone: tzinfo) -> Iterator[str]:
    at = moment(fresh.as_of).astimezone(zone)
    silent = f" · silent sources: {', '.join(fresh.silent)}" if fresh.silent else ""
    simulated = " · simulated time" if fresh.simulated else ""
    behind = f"{fresh.behind / SECOND:.1f} s" if fresh.behind < 60 * SECOND else span(fresh.behind)
    # Simulated days are not today: without the date the time would mislead.
    shape = "%Y-%m-%d %H:%M:%S %Z" if fresh.simulated or fresh.warnings else "%H:%M:%S %Z"
    yield f"As of {at.strftime(shape)}, {behind} behind the clock{silent}{simulated}"
    yield from (f"WARNING: {warning}" for warning in fresh.warnings)


def freshness(fresh: Freshness) -> Json:
    return {
        "as_of": iso(fresh.as_of),
        "clock": iso(fresh.clock),
        "behind_seconds": round(fresh.behind / SECOND, 3),
        "silent": list(fresh.silent),
        "simulated": fresh.simulated,
        "warnings": list(fresh.warnings),
    }


def money(sums: Money) -> list[Json]:
    return [{"currency": currency, "amount": str(amount)} for currency, amount in sums.items()]


def arr(sums: Money) -> str:
    return "\n".join(f"{currency} {_amount(amount)}" for currency, amount in sums.items())


def _amount(amount: Decimal) -> str:
    return f"{amount:,.0f}" if amount == amount.to_integral_value() else f"{amount:,.2f}"


def due(when: Instant | None, at: Instant, zone: tzinfo) -> str:
    if when is None:
        return ""
    local, today = moment(when).astimezone(zone), moment(at).astimezone(zone)
    return local.strftime("today %H:%M" if local.date() == today.date() else "%Y-%m-%d\n%H:%M")


def time(at: Instant, zone: tzinfo) -> str:
    return moment(at).astimezone(zone).strftime("%Y-%m-%d %H:%M")


def iso(at: Instant | None) -> str | None:
    return None if at is None else moment(at).isoformat()


def table(*columns: tuple[str, int | None], right: Collection[str] = (), has_head: bool = True) -> Table:
    """Columns (name, width), one of them without a width that takes what is left; those named stand on the right."""
    made = Table(expand=True, box=SIMPLE_HEAD, pad_edge=False, show_edge=False, show_header=has_head)
    for name, width in columns:
        justify: Literal["left", "right"] = "right" if name in right else "left"
        made.add_column(name, width=width, ratio=None if width else 1, overflow="fold", justify=justify)
    return made


def add(table: Table, *cells: str) -> None:
    # Text, because brackets in a name are no markup.
    table.add_row(*(Text("\n".join(plain(line) for line in cell.split("\n"))) for cell in cells))


def indented(sentence: str, by: int) -> Padding:
    return Padding(Text(plain(sentence)), (0, 0, 0, by))


def printed(lines: Iterable[Line]) -> str:
    console = Console(width=WIDTH)
    with console.capture() as capture:
        for line in lines:
            console.print(Text(plain(line)) if isinstance(line, str) else line)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
