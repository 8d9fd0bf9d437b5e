"""The view in a real Redis, through any batches, crashes, lagging writers, floods and rebuilds."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.envelope import Event
from schemas.topics import ACCOUNTS, HANDOFFS, OWNERSHIP
from services.board import generation, query, view
from services.board.attention import attention
from services.board.decide import decoded, is_open
from services.board.generation import Building, Changes, ClaimLost, Generation, NewerFormat, Outcome, in_force
from services.board.model import FACTS_KEPT, FORMAT
from services.board.view import MARKS, Displaced, Server, Writer, build
from services.runtime.kafka import Tail
from services.runtime.metrics import Metrics
from services.runtime.redis import Store, connected
from services.runtime.settings import Settings
from tests.board import Follower, Log, alerted, called, cap, changed, closed, scored, verdict, went, won
from tests.board_events import events
from tests.builders import minute, opened

numbers = itertools.count()


class Interrupted(Generation):
    """Something else happens between its reading and its writing."""

    def __init__(self, store: Store, prefix: str, number: int, *, before: Callable[[], Awaitable[object]]) -> None:
        super().__init__(store, prefix, number)
        self._before = before

    async def write(self, changes: Changes) -> Outcome:
        await self._before()
        return await super().write(changes)


@dataclass
class World:
    """A log, a prefix of its own in Redis, and the writers that were started on it."""

    store: Store
    prefix: str
    log: Log = field(default_factory=Log)
    writers: dict[str, Writer] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return Settings(prefix=self.prefix, partitions=self.log.partitions)

    def follower(self, sizes: Iterable[int] = ()) -> Tail:
        return cast("Tail", Follower(self.log, sizes))

    def server(self, sizes: Iterable[int] = ()) -> Server:
        return Server(self.settings, self.store, self.follower(sizes), Metrics())

    async def started(self, name: str, sizes: Iterable[int] = ()) -> Writer:
        """The writer of that name, gone on with or entered as the service enters."""
        if name not in self.writers:
            writer = await self.server(sizes)._entered(asyncio.Event())
            assert writer is not None
            self.writers[name] = writer
        return self.writers[name]

    async def step(self, name: str, sizes: Iterable[int] = ()) -> Outcome:
        """One step; a writer that is not where it thought is forgotten, as the service does."""
        outcome = await (await self.started(name, sizes)).step()
        if outcome is not Outcome.WRITTEN:
            del self.writers[name]
        return outcome

    async def lagging(self, name: str) -> None:
        """A writer that still has an old position, from before what the view has seen."""
        present = await self.present()
        zero = dict.fromkeys((spot for spot in self.log.ends if spot != MARKS), 0)
        self.writers[name] = Writer(self.settings, self.follower([1] * 99), present, zero, Metrics())
        await self.writers[name].start()

    async def race(self) -> None:
        """The lagging writer reads what is known, another writes later records, and then the lagging one writes."""
        await self.lagging("other")
        late = self.writers["other"]
        late.generation = Interrupted(self.store, self.prefix, late.generation.number, before=lambda: self.step("one"))
        if await late.step() is not Outcome.WRITTEN:
            del self.writers["other"]
        else:
            late.generation = await self.present()

    async def present(self) -> Generation:
        number = await in_force(self.store, self.prefix)
        assert number is not None
        return Generation(self.store, self.prefix, number)

    async def build(self, sizes: Iterable[int] = ()) -> Generation | None:
        return await build(self.settings, self.store, self.follower(sizes), Metrics(), asyncio.Event())

    async def empty(self) -> None:
        async for some in self.store.names(f"{self.prefix}*"):
            await self.store.ask([("DEL", name) for name in some])

    async def caught_up(self) -> dict[str, Any]:
        """What the view says once everybody has read to the end."""
        for name in ("last", *list(self.writers)):
            while self.log.ends != {**(await self.started(name)).positions, MARKS: self.writers[name].marks}:
                await self.step(name)
        return await self.content()

    async def content(self) -> dict[str, Any]:
        """Every key of the generation in force, without its number; the clock's is left out: it tells how, not what."""
        stem = (await self.present()).keys()
        found = {}
        async for some in self.store.names(f"{self.prefix}st:*"):
            for name in some:
                key = name.decode()
                if key.startswith(f"{stem}:") and key != f"{stem}:clock":
                    found[key.removeprefix(stem)] = await self._value(key)
        return found

    async def _value(self, key: str) -> Any:
        [kind] = await self.store.ask([("TYPE", key)])
        read: dict[bytes, tuple[str | int, ...]] = {
            b"hash": ("HGETALL", key),
            b"zset": ("ZRANGE", key, 0, -1, "WITHSCORES"),
            b"set": ("SMEMBERS", key),
        }
        [value] = await self.store.ask([read[kind]])
        return value


