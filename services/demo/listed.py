"""The attention list of the demo, asked of the view as `steward attention` asks it."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

from services.board import attention as board
from services.board import query
from services.core.instants import Instant
from services.demo.company import Agreement
from services.demo.screen import Need, worth_of
from services.runtime import redis
from services.runtime.settings import Settings

STATES = {board.Group.BREACHED: "BREACHED", board.Group.DUE_TODAY: "due today", board.Group.OTHERS: "open"}


async def needs(settings: Settings, agreed: Agreement) -> list[Need]:
    """The accounts that need somebody now, in order. Raises NoView, RedisAway."""
    async with redis.connected(settings.redis) as store:
        standing, accounts = await query.open_accounts(store, settings.prefix)
    at = standing.heard.at
    return [_need(row, at) for row in board.attention(accounts, at, ZoneInfo(agreed.calendar.zone)).rows]


def breached(found: Sequence[Need]) -> set[str]:
    """Names of the accounts that are listed as breached."""
    return {need.account for need in found if need.state == STATES[board.Group.BREACHED]}


def _need(row: board.Row, at: Instant) -> Need:
    item = row.item
    amounts = [worth_of(str(amount), currency) for currency, amount in row.arr.items()]
    return Need(row.name or row.account, STATES[item.group], _when(item.due, at), item.owner, ", ".join(amounts))


def _when(due: Instant | None, at: Instant) -> str:
    if due is None:
        return ""
    return f"in {board.span(due - at)}" if due > at else f"{board.span(at - due)} late"
