"""Asks the view: everything that has something open, or one account whole.

NoView       nobody has built one, or it is being built, or the clock has never been heard
NoAccount    nothing is known of this account
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar

import msgspec

from services.board import generation
from services.board.decide import decoded
from services.board.generation import Generation
from services.board.model import Account, Alert, AsOf, Course, Deal, Field, Handoff, Health, Heard, Name, Owner, Seen
from services.board.words import plain
from services.core.errors import OperatorError
from services.runtime.redis import Store

T = TypeVar("T")
OF_EVERY_ROW = ("name", "owner", "health", "change")
TRIES = 5
CANDIDATES = 2_000  # accounts among which one with a similar name is looked for

_seen = msgspec.json.Decoder(Seen)


class NoView(OperatorError):
    """There is nothing that could answer."""


class NoAccount(OperatorError):
    """The view knows no such account."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a generation has come: in time, and per topic in records."""

    heard: Heard
    as_of: AsOf
    read: Mapping[str, int]


async def open_accounts(store: Store, prefix: str) -> tuple[Standing, list[Account]]:
    """Every account with something open: its name, its deals, its health, and the fields that are open.

    Raises NoView, RedisAway.
    """
    return await _from_one_generation(store, prefix, lambda present: _open(store, present))


async def account(store: Store, prefix: str, id: str) -> tuple[Standing, Account]:
    """Everything that is known of one account. Raises NoAccount, NoView, RedisAway."""
    return await _from_one_generation(store, prefix, lambda present: _whole(store, present, id))


async def _from_one_generation(
    store: Store, prefix: str, ask: Callable[[Generation], Awaitable[T]]
) -> tuple[Standing, T]:
    # A generation is removed only after another is in force: if it still is, nothing was missing from the answer.
    for _ in range(TRIES):
        number = await generation.in_force(store, prefix)
        if number is None:
            raise await _no_view(store, prefix)
        present = Generation(store, prefix, number)
        try:
            answer = await _standing(present), await ask(present)
        except OperatorError:
            if await generation.in_force(store, prefix) == number:
                raise
            continue
        if await generation.in_force(store, prefix) == number:
            return answer
    raise NoView("the view was switched again and again while it was asked; ask again in a moment")


async def _no_view(store: Store, prefix: str) -> NoView:
    part = await generation.being_built(store, prefix)
    if part is not None:
        return NoView(f"the view is being built ({part:.0%} done); ask again in a moment")
    return NoView("there is no view in Redis; start `steward view serve`, which builds it from the topics")


async def _standing(present: Generation) -> Standing:
    positions = await present.positions()
    if positions is None:
        raise NoView("the view in Redis was written by an older version; `steward view rebuild` builds it anew")
    heard, as_of = await present.read([(present.keys("clock"), "heard"), (present.keys("clock"), "as_of")])
    if not heard or not as_of:
        raise NoView(
            "no mark of the clock has reached the view, so it cannot say what is due when; "
            "start `steward clock`, and `steward view serve` if it is not running"
        )
    read: dict[str, int] = {}
    for (topic, _), position in positions.items():
        read[topic] = read.get(topic, 0) + position
    return Standing(msgspec.json.decode(heard, type=Heard), msgspec.json.decode(as_of, type=AsOf), read)


async def _open(store: Store, present: Generation) -> list[Account]:
    [members] = await store.ask([("SMEMBERS", present.keys("open"))])
    wanted: dict[str, list[str]] = {}
    for raw in members:
        id, _, name = raw.decode().partition("\x00")
        names = wanted.setdefault(id, [*OF_EVERY_ROW])
        if name not in OF_EVERY_ROW:
            names.append(name)
    fields = await _fields(present, wanted)
    # An alert that stays open after its handoff ended is told apart by that handoff, which is not in the index.
    closed = {id: _closed(known) for id, known in fields.items()}
    for id, known in (await _fields(present, {id: names for id, names in closed.items() if names})).items():
        fields[id] |= known
    deals = await present.read([(present.keys("deals", id),) for id in wanted])
    return [_account(id, fields[id] | _pairs(flat)) for id, flat in sorted(zip(wanted, deals, strict=True), key=_first)]


