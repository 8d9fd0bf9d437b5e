"""The attention list of the demo, asked of the view as `steward attention` asks it."""

from collections.abc import Sequence
from datetime import tzinfo
from zoneinfo import ZoneInfo

from services.board import attention as board
from services.board import query
from services.board.words import WORDS, span, tenths
from services.core.instants import Instant, moment
from services.demo.company import Agreement
from services.demo.screen import Need, worth_of
from services.runtime import redis
from services.runtime.settings import Settings

STATES = {
    board.Group.BREACHED: "BREACHED",
    board.Group.URGENT: "urgent",
    board.Group.DUE_TODAY: "due today",
    board.Group.OTHERS: "open",
}

HEALTH, FELL = "health", "FELL"  # as the list has them


async def needs(settings: Settings, agreed: Agreement) -> list[Need]:
    """The accounts that need somebody now, in order. Raises NoView, RedisAway."""
    async with redis.connected(settings.redis) as store:
        standing, accounts = await query.open_accounts(store, settings.prefix)
    at = standing.heard.at
    zone = ZoneInfo(agreed.calendar.zone)
    return [_need(row, at, zone) for row in board.attention(accounts, at, zone).rows]


def breached(found: Sequence[Need]) -> set[str]:
    """Names of the accounts that are listed as breached."""
    return {need.account for need in found if need.state == STATES[board.Group.BREACHED]}


def fell(found: Sequence[Need]) -> dict[str, str]:
    """Why accounts are listed whose band has fallen, by name."""
    return {need.account: need.why for need in found if FELL in need.reasons}


def _need(row: board.Row, at: Instant, zone: tzinfo) -> Need:
    item = row.item
    amounts = ", ".join(worth_of(str(amount), currency) for currency, amount in row.arr.items())
    # Of a row's items only the most urgent is shown; a handoff is one, health another.
    if item.kind == HEALTH and row.health is not None:
        when = f"{WORDS[row.health.band]} {tenths(row.health.score)}"
        if FELL in item.reasons:
            when += f", since {moment(row.health.since).astimezone(zone):%a %H:%M}"
        return Need(row.name or row.account, item.state, when, item.owner, amounts, item.reasons, item.why)
    return Need(row.name or row.account, STATES[item.group], _when(item.due, at), item.owner, amounts)


def _when(due: Instant | None, at: Instant) -> str:
    if due is None:
        return ""
    return f"in {span(due - at)}" if due > at else f"{span(at - due)} late"
