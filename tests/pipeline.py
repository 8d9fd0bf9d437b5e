"""Runs Steward's own processes against a broker, and reads what they wrote with a plain client."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from services.runtime import clock
from services.runtime.embedded.ports import pick_port
from services.runtime.engine.partition import DUES

ROOT = Path(__file__).parents[1]
PARTITIONS = 4
BREACHED = "steward.sla.breached.v1"


@dataclass(frozen=True)
class Written:
    """A committed record, its value parsed."""

    topic: str
    partition: int
    offset: int
    key: str
    event: dict[str, Any]
    headers: dict[str, str]


@dataclass
class Process:
    """A running command of Steward."""

    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    def said(self, event: str) -> list[dict[str, Any]]:
        """Its log lines about one event."""
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [said for line in lines if (said := json.loads(line)).get("event") == event]

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        """As a crash would."""
        self.popen.kill()
        self.popen.wait()

    def stop(self, seconds: float = 20.0) -> int:
        """SIGTERM; answers the exit code."""
        if self.popen.poll() is None:
            self.popen.terminate()
        return self.popen.wait(seconds)


@dataclass
class Pipeline:
    """One installation: a broker's address, a prefix of its own, and the processes started on it."""

    bootstrap: str
    prefix: str
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    partitions: int = PARTITIONS

    @property
    def environment(self) -> dict[str, str]:
        mine = {
            "STEWARD_KAFKA": self.bootstrap,
            "STEWARD_PREFIX": self.prefix,
            "STEWARD_PARTITIONS": str(self.partitions),
            "STEWARD_SESSION_SECONDS": "6",
            **self.settings,
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("STEWARD_")}
        return {**inherited, **mine}

    def start(self, *command: str) -> Process:
        """Start a command in the background."""
        log = self.folder / f"{command[0]}-{len(self.processes)}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [sys.executable, "-m", "services", *command],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(Process(popen, log))
        return self.processes[-1]

    def serve(self) -> Process:
        """Start the clock writer and the handoff processor; answers the latter once it serves."""
        self.start("clock")
        return self.handoff()

    def handoff(self) -> Process:
        return self.serves("handoff")

    def serves(self, *command: str) -> Process:
        """Start a processor; answers once it serves."""
        process = self.start(*command)
        wait_until(lambda: process.said("serving"), f"{command[0]} serves", 60, process)
        return process

    def receives(self) -> str:
        """Start ingest over HTTP; answers its address once it is ready."""
        port = pick_port()
        self.settings["STEWARD_INGEST_PORT"] = str(port)
        process = self.start("ingest", "serve")
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: status_of(f"{address}/ready") == 200, "ingest is ready", 60, process)
        return address

    def run(self, *command: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "services", *command],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def done(self, *command: str, seconds: float = 120) -> str:
        """Run a command that must succeed; answers what it printed."""
        ended = self.run(*command, seconds=seconds)
        assert ended.returncode == 0, f"{command} ended with {ended.returncode}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def records(self, topic: str) -> list[Written]:
        """Every committed record of a topic, in order of partition and offset; repeats are not removed."""
        return asyncio.run(_read(self.bootstrap, f"{self.prefix}{topic}", self.partitions))

    def ends(self, topic: str) -> int:
        """Where a topic ends, summed over its partitions: grows with whatever is committed to it."""
        return asyncio.run(_ends(self.bootstrap, f"{self.prefix}{topic}", self.partitions))

    def publish(self, topic: str, records: list[tuple[str | bytes, bytes, int | None]]) -> None:
        """Write raw records (key, value, partition or None for the default) and wait for acknowledgement."""
        asyncio.run(_write(self.bootstrap, f"{self.prefix}{topic}", records))

    def verdicts(self, kind: str = BREACHED) -> list[dict[str, Any]]:
        """The data of every event of one type on `cs.handoffs`, repeats included."""
        return [record.event["data"] for record in self.records("cs.handoffs") if record.event["type"] == kind]

    def breaches(self) -> dict[tuple[str, str], datetime]:
        """(handoff, leg) → due of every raw breach record; fails when one stands there twice."""
        raw = self.verdicts()
        counted = Counter((data["handoff"], data["leg"]) for data in raw)
        assert not (twice := [key for key, count in counted.items() if count > 1]), f"published twice: {twice[:5]}"
        return {(data["handoff"], data["leg"]): datetime.fromisoformat(data["due"]) for data in raw}

    def retractions(self) -> list[dict[str, Any]]:
        return self.verdicts("steward.sla.retracted.v1")

    def progress(self, kind: str) -> list[dict[str, Any]]:
        """The data of every record of one type on `cs.sources`, in order of time."""
        found = [record.event for record in self.records("cs.sources") if record.event["type"] == kind]
        return [event["data"] for event in sorted(found, key=lambda event: str(event["time"]))]

    def await_quiet(self, run: str | None = None, seconds: float = 90) -> None:
        """Wait until a run's end (if named) has taken effect everywhere and nothing new is published."""
        if run is not None:
            wait_until(lambda: self._closed(run), f"every partition knows that {run} is closed", seconds)
            wait_until(lambda: not self._overdue(), "every state has been asked about what is past", seconds)
        seen, since = -1, time.monotonic()
        deadline = since + seconds
        while time.monotonic() < deadline:
            now = self.ends("cs.handoffs")
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > 2.5:
                return
            time.sleep(0.5)
        raise AssertionError(f"not quiet within {seconds} s")

    def _closed(self, run: str) -> bool:
        metas: dict[int, dict[str, Any]] = {
            record.partition: record.event
            for record in self.records("steward-handoff-state")
            if record.key == "\x00meta"
        }
        return len(metas) == self.partitions and all(run in meta["closed"] for meta in metas.values())

    def _overdue(self) -> list[str]:
        """Keys of the handoff processor with a due time in the past that no live source can hold back."""
        now = clock.now()
        states = {record.key: record.headers.get(DUES, "") for record in self.records("steward-handoff-state")}
        packed = {key: dues.encode(errors="surrogateescape") for key, dues in states.items() if dues}
        return [
            key
            for key, dues in packed.items()
            if any(at <= now and not isinstance(wait, list) for at, wait in msgspec.msgpack.decode(dues))
        ]

    def stop(self) -> None:
        for process in reversed(self.processes):
            if process.popen.poll() is None:
                process.popen.kill()
                process.popen.wait()