async def _whole(store: Store, present: Generation, id: str) -> Account:
    fields, deals = await present.read([(present.keys("acct", id),), (present.keys("deals", id),)])
    [known, facts] = await store.ask(
        [("ZSCORE", present.keys("accounts"), id), ("ZRANGE", present.keys("facts", id), 0, -1)]
    )
    if known is None:
        raise await _no_account(store, present, id)
    seen = sorted((_seen.decode(raw) for raw in facts), key=lambda fact: (fact.at, fact.type, fact.source, fact.id))
    return _account(id, _pairs(fields) | _pairs(deals), tuple(reversed(seen)))


async def _fields(present: Generation, wanted: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Field]]:
    """Per account those of the wanted fields that exist."""
    places = [(id, name) for id, names in wanted.items() for name in names]
    texts = await present.read([(present.keys("acct", id), name) for id, name in places])
    found: dict[str, dict[str, Field]] = {id: {} for id in wanted}
    for (id, name), text in zip(places, texts, strict=True):
        if text:
            found[id][name] = decoded(name, text)
    return found


def _closed(fields: Mapping[str, Field]) -> list[str]:
    handoffs = [f"handoff:{alert.handoff}" for alert in fields.values() if isinstance(alert, Alert)]
    return [name for name in handoffs if name not in fields]


def _pairs(flat: Sequence[str]) -> dict[str, Field]:
    return {name: decoded(name, text) for name, text in zip(flat[::2], flat[1::2], strict=True)}


def _first(pair: tuple[str, object]) -> str:
    return pair[0]


def _account(id: str, fields: Mapping[str, Field], facts: tuple[Seen, ...] = ()) -> Account:
    deals: dict[str, Deal] = {}
    handoffs: dict[str, Handoff] = {}
    alerts: dict[str, Alert] = {}
    for place in sorted(fields):
        name = place.partition(":")[2]
        match fields[place]:
            case Deal() as deal:
                deals[name] = deal
            case Handoff() as handoff:
                handoffs[name] = handoff
            case Alert() as alert:
                alerts[name] = alert
            case _:
                pass
    title, owner, health, course = (fields.get(name) for name in OF_EVERY_ROW)
    return Account(
        id,
        title.name if isinstance(title, Name) else None,
        deals,
        handoffs,
        alerts,
        facts,
        health if isinstance(health, Health) else None,
        course if isinstance(course, Course) else None,
        owner.namings if isinstance(owner, Owner) else (),
    )


# ---------------------------------------------------------------- unknown accounts


async def _no_account(store: Store, present: Generation, id: str) -> NoAccount:
    names = await _candidates(store, present, id)
    similar = [names[one] for one in get_close_matches(id.casefold(), names, n=3, cutoff=0.6)]
    if similar:
        return NoAccount(f"there is no account {id!r}; did you mean {' or '.join(dict.fromkeys(similar))}?")
    return NoAccount(f"there is no account {id!r}; `steward attention` lists those that have something open")


async def _candidates(store: Store, present: Generation, id: str) -> dict[str, str]:
    """Ids and names in lower case, and the account that each stands for: all of few, of many those that begin alike."""
    key, last = present.keys("accounts"), CANDIDATES - 1
    [number] = await store.ask([("ZCARD", key)])
    if number <= CANDIDATES:
        [raw] = await store.ask([("ZRANGE", key, 0, last)])
    else:
        start = id[: max(1, len(id) // 2)]
        bounds = f"[{start}", f"[{start}".encode() + b"\xff"
        [raw] = await store.ask([("ZRANGEBYLEX", key, *bounds, "LIMIT", 0, CANDIDATES)])
    ids = [one.decode() for one in raw]
    named = await _fields(present, {one: ["name"] for one in ids})
    found: dict[str, str] = {}
    for one, fields in named.items():
        match fields.get("name"):
            case Name(name=str() as name):
                shown = f"{one} ({plain(name)})"
                found.setdefault(name.casefold(), shown)
            case _:
                shown = one
        found[one.casefold()] = shown
    return found
