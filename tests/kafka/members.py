"""Starts members of one group, sends them facts, and holds what they wrote against what was sent."""

import asyncio
import itertools
import json
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import murmur2

from tests.pipeline import ROOT, Pipeline, Process, Written, wait_until

COUNTED, CHANGELOG = "test.counted", "steward-counting-state"
META = "\x00meta"
TYPES = {
    "crm.interactions": ("steward.interaction.logged.v1", {"channel": "email", "direction": "inbound"}),
    "crm.ownership": ("steward.handoff.opened.v1", {"handoff": "deal-1", "kind": "deal"}),
    "crm.renewals": ("steward.contract.won.v1", {"home": "crm:deal:1"}),
}
TRAFFIC = ("crm.interactions",) * 8 + ("crm.ownership",) * 3 + ("crm.renewals",)
KEYS = 120
AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
Sent = dict[str, str]  # fact -> key


def fact(topic: str, name: str, key: str) -> bytes:
    """The value of a record that the schemas allow in this topic."""
    kind, data = TYPES[topic]
    event = {
        "specversion": "1.0",
        "id": name,
        "source": "crm",
        "type": kind,
        "subject": key,
        "partitionkey": key,
        "time": AT.isoformat(),
        "data": data,
    }
    return json.dumps(event).encode()


def member(pipeline: Pipeline, **trouble: Any) -> Process:
    """Start a worker; answers at once."""
    log = pipeline.folder / f"member-{len(pipeline.processes)}.log"
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [sys.executable, "-m", "tests.kafka.child", json.dumps(trouble)],
            cwd=ROOT,
            env=pipeline.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    pipeline.processes.append(Process(popen, log))
    return pipeline.processes[-1]


def owned(process: Process) -> set[int]:
    """The partitions it said it serves, the last time."""
    said = process.said("serving")
    return set(said[-1]["partitions"]) if said else set()


def await_shared(pipeline: Pipeline, *processes: Process, seconds: float = 60) -> None:
    """Wait until these serve every partition among them, each at least one."""
    every = list(range(pipeline.partitions))

    def is_shared() -> bool:
        return all(map(owned, processes)) and sorted(itertools.chain(*map(owned, processes))) == every

    wait_until(is_shared, f"{len(processes)} members share {len(every)} partitions", seconds, processes[0])


def send(pipeline: Pipeline, facts: Sequence[tuple[str, str, str]], transactional_id: str | None = None) -> Sent:
    """Write facts (topic, name, key), acknowledged; in one committed transaction if asked for."""
    asyncio.run(_send(pipeline, facts, transactional_id))
    return {name: key for _, name, key in facts}


async def _send(pipeline: Pipeline, facts: Sequence[tuple[str, str, str]], transactional_id: str | None) -> None:
    producer = _producer(pipeline, transactional_id)
    await producer.start()
    try:
        if transactional_id:
            await producer.begin_transaction()
        queued = [await _put(producer, pipeline, *one) for one in facts]
        await asyncio.gather(*queued)
        if transactional_id:
            await producer.commit_transaction()
    finally:
        await producer.stop()


def _producer(pipeline: Pipeline, transactional_id: str | None = None) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        bootstrap_servers=pipeline.bootstrap, enable_idempotence=True, linger_ms=5, transactional_id=transactional_id
    )


async def _put(producer: AIOKafkaProducer, pipeline: Pipeline, topic: str, name: str, key: str) -> Any:
    number = partition_of(key, pipeline.partitions)
    return await producer.send(f"{pipeline.prefix}{topic}", fact(topic, name, key), key.encode(), partition=number)


def partition_of(key: str, partitions: int) -> int:
    return int(murmur2(key.encode()) & 0x7FFFFFFF) % partitions


class Load:
    """Sends facts to all inputs while it is entered; `sent` holds those that were acknowledged."""

    def __init__(self, pipeline: Pipeline, rate: int = 160, name: str = "load") -> None:
        self.sent: Sent = {}
        self._pipeline = pipeline
        self._pause = 0.05
        self._burst = max(1, round(rate * self._pause))
        self._name = name
        self._ended = threading.Event()
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(30)
        assert not self._failed, f"the load could not be sent: {self._failed}"
        assert not self._thread.is_alive(), "the load does not end"

    def _run(self) -> None:
        try:
            asyncio.run(self._send())
        except BaseException as error:  # noqa: BLE001  # told where the load is left
            self._failed.append(error)

    async def _send(self) -> None:
        numbers = itertools.count()
        producer = _producer(self._pipeline)
        await producer.start()
        try:
            while not self._ended.is_set():
                burst = [(number, *self._one(number)) for number in itertools.islice(numbers, self._burst)]
                queued = [await _put(producer, self._pipeline, topic, name, key) for _, topic, name, key in burst]
                await asyncio.gather(*queued)
                self.sent |= {name: key for _, _, name, key in burst}
                await asyncio.sleep(self._pause)
        finally:
            await producer.stop()

    def _one(self, number: int) -> tuple[str, str, str]:
        # 7 shares no factor with the number of keys, so that each key has facts of every topic.
        return TRAFFIC[number % len(TRAFFIC)], f"{self._name}-{number}", f"account-{number * 7 // 3 % KEYS}"