@contextmanager
def running(
    bootstrap: str, prefix: str, folder: Path, partitions: int = PARTITIONS, /, **settings: str
) -> Iterator[Pipeline]:
    """A pipeline whose processes are gone afterwards."""
    named = {name.upper(): value for name, value in settings.items()}
    pipeline = Pipeline(bootstrap, prefix, folder, named, partitions=partitions)
    try:
        yield pipeline
    finally:
        pipeline.stop()


def status_of(address: str) -> int | None:
    """The status that a GET is answered with; None when nobody answers."""
    try:
        with urlopen(address, timeout=2) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code
    except OSError:
        return None


def wait_until(
    condition: Callable[[], Any], what: str, seconds: float, process: Process | None = None, pause: float = 0.2
) -> Any:
    """The condition's first true value; fails naming what did not happen."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        if process is not None and process.popen.poll() is not None:
            raise AssertionError(f"waiting until {what}: it ended with {process.popen.returncode}\n{_tail(process)}")
        time.sleep(pause)
    raise AssertionError(f"not within {seconds} s: {what}\n{_tail(process) if process else ''}")


def _tail(process: Process) -> str:
    return process.log.read_text()[-3000:]


async def _read(bootstrap: str, topic: str, count: int) -> list[Written]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
    )
    await consumer.start()
    found: list[Written] = []
    try:
        partitions = [TopicPartition(topic, number) for number in range(count)]
        consumer.assign(partitions)
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        for partition in partitions:
            consumer.seek(partition, begins[partition])
        waiting = {one for one in partitions if begins[one] < ends[one]}
        while waiting:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [_written(record) for record in records]
            waiting = {one for one in waiting if await consumer.position(one) < ends[one]}
    finally:
        await consumer.stop()
    return sorted(found, key=lambda record: (record.partition, record.offset))


async def _ends(bootstrap: str, topic: str, count: int) -> int:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed")
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(topic, number) for number in range(count)])
    finally:
        await consumer.stop()
    return int(sum(ends.values()))


def _written(record: Any) -> Written:
    try:
        parsed = json.loads(record.value or b"null")
        event = parsed if isinstance(parsed, dict) else {}
    except ValueError:  # a changelog's state is not JSON, nor is every dead letter
        event = {}
    headers = {name: value.decode(errors="surrogateescape") for name, value in record.headers}
    key = (record.key or b"").decode(errors="replace")
    return Written(record.topic, record.partition, record.offset, key, event, headers)


async def _write(bootstrap: str, topic: str, records: list[tuple[str | bytes, bytes, int | None]]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    try:
        for key, value, partition in records:
            raw = key.encode() if isinstance(key, str) else key
            await producer.send_and_wait(topic, value, raw, partition=partition)
    finally:
        await producer.stop()
