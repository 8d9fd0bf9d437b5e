"""Where stock Faust loses or doubles data, ours does not: each of its reproduced defects, with our expectation."""

import asyncio
import signal
from collections import Counter
from datetime import UTC, datetime

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from schemas import codec
from schemas.clock import ClockAdvanced, Mark
from schemas.topics import CLOCK
from services.core.instants import instant
from services.runtime import kafka
from services.runtime.settings import Settings
from tests.kafka.child import DIED
from tests.kafka.members import (
    CHANGELOG,
    COUNTED,
    META,
    await_counted,
    counted,
    ends,
    member,
    metas,
    owned,
    partition_of,
    raw,
    send,
    states,
)
from tests.pipeline import Pipeline, Process, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

INPUT = "crm.interactions"
AT = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)


def facts(name: str, count: int, topic: str = INPUT, keys: int = 12) -> list[tuple[str, str, str]]:
    return [(topic, f"{name}-{number}", f"account-{number % keys}") for number in range(count)]


def serving(pipeline: Pipeline, **trouble: object) -> Process:
    process = member(pipeline, **trouble)
    wait_until(lambda: len(owned(process)) == pipeline.partitions, "it serves", 60, process)
    return process


def ended(process: Process, seconds: float = 60) -> int:
    return process.popen.wait(seconds)


def kept(pipeline: Pipeline) -> tuple[object, ...]:
    """All that a flush moves: outputs, positions, states."""
    return (
        len(counted(pipeline)),
        {number: meta["positions"] for number, meta in metas(pipeline).items()},
        states(pipeline),
    )


def limit_changelog(pipeline: Pipeline, most: int) -> None:
    """Let the broker refuse batches of more than so many bytes in the changelog."""
    asyncio.run(_limit(pipeline, most))


async def _limit(pipeline: Pipeline, most: int) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=pipeline.bootstrap)
    await client.start()
    try:
        changes = {"cleanup.policy": "compact", "max.message.bytes": str(most)}
        name = f"{pipeline.prefix}{CHANGELOG}"
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=changes)])
    finally:
        await client.close()


@pytest.mark.parametrize("refused_by", ["us", "the broker"])
def test_a_changelog_write_that_is_refused_moves_no_position_and_loses_nothing(
    pipeline: Pipeline, refused_by: str
) -> None:
    worker = serving(pipeline)
    sent = send(pipeline, facts("before", 60))
    await_counted(pipeline, sent, process=worker)
    assert worker.stop() == 0
    before = kept(pipeline)
    if refused_by == "the broker":
        limit_changelog(pipeline, 200)
        refused = member(pipeline)
    else:
        refused = member(pipeline, state_bytes=1_000_000)

    sent |= send(pipeline, facts("refused", 60))
    assert ended(refused) == 1, refused.log.read_text()[-2000:]
    assert refused.said("flush failed")
    assert kept(pipeline) == before

    if refused_by == "the broker":
        limit_changelog(pipeline, 1_000_000)
    heir = member(pipeline)
    await_counted(pipeline, sent, process=heir)


def test_an_exception_in_the_reducer_acknowledges_nothing_and_the_event_is_read_again(pipeline: Pipeline) -> None:
    worker = serving(pipeline, poison="poisoned-7")
    sent = send(pipeline, facts("before", 40))
    await_counted(pipeline, sent, process=worker)
    sent |= send(pipeline, facts("poisoned", 12))
    assert ended(worker) == 1
    (said,) = worker.said("worker ends")
    assert "fact poisoned-7 is poison" in said["why"]
    assert INPUT in said["why"]
    assert "poisoned-7" not in {record.event["data"]["fact"] for record in counted(pipeline)}

    again = member(pipeline, poison="poisoned-7")
    assert ended(again) == 1, "the event was acknowledged although it was not reduced"

    mended = member(pipeline)
    await_counted(pipeline, sent, process=mended)


