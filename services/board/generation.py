"""Generations of the view in Redis: how keys are named, what is written together, who builds and when it is switched.

A generation is built from offset 0 beside the one that answers. Whatever is written goes through scripts that look
first whether the writer may still write there, so that neither a lagging writer nor an emptied Redis can spoil a view.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from services.board.decide import Place, decoded, encoded, is_open
from services.board.model import FACTS_KEPT, FORMAT, AsOf, Field, Heard, Seen
from services.core.errors import OperatorError
from services.runtime.kafka import Spot
from services.runtime.redis import Store

READ_AT_ONCE = 2_000  # fields: some milliseconds in which Redis answers nobody else
LOCK_MS = 15_000  # a builder writes several times a second; one that has not for so long is dead

# Answers 'moved' when another generation is in force (or none: Redis was emptied), 'gap' when the positions that the
# writer starts from have not been reached here. A field that has seen a later offset is left alone.
WRITE = f"""
local current, building, pos, open, accounts = unpack(KEYS)
local batch = cmsgpack.unpack(ARGV[1])
if batch.token ~= '' then
  if redis.call('HGET', building, 'token') ~= batch.token then return 'moved' end
  redis.call('HSET', building, 'part', batch.part)
  redis.call('PEXPIRE', building, {LOCK_MS})
elseif redis.call('GET', current) ~= batch.generation then
  return 'moved'
end
for _, p in ipairs(batch.positions) do
  local reached = redis.call('HGET', pos, p[1])
  if not reached or tonumber(reached) < tonumber(p[2]) then return 'gap' end
  p[4] = tonumber(p[3]) > tonumber(reached)
end
for _, f in ipairs(batch.fields) do
  local key, name, offset, value, member, is_open = unpack(f)
  local old = redis.call('HGET', key, name)
  if not old or tonumber(string.match(old, '^{{"offset":(%d+)')) < tonumber(offset) then
    redis.call('HSET', key, name, value)
    if is_open then redis.call('SADD', open, member) elseif member ~= '' then redis.call('SREM', open, member) end
  end
end
local grown = {{}}
for _, f in ipairs(batch.facts) do
  redis.call('ZADD', f[1], f[2], f[3])
  grown[f[1]] = true
end
for key in pairs(grown) do redis.call('ZREMRANGEBYRANK', key, 0, {-FACTS_KEPT - 1}) end
for _, account in ipairs(batch.accounts) do redis.call('ZADD', accounts, 0, account) end
for _, p in ipairs(batch.positions) do
  if p[4] then redis.call('HSET', pos, p[1], p[3]) end
end
return 'written'
"""

# Reads [key, field], or with [key] alone all fields and values. One reply in one piece: a parser in Python takes 20 µs
# for each of a thousand.
READ = """
local found = {}
for i, wanted in ipairs(cmsgpack.unpack(ARGV[1])) do
  if wanted[2] then
    found[i] = redis.call('HGET', wanted[1], wanted[2])
  else
    found[i] = redis.call('HGETALL', wanted[1])
  end
end
return cmsgpack.pack(found)
"""

CLAIM = f"""
local current, building = unpack(KEYS)
if redis.call('EXISTS', building) == 1 then return 0 end
local following = tonumber(redis.call('GET', current) or '0') + 1
redis.call('HSET', building, 'token', ARGV[1], 'part', '0')
redis.call('PEXPIRE', building, {LOCK_MS})
return following
"""

SWITCH = """
local current, building = unpack(KEYS)
if redis.call('HGET', building, 'token') ~= ARGV[1] then return 0 end
redis.call('SET', current, ARGV[2])
return 1
"""

# Keys of a generation are dropped, or its positions begun, only while the claim holds.
DROP = f"""
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], {LOCK_MS})
for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
return 1
"""

BEGIN = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
return 1
"""

RELEASE = "if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class Building(OperatorError):
    """Somebody else is building a generation."""


