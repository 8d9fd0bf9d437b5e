"""Wires the board: the view consumer, its rebuild, and the questions asked of the view."""

import asyncio
import json
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from schemas.topics import CLOCK
from services.board import attention, explain, frame, query, screen, view, why
from services.core.errors import OperatorError
from services.runtime import clock, http, kafka, log, redis
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings

SAFE = "noeviction"
BEHIND = "the view has not read to the present end of its topics yet, or Redis does not answer"


class UnknownZone(OperatorError):
    """No such time zone."""


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Keep the view up to date until told to stop.

    Raises BrokerAway when nobody answers at the start, TopicMismatch, PortTaken, NewerFormat.
    """
    await _ensure_topics(settings)
    metrics = Metrics()
    async with redis.connected(settings.redis) as store, kafka.tail(settings) as tail:
        server = view.Server(settings, store, tail, metrics)
        metrics.ready.labels("view").set_function(lambda: float(server.ready))
        with http.serve(settings, metrics, http.ready_when(lambda: server.ready, BEHIND)):
            await _warn_of_eviction(store)
            await server.run(stopping)


async def rebuild(settings: Settings, stopping: asyncio.Event) -> str | None:
    """Build the view anew beside the one that answers, and switch; a sentence, or None when told to stop.

    Raises Building, ClaimLost, Displaced, BrokerAway, RedisAway, TopicMismatch.
    """
    await _ensure_topics(settings)
    since, read = clock.elapsed(), [0]
    with screen.progress() as show:

        def report(part: float, records: int) -> None:
            read[0] = records
            show(part, records)

        async with redis.connected(settings.redis) as store, kafka.tail(settings) as tail:
            built = await view.build(settings, store, tail, Metrics(), stopping, report)
    if built is None:
        return None
    return f"generation {built.number} answers: {read[0]:,} records in {clock.elapsed() - since:.1f} s"


async def ask_attention(settings: Settings, *, owner: str | None, zone: str, limit: int | None, as_json: bool) -> str:
    """Who needs somebody now. Raises NoView, UnknownZone, RedisAway."""
    where = _zone(zone)
    async with redis.connected(settings.redis) as store:
        standing, accounts = await query.open_accounts(store, settings.prefix)
    fresh = attention.freshness(standing.heard, standing.as_of, clock.now())
    found = attention.attention(accounts, fresh.as_of, where, owner)
    empty = None if found.rows else attention.why_empty(found, standing.read, owner)
    if as_json:
        return _dumped(screen.attention_json(found, fresh, limit, empty))
    return screen.attention_text(found, fresh, where, limit, empty)


async def ask_account(settings: Settings, id: str, *, zone: str, as_json: bool) -> str:
    """One account. Raises NoAccount, NoView, UnknownZone, RedisAway."""
    where = _zone(zone)
    async with redis.connected(settings.redis) as store:
        standing, account = await query.account(store, settings.prefix, id)
    fresh = attention.freshness(standing.heard, standing.as_of, clock.now())
    if as_json:
        return _dumped(screen.account_json(account, fresh))
    return screen.account_text(account, fresh, where)


async def ask_explain(settings: Settings, id: str, *, zone: str, as_json: bool) -> str:
    """Why one account has its score. Raises NoAccount, NoView, UnknownZone, RedisAway."""
    where = _zone(zone)
    async with redis.connected(settings.redis) as store:
        standing, account = await query.account(store, settings.prefix, id)
    fresh = attention.freshness(standing.heard, standing.as_of, clock.now())
    why_none = explain.why_none(account, standing.read)
    if as_json:
        return _dumped(why.explain_json(account, fresh, why_none))
    return why.explain_text(account, fresh, where, why_none)


async def _ensure_topics(settings: Settings) -> None:
    await kafka.ensure_topics(settings, {topic.name: topic.config for topic in (*view.TOPICS, CLOCK)})


async def _warn_of_eviction(store: redis.Store) -> None:
    try:
        rule = await store.eviction()
    except redis.RedisAway:  # said when it is needed
        return
    if rule != SAFE:
        log.get().warning("Redis may drop keys of the view when its memory is full; set maxmemory-policy", rule=rule)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UnknownZone(f"there is no time zone {name!r}; write it like Europe/Berlin or UTC") from None


def _dumped(answer: frame.Json) -> str:
    return json.dumps(answer, indent=2)
