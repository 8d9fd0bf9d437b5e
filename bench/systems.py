"""Runs each system on a filled topic and measures it from its first work to its last, without its start."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench import stock_faust
from bench.work import Fact
from schemas import codec
from schemas.topics import OWNERSHIP
from services.core.instants import instant
from services.core.moulds import encode
from services.core.processor import Context
from services.core.processor import Fact as ReducerFact
from services.handoff.app import read_policy
from services.handoff.model import Account
from services.handoff.processor import HandoffProcessor
from services.runtime import kafka
from services.runtime.embedded.ports import HOST, pick_port
from services.runtime.embedded.process import Child
from services.runtime.engine import names
from services.runtime.engine.partition import META, Meta
from services.runtime.first_policy import publish_first
from services.runtime.settings import Settings

ROOT = Path(__file__).parents[1]
PATIENCE = 300.0
LOOK_EVERY = 0.005
TICK = os.sysconf("SC_CLK_TCK")

OURS = "steward handoff"
STOCK = "stock Faust"
ALONE = "reducer and codec"


class Stuck(RuntimeError):
    """A system did not finish its work."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one system. `timed` of the `events` fell into `seconds`; `cpu` seconds were for all of them."""

    system: str
    calibration_us: float
    events: int
    timed: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        return self.timed / self.seconds

    @property
    def cost(self) -> float:
        """CPU microseconds per event."""
        return self.cpu / self.events * 1e6


def calibrate() -> float:
    """Microseconds for a fixed piece of pure Python, the median of five: how fast the machine is just now."""
    return sorted(_fixed_work() for _ in range(5))[2]


def _fixed_work() -> float:
    begun = time.perf_counter()
    total = 0
    for number in range(100_000):
        total += number * number % 7
    return (time.perf_counter() - begun) * 1e6


async def prepare(settings: Settings) -> None:
    """Topics of both systems, and the policy."""
    await publish_first(settings, read_policy(settings.policy), names.topics_of(HandoffProcessor()))
    await kafka.ensure_topics(settings, {stock_faust.OUTPUT: {}, stock_faust.CHANGELOG: dict(names.CHANGELOG)})


def run_ours(settings: Settings, events: int, folder: Path) -> Sample:
    """The service as it is shipped: one transaction per flush, durable state.

    Rate: from the first moment at which it has reduced events until all are committed, without those it had reduced
    by then. CPU: of the whole process from saying that it serves to that end, for all events.
    """
    calibration = calibrate()
    settings = settings.model_copy(update={"http_port": pick_port()})
    child = Child("handoff", _command(settings, "services", "handoff"), folder)
    try:
        deadline = time.monotonic() + PATIENCE
        _awaited(child, "serving", deadline)
        cpu = _cpu(child.pid)
        before = _reduced(settings, deadline)
        begun = time.monotonic()
        ended = asyncio.run(_committed(settings, child, deadline))
        cpu = _cpu(child.pid) - cpu
    finally:
        child.stop()
    return Sample(OURS, calibration, events, events - before, ended - begun, cpu)


def run_stock(settings: Settings, events: int, folder: Path) -> Sample:
    """Stock Faust, from its first event to the flush of its producer after the last."""
    calibration = calibrate()
    child = Child("stock-faust", _command(settings, "bench.stock_faust", str(events)), folder)
    try:
        deadline = time.monotonic() + PATIENCE
        first, last = _awaited(child, "first", deadline), _awaited(child, "last", deadline)
    finally:
        child.stop()
    return Sample(STOCK, calibration, events, events, last["at"] - first["at"], last["cpu"] - first["cpu"])


def run_alone(settings: Settings, work: Sequence[Fact]) -> Sample:
    """What both systems have in common, in this process and in memory: decode, reduce, encode what is published."""
    processor, context = HandoffProcessor(), Context(policies=asyncio.run(stock_faust.read_policies(settings)))
    accounts: dict[str, Account] = {}
    calibration = calibrate()
    begun, cpu = time.monotonic(), time.process_time()
    for key, value in work:
        event = codec.decode(OWNERSHIP, value)
        fact = ReducerFact(OWNERSHIP, event, instant(event.receivedat or event.time))
        decision = processor.decide(key, accounts.get(key) or processor.empty(), (fact,), context)
        accounts[key] = decision.state or processor.empty()
        for output in decision.outputs:
            encode(output.event)
    cpu, seconds = time.process_time() - cpu, time.monotonic() - begun
    return Sample(ALONE, calibration, len(work), len(work), seconds, cpu)


def _command(settings: Settings, module: str, *arguments: str) -> Sequence[str]:
    variables = {**settings.environment(), "PYTHONPATH": str(ROOT)}
    return ["env", *(f"{name}={value}" for name, value in variables.items()), sys.executable, "-m", module, *arguments]


def _awaited(child: Child, event: str, deadline: float) -> Mapping[str, float]:
    """The line of a child's log that names this event."""
    while time.monotonic() < deadline:
        for line in child.log.read_bytes().splitlines():
            if f'"event": "{event}"'.encode() in line:
                told: Mapping[str, float] = json.loads(line)
                return told
        if child.exit_code() is not None:
            break
        time.sleep(LOOK_EVERY)
    raise Stuck(f"{child.name} did not say '{event}'.{child.last_words()}")


def _cpu(pid: int) -> float:
    """Seconds of CPU a process has used, in user and kernel mode, with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def _reduced(settings: Settings, deadline: float) -> int:
    """How many events the service has reduced, as soon as there are any: after its first fetch."""
    wanted = f'steward_records_total{{outcome="read",processor="handoff",topic="{OWNERSHIP.name}"}} '
    while time.monotonic() < deadline:
        with urlopen(f"http://{HOST}:{settings.http_port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        for line in lines:
            if line.startswith(wanted):
                return int(float(line.removeprefix(wanted)))
        time.sleep(LOOK_EVERY)
    raise Stuck("handoff serves, but reduced nothing.")


async def _committed(settings: Settings, child: Child, deadline: float) -> float:
    """When the committed positions have reached the end of the topic."""
    inputs = kafka.partitions(settings, OWNERSHIP)
    log = kafka.partitions(settings, names.changelog_of(HandoffProcessor.name))
    async with kafka.reader(settings) as consumer:
        ends = {partition.partition: end for partition, end in (await consumer.end_offsets(inputs)).items()}
        consumer.assign(log)
        for partition in log:
            consumer.seek(partition, 0)
        done = dict.fromkeys(ends, 0)
        while done != ends:
            if time.monotonic() > deadline or child.exit_code() is not None:
                raise Stuck(f"handoff has committed {done} of {ends}.{child.last_words()}")
            await _note(consumer, done)
    return time.monotonic()


async def _note(consumer: AIOKafkaConsumer, done: dict[int, int]) -> None:
    fetched: Mapping[TopicPartition, Sequence[kafka.Received]] = await consumer.getmany(timeout_ms=50)
    for records in fetched.values():
        for record in records:
            if record.key == META and record.value:
                done[record.partition] = Meta.decode(record.value).positions[OWNERSHIP.name]