class ClaimLost(OperatorError):
    """The builder stood still for so long that another may have begun, or Redis was emptied."""


class NewerFormat(OperatorError):
    """The view was written by a newer version."""


class Outcome(StrEnum):
    """What became of a write."""

    WRITTEN = "written"
    MOVED = "moved"
    GAP = "gap"


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of a generation's keys."""

    prefix: str
    number: int

    def __call__(self, *parts: str) -> str:
        return ":".join((f"{self.prefix}st", str(self.number), *parts))

    @property
    def shared(self) -> list[str]:
        """Those that every write touches, in the order in which the script takes them."""
        return [current(self.prefix), building(self.prefix), self("pos"), self("open"), self("accounts")]


def current(prefix: str) -> str:
    """The key that names the generation in force."""
    return f"{prefix}st:current"


def building(prefix: str) -> str:
    """The key of the claim to build one, with how far that has come."""
    return f"{prefix}st:building"


def member(account: str, name: str) -> str:
    """A field that is open, as the index `open` has it; ids hold no control characters."""
    return f"{account}\x00{name}"


@dataclass(slots=True)
class Changes:
    """What one batch of records changes, and the positions (before, after) that go with it."""

    positions: Mapping[Spot, tuple[int, int]]
    fields: Mapping[Place, Field] = field(default_factory=dict)
    facts: Sequence[tuple[str, Seen]] = ()
    accounts: Collection[str] = ()
    marks: Sequence[Heard | AsOf] = ()
    part: float = 0.0


