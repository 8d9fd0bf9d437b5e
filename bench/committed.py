"""Event to committed output: the small work on the engine, on Kafka Streams and on nothing but a client, in turn."""

import asyncio
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import open_loop
from bench.goals import Distribution, Found, Goal, distribution_line, milliseconds
from bench.open_loop import Send, Waiting
from bench.peers import ours, streams
from bench.running import Service
from bench.small.processor import TallyProcessor
from bench.small.work import TYPE
from schemas.topics import INTERACTIONS
from services.core.instants import moment
from services.handoff.app import read_policy
from services.runtime import clock, kafka
from services.runtime.embedded.errors import Unavailable
from services.runtime.embedded.process import Child
from services.runtime.engine import names
from services.runtime.first_policy import publish_first
from services.runtime.settings import Settings

RATE = 500  # events a second
ROUNDS = 2
PARTITIONS = 4
ACCOUNTS = 1_000
WARM_SECONDS = 4.0
ONCE, LEAST, STREAMS, FLOOR = "engine, exactly once", "engine, at least once", "Kafka Streams", "raw aiokafka"
GOALS = {ONCE: (60.0, 150.0), LEAST: (20.0, 60.0)}  # p50 and p99 in milliseconds

NOTES = (
    f"""Event to committed output: {RATE} events a second of the small work over {PARTITIONS} partitions and
    {ACCOUNTS:,} accounts, one output each; from the scheduled sending to the moment at which a reader of committed
    records has the output; `until_acknowledged`: the part of it until the broker had the event. Every system runs all
    the time; the load goes to one after the other, round after round. No clock runs, and all of it shares the machine
    with the broker and the load generator.""",
    """raw aiokafka: one record of the same bytes, acks=all, linger 0, until the reader has it; nothing in between.""",
    """Kafka Streams: exactly_once_v2, commit interval 100 ms, one thread, in-memory store with changelog. At least
    once: the engine as it runs on a broker without transactions.""",
)

STREAMS_GUARANTEE, STREAMS_COMMIT_MS = "exactly_once_v2", 100
OUTPUT = "bench.tallies-streams"
_ID = re.compile(rb'"id":"([^"]+)"')


@dataclass(frozen=True, slots=True)
class System:
    """Something that turns records of one topic into records of another; the floor's is the same."""

    name: str
    settings: Settings
    output: str


@dataclass(frozen=True, slots=True)
class Committed:
    """One system over all rounds."""

    system: str
    n: int
    ms: Distribution
    until_acknowledged_ms: Distribution
    rounds: tuple[Distribution, ...]


def measure(base: Settings, seconds: float, rounds: int, folder: Path) -> Found:
    """Each system for some seconds, in turn, round after round. Raises Stuck."""
    with ExitStack() as services:
        systems = [
            _floor(base),
            services.enter_context(_engine(base, ONCE, "exactly-once", folder)),
            services.enter_context(_engine(base, LEAST, "at-least-once", folder)),
            services.enter_context(_streams(base, folder)),
        ]
        found = asyncio.run(_measure([one for one in systems if one is not None], seconds, rounds))
    lines = [distribution_line(one.system, one.n, one.ms) for one in found]
    return Found({"rate": RATE, "systems": [asdict(one) for one in found]}, lines, goals(found), NOTES)


def goals(found: Sequence[Committed]) -> list[Goal]:
    """Limits of their own, and Kafka Streams in the same minutes."""
    known = {one.system: one.ms for one in found}
    wanted = []
    for system, limits in GOALS.items():
        for part, limit in zip(("p50", "p99"), limits, strict=True) if system in known else ():
            wanted.append(Goal(f"event to committed output, {system}, {part}", known[system][part], limit, "ms"))
    if STREAMS in known and ONCE in known:
        for part in ("p50", "p99"):
            what = f"the same, {ONCE}, below Kafka Streams, {part}"
            wanted.append(Goal(what, known[ONCE][part], known[STREAMS][part], "ms"))
    return wanted


