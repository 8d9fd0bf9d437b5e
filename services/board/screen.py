"""How answers look: tables 100 columns wide for people, JSON of the same for programs, the progress of a rebuild."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import tzinfo
from decimal import Decimal
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from services.board.attention import Attention, Freshness, Group, Item, Money, Row, plain, short, span, worth
from services.board.model import STAGES, Account, Alert, Handoff, Retraction, Verdict
from services.core.instants import SECOND, Instant, moment
from services.runtime import clock

WIDTH = 100
LINE_SECONDS = 5.0
HANDOFFS_SHOWN = 20
FACTS_SHOWN = 20

Json = dict[str, Any]


# ---------------------------------------------------------------- attention


def attention_text(found: Attention, fresh: Freshness, zone: tzinfo, limit: int | None, why_empty: str | None) -> str:
    """The list for people: freshness, counts, table."""
    lines: list[str | Table] = list(_head(fresh, zone))
    if why_empty is not None:
        return _printed([*lines, why_empty])
    lines.append(", ".join(_counted(number, group) for group, number in found.counts.items()))
    rows = found.rows if limit is None else found.rows[:limit]
    lines += ["", _rows(rows, fresh, zone)]
    if left := len(found.rows) - len(rows):
        lines.append(f"{left} more; see them with --limit {len(found.rows)}")
    if len(found.currencies) > 1:
        lines.append(f"ARR is compared within a currency only: {', then '.join(found.currencies)}.")
    return _printed(lines)


def attention_json(found: Attention, fresh: Freshness, limit: int | None, why_empty: str | None) -> Json:
    """The list for programs. `counts` counts all accounts, also those that a limit leaves out of `rows`."""
    rows = found.rows if limit is None else found.rows[:limit]
    return {
        "freshness": _freshness(fresh),
        "counts": {group.value: number for group, number in found.counts.items()},
        "currencies": list(found.currencies),
        "why_empty": why_empty,
        "rows": [_row(row) for row in rows],
    }


def _row(row: Row) -> Json:
    item = row.item
    return {
        "account": row.account,
        "name": row.name,
        "group": item.group.value,
        "why": item.why,
        "owner": item.owner,
        "due": _iso(item.due),
        "arr": _money(row.arr),
        "handoff": item.handoff,
        "kind": item.kind,
        "leg": item.leg,
        "state": item.state,
        "more": row.more,
    }


def _rows(rows: Sequence[Row], fresh: Freshness, zone: tzinfo) -> Table:
    grid = _grid(("", 9), ("account", 18), ("why", None), ("next step", 10), ("due", 11), ("ARR", 14))
    last = None
    for row in rows:
        item = row.item
        if last is not None and item.group is not last:
            grid.add_section()
        last = item.group
        more = f" (+{row.more} more)" if row.more else ""
        name = f"{row.name}\n{row.account}" if row.name else row.account
        _add(grid, _mark(item), name, item.why + more, item.owner, _due(item.due, fresh.as_of, zone), _arr(row.arr))
    return grid


def _counted(number: int, group: Group) -> str:
    match group:
        case Group.BREACHED:
            return f"{number} breached"
        case Group.DUE_TODAY:
            return f"{number} due today"
        case Group.OTHERS:
            return "1 other" if number == 1 else f"{number} others"


def _mark(item: Item) -> str:
    match item.group:
        case Group.BREACHED:
            return "BREACHED"
        case Group.DUE_TODAY:
            return "due today"
        case Group.OTHERS:
            return "paused" if item.state == "paused" else "open"


# ---------------------------------------------------------------- account


def account_text(account: Account, fresh: Freshness, zone: tzinfo) -> str:
    """One account for people."""
    title = f"{account.name} ({account.id})" if account.name else account.id
    arr = _arr(worth(account)).replace("\n", " + ") or "none known"
    handoffs = sorted(account.handoffs.items(), key=_recent)
    lines: list[str | Table] = [title, f"ARR {arr}", *_head(fresh, zone), ""]
    lines += ["HANDOFFS", _handoffs(handoffs[:HANDOFFS_SHOWN], fresh, zone)] if handoffs else ["No handoffs."]
    if (left := len(handoffs) - HANDOFFS_SHOWN) > 0:
        lines.append(f"{left} older ones; see them with --json")
    lines += ["", "ALERTS", _alerts(account.alerts)] if account.alerts else ["", "No alerts."]
    lines += ["", "FACTS, newest first", _facts(account, zone)] if account.facts else ["", "No facts."]
    if (left := len(account.facts) - FACTS_SHOWN) > 0:
        lines.append(f"{left} older ones; see them with --json")
    return _printed(lines)


def _recent(named: tuple[str, Handoff]) -> tuple[bool, int, str]:
    name, handoff = named
    return not handoff.is_open, -(handoff.opened or 0), name


def _handoffs(handoffs: Sequence[tuple[str, Handoff]], fresh: Freshness, zone: tzinfo) -> Table:
    grid = _grid(("handoff", 22), ("state", 9), ("owner", 12), ("clock", 10), ("due", 11), ("stages", None))
    for name, handoff in handoffs:
        first = (f"{short(name, handoff.kind)}\n{handoff.kind}", handoff.state or "unknown", handoff.owner or "nobody")
        dues = {leg.leg: leg.due for leg in handoff.legs}
        for leg in [*dues, *sorted((handoff.reached.keys() | handoff.retracted.keys()) - dues.keys())] or [""]:
            reached = handoff.reached.get(leg, {})
            due = dues.get(leg) or next((verdict.due for verdict in reached.values()), None)
            stages = _stages(reached, handoff.retracted.get(leg, {}), zone)
            _add(grid, *first, leg, _due(due, fresh.as_of, zone), stages)
            first = ("", "", "")
    return grid


def _stages(reached: Mapping[str, Verdict], retracted: Mapping[str, Retraction], zone: tzinfo) -> str:
    lines = [f"{_words(stage)} {_time(reached[stage].at, zone)}" for stage in STAGES if stage in reached]
    lines += [f"{_words(stage)} taken back: {retracted[stage].reason}" for stage in STAGES if stage in retracted]
    return "\n".join(lines)


def _alerts(alerts: Mapping[str, Alert]) -> Table:
    grid = _grid(("handoff", 22), ("state", 9), ("stage", 10), ("told", 16), ("deliveries", None))
    for alert in sorted(alerts.values(), key=lambda alert: (alert.state != "raised", alert.handoff, alert.leg)):
        step = alert.stages.get(alert.stage or "")
        told = ", ".join(step.recipients) if step and step.recipients else "nobody"
        sent = "\n".join(
            f"{delivery.outcome} to {delivery.recipient} at {delivery.endpoint}, {_times(delivery.attempts)}: "
            f"{delivery.reason}"
            for delivery in alert.deliveries.values()
        )
        _add(grid, f"{short(alert.handoff, alert.kind)}\n{alert.leg}", alert.state, _words(alert.stage), told, sent)
    return grid


def _facts(account: Account, zone: tzinfo) -> Table:
    grid = _grid(("time", 17), ("type", 18), ("source", 12), ("what", None))
    for fact in account.facts[:FACTS_SHOWN]:
        kind = fact.type.removeprefix("steward.").rpartition(".")[0]
        _add(grid, _time(fact.at, zone), kind, fact.source, fact.text)
    return grid


def account_json(account: Account, fresh: Freshness) -> Json:
    """One account for programs."""
    return {
        "freshness": _freshness(fresh),
        "account": account.id,
        "name": account.name,
        "arr": _money(worth(account)),
        "deals": [
            {"deal": name.removeprefix("deal:"), "won": deal.won, "amount": deal.amount, "currency": deal.currency}
            for name, deal in account.deals.items()
        ],
        "handoffs": [_handoff(name, handoff) for name, handoff in sorted(account.handoffs.items(), key=_recent)],
        "alerts": [_alert(name, alert) for name, alert in account.alerts.items()],
        "facts": [
            {"time": _iso(fact.at), "type": fact.type, "source": fact.source, "id": fact.id, "text": fact.text}
            for fact in account.facts
        ],
    }


def _handoff(name: str, handoff: Handoff) -> Json:
    dues = {leg.leg: leg for leg in handoff.legs}
    legs = [*dues, *sorted((handoff.reached.keys() | handoff.retracted.keys()) - dues.keys())]
    return {
        "handoff": name,
        "kind": handoff.kind,
        "state": handoff.state or "unknown",
        "owner": handoff.owner,
        "sender": handoff.sender,
        "opened": _iso(handoff.opened),
        "accepted": _iso(handoff.accepted),
        "policy": handoff.policy,
        "clocks": [
            {
                "leg": leg,
                "due": _iso(dues[leg].due) if leg in dues else None,
                "calendar": dues[leg].calendar if leg in dues else None,
                "reached": [
                    {"stage": stage, "at": _iso(one.at), "due": _iso(one.due), "n": one.n, "correction": one.correction}
                    for stage, one in sorted(handoff.reached.get(leg, {}).items(), key=_by_stage)
                ],
                "retracted": [
                    {"stage": stage, "at": _iso(one.at), "n": one.n, "reason": one.reason}
                    for stage, one in sorted(handoff.retracted.get(leg, {}).items(), key=_by_stage)
                ],
            }
            for leg in legs
        ],
    }


def _alert(name: str, alert: Alert) -> Json:
    return {
        "alert": name,
        "handoff": alert.handoff,
        "kind": alert.kind,
        "leg": alert.leg,
        "state": alert.state,
        "stage": alert.stage,
        "resolved": _iso(alert.resolved),
        "stages": [
            {
                "stage": stage,
                "state": step.state,
                "at": _iso(step.at),
                "due": _iso(step.due),
                "owner": step.owner,
                "recipients": list(step.recipients),
                "reason": step.reason,
            }
            for stage, step in sorted(alert.stages.items(), key=_by_stage)
        ],
        "deliveries": [
            {
                "delivery": delivery,
                "outcome": sent.outcome,
                "at": _iso(sent.at),
                "notice": sent.notice,
                "recipient": sent.recipient,
                "endpoint": sent.endpoint,
                "attempts": sent.attempts,
                "status": sent.status,
                "reason": sent.reason,
            }
            for delivery, sent in alert.deliveries.items()
        ],
    }


def _by_stage(named: tuple[str, object]) -> int:
    return STAGES.index(named[0])


# ---------------------------------------------------------------- shared


def _head(fresh: Freshness, zone: tzinfo) -> Iterator[str]:
    at = moment(fresh.as_of).astimezone(zone)
    silent = f" · silent sources: {', '.join(fresh.silent)}" if fresh.silent else ""
    simulated = " · simulated time" if fresh.simulated else ""
    behind = f"{fresh.behind / SECOND:.1f} s" if fresh.behind < 60 * SECOND else span(fresh.behind)
    # Simulated days are not today: without the date the time would mislead.
    shape = "%Y-%m-%d %H:%M:%S %Z" if fresh.simulated or fresh.warnings else "%H:%M:%S %Z"
    yield f"As of {at.strftime(shape)}, {behind} behind the clock{silent}{simulated}"
    yield from (f"WARNING: {warning}" for warning in fresh.warnings)


def _freshness(fresh: Freshness) -> Json:
    return {
        "as_of": _iso(fresh.as_of),
        "clock": _iso(fresh.clock),
        "behind_seconds": round(fresh.behind / SECOND, 3),
        "silent": list(fresh.silent),
        "simulated": fresh.simulated,
        "warnings": list(fresh.warnings),
    }


def _money(money: Money) -> list[Json]:
    return [{"currency": currency, "amount": str(amount)} for currency, amount in money.items()]


def _arr(money: Money) -> str:
    return "\n".join(f"{currency} {_amount(amount)}" for currency, amount in money.items())


def _amount(amount: Decimal) -> str:
    return f"{amount:,.0f}" if amount == amount.to_integral_value() else f"{amount:,.2f}"


def _due(due: Instant | None, at: Instant, zone: tzinfo) -> str:
    if due is None:
        return ""
    local, today = moment(due).astimezone(zone), moment(at).astimezone(zone)
    return local.strftime("today %H:%M" if local.date() == today.date() else "%Y-%m-%d\n%H:%M")


def _time(at: Instant, zone: tzinfo) -> str:
    return moment(at).astimezone(zone).strftime("%Y-%m-%d %H:%M")


def _times(number: int) -> str:
    return "1 attempt" if number == 1 else f"{number} attempts"


def _words(stage: str | None) -> str:
    return (stage or "").replace("_", " ")


def _iso(at: Instant | None) -> str | None:
    return None if at is None else moment(at).isoformat()


def _grid(*columns: tuple[str, int | None]) -> Table:
    grid = Table(expand=True, box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name, width in columns:
        grid.add_column(name, width=width, ratio=None if width else 1, overflow="fold")
    return grid


def _add(grid: Table, *cells: str) -> None:
    # Text, because brackets in a name are no markup.
    grid.add_row(*(Text("\n".join(plain(line) for line in cell.split("\n"))) for cell in cells))


def _printed(lines: Sequence[str | Table]) -> str:
    console = Console(width=WIDTH)
    with console.capture() as capture:
        for line in lines:
            console.print(Text(plain(line)) if isinstance(line, str) else line)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


# ---------------------------------------------------------------- progress


@contextmanager
def progress(console: Console | None = None) -> Iterator[Callable[[float, int], None]]:
    """A function that shows how far a rebuild has come while the block runs: a bar for people, lines for logs."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    columns = (TextColumn("building"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=console) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda part, records: bar.update(task, completed=part, description=f"{records:,} records")


def _lines() -> Callable[[float, int], None]:
    said = [clock.elapsed()]

    def show(part: float, records: int) -> None:
        if clock.elapsed() - said[0] > LINE_SECONDS:
            said[0] = clock.elapsed()
            sys.stderr.write(f"building: {part:.0%}, {records:,} records\n")

    return show
