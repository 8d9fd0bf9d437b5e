"""Failover: one of two workers is killed under load; how soon its partitions go on, and whether all of it is exact."""

import asyncio
import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

from aiokafka import AIOKafkaConsumer

from bench import open_loop, report
from bench.exactness import Counts, compare
from bench.goals import Goal
from bench.opened import CHANGED, naming, opened
from bench.running import Service
from bench.systems import Stuck
from schemas.topics import HANDOFFS, OWNERSHIP
from services.handoff.app import read_policy
from services.handoff.processor import HandoffProcessor
from services.runtime import kafka
from services.runtime.engine import names
from services.runtime.engine.partition import META
from services.runtime.first_policy import publish_first
from services.runtime.settings import Settings

RATE = 200  # events a second, far from what one process can do: a backlog would be measured instead
ACCOUNTS = 20_000  # many: a state with dozens of handoffs would make each event dearer than the last
PARTITIONS = 4
WARM_SECONDS = 5.0
PAUSE_SECONDS = 3.0  # between all workers serving again and the next kill
PATIENCE = 90.0
BEYOND_SESSION = 1.0

NOTES = (
    f"""Failover: two processes of `steward handoff` on {PARTITIONS} partitions, {RATE} openings of handoffs a second
    over {ACCOUNTS:,} accounts (open loop), one process killed with SIGKILL. `first`: from the kill to the moment at
    which a reader of committed records has the first output of an event sent after the kill in one of the dead
    worker's partitions; `all`: in every one of them.""",
    """The session timeout is the shipped one. A dead worker is missed between four fifths of it and all of it after
    the kill, because it last gave a sign of life up to a fifth of it before; a survivor hears of it with its next
    heartbeat.""",
    """Counts: every opening gives exactly one output and stands exactly once in the state. Compared by name, from
    the topics, committed records alone, after everything.""",
)


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: how long until the dead worker's partitions went on, in seconds."""

    partitions: tuple[int, ...]
    first: float
    all: float
    other_partitions_silent: float


@dataclass(frozen=True, slots=True)
class Failed:
    session_seconds: int
    rate: int
    kills: tuple[Kill, ...]
    outputs: Counts
    states: Counts

    def as_json(self) -> dict[str, object]:
        spreads = {
            name: report.spread([getattr(kill, name) for kill in self.kills])
            for name in ("first", "all", "other_partitions_silent")
        }
        return {**asdict(self), "seconds": spreads, "is_exact": self.outputs.is_exact and self.states.is_exact}


@dataclass(slots=True)
class Outputs:
    """When outputs came, by partition, and which."""

    scheduled: dict[str, float] = field(default_factory=dict)
    came: dict[int, list[tuple[float, str]]] = field(default_factory=lambda: {n: [] for n in range(PARTITIONS)})

    def first_after(self, killed: float, partition: int) -> float | None:
        """When the first output of an event scheduled after the kill came in a partition."""
        return next((at for at, name in self.came[partition] if self.scheduled.get(name, 0.0) >= killed), None)

    def silence(self, since: float, until: float, partitions: Sequence[int]) -> float:
        """The longest time without any output in one of these partitions between two moments."""
        return max((longest_gap([at for at, _ in self.came[one]], since, until) for one in partitions), default=0.0)


def longest_gap(times: Sequence[float], since: float, until: float) -> float:
    """The longest stretch between `since` and `until` in which nothing happened; times ascend."""
    inside = [since, *(at for at in times if since < at < until), until]
    return max(later - earlier for earlier, later in pairwise(inside))


def measure(settings: Settings, repetitions: int, folder: Path) -> Failed:
    """Kill and start workers in turn under load, then count. Raises Stuck."""
    settings = settings.model_copy(update={"partitions": PARTITIONS})
    asyncio.run(publish_first(settings, read_policy(settings.policy), names.topics_of(HandoffProcessor())))
    with ExitStack() as services:
        return asyncio.run(_measure(_Crew(settings, folder, services), repetitions))


def goals(failed: Failed) -> list[Goal]:
    limit = failed.session_seconds + BEYOND_SESSION
    wrong = sum(one.lost + one.doubled + one.unknown for one in (failed.outputs, failed.states))
    return [
        Goal("failover: kill to the first new output, the slowest", max(k.first for k in failed.kills), limit, "s"),
        Goal("failover: kill to outputs in every lost partition, the slowest", max(k.all for k in failed.kills), limit,
             "s"),
        Goal("failover: outputs and states lost, doubled or unknown", wrong, 0, "events"),
    ]  # fmt: skip