class Generation:
    """One generation and the right to write it: by being in force, or by a builder's claim (`token`)."""

    def __init__(self, store: Store, prefix: str, number: int, token: str = "") -> None:
        self.keys = Keys(prefix, number)
        self.token = token
        self._store = store

    @property
    def number(self) -> int:
        return self.keys.number

    async def positions(self) -> dict[Spot, int] | None:
        """The next offset of each partition; None when there are none of this format.

        Raises NewerFormat, RedisAway.
        """
        [raw] = await self._store.ask([("HGETALL", self.keys("pos"))])
        found = {name.decode(): int(value) for name, value in raw.items()}
        written_as = found.pop("format", 0)
        if written_as > FORMAT:
            raise NewerFormat(
                f"the view in Redis is of format {written_as}, and this program writes format {FORMAT}; "
                "update this program, or run `steward view rebuild` with it"
            )
        return _spots(found) if written_as == FORMAT else None

    async def heard(self) -> Heard | None:
        """The newest mark that was written here."""
        [raw] = await self._store.ask([("HGET", self.keys("clock"), "heard")])
        return None if raw is None else msgspec.json.decode(raw, type=Heard)

    async def known(self, places: Collection[Place]) -> dict[Place, Field]:
        """The fields that are there already."""
        wanted = [(self.keys(place.part, place.account), place.field) for place in places]
        found = await self.read(wanted)
        return {
            place: decoded(place.field, value)
            for place, value in zip(places, found, strict=True)
            if isinstance(value, str)
        }

    async def read(self, wanted: Sequence[tuple[str, ...]]) -> list[Any]:
        """Per (key, field) its text, or False; per (key,) the fields and texts of the whole hash by turns."""
        found: list[Any] = []
        for start in range(0, len(wanted), READ_AT_ONCE):
            asked = msgspec.msgpack.encode(wanted[start : start + READ_AT_ONCE])
            found += msgspec.msgpack.decode(await self._store.run(READ, (), asked))
        return found

    async def write(self, changes: Changes) -> Outcome:
        """Everything together, or nothing when this writer must look again where it stands."""
        return Outcome((await self._store.run(WRITE, self.keys.shared, self._packed(changes))).decode())

    def _packed(self, changes: Changes) -> bytes:
        # Numbers go as text, which Lua would make floating points; JSON too, because cmsgpack reads no bytes.
        keys = self.keys
        fields = [
            (
                keys(place.part, place.account),
                place.field,
                str(value.offset),
                encoded(value).decode(),
                member(place.account, place.field) if place.part == "acct" else "",
                is_open(value),
            )
            for place, value in changes.fields.items()
        ]
        fields += [
            (
                keys("clock"),
                "heard" if isinstance(mark, Heard) else "as_of",
                str(mark.offset),
                encoded(mark).decode(),
                "",
                False,
            )
            for mark in changes.marks
        ]
        return msgspec.msgpack.encode(
            {
                "token": self.token,
                "generation": str(self.number),
                "part": f"{changes.part:.4f}",
                "positions": [
                    (_text(spot), str(before), str(after)) for spot, (before, after) in changes.positions.items()
                ],
                "fields": fields,
                "facts": [
                    (keys("facts", account), str(fact.at), encoded(fact).decode()) for account, fact in changes.facts
                ],
                "accounts": list(changes.accounts),
            }
        )

    async def begin(self, positions: Mapping[Spot, int]) -> None:
        """Start from these positions. Raises ClaimLost, RedisAway."""
        pairs: list[str | int] = ["format", FORMAT]
        for spot, position in positions.items():
            pairs += [_text(spot), position]
        keys = [building(self.keys.prefix), self.keys("pos")]
        self._held(await self._store.run(BEGIN, keys, self.token, *pairs))

    async def switch(self) -> None:
        """Put this generation in force. Raises ClaimLost, RedisAway."""
        keys = [current(self.keys.prefix), building(self.keys.prefix)]
        self._held(await self._store.run(SWITCH, keys, self.token, self.number))

    async def sweep(self, keep: Collection[int]) -> int:
        """Remove every generation but these; answers how many keys. Raises ClaimLost, RedisAway."""
        prefix, removed = self.keys.prefix, 0
        ours = re.compile(rf"{re.escape(prefix)}st:(\d+):".encode())
        async for names in self._store.names(f"{prefix}st:*"):
            stale = [name for name in names if (found := ours.match(name)) and int(found[1]) not in keep]
            keys = [building(prefix), *(name.decode() for name in stale)]
            self._held(await self._store.run(DROP, keys, self.token))
            removed += len(stale)
        return removed

    async def release(self) -> None:
        """Let others build."""
        await self._store.run(RELEASE, [building(self.keys.prefix)], self.token)

    def _held(self, answer: object) -> None:
        if answer != 1:
            raise ClaimLost(
                f"generation {self.number} of the view was given up: it made no progress for {LOCK_MS // 1000} s "
                "or Redis was emptied; run `steward view rebuild` again"
            )


async def in_force(store: Store, prefix: str) -> int | None:
    """The number of the generation that answers. Raises RedisAway."""
    [raw] = await store.ask([("GET", current(prefix))])
    return None if raw is None else int(raw)


async def being_built(store: Store, prefix: str) -> float | None:
    """How much of a generation that somebody builds is done, 0 to 1; None when nobody does. Raises RedisAway."""
    [raw] = await store.ask([("HGET", building(prefix), "part")])
    return None if raw is None else float(raw)


async def claim(store: Store, prefix: str, token: str) -> Generation:
    """The right to build the generation after the one in force. Raises Building, RedisAway."""
    number = await store.run(CLAIM, [current(prefix), building(prefix)], token)
    if number == 0:
        part = await being_built(store, prefix)
        raise Building(
            f"another process is building the view ({part or 0:.0%} done); wait for it, "
            f"or {LOCK_MS // 1000} s if it has died"
        )
    return Generation(store, prefix, number, token)


def _text(spot: Spot) -> str:
    return f"{spot[0]}/{spot[1]}"


def _spots(found: Mapping[str, int]) -> dict[Spot, int]:
    return {(topic, int(number)): value for name, value in found.items() for topic, _, number in [name.rpartition("/")]}