def counted(pipeline: Pipeline) -> list[Written]:
    return pipeline.records(COUNTED)


def await_counted(pipeline: Pipeline, sent: Sent, seconds: float = 90, process: Process | None = None) -> None:
    """Wait until so many facts are counted, then hold every number against what was sent."""
    seen = 0

    def is_all() -> bool:
        nonlocal seen
        seen = len(counted(pipeline))
        return seen >= len(sent)

    try:
        wait_until(is_all, "everything sent is counted", seconds, process, pause=1.0)
    except AssertionError as error:
        judge(pipeline, sent)
        raise AssertionError(f"{seen} of {len(sent)} facts were counted: {error}") from error
    judge(pipeline, sent)


def judge(pipeline: Pipeline, sent: Sent) -> None:
    """Every fact once, in unbroken numbers per key; states and flushes go on where they were."""
    found = counted(pipeline)
    times = Counter(record.event["data"]["fact"] for record in found)
    doubled = [name for name, count in times.items() if count > 1]
    assert doubled == [], f"{len(doubled)} facts counted twice: {doubled[:5]}"
    lost = [name for name in sent if name not in times]
    assert lost == [], f"{len(lost)} of {len(sent)} facts lost: {lost[:5]}"
    assert times.keys() == sent.keys()

    numbers: dict[str, list[int]] = defaultdict(list)
    for record in found:
        assert sent[record.event["data"]["fact"]] == record.key
        numbers[record.key].append(record.event["data"]["number"])
    broken = {key: told for key, told in numbers.items() if told != list(range(1, len(told) + 1))}
    assert broken == {}, f"the numbers of {len(broken)} keys have gaps or go back: {list(broken.items())[:3]}"
    assert states(pipeline) == {key: len(told) for key, told in numbers.items()}
    for number, flushes in flushes_of(pipeline).items():
        assert flushes == list(range(1, len(flushes) + 1)), f"partition {number} has flushes {flushes}"


def states(pipeline: Pipeline) -> dict[str, int]:
    """The count of each key as the changelog holds it."""
    return {key: int(value[1:]) for key, value in asyncio.run(_changelog(pipeline)) if key != META}


def metas(pipeline: Pipeline) -> dict[int, dict[str, Any]]:
    """The last meta of each partition."""
    return {record.partition: record.event for record in pipeline.records(CHANGELOG) if record.key == META}


def flushes_of(pipeline: Pipeline) -> dict[int, list[int]]:
    """The numbers of the committed flushes of each partition, in order."""
    found: dict[int, list[int]] = defaultdict(list)
    for record in pipeline.records(CHANGELOG):
        if record.key == META:
            found[record.partition].append(record.event["flush"])
    return found


async def _changelog(pipeline: Pipeline) -> list[tuple[str, bytes]]:
    return [(key.decode(), value) for key, value in await raw(pipeline, CHANGELOG, "read_committed") if value]


async def raw(pipeline: Pipeline, topic: str, isolation: str) -> list[tuple[bytes, bytes]]:
    """Keys and values of a topic as a reader of this isolation level gets them, partition by partition."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=pipeline.bootstrap, isolation_level=isolation, auto_offset_reset="earliest"
    )
    await consumer.start()
    found: list[Any] = []
    try:
        every = [TopicPartition(f"{pipeline.prefix}{topic}", number) for number in range(pipeline.partitions)]
        consumer.assign(every)
        begins, ends = await consumer.beginning_offsets(every), await consumer.end_offsets(every)
        for one in every:
            consumer.seek(one, begins[one])
        waiting = {one for one in every if begins[one] < ends[one]}
        while waiting:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += records
            waiting = {one for one in waiting if await consumer.position(one) < ends[one]}
    finally:
        await consumer.stop()
    found.sort(key=lambda record: (record.partition, record.offset))
    return [(record.key, record.value) for record in found]


async def ends(pipeline: Pipeline, topic: str) -> list[int]:
    """The last stable offset of each partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=pipeline.bootstrap, isolation_level="read_committed")
    await consumer.start()
    try:
        every = [TopicPartition(f"{pipeline.prefix}{topic}", number) for number in range(pipeline.partitions)]
        found = await consumer.end_offsets(every)
    finally:
        await consumer.stop()
    return [found[one] for one in every]