def test_a_processor_that_keeps_no_state_starts_goes_on_and_repeats_nothing(pipeline: Pipeline) -> None:
    sent: dict[str, str] = {}
    for name in ("first", "second"):
        worker = serving(pipeline, stateless=True)
        sent |= send(pipeline, facts(name, 50))
        wanted = len(sent)
        wait_until(lambda: len(counted(pipeline)) >= wanted, "all are there", 30, worker)  # noqa: B023
        assert worker.stop() == 0
    assert Counter(record.event["data"]["fact"] for record in counted(pipeline)) == Counter(list(sent))
    assert states(pipeline) == {}


def test_a_reader_of_committed_records_sees_nothing_of_an_aborted_flush(pipeline: Pipeline) -> None:
    """The outputs go to a topic that the application does not consume, where stock Faust's are written for good."""
    doomed = serving(pipeline, die_at="written", die_for="aborted-0")
    sent = send(pipeline, facts("before", 40))
    await_counted(pipeline, sent, process=doomed)
    sent |= send(pipeline, facts("aborted", 1))
    assert ended(doomed) == DIED
    everything = asyncio.run(raw(pipeline, COUNTED, "read_uncommitted"))
    assert sum(b"aborted-0" in value for _, value in everything) == 1, "it was not written before the worker died"
    assert "aborted-0" not in {record.event["data"]["fact"] for record in counted(pipeline)}

    heir = member(pipeline)
    await_counted(pipeline, sent, process=heir)
    everything = asyncio.run(raw(pipeline, COUNTED, "read_uncommitted"))
    assert sum(b"aborted-0" in value for _, value in everything) == 2, "written, aborted, and written again"


def test_a_flush_that_was_committed_before_its_worker_died_is_not_repeated(pipeline: Pipeline) -> None:
    doomed = serving(pipeline, die_at="committed", die_for="last-0")
    sent = send(pipeline, facts("before", 40))
    await_counted(pipeline, sent, process=doomed)
    sent |= send(pipeline, facts("last", 1))
    assert ended(doomed) == DIED
    assert "last-0" in {record.event["data"]["fact"] for record in counted(pipeline)}
    heir = serving(pipeline)
    sent |= send(pipeline, facts("after", 40))
    await_counted(pipeline, sent, process=heir)


async def test_a_restore_reads_everything_every_time(pipeline: Pipeline) -> None:
    """`assign` and `seek_to_beginning` may land at the end, and then nothing is restored."""
    settings = Settings(kafka=pipeline.bootstrap, prefix=pipeline.prefix, partitions=pipeline.partitions)
    await kafka.ensure_topics(settings, {INPUT: {}})
    await asyncio.to_thread(send, pipeline, facts("kept", 400))
    for _ in range(60):
        found: list[object] = []
        async with kafka.reader(settings) as consumer:
            await kafka.scan(consumer, kafka.partitions(settings, INPUT), found.append)
        assert len(found) == 400


def test_positions_follow_each_topic_by_itself_where_traffic_differs(pipeline: Pipeline) -> None:
    worker = serving(pipeline)
    sent = send(pipeline, facts("busy", 900) + facts("rare", 3, "crm.ownership", keys=1))
    await_counted(pipeline, sent, process=worker)
    assert worker.stop() == 0
    busy, rare, silent = (asyncio.run(ends(pipeline, topic)) for topic in (INPUT, "crm.ownership", "crm.renewals"))
    here = partition_of("account-0", pipeline.partitions)
    assert rare == [3 if number == here else 0 for number in range(pipeline.partitions)]
    for number, meta in metas(pipeline).items():
        told = {topic: position for topic, position in meta["positions"].items() if topic != CLOCK.name}
        assert told == {INPUT: busy[number], "crm.ownership": rare[number], "crm.renewals": silent[number]}
    heir = serving(pipeline)
    sent |= send(pipeline, facts("late", 5, "crm.renewals") + facts("rarely", 2, "crm.ownership", keys=1))
    await_counted(pipeline, sent, process=heir)


