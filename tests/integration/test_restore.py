"""A changelog read back into state, on both brokers: what counts, what is refused, and that nothing waits for it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.topics import CLOCK, OWNERSHIP
from services.runtime import kafka, log
from services.runtime.embedded.server import Server
from services.runtime.engine import restore
from services.runtime.engine.keep import Kept, unchanged
from services.runtime.engine.partition import META, META_VERSION, Meta
from services.runtime.engine.restore import ChangelogError, Snapshot
from services.runtime.kafka import readers
from services.runtime.settings import Settings

STATE = "steward-test-state"
INPUTS = (OWNERSHIP, CLOCK)


@pytest.fixture
async def settings(broker: Server, prefix: str) -> Settings:
    return await made(broker.bootstrap, prefix)


async def made(bootstrap: str, prefix: str) -> Settings:
    settings = Settings(kafka=bootstrap, prefix=prefix, partitions=2)
    await kafka.ensure_topics(settings, {STATE: {"cleanup.policy": "compact"}, OWNERSHIP.name: {}, CLOCK.name: {}})
    return settings


def put(key: str, value: str | None) -> kafka.Record:
    return key.encode(), None if value is None else value.encode(), []


def meta(flush: int = 1, **more: Any) -> kafka.Record:
    fields: dict[str, Any] = {"positions": {OWNERSHIP.name: 0}, "flush": flush} | more
    return META, Meta(**fields).encode(), []


@asynccontextmanager
async def opened(settings: Settings, number: int = 0) -> AsyncIterator[kafka.Transactions]:
    writer = kafka.Transactions(settings, f"test-{number}")
    try:
        await writer.open()
        yield writer
    finally:
        await writer.close()


async def flush(settings: Settings, *flushes: Sequence[kafka.Record], number: int = 0) -> None:
    """Each in a transaction of its own; all of them are visible afterwards."""
    async with opened(settings, number) as writer:
        for records in flushes:
            await writer.transact([kafka.Write(settings.topic(STATE), number, [*records])])
    async with opened(settings, number):
        pass


async def restored(settings: Settings, number: int = 0, **options: Any) -> tuple[Snapshot, Meta]:
    return (await restore.restore(settings, STATE, INPUTS, [number], **options))[number]


async def made_anew(settings: Settings, topic: str, records: int = 0) -> None:
    async with kafka.admin(settings) as client:
        await client.delete_topics([settings.topic(topic)])
        while settings.topic(topic) in await client.list_topics():  # noqa: ASYNC110  # the broker tells nobody
            await asyncio.sleep(0.05)
    await kafka.ensure_topics(settings, {topic: {}})
    async with kafka.Publisher(settings) as publisher:
        for number in range(records):
            await publisher.send(topic, str(number), b"new")


async def test_the_last_record_of_each_key_counts_and_a_tombstone_ends_it(settings: Settings) -> None:
    await flush(settings, [meta(1), put("a", "1"), put("b", "1"), put("c", "1")])
    await flush(settings, [meta(2), put("b", "2"), put("a", None)], [meta(3, at=7), put("d", "3"), put("c", None)])
    snapshot, found = await restored(settings)
    assert snapshot.states == {b"b": b"2", b"d": b"3"}
    assert (found.flush, found.at, snapshot.records) == (3, 7, 10)
    assert found.positions == {OWNERSHIP.name: 0, CLOCK.name: 0}
    assert (snapshot.left, snapshot.ends) == (0, {OWNERSHIP.name: 0, CLOCK.name: 0})


async def test_partitions_are_kept_apart_and_an_empty_one_begins_at_the_beginning(settings: Settings) -> None:
    await flush(settings, [meta(4), put("a", "1")], number=1)
    found = await restore.restore(settings, STATE, INPUTS, [0, 1])
    assert [(snapshot.states, meta.flush) for snapshot, meta in found.values()] == [({}, 0), ({b"a": b"1"}, 4)]
    assert found[0][1].positions == {OWNERSHIP.name: 0, CLOCK.name: 0}


async def test_what_a_predecessor_did_not_commit_does_not_count(settings: Settings) -> None:
    await flush(settings, [meta(1), put("a", "1")])
    async with opened(settings) as zombie:
        await zombie.begin()
        await zombie.write([kafka.Write(settings.topic(STATE), 0, [meta(2), put("a", "2"), put("b", "2")])])
        async with opened(settings):
            snapshot, found = await restored(settings)
    assert (snapshot.states, found.flush) == ({b"a": b"1"}, 1)


async def test_a_changelog_of_nothing_but_an_aborted_flush_is_empty(settings: Settings) -> None:
    async with opened(settings) as zombie:
        await zombie.begin()
        await zombie.write([kafka.Write(settings.topic(STATE), 0, [meta(1), put("a", "1")])])
        async with opened(settings):
            snapshot, found = await restored(settings)
    assert (snapshot.states, found.flush, snapshot.records) == ({}, 0, 0)


async def test_a_position_that_went_to_the_end_is_not_taken_for_an_empty_changelog(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await flush(settings, [meta(1), put("a", "1")])
    seek, strayed = AIOKafkaConsumer.seek, list[TopicPartition]()

    def stray(self: AIOKafkaConsumer, partition: TopicPartition, offset: int) -> None:
        is_first = partition not in strayed
        strayed.append(partition)
        seek(self, partition, 3 if is_first else offset)

    monkeypatch.setattr(AIOKafkaConsumer, "seek", stray)
    with pytest.raises(kafka.Undelivered, match="partition 0 holds 2 records, but none was delivered"):
        await restored(settings)


async def test_states_without_positions_are_refused(settings: Settings) -> None:
    await flush(settings, [put("a", "1")])
    with pytest.raises(ChangelogError, match="partition 0 holds 1 states but no positions"):
        await restored(settings)


@pytest.mark.parametrize("position", [1, 99])
async def test_a_position_that_its_input_does_not_hold_is_refused(settings: Settings, position: int) -> None:
    await flush(settings, [meta(1, positions={OWNERSHIP.name: position})])
    with pytest.raises(ChangelogError, match=f"has read crm.ownership up to {position}, but the topic holds 0 to 0"):
        await restored(settings)


async def test_a_position_that_the_clock_does_not_hold_goes_to_its_oldest_mark(settings: Settings) -> None:
    await flush(settings, [meta(1, positions={OWNERSHIP.name: 0, CLOCK.name: 99})])
    assert (await restored(settings))[1].positions == {OWNERSHIP.name: 0, CLOCK.name: 0}


# -- versions of the meta ----------------------------------------------------------------------------------------


async def test_the_first_version_of_the_meta_is_read(settings: Settings) -> None:
    first = {"positions": {OWNERSHIP.name: 0}, "flush": 7, "at": 5, "safe": 4, "promises": {}, "closed": {}}
    await flush(settings, [(META, json.dumps(first).encode(), [])])
    found = (await restored(settings))[1]
    assert (found.flush, found.at, found.transactional, found.version) == (7, 5, True, META_VERSION)


async def test_a_newer_version_of_the_meta_is_refused(settings: Settings) -> None:
    await flush(settings, [(META, json.dumps({"version": META_VERSION + 1, "unheard": "of"}).encode(), [])])
    with pytest.raises(ChangelogError, match=f"its meta has version {META_VERSION + 1}.*run the newer Steward"):
        await restored(settings)


@pytest.mark.parametrize("raw", [b"", b"{", b'{"unheard": 1}', b"[]"])
async def test_what_is_no_meta_is_refused(settings: Settings, raw: bytes) -> None:
    await flush(settings, [(META, raw, [])])
    with pytest.raises(ChangelogError, match="partition 0 cannot be read"):
        await restored(settings)


# -- what the broker guarantees ----------------------------------------------------------------------------------


async def test_what_was_written_in_transactions_is_not_carried_on_without_them(settings: Settings) -> None:
    await flush(settings, [meta(1), put("a", "1")])
    with pytest.raises(ChangelogError, match="partition 0 was written in transactions, and this broker has none"):
        await restored(settings, transactional=False)


async def test_what_was_written_without_transactions_is_carried_on_with_them(settings: Settings) -> None:
    await flush(settings, [meta(1, transactional=False), put("a", "1")])
    assert not (await restored(settings, transactional=False))[1].transactional
    assert (await restored(settings))[1].transactional


async def test_a_new_changelog_may_begin_without_transactions(settings: Settings) -> None:
    assert not (await restored(settings, transactional=False))[1].transactional


# -- ids of topics -----------------------------------------------------------------------------------------------


@pytest.mark.kafka
class TestIds:
    @pytest.fixture
    async def settings(self, kafka: Server, prefix: str) -> Settings:
        return await made(kafka.bootstrap, prefix)

    async def test_the_meta_records_the_ids_of_its_topics(self, settings: Settings) -> None:
        await flush(settings, [meta(1)])
        ids = (await restored(settings))[1].topics
        assert ids == await kafka.topic_ids(settings, [OWNERSHIP.name, CLOCK.name, STATE])
        assert [len(bytes.fromhex(ident)) for ident in ids.values()] == [16] * 3

    async def test_an_input_that_was_made_anew_is_refused_though_its_offsets_fit(self, settings: Settings) -> None:
        _, before = await restored(settings)
        await made_anew(settings, OWNERSHIP.name, records=20)
        await flush(settings, [meta(1, positions={OWNERSHIP.name: 3}, topics=before.topics)])
        with pytest.raises(
            ChangelogError, match=r"crm\.ownership of id .* was deleted and made anew.*another STEWARD_PREFIX"
        ):
            await restored(settings)

    async def test_a_changelog_that_was_made_anew_under_a_running_worker_is_refused(self, settings: Settings) -> None:
        _, before = await restored(settings)
        await made_anew(settings, STATE)
        await flush(settings, [meta(9, topics=before.topics), put("a", "1")])
        with pytest.raises(ChangelogError, match=f"{STATE} of id .* was deleted and made anew"):
            await restored(settings)

    async def test_a_clock_that_was_made_anew_is_read_from_its_beginning(self, settings: Settings) -> None:
        _, before = await restored(settings)
        await made_anew(settings, CLOCK.name, records=20)
        await flush(settings, [meta(1, positions={OWNERSHIP.name: 0, CLOCK.name: 3}, topics=before.topics)])
        found = (await restored(settings))[1]
        assert found.positions[CLOCK.name] == 0
        assert found.topics[CLOCK.name] != before.topics[CLOCK.name]


async def test_a_broker_that_gives_no_ids_keeps_those_on_record(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(_: Settings, names: Sequence[str]) -> dict[str, str]:
        return dict.fromkeys(names, "")

    monkeypatch.setattr(kafka, "topic_ids", none)
    await flush(settings, [meta(1, topics={OWNERSHIP.name: "ab" * 16})])
    assert (await restored(settings))[1].topics == {OWNERSHIP.name: "ab" * 16, CLOCK.name: "", STATE: ""}


# -- while it goes on --------------------------------------------------------------------------------------------

MANY = 12_500


async def filled(settings: Settings) -> None:
    await flush(settings, [meta(1), *(put(f"key-{number}", "state") for number in range(MANY - 1))])


async def test_the_loop_turns_between_bounded_pages_and_the_rest_is_told(settings: Settings) -> None:
    await filled(settings)
    turns, seen, ended = 0, list[tuple[int, int, int]](), asyncio.Event()

    async def count() -> None:
        nonlocal turns
        while not ended.is_set():
            turns += 1
            await asyncio.sleep(0)

    def take(_: int, records: Sequence[kafka.Bare], left: int) -> None:
        seen.append((len(records), left, turns))

    counting = asyncio.create_task(count())
    assert await kafka.replay(settings, STATE, [0], take) == {0: MANY}
    ended.set()
    await counting
    assert sum(length for length, *_ in seen) == MANY
    assert max(length for length, *_ in seen) <= readers.TURN
    assert [left for _, left, _ in seen] == sorted((left for _, left, _ in seen), reverse=True)
    assert seen[0][1] > 0
    assert seen[-1][1] == 0
    assert len({turn for *_, turn in seen}) == len(seen) >= MANY // readers.TURN


async def test_a_cancelled_restore_reads_no_further(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(settings)
    monkeypatch.setattr(readers, "TURN", 100)
    filling: dict[int, Snapshot] = {}
    restoring = asyncio.create_task(restored(settings, filling=filling))
    while not (filling and filling[0].records):  # noqa: ASYNC110  # nobody tells
        await asyncio.sleep(0)
    restoring.cancel()
    async with asyncio.timeout(kafka.connection.CLOSE_SECONDS + 5):
        with suppress(asyncio.CancelledError):
            await restoring
    assert restoring.cancelled()
    assert 0 < filling[0].records < MANY


async def test_progress_is_told_in_the_log(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(settings)
    lines = list[Mapping[str, Any]]()

    class Log:
        def info(self, event: str, **fields: Any) -> None:
            lines.append({"event": event, **fields})

    writing: Callable[[], Any] = Log
    monkeypatch.setattr(log, "get", writing)
    monkeypatch.setattr(restore, "TELL_SECONDS", -1.0)
    await restored(settings)
    assert {line["event"] for line in lines} == {"restoring"}
    told = [line["remaining"].get(0, 0) for line in lines]
    assert told == sorted(told, reverse=True)
    assert lines[-1]["records"] == MANY


# --- what is kept over a rebalance --------------------------------------------------------------------------------


def held(flush: int, offset: int | None) -> Kept[Any]:
    partition: Any = SimpleNamespace(meta=Meta({OWNERSHIP.name: 0}, flush=flush))
    return Kept(partition, offset)


async def kept(settings: Settings, **held_by_number: Kept[Any]) -> dict[int, dict[str, int]]:
    return await unchanged(settings, STATE, INPUTS, {int(name[1:]): one for name, one in held_by_number.items()})


async def test_a_partition_is_kept_while_the_changelog_ends_with_its_flush(settings: Settings) -> None:
    await flush(settings, [meta(7), put("a", "1")])
    async with kafka.Publisher(settings) as publisher:
        await publisher.deliver([(OWNERSHIP, str(number), b"{}", ()) for number in range(60)], 10)
    async with kafka.offsets(settings) as offsets:
        end = (await offsets.ends([OWNERSHIP]))[OWNERSHIP.name][0]
    assert end > 0
    assert await kept(settings, p0=held(7, 0)) == {0: {OWNERSHIP.name: end, CLOCK.name: 0}}


async def test_a_flush_of_somebody_else_ends_it_though_no_position_moved(settings: Settings) -> None:
    await flush(settings, [meta(7), put("a", "1")], [meta(8), put("a", "2")])
    assert await kept(settings, p0=held(7, 0)) == {}


async def test_each_partition_is_judged_by_its_own_changelog(settings: Settings) -> None:
    await flush(settings, [meta(7)], [meta(8)])
    await flush(settings, [meta(7)], number=1)
    assert await kept(settings, p0=held(7, 0), p1=held(7, 0)) == {1: {OWNERSHIP.name: 0, CLOCK.name: 0}}


@pytest.mark.parametrize("offset", [None, 900], ids=["never flushed", "not what this changelog holds"])
async def test_what_the_changelog_cannot_prove_is_not_kept(settings: Settings, offset: int | None) -> None:
    await flush(settings, [meta(7)])
    assert await kept(settings, p0=held(7, offset)) == {}