@asynccontextmanager
async def world(url: str) -> AsyncIterator[World]:
    async with connected(url) as store:
        found = World(store, f"view-{next(numbers)}-")
        try:
            yield found
        finally:
            await found.empty()


async def told_at_once(store: Store, log: Log) -> dict[str, Any]:
    """The same log folded by one writer, one record at a time."""
    plain = World(store, f"view-{next(numbers)}-", log)
    try:
        await plain.build([1] * 500)
        return await plain.content()
    finally:
        await plain.empty()


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_the_view_says_the_same_whatever_happened_on_the_way(redis_url: str, data: st.DataObject) -> None:
    asyncio.run(_whatever_happens(redis_url, data))


async def _whatever_happens(url: str, data: st.DataObject) -> None:
    actions = ["publish", "publish", "publish", "one", "other", "one", "other"]
    actions += ["crash", "lag", "race", "marker", "empty", "rebuild", "mark"]
    async with world(url) as here:
        for action in data.draw(st.lists(st.sampled_from(actions), max_size=40)):
            await _happens(here, action, data)
        found = await here.caught_up()
        assert found == await told_at_once(here.store, here.log)
        assert found.get(":open", set()) == _open(found)


async def _happens(here: World, action: str, data: st.DataObject) -> None:
    sizes = st.lists(st.integers(1, 4), max_size=10)
    match action:
        case "publish":
            for event in data.draw(st.lists(events, min_size=2, max_size=12)):
                here.log.publish(event)
        case "one" | "other":
            await here.step(action, data.draw(sizes))
        case "marker":
            here.log.commit((HANDOFFS.name, data.draw(st.integers(0, 1))))
        case "mark":
            here.log.mark(len(here.log.records[MARKS]))
        case "rebuild":
            await here.build(data.draw(sizes))
        case _:
            await _goes_wrong(here, action, data)


async def _goes_wrong(here: World, action: str, data: st.DataObject) -> None:
    is_built = await in_force(here.store, here.prefix) is not None
    match action:
        case "crash":
            here.writers.pop(data.draw(st.sampled_from(["one", "other"])), None)
        case "lag" if is_built:
            await here.lagging("other")
        case "race" if is_built:
            await here.race()
        case "empty":
            await here.empty()
        case _:
            pass


def _open(content: dict[str, Any]) -> set[bytes]:
    """The index of what is open, as the fields themselves say it."""
    return {
        f"{key.removeprefix(':acct:')}\x00{name.decode()}".encode()
        for key, fields in content.items()
        if key.startswith(":acct:")
        for name, raw in fields.items()
        if is_open(decoded(name.decode(), raw))
    }


async def test_a_lagging_writer_overwrites_nothing(redis_url: str) -> None:
    async with world(redis_url) as here:
        await here.started("one")
        for event in (changed("open"), changed("accepted"), changed("cancelled")):
            here.log.publish(event)
        await here.step("one")
        before = await here.content()
        await here.lagging("other")
        assert await here.step("other") is Outcome.WRITTEN
        assert await here.content() == before


async def test_a_writer_overtaken_between_its_reading_and_its_writing_overwrites_nothing(redis_url: str) -> None:
    async with world(redis_url) as here:
        await here.started("one")
        for event in (changed("open"), changed("accepted"), changed("cancelled")):
            here.log.publish(event)
        await here.race()
        assert await here.content() == await told_at_once(here.store, here.log)


async def test_what_is_open_leaves_the_index_when_it_is_over(redis_url: str) -> None:
    async with world(redis_url) as here:
        for event in (changed("open"), changed("open", handoff="deal-2"), alerted("raised")):
            here.log.publish(event)
        assert (await here.caught_up())[":open"] == {
            b"acme\x00handoff:deal-1",
            b"acme\x00handoff:deal-2",
            b"acme\x00alert:alert-deal-1",
        }
        for event in (changed("accepted"), alerted("resolved", over=True)):
            here.log.publish(event)
        assert (await here.caught_up())[":open"] == {b"acme\x00handoff:deal-2"}


@pytest.mark.parametrize(
    ("then", "left"),
    [
        pytest.param([went("red", "yellow", 60)], ["health"], id="the band has risen"),
        pytest.param([closed(15)], ["health"], id="the fall is two weeks old"),
        pytest.param([scored("red")], ["change"], id="the cap has ended"),
        pytest.param([closed(1), scored("red", caps=[cap()])], ["change", "health"], id="nothing of it"),
    ],
)
async def test_an_account_whose_health_needs_somebody_is_found_until_it_does_not(
    redis_url: str, then: list[Event], left: list[str]
) -> None:
    async with world(redis_url) as here:
        for event in (scored("red", caps=[cap()]), went("yellow", "red"), called("Acme"), scored(account="fine")):
            here.log.publish(event)
        here.log.mark(1)
        await here.caught_up()
        _, [account] = await query.open_accounts(here.store, here.prefix)
        [row] = attention([account], minute(1)).rows
        assert (row.account, row.name, row.item.reasons) == ("acme", "Acme", ("FELL", "SEV1_OPEN"))
        assert row.health is not None
        for event in then:
            here.log.publish(event)
        assert (await here.caught_up())[":open"] == {f"acme\x00{name}".encode() for name in left}