@pytest.mark.parametrize("is_restarted", [False, True], ids=["while it runs", "after a restart"])
def test_a_transactions_marker_at_the_end_of_an_input_does_not_hold_time_back(
    pipeline: Pipeline, is_restarted: bool
) -> None:
    """A mark takes effect when the positions have reached `ends`, and a marker is never delivered as a record."""
    worker = serving(pipeline)
    for topic in (INPUT, "crm.ownership", "crm.renewals"):
        # Every partition ends with a marker: of a commit, then of an abort, which leaves records nobody is shown.
        sent = send(pipeline, facts(f"committed in {topic}", 40, topic), f"{pipeline.prefix}source")
        asyncio.run(_abort(pipeline, topic))
    if is_restarted:
        assert worker.stop() == 0
        worker = serving(pipeline)
    reached = {topic: tuple(asyncio.run(ends(pipeline, topic))) for topic in (INPUT, "crm.ownership", "crm.renewals")}
    assert all(end > 0 for stand in reached.values() for end in stand)
    pipeline.publish(CLOCK.name, [_mark(number, reached) for number in range(pipeline.partitions)])
    wait_until(
        lambda: [meta["at"] for meta in metas(pipeline).values()] == [instant(AT)] * pipeline.partitions,
        "the mark has taken effect in every partition",
        40,
        worker,
    )
    assert len(counted(pipeline)) == 3 * len(sent)


async def _abort(pipeline: Pipeline, topic: str) -> None:
    settings = Settings(kafka=pipeline.bootstrap, prefix=pipeline.prefix, partitions=pipeline.partitions)
    source = kafka.Transactions(settings, "source")
    await source.open()
    await source.begin()
    await source.write(
        [
            kafka.Write(settings.topic(topic), number, [(b"account", b"never to be seen", [])])
            for number in range(settings.partitions)
        ]
    )
    await source.close()
    heir = kafka.Transactions(settings, "source")
    await heir.open()  # aborts what the first one left
    await heir.close()


def _mark(number: int, reached: dict[str, tuple[int, ...]]) -> tuple[str, bytes, int]:
    stand = {topic: offsets[number] for topic, offsets in reached.items()}
    mark = Mark(at=AT, safe=AT, ends=stand, writer="test", simulated=True)
    event = ClockAdvanced(
        id=f"mark-{number}", source="clock", subject=str(number), partitionkey=str(number), time=AT, data=mark
    )
    return str(number), codec.encode(event), number


def test_an_input_that_was_deleted_and_made_again_is_refused(pipeline: Pipeline) -> None:
    """Aiokafka does not notice: it would go on from the old offset and skip what stands before it."""
    worker = serving(pipeline)
    sent = send(pipeline, facts("old", 40))
    await_counted(pipeline, sent, process=worker)
    assert worker.stop() == 0
    before = kept(pipeline)
    asyncio.run(_delete(pipeline, INPUT))
    refused = member(pipeline)  # it creates what is missing, as at a first start
    assert ended(refused) != 0
    assert "made anew" in refused.log.read_text()
    assert kept(pipeline) == before


async def _delete(pipeline: Pipeline, topic: str) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=pipeline.bootstrap)
    await client.start()
    try:
        name = f"{pipeline.prefix}{topic}"
        await client.delete_topics([name])
        while name in await client.list_topics():  # noqa: ASYNC110  # the broker tells nobody
            await asyncio.sleep(0.1)
    finally:
        await client.close()


def test_a_worker_told_to_stop_saves_everything_it_has_counted(pipeline: Pipeline) -> None:
    worker = serving(pipeline)
    sent = send(pipeline, facts("last", 300))
    wait_until(lambda: counted(pipeline), "it has begun", 30, worker, pause=0.01)
    worker.signal(signal.SIGTERM)
    assert ended(worker, 30) == 0
    heir = serving(pipeline)
    await_counted(pipeline, sent, process=heir)
    assert META not in states(pipeline)