def _floor(base: Settings) -> System:
    settings = base.model_copy(update={"prefix": "floor-", "partitions": PARTITIONS})
    asyncio.run(kafka.ensure_topics(settings, {INTERACTIONS.name: INTERACTIONS.config}))
    return System(FLOOR, settings, INTERACTIONS.name)


@contextmanager
def _engine(base: Settings, name: str, guarantee: str, folder: Path) -> Iterator[System | None]:
    """The engine with the small processor; None where it does not run with this guarantee."""
    processor = TallyProcessor("latency")
    settings = base.model_copy(update={"prefix": f"{guarantee}-", "partitions": PARTITIONS})
    asyncio.run(publish_first(settings, read_policy(settings.policy), names.topics_of(processor)))
    service = Service(settings, (guarantee, "latency"), folder, name=guarantee, module=ours.__name__)
    try:
        is_so = service.guarantee == guarantee.replace("-", " ")
        if not is_so:
            print(f"  {name}: left out, for the engine says of itself: {service.guarantee or 'nothing'}", flush=True)
        yield System(name, settings, processor.output.name) if is_so else None
    finally:
        service.stop()


@contextmanager
def _streams(base: Settings, folder: Path) -> Iterator[System | None]:
    """The peer on Kafka Streams; None where it cannot be built."""
    try:
        command = streams.command()
    except Unavailable as reason:
        print(f"  {STREAMS}: left out. {reason}", flush=True)
        yield None
        return
    settings = base.model_copy(update={"prefix": "streams-", "partitions": PARTITIONS})
    asyncio.run(kafka.ensure_topics(settings, {INTERACTIONS.name: INTERACTIONS.config, OUTPUT: INTERACTIONS.config}))
    places = (settings.topic("latency"), settings.topic(INTERACTIONS), settings.topic(OUTPUT))
    how = (STREAMS_GUARANTEE, str(STREAMS_COMMIT_MS), str(folder / "streams-state"))
    child = Child("streams", (*command, base.kafka, *places, *how), folder)
    try:
        yield System(STREAMS, settings, OUTPUT)
    finally:
        child.stop()


async def _measure(systems: Sequence[System], seconds: float, rounds: int) -> list[Committed]:
    found: dict[str, list[list[str]]] = {one.name: [] for one in systems}
    loops = list[tuple[System, Send, Waiting]]()
    async with AsyncExitStack() as opened:
        for one in systems:
            waiting = Waiting()
            await opened.enter_async_context(open_loop.heard(one.settings, one.output, _named, waiting))
            send = await opened.enter_async_context(open_loop.sender(one.settings, INTERACTIONS.name, _event))
            loops.append((one, send, waiting))
        for _, send, waiting in loops:
            await open_loop.run("warm", RATE, WARM_SECONDS, send, waiting)
        for number in range(rounds):
            for one, send, waiting in loops:
                found[one.name].append(await open_loop.run(f"round{number}", RATE, seconds, send, waiting))
    return [_told(one.name, waiting, found[one.name]) for one, _, waiting in loops]


def _told(name: str, waiting: Waiting, rounds: Sequence[Sequence[str]]) -> Committed:
    sent = [event for one in rounds for event in one]
    return Committed(
        name,
        len(sent),
        milliseconds(waiting.seconds(sent)),
        milliseconds(waiting.until_acknowledged(sent)),
        tuple(milliseconds(waiting.seconds(one)) for one in rounds),
    )


def _event(name: str, number: int) -> tuple[str, bytes]:
    """A ticket as the small work has them; its name is the id, which every system puts into its output."""
    account = f"acct-{number % ACCOUNTS:07d}"
    event = {
        "specversion": "1.0",
        "id": name,
        "source": "helpdesk",
        "type": TYPE,
        "subject": account,
        "time": moment(clock.now()).isoformat(),
        "partitionkey": account,
        "data": {"ticket": f"T-{number:08d}", "severity": 1 + number % 4},
    }
    return account, json.dumps(event, separators=(",", ":")).encode()


def _named(value: bytes) -> str | None:
    found = _ID.search(value)
    return None if found is None else found[1].decode()
