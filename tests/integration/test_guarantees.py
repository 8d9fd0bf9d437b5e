"""What the engine writes with, on brokers that have transactions and on one that refuses them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.runtime import kafka
from services.runtime.embedded import apache
from services.runtime.embedded.server import Server
from services.runtime.kafka.asking import idempotent
from services.runtime.settings import Settings
from tests.conftest import do_without
from tests.integration.test_handoff import POLICY, fact, opened
from tests.pipeline import Pipeline, Process, running, wait_until
from tests.without_transactions import Proxy, Refusal


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """In front of a broker of its own."""
    if reason := apache.available():
        do_without(reason)
    with Proxy() as standing, apache.start_kafka(tmp_path_factory.mktemp("kafka"), advertised=standing.port) as server:
        standing.target = server.port
        yield standing


def settings_on(address: str, prefix: str) -> Settings:
    return Settings(kafka=address, prefix=prefix, partitions=2)


@asynccontextmanager
async def writing(settings: Settings) -> AsyncIterator[kafka.Transactions]:
    writer = kafka.Transactions(settings, "writer")
    try:
        await writer.open()
        yield writer
    finally:
        await writer.close()


async def committed(settings: Settings, topic: str) -> list[tuple[int, bytes | None, bytes | None]]:
    return [(one.partition, one.key, one.value) for one in await kafka.read_all(settings, topic)]


async def test_a_broker_with_transactions_says_so(broker: Server, prefix: str) -> None:
    assert await kafka.transactional(settings_on(broker.bootstrap, prefix))
    assert await idempotent(settings_on(broker.bootstrap, prefix))


async def test_several_workers_may_ask_at_once(broker: Server, prefix: str) -> None:
    settings = settings_on(broker.bootstrap, prefix)
    assert await asyncio.gather(*(kafka.transactional(settings) for _ in range(3))) == [True] * 3


@pytest.mark.kafka
@pytest.mark.parametrize("refusal", Refusal)
@pytest.mark.parametrize("also_idempotence", [False, True], ids=["but ids", "nor ids"])
async def test_a_broker_that_refuses_transactions_is_found_out(
    proxy: Proxy, prefix: str, refusal: Refusal, also_idempotence: bool
) -> None:
    settings = settings_on(proxy.bootstrap, prefix)
    proxy.refusal, proxy.also_idempotence = refusal, also_idempotence
    assert not await kafka.transactional(settings)
    assert await idempotent(settings) is not also_idempotence
    proxy.refusal = None
    assert await kafka.transactional(settings)


async def test_nobody_at_the_address_is_not_taken_for_a_broker_without_transactions(prefix: str) -> None:
    with pytest.raises(kafka.BrokerAway, match="STEWARD_KAFKA"):
        await kafka.transactional(settings_on("127.0.0.1:1", prefix))


@pytest.mark.kafka
@pytest.mark.parametrize("also_idempotence", [False, True], ids=["but ids", "nor ids"])
async def test_without_transactions_the_state_is_written_last_and_its_positions_after_it(
    proxy: Proxy, prefix: str, also_idempotence: bool
) -> None:
    settings = settings_on(proxy.bootstrap, prefix)
    proxy.refusal, proxy.also_idempotence = Refusal.ERROR, also_idempotence
    await kafka.ensure_topics(settings, {"out": {}, "state": {}})
    writer = kafka.AtLeastOnce(settings)
    await writer.open()
    out, state = settings.topic("out"), settings.topic("state")
    large: kafka.Record = (b"key", b"-" * kafka.BATCH_BYTES, [])
    first, second = kafka.Write(out, 0, [(b"a", b"1", [])]), kafka.Write(out, 1, [(b"b", b"2", [])])
    held = kafka.Write(state, 1, [(b"meta", b"3", []), (b"c", b"4", []), (b"d", None, [])])
    await writer.begin()
    assert await writer.write([first, second, kafka.Write(out, 0), held]) == {(out, 0): 0, (out, 1): 0, (state, 1): 2}
    await writer.commit()
    assert await committed(settings, "out") == [(0, b"a", b"1"), (1, b"b", b"2")]
    assert await committed(settings, "state") == [(1, b"c", b"4"), (1, b"d", None), (1, b"meta", b"3")]

    with pytest.raises(kafka.TooLarge):
        await writer.write([kafka.Write(out, 0, [large]), held])
    assert len(await committed(settings, "state")) == 3
    with pytest.raises(kafka.TooLarge):
        await writer.write([first, kafka.Write(state, 1, [*held.records, large])])
    assert [key for _, key, _ in await committed(settings, "state")].count(b"meta") == 1
    await writer.close()


async def test_nothing_of_a_transaction_is_seen_before_its_commit(broker: Server, prefix: str) -> None:
    settings = settings_on(broker.bootstrap, prefix)
    await kafka.ensure_topics(settings, {"out": {}, "state": {}})
    out, state = settings.topic("out"), settings.topic("state")
    for turn in range(3):
        async with writing(settings) as writer:  # its opening waits until what was committed before is visible
            assert len(await committed(settings, "out")) == turn
            await writer.begin()
            writes = [kafka.Write(out, 1, [(b"a", b"1", [])]), kafka.Write(state, 0, [(b"b", b"2", [])])]
            told = await writer.write(writes)
            assert len(await committed(settings, "out")) == turn
            await writer.commit()
        async with writing(settings):
            assert (await kafka.read_all(settings, "out"))[turn].offset == told[out, 1]
            assert (await kafka.read_all(settings, "state"))[turn].offset == told[state, 0]


async def test_what_was_not_committed_is_gone_once_a_successor_has_opened(broker: Server, prefix: str) -> None:
    settings = settings_on(broker.bootstrap, prefix)
    await kafka.ensure_topics(settings, {"out": {}})
    write = kafka.Write(settings.topic("out"), 0, [(b"a", b"1", [])])
    async with writing(settings) as first:
        await first.begin()
        await first.write([write])
        async with writing(settings) as second:
            await second.transact([write])
            with pytest.raises(kafka.Refused):
                await first.commit()
    async with writing(settings):
        assert len(await committed(settings, "out")) == 1


async def test_the_answer_is_where_the_first_of_many_batches_begins(broker: Server, prefix: str) -> None:
    settings = settings_on(broker.bootstrap, prefix)
    await kafka.ensure_topics(settings, {"out": {}})
    out = settings.topic("out")
    noise = b"".join(number.to_bytes(4) for number in range(100_000))
    records: list[kafka.Record] = [(b"%d" % number, noise, []) for number in range(8)]
    async with writing(settings) as writer:
        await writer.transact([kafka.Write(out, 0, records[:1])])
        await writer.begin()
        told = await writer.write([kafka.Write(out, 0, records)])
        await writer.commit()
    async with writing(settings):
        found = [one for one in await kafka.read_all(settings, "out") if one.offset >= told[out, 0]]
    assert [one.key for one in found] == [key for key, *_ in records]


@pytest.mark.parametrize("part", ["key", "value", "header"])
async def test_a_record_too_large_for_a_batch_is_refused_before_it_is_sent(
    broker: Server, prefix: str, part: str
) -> None:
    settings = settings_on(broker.bootstrap, prefix)
    await kafka.ensure_topics(settings, {"out": {}})
    large = b"-" * kafka.BATCH_BYTES
    record: kafka.Record = (
        large if part == "key" else b"key",
        large if part == "value" else b"",
        [("name", large if part == "header" else b"")],
    )
    async with writing(settings) as writer:
        await writer.begin()
        with pytest.raises(kafka.TooLarge, match=r"900\d\d\d bytes.*the most is 900000"):
            await writer.write([kafka.Write(settings.topic("out"), 0, [record])])
    async with kafka.Publisher(settings) as publisher:
        with pytest.raises(kafka.TooLarge):
            await publisher.put("out", (record[0] or b"").decode(), record[1] or b"", record[2])
        await publisher.send("out", "key", b"another one")
    assert len(await committed(settings, "out")) == 1


async def test_the_largest_record_that_is_let_through_is_taken_by_the_broker(broker: Server, prefix: str) -> None:
    settings = settings_on(broker.bootstrap, prefix)
    await kafka.ensure_topics(settings, {"out": {}})
    room = kafka.BATCH_BYTES - 100 - len(b"key") - 10 - len(b"namecontent")
    record: kafka.Record = (b"key", bytes(room), [("name", b"content")])
    async with writing(settings) as writer:
        await writer.transact([kafka.Write(settings.topic("out"), 0, [record, record])])
    async with writing(settings):
        assert len(await committed(settings, "out")) == 2


# -- whole processes ---------------------------------------------------------------------------------------------


@pytest.fixture
def pipeline(proxy: Proxy, prefix: str, tmp_path: Path) -> Iterator[Pipeline]:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    with running(proxy.bootstrap, prefix, tmp_path, 2, steward_policy=str(policy), steward_grace_seconds="0") as made:
        yield made


def guarantee(process: Process) -> list[str]:
    return [line["guarantee"] for line in process.said("guarantee")]


@pytest.mark.kafka
def test_without_transactions_a_processor_says_so_and_loses_nothing_when_it_is_killed(
    proxy: Proxy, pipeline: Pipeline
) -> None:
    proxy.refusal, proxy.also_idempotence = Refusal.ERROR, False
    killed = pipeline.serve()
    assert guarantee(killed) == ["at least once"]
    accounts = [f"account-{number}" for number in range(40)]
    for number, account in enumerate(accounts):
        at = datetime.now(UTC)
        pipeline.publish("crm.ownership", [fact("opened", number, at, account, kind="quick", owner="a", sender="b")])
        if number == len(accounts) // 2:
            killed.kill()
            pipeline.start("handoff")
    assert proxy.refused > 0
    wanted = {f"deal-{number}" for number in range(len(accounts))}
    wait_until(lambda: {data["handoff"] for data in pipeline.verdicts()} == wanted, "all of them breach", 90)


@pytest.mark.kafka
def test_a_processor_may_go_over_to_transactions_but_not_silently_back(proxy: Proxy, pipeline: Pipeline) -> None:
    proxy.refusal, proxy.also_idempotence = Refusal.CLOSE, True
    first = pipeline.serve()
    assert guarantee(first) == ["at least once"]
    pipeline.publish("crm.ownership", [opened(1, datetime.now(UTC))])
    wait_until(lambda: len(pipeline.verdicts()) == 1, "the first breaches", 30)
    assert first.stop() == 0, first.log.read_text()

    proxy.refusal = None
    second = pipeline.handoff()
    assert guarantee(second) == ["exactly once"]
    pipeline.publish("crm.ownership", [opened(2, datetime.now(UTC))])
    wait_until(lambda: len(pipeline.verdicts()) == 2, "the second breaches", 30)
    assert second.stop() == 0, second.log.read_text()

    proxy.refusal = Refusal.ERROR
    third = pipeline.start("handoff")
    assert third.popen.wait(60) != 0
    assert "was written in transactions, and this broker has none" in third.said("worker ends")[0]["why"]