async def test_a_writer_of_the_generation_before_writes_nothing(redis_url: str) -> None:
    async with world(redis_url) as here:
        writer = await here.started("one")
        claimed = await generation.claim(here.store, here.prefix, "builder")
        await claimed.begin(writer.positions)
        await claimed.switch()  # and what was before is still there
        here.log.publish(changed("open"))
        assert await writer.step() is Outcome.MOVED
        [known] = await here.store.ask([("EXISTS", writer.generation.keys("acct", "acme"))])
        assert known == 0


async def test_a_writer_whose_base_is_gone_writes_nothing_and_looks_again(redis_url: str) -> None:
    async with world(redis_url) as here:
        here.log.publish(changed("open"))
        await here.caught_up()
        present = await here.present()
        await here.store.ask([("HSET", present.keys("pos"), f"{HANDOFFS.name}/{number}", 0) for number in (0, 1)])
        await here.store.ask([("DEL", present.keys("acct", "acme"))])  # Redis came back from an older copy
        here.log.publish(verdict("breached"))
        assert await here.step("last") is Outcome.GAP
        assert await here.caught_up() == await told_at_once(here.store, here.log)


@pytest.mark.parametrize("order", ["as they happened", "backwards"])
async def test_the_last_facts_by_time_are_kept_in_whatever_order_they_come(redis_url: str, order: str) -> None:
    async with world(redis_url) as here:
        facts = [opened(number, f"deal-{number}") for number in range(FACTS_KEPT + 50)]
        for fact in (*facts[::-1], *facts) if order == "backwards" else (*facts, *facts):
            here.log.publish(fact)
        here.log.mark(1)
        await here.caught_up()
        _, account = await query.account(here.store, here.prefix, "acme")
        assert [fact.at for fact in account.facts] == [minute(149 - number) for number in range(FACTS_KEPT)]


async def test_an_alert_left_open_by_a_closed_handoff_is_told_with_it(redis_url: str) -> None:
    async with world(redis_url) as here:
        for event in (changed("accepted"), alerted("raised"), won("1", "1200"), called("Acme")):
            here.log.publish(event)
        here.log.mark(100)
        await here.caught_up()
        _, accounts = await query.open_accounts(here.store, here.prefix)
        [row] = attention(accounts, minute(100)).rows
        assert row.item.why == "Alert on Deal handoff deal-1, which is accepted, is not resolved"
        assert (row.name, [str(amount) for amount in row.arr.values()]) == ("Acme", ["1200"])


async def test_a_record_that_cannot_be_read_is_counted_and_stops_nothing(redis_url: str) -> None:
    async with world(redis_url) as here:
        spot = (HANDOFFS.name, 0)
        right = next(name for name in map(str, range(9)) if _partition(here, name) == 0)
        stray = next(name for name in map(str, range(9)) if _partition(here, name) == 1)
        here.log.put(spot, b"\xff no JSON")
        here.log.put(spot, b'{"type": "steward.handoff.mislaid.v1"}')
        here.log.put(spot, None)
        here.log.publish(changed(account=stray), spot)
        here.log.publish(changed(account=right), spot)
        writer = await here.started("one")
        await here.caught_up()
        assert writer.records == 0  # the build has read them
        [known] = await here.store.ask([("ZRANGE", (await here.present()).keys("accounts"), 0, -1)])
        assert known == [right.encode()]


async def test_what_was_refused_is_counted_by_its_reason(redis_url: str) -> None:
    async with world(redis_url) as here:
        await here.started("one")
        here.log.put((ACCOUNTS.name, 0), b"{}")
        here.log.put((OWNERSHIP.name, 1), b'{"type": "steward.handoff.mislaid.v1"}')
        await here.step("one")
        counted = here.writers["one"].metrics.text().decode()
        assert 'records_total{outcome="schema",processor="view",topic="crm.accounts"} 1.0' in counted
        assert 'records_total{outcome="unknown_type",processor="view",topic="crm.ownership"} 1.0' in counted
        assert 'view_records_total{topic="crm.accounts"} 1.0' in counted


def _partition(here: World, key: str) -> int:
    log = Log(here.log.partitions)
    log.publish(changed(account=key))
    return next(number for (topic, number), end in log.ends.items() if topic == HANDOFFS.name and end)


