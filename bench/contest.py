"""Who takes part with the small work: how each is started, what it promises, and how its state is read back."""

import json
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.peers import streams
from bench.small.processor import Tally, TallyProcessor
from bench.small.reference import Values
from bench.systems import ROOT, Stuck
from schemas.topics import INTERACTIONS
from services.runtime.embedded.process import Child
from services.runtime.engine import names
from services.runtime.engine.partition import META
from services.runtime.settings import Settings

START_SECONDS = 60.0
END_SECONDS = 30.0
STREAMS_STATE = struct.Struct(">qqi")

Read = tuple[bytes, Values | None]  # a key, and its values; None: not a state, or no more


@dataclass(frozen=True, slots=True)
class Task:
    """One run of one system: the broker, a label that nobody else has, the input and the folder for its files."""

    settings: Settings
    label: str
    source: str
    folder: Path

    @property
    def output(self) -> str:
        """The output topic, without the prefix; every system writes to the same kind."""
        return TallyProcessor(self.label).output.name

    @property
    def group(self) -> str:
        return f"{self.settings.prefix}{self.label}"


@dataclass(frozen=True, slots=True)
class System:
    """A system, what it promises in words, and its adapters.

    `changelog`: the topic of its states; None where they are in the log of the process. `state` reads a record of it.
    """

    name: str
    guarantee: str
    state: str
    command: Callable[[Task], Sequence[str]]
    changelog: Callable[[Task], str] | None
    read: Callable[[bytes, bytes], Values | None]
    is_slow: bool = False  # it is given the beginning of the input only, or a run would take minutes


@contextmanager
def running(system: System, task: Task, workers: int = 1) -> Iterator[list[Child]]:
    """Processes of a system, told to stop at the end and awaited, so that they have written what they keep."""
    environment = {**task.settings.environment(), "PYTHONPATH": str(ROOT)}
    children = [
        Child(f"{task.label}-{number}", system.command(task), task.folder, environment=environment)
        for number in range(workers)
    ]
    try:
        yield children
    finally:
        for child in children:
            child.stop(END_SECONDS)


def await_shares(children: Sequence[Child], partitions: int) -> None:
    """Wait until processes of our engine serve equal shares of the partitions. Raises Stuck."""
    deadline = time.monotonic() + START_SECONDS
    share = partitions // len(children)
    while time.monotonic() < deadline:
        if all(_serving(child) == share for child in children):
            return
        time.sleep(0.05)
    raise Stuck(f"{[_serving(child) for child in children]} partitions are served.{children[0].last_words()}")


def _serving(child: Child) -> int:
    lines = [line for line in child.log.read_bytes().splitlines() if b'"event": "serving"' in line]
    return len(json.loads(lines[-1])["partitions"]) if lines else 0


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _ours(guarantee: str) -> Callable[[Task], Sequence[str]]:
    return lambda task: _python("bench.peers.ours", guarantee, task.label)


def _our_changelog(task: Task) -> str:
    return names.changelog_of(TallyProcessor(task.label).name)


def _our_state(key: bytes, value: bytes) -> Values | None:
    if key == META:
        return None
    tally = msgspec.msgpack.decode(value[1:], type=Tally)  # behind the byte for the version
    return tally.count, tally.total, tally.worst, tally.last


def _stock(task: Task) -> Sequence[str]:
    partitions = str(task.settings.partitions)
    return _python("bench.peers.stock", task.settings.kafka, task.group, *_topics(task), partitions)


def _json_state(_key: bytes, value: bytes) -> Values | None:
    told = json.loads(value)
    return told["count"], told["total"], told["worst"], told["last"]


def _loop(task: Task) -> Sequence[str]:
    return _python("bench.peers.loop", task.settings.kafka, task.group, *_topics(task))


def _streams(guarantee: str, commit_ms: int) -> Callable[[Task], Sequence[str]]:
    def command(task: Task) -> Sequence[str]:
        given = (task.settings.kafka, task.group, *_topics(task), guarantee, str(commit_ms), str(task.folder / "state"))
        return [*streams.command(), *given]

    return command


def _streams_state(_key: bytes, value: bytes) -> Values | None:
    count, total, worst = STREAMS_STATE.unpack_from(value)
    return count, total, worst, value[STREAMS_STATE.size :].decode()


def _own_changelog(task: Task) -> str:
    return f"{task.label}-tallies-changelog"


def _topics(task: Task) -> tuple[str, str]:
    return task.settings.topic(task.source), task.settings.topic(task.output)


EXACTLY_ONCE = System(
    "steward exactly once",
    "exactly once: outputs, state and positions in one transaction per partition and flush, every 50 ms",
    "in memory, changelog of changed keys on Kafka; restored after a crash",
    _ours("exactly-once"),
    _our_changelog,
    _our_state,
)
AT_LEAST_ONCE = System(
    "steward at least once",
    "at least once: outputs acknowledged first, then state and positions, every 50 ms",
    EXACTLY_ONCE.state,
    _ours("at-least-once"),
    _our_changelog,
    _our_state,
)
STREAMS_EXACTLY_ONCE = System(
    "Kafka Streams exactly_once_v2",
    "exactly once: one transaction for all partitions of the thread, every 100 ms",
    "in-memory store with a cache, changelog on Kafka; restored after a crash",
    _streams("exactly_once_v2", 100),
    _own_changelog,
    _streams_state,
)
STREAMS = System(
    "Kafka Streams at least once",
    "at least once: committed every second",
    STREAMS_EXACTLY_ONCE.state,
    _streams("at_least_once", 1_000),
    _own_changelog,
    _streams_state,
)
LOOP = System(
    "confluent-kafka loop",
    "offsets are committed in the background, whatever became of the outputs",
    "none that lasts: a dict, lost with the process",
    _loop,
    None,
    _json_state,
)
STOCK = System(
    "stock Faust",
    "loses data under faults: nothing waits for acknowledgements",
    "table in memory, a changelog record for each event",
    _stock,
    _own_changelog,
    _json_state,
    is_slow=True,
)
SYSTEMS = (EXACTLY_ONCE, STREAMS_EXACTLY_ONCE, AT_LEAST_ONCE, STREAMS, LOOP, STOCK)
SOURCE = INTERACTIONS.name
SHORT_SOURCE = "bench.short"  # the beginning of the same work, for who is slow
