"""The servers that Steward starts itself: they answer, they end, and the brokers keep Kafka's promises."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import ProducerFenced
from redis import Redis

from services.runtime.embedded import apache, distribution
from services.runtime.embedded.broker import start_broker
from services.runtime.embedded.errors import PortTaken, StartFailed
from services.runtime.embedded.ports import HOST, is_free, pick_port
from services.runtime.embedded.process import Child
from services.runtime.embedded.redis import start_redis
from services.runtime.embedded.server import Program, Server, launch
from services.runtime.embedded.wire import kafka_answers, redis_answers

ROOT = Path(__file__).parents[2]
LOG_APPEND_TIME = 1  # in a record's timestamp_type

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
each_server = pytest.mark.parametrize(
    ("start", "answers"),
    [
        pytest.param(start_broker, kafka_answers, id="embedded"),
        pytest.param(apache.start_kafka, kafka_answers, id="apache", marks=pytest.mark.kafka),
        pytest.param(start_redis, redis_answers, id="redis"),
    ],
)


@pytest.fixture(autouse=True)
def _apache_is_there(request: pytest.FixtureRequest) -> None:
    """A test that starts an Apache Kafka of its own is skipped for the same reason as the shared one."""
    if request.node.get_closest_marker("kafka"):
        request.getfixturevalue("kafka")


# ---------------------------------------------------------------- start and end


@each_server
@pytest.mark.parametrize("end", [Server.stop, Server.kill], ids=["stopped", "killed"])
def test_a_server_answers_and_leaves_nothing_behind(
    start: Callable[[Path], Server],
    answers: Callable[[int], bool],
    end: Callable[[Server], None],
    tmp_path: Path,
) -> None:
    server = start(tmp_path)
    assert answers(server.port)
    end(server)
    assert not is_running(server.pid)
    assert is_free(server.port)


@each_server
def test_a_taken_port_is_avoided_or_reported(
    start: Callable[..., Server], answers: Callable[[int], bool], tmp_path: Path
) -> None:
    with socket.create_server((HOST, pick_port())) as other:
        taken = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"Port {taken} on {HOST} is taken by another program"):
            start(tmp_path, taken, insist=True)
        with start(tmp_path, taken) as server:
            assert server.port != taken
            assert answers(server.port)


def test_a_port_taken_after_the_look_is_noticed_although_somebody_answers_there(tmp_path: Path) -> None:
    listen = "import socket, sys, time; s = socket.create_server((sys.argv[1], int(sys.argv[2]))); time.sleep(60)"
    others: list[socket.socket] = []

    def command(port: int) -> Sequence[str]:
        """Called between the look and the start; the first time, somebody else is quicker."""
        if not others:
            others.append(socket.create_server((HOST, port)))
        return [sys.executable, "-c", listen, HOST, str(port)]

    with launch(Program("slow", command, is_open, patience=15.0), tmp_path, None, insist=False) as server:
        assert server.port != others[0].getsockname()[1]
    others[0].close()


def test_a_start_that_fails_says_why_without_the_noise(tmp_path: Path) -> None:
    printed = "noida: weak version `GLIBC_2.39' not found\n\ndisk full\n\tat java.lang.Thread\n"
    program = Program("broken", lambda _: [sys.executable, "-c", f"exit({printed!r})"], is_open, patience=15.0)
    with pytest.raises(StartFailed) as failure:
        launch(program, tmp_path, None, insist=False)
    assert str(failure.value) == ("broken ended with code 1 before it was ready. The end of its log:\ndisk full")


def test_a_server_that_does_not_answer_in_time_is_reported_and_ended(tmp_path: Path) -> None:
    mute = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    program = Program("mute", lambda _: [sys.executable, "-c", mute], is_open, patience=1.0)
    with pytest.raises(StartFailed, match=r"mute did not answer on .* within 1 s. The end of its log:\n\d+"):
        launch(program, tmp_path, None, insist=False)
    assert not is_running(int((tmp_path / "mute.log").read_text()))


def test_a_program_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    child = Child("deaf", [sys.executable, "-c", deaf], tmp_path)
    until(lambda: "deaf" in child.log.read_text())
    child.stop(patience=0.2)
    assert child.exit_code() == -signal.SIGKILL


@on_linux
@each_server
def test_a_server_outlives_the_thread_that_started_it_and_dies_with_the_process(
    start: Callable[[Path], Server], answers: Callable[[int], bool], tmp_path: Path
) -> None:
    source = PARENT.format(module=start.__module__, start=start.__name__, folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", source], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, port = (int(number) for number in parent.stdout.readline().split())
        assert answers(port)
        parent.kill()
    until(lambda: not is_running(pid))
    until(lambda: is_free(port))


PARENT = """
import pathlib, threading, time
from {module} import {start}

def work():
    server = {start}(pathlib.Path({folder!r}))
    found.append(server)