@pytest.mark.parametrize("spot", [(HANDOFFS.name, 0), (HANDOFFS.name, 1), MARKS], ids=str)
@pytest.mark.parametrize("is_serving", [True, False], ids=["while serving", "between two runs"])
async def test_a_topic_made_anew_has_the_view_built_anew(redis_url: str, spot: Any, is_serving: bool) -> None:
    async with world(redis_url) as here:
        for account in "abcdef":
            here.log.publish(changed(account=account))
        here.log.mark(1)
        server = here.server()
        writer = await server._entered(asyncio.Event())
        assert writer is not None
        await writer.step()
        here.log.remake(spot)
        if is_serving:
            with pytest.raises(Displaced, match=f"{spot[0]} partition {spot[1]}"):
                await writer.step()
        again = await server._entered(asyncio.Event())
        assert again is not None
        assert again.generation.number == 2
        assert await here.content() == await told_at_once(here.store, here.log)


async def test_two_rebuilds_at_once_are_refused_and_leave_the_first_alone(redis_url: str) -> None:
    async with world(redis_url) as here:
        await here.build()
        claimed = await generation.claim(here.store, here.prefix, "first")
        with pytest.raises(Building, match="another process is building the view"):
            await here.build()
        await claimed.release()
        again = await here.build()
        assert again is not None
        assert again.number == 2


async def test_a_builder_that_lost_its_claim_neither_writes_nor_switches(redis_url: str) -> None:
    async with world(redis_url) as here:
        await here.build()
        first = await generation.claim(here.store, here.prefix, "first")
        await here.store.ask([("DEL", generation.building(here.prefix))])  # it stood still for too long
        await generation.claim(here.store, here.prefix, "second")
        changes = generation.Changes(positions={})
        assert await first.write(changes) is Outcome.MOVED
        for attempt in (first.switch(), first.begin({}), first.sweep(keep=())):
            with pytest.raises(ClaimLost, match="run `steward view rebuild` again"):
                await attempt
        assert await in_force(here.store, here.prefix) == 1


async def test_a_rebuild_that_is_stopped_leaves_nothing_and_the_old_one_answers(redis_url: str) -> None:
    async with world(redis_url) as here:
        for number in range(50):
            here.log.publish(opened(number, f"deal-{number}"))
        await here.build()
        before = await here.content()
        stopping = asyncio.Event()
        follower = here.follower([1] * 500)
        stopped = await build(
            here.settings, here.store, follower, Metrics(), stopping, lambda part, _: stopping.set() if part else None
        )
        assert stopped is None
        assert await here.content() == before
        left = [name async for some in here.store.names(f"{here.prefix}st:*") for name in some]
        assert {name.split(b":")[1] for name in left} == {b"1", b"current"}


async def test_what_a_dead_builder_left_is_removed_by_the_next(redis_url: str) -> None:
    async with world(redis_url) as here:
        await here.build()
        half = f"{here.prefix}st:2:acct:acme"
        await here.store.ask([("HSET", half, "name", '{"offset":99,"order":null,"name":"Wrong"}')])
        here.log.publish(called("Acme"))
        await here.build()
        assert await here.content() == await told_at_once(here.store, here.log)


async def test_a_view_of_another_format_is_built_anew_and_a_newer_one_is_left_alone(redis_url: str) -> None:
    async with world(redis_url) as here:
        present = await here.build()
        assert present is not None
        await here.store.ask([("HSET", present.keys("pos"), "format", FORMAT - 1)])
        assert (await here.started("one")).generation.number == 2
        await here.store.ask([("HSET", (await here.present()).keys("pos"), "format", FORMAT + 1)])
        with pytest.raises(NewerFormat, match=f"of format {FORMAT + 1}"):
            await here.started("other")


async def test_the_view_is_as_of_the_mark_before_which_all_was_read(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "ENDS_SECONDS", -1.0)  # it asks at every step where the topics end
    async with world(redis_url) as here:
        here.log.publish(opened(1))
        here.log.mark(7)
        writer = await here.started("one", [9, 9, 1, 1, 1])
        await writer.step()
        for number in (2, 3):
            here.log.publish(opened(number, f"deal-{number}"))
        here.log.mark(9, ["helpdesk"], simulated=True)
        told = []
        for _ in ("the mark", "a fact", "the last fact"):
            await writer.step()
            standing, _ = await query.account(here.store, here.prefix, "acme")
            told.append((standing.as_of.at, standing.heard.at, standing.heard.silent, standing.heard.simulated))
        heard = (minute(9), ("helpdesk",), True)
        assert told == [(minute(7), *heard), (minute(7), *heard), (minute(9), *heard)]
