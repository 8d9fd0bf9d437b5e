"""How answers look: tables 100 columns wide for people, JSON of the same for programs, the progress of a rebuild."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import tzinfo

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from services.board import frame
from services.board.attention import RANKS, Attention, Freshness, Group, Item, Row, over_week, worth
from services.board.frame import Json, Line
from services.board.model import STAGES, Account, Alert, Handoff, Health, Retraction, Verdict
from services.board.words import badge, short, signed, spoken, tenths
from services.runtime import clock

WIDTH = frame.WIDTH
INDENT = 12
COLUMNS = (("", 9), ("account", None), ("health, 7 d", 11), ("next step", 14), ("due", 11), ("ARR", 16))
LINE_SECONDS = 5.0
HANDOFFS_SHOWN = 20
FACTS_SHOWN = 20


# ---------------------------------------------------------------- attention


def attention_text(found: Attention, fresh: Freshness, zone: tzinfo, limit: int | None, why_empty: str | None) -> str:
    """The list for people: freshness, counts, table."""
    lines: list[Line] = list(frame.head(fresh, zone))
    if why_empty is not None:
        return frame.printed([*lines, why_empty])
    lines.append(", ".join(_counted(number, group) for group, number in found.counts.items()))
    rows = found.rows if limit is None else found.rows[:limit]
    lines += ["", frame.table(*COLUMNS), *_rows(rows, fresh, zone)]
    if left := len(found.rows) - len(rows):
        lines.append(f"{left} more; see them with --limit {len(found.rows)}")
    if len(found.currencies) > 1:
        lines.append(f"ARR is compared within a currency only: {', then '.join(found.currencies)}.")
    return frame.printed(lines)


def attention_json(found: Attention, fresh: Freshness, limit: int | None, why_empty: str | None) -> Json:
    """The list for programs. `counts` counts all accounts, also those that a limit leaves out of `rows`."""
    rows = found.rows if limit is None else found.rows[:limit]
    return {
        "freshness": frame.freshness(fresh),
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
        "reasons": list(item.reasons),
        "owner": item.owner,
        "due": frame.iso(item.due),
        "arr": frame.money(row.arr),
        "handoff": item.handoff,
        "kind": item.kind,
        "leg": item.leg,
        "state": item.state,
        "more": row.more,
        "health": _summary(row.health, row.week),
    }


def _summary(health: Health | None, week: int | None) -> Json | None:
    if health is None:
        return None
    return {
        "band": health.band,
        "colour": health.colour,
        "provisional": health.band == "na",
        "score": health.score,
        "over_7_days": week,
    }


def _rows(rows: Sequence[Row], fresh: Freshness, zone: tzinfo) -> Iterator[Line]:
    last = None
    for row in rows:
        item = row.item
        if last not in {None, RANKS[item.group]}:
            yield ""
        last = RANKS[item.group]
        cells = frame.table(*COLUMNS, has_head=False)
        name = f"{row.name}\n{row.account}" if row.name else row.account
        due = frame.due(item.due, fresh.as_of, zone)
        frame.add(cells, _mark(item), name, _health(row), item.owner, due, frame.arr(row.arr))
        yield cells
        more = f" (+{row.more} more)" if row.more else ""
        yield frame.indented(item.why + more, INDENT)


def _health(row: Row) -> str:
    if row.health is None:
        return ""
    mark = badge(row.health.band, row.health.colour)
    week = "" if row.week is None else f"  {signed(row.week)}"
    score = f"{tenths(row.health.score)}{week}"
    return f"{mark.shape} {mark.letter} NA\nprovisional\n{score}" if mark.is_hollow else f"{mark}\n{score}"


def _counted(number: int, group: Group) -> str:
    match group:
        case Group.BREACHED | Group.URGENT:
            return f"{number} {group.value}"
        case Group.DUE_TODAY:
            return f"{number} due today"
        case Group.OTHERS:
            return "1 other" if number == 1 else f"{number} others"


def _mark(item: Item) -> str:
    match item.group:
        case Group.BREACHED:
            return "BREACHED"
        case Group.URGENT:
            return item.state.upper()
        case Group.DUE_TODAY:
            return "due today"
        case Group.OTHERS if item.handoff is None:
            return item.state
        case Group.OTHERS:
            return "paused" if item.state == "paused" else "open"


# ---------------------------------------------------------------- account


def account_text(account: Account, fresh: Freshness, zone: tzinfo) -> str:
    """One account for people."""
    title = f"{account.name} ({account.id})" if account.name else account.id
    arr = frame.arr(worth(account)).replace("\n", " + ") or "none known"
    owner = f" · owner {account.owner}" if account.owner else ""
    handoffs = sorted(account.handoffs.items(), key=_recent)
    lines: list[Line] = [title, f"ARR {arr}{owner}", *frame.head(fresh, zone), "", health_line(account), ""]
    lines += ["HANDOFFS", _handoffs(handoffs[:HANDOFFS_SHOWN], fresh, zone)] if handoffs else ["No handoffs."]
    if (left := len(handoffs) - HANDOFFS_SHOWN) > 0:
        lines.append(f"{left} older ones; see them with --json")
    lines += ["", "ALERTS", _alerts(account.alerts)] if account.alerts else ["", "No alerts."]
    lines += ["", "FACTS, newest first", _facts(account, zone)] if account.facts else ["", "No facts."]
    if (left := len(account.facts) - FACTS_SHOWN) > 0:
        lines.append(f"{left} older ones; see them with --json")
    return frame.printed(lines)


def health_line(account: Account) -> str:
    """Band, score, difference over a week, coverage."""
    health = account.health
    if health is None:
        return f"Health: no score; `steward explain {account.id}` says why"
    week = over_week(account)
    told = f"{badge(health.band, health.colour)} {tenths(health.score)}"
    told += "" if week is None else f", {signed(week)} in 7 days"
    return f"Health {told}, coverage {health.coverage:.0%}; `steward explain {account.id}` says why"


def _recent(named: tuple[str, Handoff]) -> tuple[bool, int, str]:
    name, handoff = named
    return not handoff.is_open, -(handoff.opened or 0), name


def _handoffs(handoffs: Sequence[tuple[str, Handoff]], fresh: Freshness, zone: tzinfo) -> Table:
    grid = frame.table(("handoff", 22), ("state", 9), ("owner", 12), ("clock", 10), ("due", 11), ("stages", None))
    for name, handoff in handoffs:
        first = (f"{short(name, handoff.kind)}\n{handoff.kind}", handoff.state or "unknown", handoff.owner or "nobody")
        dues = {leg.leg: leg.due for leg in handoff.legs}
        for leg in [*dues, *sorted((handoff.reached.keys() | handoff.retracted.keys()) - dues.keys())] or [""]:
            reached = handoff.reached.get(leg, {})
            due = dues.get(leg) or next((verdict.due for verdict in reached.values()), None)
            stages = _stages(reached, handoff.retracted.get(leg, {}), zone)
            frame.add(grid, *first, leg, frame.due(due, fresh.as_of, zone), stages)
            first = ("", "", "")
    return grid


def _stages(reached: Mapping[str, Verdict], retracted: Mapping[str, Retraction], zone: tzinfo) -> str:
    lines = [f"{spoken(stage)} {frame.time(reached[stage].at, zone)}" for stage in STAGES if stage in reached]
    lines += [f"{spoken(stage)} taken back: {retracted[stage].reason}" for stage in STAGES if stage in retracted]
    return "\n".join(lines)


def _alerts(alerts: Mapping[str, Alert]) -> Table:
    grid = frame.table(("handoff", 22), ("state", 9), ("stage", 10), ("told", 16), ("deliveries", None))
    for alert in sorted(alerts.values(), key=lambda alert: (alert.state != "raised", alert.handoff, alert.leg)):
        step = alert.stages.get(alert.stage or "")
        told = ", ".join(step.recipients) if step and step.recipients else "nobody"
        sent = "\n".join(
            f"{delivery.outcome} to {delivery.recipient} at {delivery.endpoint}, {_times(delivery.attempts)}: "
            f"{delivery.reason}"
            for delivery in alert.deliveries.values()
        )
        frame.add(
            grid, f"{short(alert.handoff, alert.kind)}\n{alert.leg}", alert.state, spoken(alert.stage), told, sent
        )
    return grid


def _facts(account: Account, zone: tzinfo) -> Table:
    grid = frame.table(("time", 17), ("type", 18), ("source", 12), ("what", None))
    for fact in account.facts[:FACTS_SHOWN]:
        kind = fact.type.removeprefix("steward.").rpartition(".")[0]
        frame.add(grid, frame.time(fact.at, zone), kind, fact.source, fact.text)
    return grid


def account_json(account: Account, fresh: Freshness) -> Json:
    """One account for programs."""
    return {
        "freshness": frame.freshness(fresh),
        "account": account.id,
        "name": account.name,
        "owner": account.owner,
        "arr": frame.money(worth(account)),
        "health": _summary(account.health, over_week(account)),
        "deals": [
            {"deal": name.removeprefix("deal:"), "won": deal.won, "amount": deal.amount, "currency": deal.currency}
            for name, deal in account.deals.items()
        ],
        "handoffs": [_handoff(name, handoff) for name, handoff in sorted(account.handoffs.items(), key=_recent)],
        "alerts": [_alert(name, alert) for name, alert in account.alerts.items()],
        "facts": [
            {"time": frame.iso(fact.at), "type": fact.type, "source": fact.source, "id": fact.id, "text": fact.text}
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
        "opened": frame.iso(handoff.opened),
        "accepted": frame.iso(handoff.accepted),
        "policy": handoff.policy,
        "clocks": [
            {
                "leg": leg,
                "due": frame.iso(dues[leg].due) if leg in dues else None,
                "calendar": dues[leg].calendar if leg in dues else None,
                "reached": [
                    _verdict(stage, one) for stage, one in sorted(handoff.reached.get(leg, {}).items(), key=_by_stage)
                ],
                "retracted": [
                    {"stage": stage, "at": frame.iso(one.at), "n": one.n, "reason": one.reason}
                    for stage, one in sorted(handoff.retracted.get(leg, {}).items(), key=_by_stage)
                ],
            }
            for leg in legs
        ],
    }


def _verdict(stage: str, one: Verdict) -> Json:
    return {
        "stage": stage,
        "at": frame.iso(one.at),
        "due": frame.iso(one.due),
        "n": one.n,
        "correction": one.correction,
    }


def _alert(name: str, alert: Alert) -> Json:
    return {
        "alert": name,
        "handoff": alert.handoff,
        "kind": alert.kind,
        "leg": alert.leg,
        "state": alert.state,
        "stage": alert.stage,
        "resolved": frame.iso(alert.resolved),
        "stages": [
            {
                "stage": stage,
                "state": step.state,
                "at": frame.iso(step.at),
                "due": frame.iso(step.due),
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
                "at": frame.iso(sent.at),
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


def _times(number: int) -> str:
    return "1 attempt" if number == 1 else f"{number} attempts"


def _by_stage(named: tuple[str, object]) -> int:
    return STAGES.index(named[0])


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