class _Crew:
    """The two workers."""

    def __init__(self, settings: Settings, folder: Path, services: ExitStack) -> None:
        self.settings = settings
        self.alive: list[Service] = []
        self._folder = folder
        self._services = services
        self._started = 0

    async def start(self) -> None:
        """One more worker; returns when all serve and own all partitions between them."""
        self._started += 1
        name = f"failover-{self._started}"
        # In its own thread: the load goes on meanwhile.
        one = await asyncio.to_thread(Service, self.settings, ("handoff",), self._folder, name=name)
        self._services.callback(one.child.kill)
        self.alive.append(one)
        deadline = time.monotonic() + PATIENCE
        while sorted(number for worker in self.alive for number in _owned(worker)) != list(range(PARTITIONS)):
            if time.monotonic() > deadline:
                raise Stuck(f"the workers did not share the partitions: {[_owned(worker) for worker in self.alive]}.")
            await asyncio.sleep(0.2)

    def kill(self) -> tuple[float, tuple[int, ...]]:
        """Kill the one that has lived longest; when that was, and which partitions it had."""
        victim = self.alive.pop(0)
        owned = _owned(victim)
        at = time.perf_counter()
        victim.child.kill()
        return at, owned


def _owned(worker: Service) -> tuple[int, ...]:
    """The partitions of its last assignment."""
    told = worker.said("serving")[-1:]
    numbers = re.findall(r"\d+", str(told[0]["partitions"])) if told else []
    return tuple(int(number) for number in numbers)


async def _measure(crew: _Crew, repetitions: int) -> Failed:
    settings, outputs, kills = crew.settings, Outputs(), list[Kill]()
    await crew.start()
    await crew.start()
    send = open_loop.sender(settings, OWNERSHIP.name, _event)
    async with send as one, open_loop.from_the_end(settings, HANDOFFS.name) as reader:
        stopping = asyncio.Event()
        async with open_loop.running(_listen(reader, outputs)):
            load = asyncio.create_task(_load(one, outputs, stopping))
            await asyncio.sleep(WARM_SECONDS)
            for number in range(repetitions):
                kills.append(await _killed(crew, outputs))
                print(f"  {number + 1} of {repetitions}: {_line(kills[-1])}", flush=True)
                if number + 1 < repetitions:
                    await crew.start()
                    await asyncio.sleep(PAUSE_SECONDS)
            stopping.set()
            await load
            await _all_came(outputs)
    came, known = await _written(settings)
    sent = outputs.scheduled
    return Failed(settings.session_seconds, RATE, tuple(kills), compare(sent, came), compare(sent, known))


async def _killed(crew: _Crew, outputs: Outputs) -> Kill:
    at, lost = crew.kill()
    kept = [number for number in range(PARTITIONS) if number not in lost]
    deadline = at + PATIENCE
    while any(outputs.first_after(at, number) is None for number in lost):
        if time.perf_counter() > deadline:
            raise Stuck(f"partitions {lost} of the killed worker did not go on within {PATIENCE:.0f} s.")
        await asyncio.sleep(0.1)
    found = [first - at for number in lost if (first := outputs.first_after(at, number)) is not None]
    silent = outputs.silence(at, time.perf_counter(), kept)
    return Kill(lost, round(min(found), 3), round(max(found), 3), round(silent, 3))


def _line(kill: Kill) -> str:
    return (
        f"killed the owner of {list(kill.partitions)}: first output after {kill.first:.2f} s, in all of them after "
        f"{kill.all:.2f} s; the others were silent for {kill.other_partitions_silent:.2f} s at most"
    )


def _account(number: int) -> str:
    return f"acct-{number % ACCOUNTS:06d}"


def _event(name: str, number: int) -> tuple[str, bytes]:
    account = _account(number)
    return account, opened(name, account)


async def _load(send: open_loop.Send, outputs: Outputs, stopping: asyncio.Event) -> None:
    """Send until told to stop, then wait for the acknowledgements."""
    begun, number, tasks = time.perf_counter(), 0, set[asyncio.Task[None]]()
    while not stopping.is_set():
        name, at = f"load-{number:07d}", begun + number / RATE
        outputs.scheduled[name] = at
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        task = asyncio.create_task(send(name, number))
        tasks.add(task)
        task.add_done_callback(lambda done: tasks.discard(done) if done.exception() is None else None)
        number += 1
    await asyncio.gather(*tasks)


async def _listen(reader: AIOKafkaConsumer, outputs: Outputs) -> None:
    named = naming(CHANGED)
    while True:
        fetched = await reader.getmany(timeout_ms=1_000)
        now = time.perf_counter()
        for partition, records in fetched.items():
            for record in records:
                if record.value is not None and (name := named(record.value)) is not None:
                    outputs.came[partition.partition].append((now, name))


async def _all_came(outputs: Outputs) -> None:
    """Wait until every event has an output, or no more come; what is missing then is counted as lost."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if sum(map(len, outputs.came.values())) >= len(outputs.scheduled):
            break
        await asyncio.sleep(0.2)
    await asyncio.sleep(1.0)


async def _written(settings: Settings) -> tuple[list[str], list[str]]:
    """The handoffs of all outputs, and of all states."""
    named, processor = naming(CHANGED), HandoffProcessor()
    came = [named(record.value) for record in await kafka.read_all(settings, HANDOFFS.name) if record.value]
    states: dict[bytes, bytes | None] = {}
    for record in await kafka.read_all(settings, names.changelog_of(processor.name)):
        if record.key is not None and record.key != META:
            states[record.key] = record.value
    accounts = [processor.decode(raw[1:], raw[0]) for raw in states.values() if raw is not None]
    return [name for name in came if name is not None], [name for one in accounts for name in one.handoffs]