found = []
thread = threading.Thread(target=work)
thread.start()
thread.join()
time.sleep(0.2)
print(found[0].pid, found[0].port, flush=True)
time.sleep(60)
"""


@pytest.mark.kafka
def test_the_command_for_people_says_how_to_use_it_and_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [sys.executable, "-m", "services.runtime.embedded.apache"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as people:
        assert people.stdout is not None
        said = [people.stdout.readline() for _ in range(4)]
        bootstrap = said[1].removeprefix("Ready on ").partition(". ")[0]
        assert f"STEWARD_KAFKA={bootstrap} " in said[2]
        assert kafka_answers(int(bootstrap.partition(":")[2]))
        people.send_signal(signal.SIGINT)
    assert people.returncode == 0
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- what is needed


@pytest.mark.parametrize(
    ("programs", "reason"),
    [
        pytest.param({}, "Apache Kafka needs Java 17 or newer, and there is no java on the PATH.", id="no Java"),
        pytest.param({"java": 11}, "Apache Kafka needs Java 17 or newer, and {java} is Java 11.", id="old Java"),
        pytest.param(
            {"java": 17},
            "Apache Kafka 4.1.1 is not in the cache, and there is no mvn to fetch it.",
            id="no jars",
        ),
        pytest.param({"java": 21, "mvn": 3}, None, id="can be fetched"),
    ],
)
def test_the_reason_why_apache_kafka_cannot_run_is_a_sentence(
    programs: dict[str, int], reason: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, version in programs.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}.0.1\"' >&2\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert apache.available() == (reason and reason.format(java=tmp_path / "java"))


def test_the_code_and_the_pom_name_the_same_kafka() -> None:
    pom = (ROOT / "deploy" / "kafka" / "pom.xml").read_text()
    assert pom.count(f"<version>{distribution.VERSION}</version>") == 2


# ---------------------------------------------------------------- what a restart keeps


async def test_noida_keeps_its_records_over_a_stop(tmp_path: Path) -> None:
    with start_broker(tmp_path) as server:
        await create(server, "kept")
        await send(server, "kept", [b"a", b"b"])
    with start_broker(tmp_path, server.port, insist=True) as server:
        assert await read(server, "kept") == [b"a", b"b"]


@pytest.mark.kafka
async def test_apache_kafka_keeps_what_it_acknowledged_over_kill_9(tmp_path: Path) -> None:
    values = [str(number).encode() for number in range(500)]
    server = apache.start_kafka(tmp_path)
    await create(server, "kept")
    await send(server, "kept", values)
    server.kill()
    with apache.start_kafka(tmp_path, server.port, insist=True) as server:
        assert await read(server, "kept") == values
        await send(server, "kept", [b"more"])
        assert await read(server, "kept") == [*values, b"more"]


def test_redis_keeps_what_it_acknowledged_over_kill_9(tmp_path: Path) -> None:
    server = start_redis(tmp_path)
    with Redis.from_url(server.url) as client:
        client.set("key", "value")
    server.kill()
    with start_redis(tmp_path, server.port, insist=True) as server, Redis.from_url(server.url) as client:
        assert client.get("key") == b"value"


def test_the_shared_redis_answers(redis_url: str) -> None:
    with Redis.from_url(redis_url) as client:
        assert client.ping() is True


# ---------------------------------------------------------------- what the brokers promise


async def test_a_committed_transaction_is_read_and_an_aborted_one_is_not(broker: Server, prefix: str) -> None:
    await create(broker, topic := f"{prefix}facts")
    async with producing(broker, transactional_id=f"{prefix}writer") as producer:
        async with producer.transaction():
            await producer.send_and_wait(topic, b"committed", partition=0)
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"aborted", partition=0)
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send_and_wait(topic, b"committed later", partition=0)
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"aborted at the end", partition=0)
        await producer.abort_transaction()
    assert await read(broker, topic) == [b"committed", b"committed later"]


async def test_the_end_of_committed_records_stands_before_an_open_transaction(broker: Server, prefix: str) -> None:
    await create(broker, topic := f"{prefix}facts")
    async with producing(broker, transactional_id=f"{prefix}writer") as producer:
        async with producer.transaction():
            await producer.send_and_wait(topic, b"committed", partition=0)
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"open", partition=0)
        assert await read(broker, topic) == [b"committed"]
        assert await end(broker, topic, "read_committed") == 2  # the record and its marker
        assert await end(broker, topic, "read_uncommitted") == 3
        await producer.commit_transaction()
    assert await end(broker, topic, "read_committed") == 4
    assert await read(broker, topic) == [b"committed", b"open"]


async def test_a_second_producer_with_the_same_id_fences_the_first(broker: Server, prefix: str) -> None:
    await create(broker, topic := f"{prefix}facts")
    async with (
        producing(broker, transactional_id=f"{prefix}writer") as first,
        producing_later(broker, transactional_id=f"{prefix}writer") as second,
    ):
        await first.begin_transaction()
        await first.send_and_wait(topic, b"of the first", partition=0)
        await second.start()
        with pytest.raises(ProducerFenced):
            await first.commit_transaction()
        async with second.transaction():
            await second.send_and_wait(topic, b"of the second", partition=0)
    assert await read(broker, topic) == [b"of the second"]


async def test_the_broker_stamps_records_where_the_topic_says_so(broker: Server, prefix: str) -> None:
    await create(broker, topic := f"{prefix}clock", {"message.timestamp.type": "LogAppendTime"})
    async with producing(broker) as producer:
        await producer.send_and_wait(topic, b"mark", partition=0, timestamp_ms=1_000)
    async with reading(broker, topic) as consumer:
        record = await consumer.getone()
    assert record.timestamp_type == LOG_APPEND_TIME
    assert record.timestamp > 1_000_000_000_000


async def test_a_group_goes_on_where_it_committed(broker: Server, prefix: str) -> None:
    await create(broker, topic := f"{prefix}facts")
    await send(broker, topic, [b"first", b"second"])
    assert await next_of_group(broker, topic, f"{prefix}group") == b"first"
    assert await next_of_group(broker, topic, f"{prefix}group") == b"second"


async def test_a_member_with_a_static_id_comes_back_although_it_never_left(broker: Server, prefix: str) -> None:
    await create(broker, topic := f"{prefix}facts")
    await send(broker, topic, [b"first", b"second"])
    assert await next_of_group(broker, topic, f"{prefix}group", group_instance_id="one") == b"first"
    assert await next_of_group(broker, topic, f"{prefix}group", group_instance_id="one") == b"second"


async def test_a_successor_ends_the_transaction_that_its_predecessor_left_open(broker: Server, prefix: str) -> None:
    await create(broker, topic := f"{prefix}facts")
    async with producing(broker, transactional_id=f"{prefix}writer") as first:
        await first.begin_transaction()
        await first.send_and_wait(topic, b"never committed", partition=0)
        assert await end(broker, topic, "read_committed") == 0
        async with producing(broker, transactional_id=f"{prefix}writer"):
            assert await end(broker, topic, "read_committed") == 2
            assert await read(broker, topic) == []
            with pytest.raises(ProducerFenced):
                await first.send_and_wait(topic, b"of a zombie", partition=0)


# ---------------------------------------------------------------- a small client


async def create(server: Server, topic: str, configs: dict[str, str] | None = None) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=server.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=configs or {})])
    finally:
        await admin.close()


@asynccontextmanager
async def producing_later(server: Server, **settings: Any) -> AsyncIterator[Any]:
    """A producer that the test starts itself."""
    producer = AIOKafkaProducer(bootstrap_servers=server.bootstrap, **settings)
    try:
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def producing(server: Server, **settings: Any) -> AsyncIterator[Any]:
    async with producing_later(server, **settings) as producer:
        await producer.start()
        yield producer


@asynccontextmanager
async def reading(server: Server, topic: str, isolation: str = "read_committed") -> AsyncIterator[Any]:
    """A consumer at the beginning of partition 0; not by `seek_to_beginning`, which may land at the end."""
    consumer = AIOKafkaConsumer(bootstrap_servers=server.bootstrap, isolation_level=isolation, enable_auto_commit=False)
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek(partition, (await consumer.beginning_offsets([partition]))[partition])
        yield consumer
    finally:
        await consumer.stop()


async def send(server: Server, topic: str, values: Sequence[bytes]) -> None:
    async with producing(server) as producer:
        for sent in [await producer.send(topic, value, partition=0) for value in values]:
            await sent


async def read(server: Server, topic: str) -> list[bytes]:
    """All committed values of partition 0, up to the last stable offset."""
    partition, values = TopicPartition(topic, 0), list[bytes]()
    async with reading(server, topic) as consumer:
        stable = (await consumer.end_offsets([partition]))[partition]
        while await consumer.position(partition) < stable:
            fetched = await consumer.getmany(partition, timeout_ms=100)
            values += [record.value for record in fetched.get(partition, [])]
    return values


async def end(server: Server, topic: str, isolation: str) -> int:
    async with reading(server, topic, isolation) as consumer:
        offsets = await consumer.end_offsets([TopicPartition(topic, 0)])
        return int(offsets[TopicPartition(topic, 0)])


async def next_of_group(server: Server, topic: str, group: str, **settings: Any) -> bytes:
    """The group's next record, committed."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=server.bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        **settings,
    )
    await consumer.start()
    try:
        record = await consumer.getone()
        await consumer.commit({TopicPartition(topic, 0): record.offset + 1})
        return bytes(record.value)
    finally:
        await consumer.stop()


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) == 0


def is_running(pid: int) -> bool:
    """Whether there is such a process, other than a dead one that nobody has asked for its exit code."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(found.strip()) and not found.strip().startswith("Z")


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "It did not come true in time."
        time.sleep(0.02)
