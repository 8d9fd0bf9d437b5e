"""One sample of one system with the small work: fill, run, watch, read back, compare."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError

from bench import bulk, contest, watching
from bench.contest import SHORT_SOURCE, SOURCE, System, Task
from bench.small import reference, work
from bench.small.reference import Answer
from bench.standing import Measured
from bench.step import Different
from bench.systems import Stuck, calibrate
from services.runtime import kafka
from services.runtime.embedded.server import Server
from services.runtime.settings import Settings

PARTITIONS = 4
SLOW_SHARE = 20  # who is slow gets one in so many events, from the beginning
WARM_UP = 0.4  # of the outputs, the first: two seconds and more, which the JVM's compiler needs
LEFT = 0.1  # of the outputs, the last: see watching.window
APPENDED = {"message.timestamp.type": "LogAppendTime"}


@cache
def partition_of(key: bytes) -> int:
    return kafka.partition_of(key, PARTITIONS)


@dataclass(frozen=True, slots=True)
class Work:
    """Records and the answer every system must give; outputs of the warm-up and the last `left` are not counted."""

    records: Sequence[work.Record]
    answer: Answer
    warm_up: int
    left: int

    @classmethod
    def of(cls, records: Sequence[work.Record], first: int = 0) -> "Work":
        """`first`: records before those of which a share is the warm-up."""
        answer = reference.answer(records, partition_of)
        counted = answer.outputs - first
        return cls(records, answer, first + round(WARM_UP * counted), round(LEFT * counted))


class Arena:
    """A broker with the work on it, and the samples taken there."""

    def __init__(self, broker: Server, folder: Path, events: int, accounts: int) -> None:
        self._broker = broker
        self._folder = folder
        self._settings = Settings(kafka=broker.bootstrap, prefix="bench-", partitions=PARTITIONS)
        records = list(work.records(events, accounts))
        self.work = Work.of(records)
        self._short = Work.of(records[: max(1, events // SLOW_SHARE)])
        self._fill(self._settings, SOURCE, self.work)
        self._fill(self._settings, SHORT_SOURCE, self._short)

    def sample(self, system: System, label: str) -> Measured:
        """One run of one system with one process, on the common input. Raises Different and Stuck."""
        given, source = (self._short, SHORT_SOURCE) if system.is_slow else (self.work, SOURCE)
        task = Task(self._settings, label, source, self._folder / label)
        return self._measured(system, system.name, task, given, 1, None)

    def sample_workers(self, system: System, row: str, label: str, workers: int, given: Work | None = None) -> Measured:
        """A run of our engine with so many processes, which share the partitions before the first event comes."""
        settings = self._settings.model_copy(update={"prefix": f"{self._settings.prefix}{label}-"})
        task, given = Task(settings, label, SOURCE, self._folder / label), given or self.work
        asyncio.run(kafka.ensure_topics(settings, {SOURCE: APPENDED}))
        try:
            return self._measured(system, row, task, given, workers, lambda: self._fill(settings, SOURCE, given))
        finally:
            asyncio.run(_forget(settings, [settings.topic(SOURCE)]))

    def _measured(
        self, system: System, row: str, task: Task, given: Work, workers: int, fill: Callable[[], None] | None
    ) -> Measured:
        settings, output = task.settings, task.output
        asyncio.run(kafka.ensure_topics(settings, {output: {}}))
        calibration, load = calibrate(), os.getloadavg()[0]
        with contest.running(system, task, workers) as children:
            if fill:
                contest.await_shares(children, PARTITIONS)
            watched = watching.watch(settings, output, given.answer.last, children, self._broker.child.pid)
            looks = asyncio.run(_while_filling(watched, fill))
        found = Answer()
        offsets = bulk.read(settings.kafka, settings.topic(output), PARTITIONS, found.hear)
        self._read_states(system, task, found)
        if differing := reference.differences(system.name, given.answer, found):
            raise Different("\n".join(["There are no figures, because results differ.", *differing]))
        try:
            seen = watching.window(looks, offsets, given.warm_up, given.left)
        except ValueError as error:
            raise Stuck(f"{row}: {error}") from error
        written = [settings.topic(output), *([settings.topic(system.changelog(task))] if system.changelog else [])]
        asyncio.run(_forget(settings, written))
        accounts = len(given.answer.states)
        return Measured(row, accounts, calibration, load, seen.events, seen.seconds, seen.cpu, seen.broker)

    def _read_states(self, system: System, task: Task, found: Answer) -> None:
        def take(key: bytes, value: bytes | None) -> None:
            values = system.read(key, value) if value is not None else None
            if values is not None:
                found.states[key] = values

        if system.changelog:
            bulk.read(task.settings.kafka, task.settings.topic(system.changelog(task)), PARTITIONS, take)
        else:
            for log in task.folder.glob("*.log"):
                for line in log.read_bytes().splitlines():
                    key, _, value = line.partition(b" ")
                    if value.startswith(b"{"):
                        take(key, value)

    def _fill(self, settings: Settings, topic: str, given: Work) -> None:
        asyncio.run(kafka.ensure_topics(settings, {topic: APPENDED}))
        bulk.fill(settings.kafka, settings.topic(topic), given.records, partition_of)


async def _while_filling(
    watched: Coroutine[Any, Any, list[watching.Look]], fill: Callable[[], None] | None
) -> list[watching.Look]:
    """Watch from the first event on; a topic that cannot be filled ends it."""
    looks: list[watching.Look]
    looks, _ = await asyncio.gather(watched, asyncio.to_thread(fill or _nothing))
    return looks


def _nothing() -> None:
    """The topic is full already."""


async def _forget(settings: Settings, topics: Sequence[str]) -> None:
    """Delete topics that were read back: dozens of full ones would fill the disk, and its writing would be measured."""
    async with kafka.admin(settings) as client:
        try:
            await client.delete_topics(topics)
        except KafkaError as error:
            print(f"{', '.join(topics)} could not be deleted: {error!r}")
