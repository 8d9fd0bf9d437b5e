"""Latency: from a scheduled POST to the account view, open loop, beside a raw produce and consume."""

import asyncio
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from urllib.request import urlopen

import aiohttp
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from pydantic import SecretStr
from redis.asyncio import Redis

from bench import report
from bench.systems import ROOT, Stuck
from bench.throughput import JVM
from schemas import codec
from schemas.envelope import Event
from schemas.identity import IdentityMapped, Mapping
from schemas.ownership import HandoffOpened, Opening
from schemas.sources import Registration, SourceRegistered
from schemas.topics import BUILT, IDENTITY, SOURCES
from services.core.instants import moment
from services.runtime import clock, kafka
from services.runtime.embedded.apache import start_kafka
from services.runtime.embedded.ports import HOST, pick_port
from services.runtime.embedded.process import Child
from services.runtime.embedded.redis import start_redis
from services.runtime.settings import Settings

RATES = (50, 500)  # events a second
SECONDS = 20
WARM_SECONDS = 5
ACCOUNTS = 1_000
PARTITIONS = 4
CONNECTIONS = 64
POLL_SECONDS = 0.002
PATIENCE = 60.0
SOURCE = "crm"
FLOOR, OURS = "raw aiokafka", "POST to account view"
SERVICES = (("clock",), ("ingest", "serve"), ("identity",), ("handoff",), ("view", "serve"))

NOTES = (
    "Open loop: every latency counts from the moment at which the request was due to be sent.",
    """POST to account view: one CloudEvent (handoff.opened) through ingest, Kafka, the handoff processor, Kafka and the
    view into Redis, until a reader of Redis finds the handoff under its account; polled every 2 ms.""",
    "raw aiokafka: one record of the same bytes, acks=all, linger 0, until a consumer of committed records has it.",
    "Both share the machine with the broker and the load generator.",
)


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds from the scheduled sending to the effect, of everything that was sent."""

    system: str
    rate: int
    seconds: tuple[float, ...]

    @property
    def milliseconds(self) -> dict[str, float]:
        cuts = quantiles(self.seconds, n=1000, method="inclusive")
        found = {"p50": cuts[499], "p95": cuts[949], "p99": cuts[989], "max": max(self.seconds)}
        return {name: round(value * 1000, 1) for name, value in found.items()}


def run(seconds: int, command: str, kept: Path | None) -> None:
    """Measure and print; the same as JSON into `kept`. Raises Stuck when something never became readable."""
    machine = report.facts(command)
    with ExitStack() as running:
        folder = Path(running.enter_context(TemporaryDirectory(prefix="steward-bench-")))
        broker = running.enter_context(start_kafka(folder / "kafka", flags=JVM))
        redis = running.enter_context(start_redis(folder / "redis"))
        settings = _settings(broker.bootstrap, redis.url)
        asyncio.run(_prepare(settings))
        for words in SERVICES:
            child = _service(settings, words, folder)
            running.callback(child.stop)
        measured = asyncio.run(_measure(settings, seconds))
    notes = [" ".join(note.split()) for note in NOTES]
    told = {
        "machine": machine,
        "work": {"accounts": ACCOUNTS, "partitions": PARTITIONS, "seconds": seconds, "rates": list(RATES)},
        "results": [
            {"system": one.system, "rate": one.rate, "n": len(one.seconds), "ms": one.milliseconds} for one in measured
        ],
        "notes": notes,
    }
    print(report.block("machine", machine), "", *map(_line, measured), "", *(f"- {note}" for note in notes), sep="\n")
    if kept:
        kept.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _line(found: Latencies) -> str:
    figures = "   ".join(f"{name} {value:>7.1f} ms" for name, value in found.milliseconds.items())
    return f"{found.system:<22} {found.rate:>4}/s   {figures}   n = {len(found.seconds):,}"


def _settings(bootstrap: str, redis: str) -> Settings:
    return Settings(
        kafka=bootstrap,
        redis=redis,
        partitions=PARTITIONS,
        policy=ROOT / "deploy/policy/steward.yaml",
        mappings=ROOT / "deploy/mapping",
        ingest_port=pick_port(),
        source_secrets={SOURCE: (SecretStr(secrets.token_urlsafe(24)),)},
    )


def _service(settings: Settings, words: Sequence[str], folder: Path) -> Child:
    port = pick_port()
    mine = settings.model_copy(update={"http_port": port})
    environment = {**mine.environment(), "PYTHONPATH": str(ROOT)}
    child = Child("-".join(words), (sys.executable, "-m", "services", *words), folder, environment=environment)
    deadline = time.monotonic() + PATIENCE
    while not _is_ready(port):
        if child.exit_code() is not None or time.monotonic() > deadline:
            raise Stuck(f"{child.name} did not become ready.{child.last_words()}")
        time.sleep(0.1)
    return child


def _is_ready(port: int) -> bool:
    try:
        with urlopen(f"http://{HOST}:{port}/ready", timeout=2) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False


async def _prepare(settings: Settings) -> None:
    """Topics, the source, and a mapped home for every account."""
    await kafka.ensure_topics(settings, {topic.name: topic.config for topic in BUILT})
    now = moment(clock.now())
    registered = SourceRegistered(
        id="1", source=SOURCE, subject=SOURCE, partitionkey=SOURCE, time=now, data=Registration(source=SOURCE)
    )
    async with kafka.Publisher(settings) as publisher:
        await publisher.send(SOURCES, SOURCE, codec.encode(registered))
        mapped = [_mapped(number) for number in range(ACCOUNTS)]
        queued = [await publisher.put(IDENTITY, event.partitionkey, codec.encode(event)) for event in mapped]
        await asyncio.gather(*queued)


def _home(number: int) -> str:
    return f"{SOURCE}:company:{number % ACCOUNTS}"


def _account(number: int) -> str:
    return f"acct-{number % ACCOUNTS:06d}"


def _mapped(number: int) -> Event:
    home, account = _home(number), _account(number)
    return IdentityMapped(
        id=f"map-{number}",
        source=SOURCE,
        subject=home,
        partitionkey=home,
        time=moment(clock.now()),
        data=Mapping(home=home, account=account),
    )


def _opened(name: str, number: int) -> bytes:
    home = _home(number)
    return codec.encode(
        HandoffOpened(
            id=f"{name}:opened",
            source=SOURCE,
            subject=home,
            partitionkey=home,
            time=moment(clock.now()),
            data=Opening(handoff=name, kind="sale_to_onboarding", owner="ada", sender="bob"),
        )
    )


Send = Callable[[str, int], Coroutine[None, None, None]]


async def _measure(settings: Settings, seconds: int) -> list[Latencies]:
    measured = []
    async with _view(settings) as (send, seen):
        await _open_loop("warm", RATES[-1], WARM_SECONDS, send, seen)
        for rate in RATES:
            measured.append(Latencies(OURS, rate, await _open_loop(f"view{rate}", rate, seconds, send, seen)))
            async with _floor(settings) as (raw, heard):
                measured.append(Latencies(FLOOR, rate, await _open_loop(f"raw{rate}", rate, seconds, raw, heard)))
    return measured


async def _open_loop(
    label: str, rate: int, seconds: int, send: Send, seen: dict[str, asyncio.Future[float]]
) -> tuple[float, ...]:
    """Send at a fixed rate whatever becomes of it; the time each took from its scheduled moment."""
    loop = asyncio.get_running_loop()
    begun = time.perf_counter() + 0.1
    tasks = list[asyncio.Task[None]]()
    scheduled = dict[str, float]()
    for number in range(rate * seconds):
        name, at = f"{label}-{number}", begun + number / rate
        scheduled[name], seen[name] = at, loop.create_future()
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        tasks.append(asyncio.create_task(send(name, number)))
    await asyncio.gather(*tasks)
    try:
        async with asyncio.timeout(PATIENCE):
            return tuple([await seen[name] - at for name, at in scheduled.items()])
    except TimeoutError:
        raise Stuck(
            f"{sum(not one.done() for one in seen.values())} of {len(scheduled)} never became readable"
        ) from None


@asynccontextmanager
async def _view(settings: Settings) -> AsyncIterator[tuple[Send, dict[str, asyncio.Future[float]]]]:
    """What posts to ingest, and the futures that a reader of the view resolves."""
    url = f"http://{HOST}:{settings.ingest_port}/v1/events"
    secret = settings.source_secrets[SOURCE][0].get_secret_value()
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/cloudevents+json"}
    seen: dict[str, asyncio.Future[float]] = {}
    posted: dict[str, int] = {}
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def send(name: str, number: int) -> None:
            async with session.post(url, data=_opened(name, number)) as answer:
                if answer.status != 202:
                    raise Stuck(f"ingest answered {answer.status}: {await answer.text()}")
            posted[name] = number

        redis = Redis.from_url(settings.redis)
        reading = asyncio.create_task(_read(redis, settings, posted, seen))
        try:
            yield send, seen
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await redis.aclose()


async def _read(
    redis: Redis, settings: Settings, posted: dict[str, int], seen: dict[str, asyncio.Future[float]]
) -> None:
    generation = int(await redis.get(f"{settings.prefix}st:current") or 1)
    while True:
        names = list(posted)
        async with redis.pipeline(transaction=False) as asked:
            for name in names:
                key = f"{settings.prefix}st:{generation}:acct:{_account(posted[name])}"
                asked.hexists(key, f"handoff:{name}")
            found = await asked.execute()
        now = time.perf_counter()
        for name, there in zip(names, found, strict=True):
            if there:
                del posted[name]
                seen[name].set_result(now)
        await asyncio.sleep(POLL_SECONDS)


@asynccontextmanager
async def _floor(settings: Settings) -> AsyncIterator[tuple[Send, dict[str, asyncio.Future[float]]]]:
    """One producer and one consumer, nothing between them."""
    topic = settings.topic("bench.floor")
    await kafka.ensure_topics(settings, {"bench.floor": {}})
    seen: dict[str, asyncio.Future[float]] = {}
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all", enable_idempotence=True)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka, isolation_level="read_committed", fetch_max_wait_ms=50
    )
    await producer.start()
    await consumer.start()
    consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
    await consumer.seek_to_end()

    async def send(name: str, number: int) -> None:
        await producer.send_and_wait(topic, _opened(name, number), _account(number).encode())

    async def receive() -> None:
        async for record in consumer:
            name = json.loads(record.value)["data"]["handoff"]
            if name in seen:
                seen[name].set_result(time.perf_counter())

    receiving = asyncio.create_task(receive())
    try:
        yield send, seen
    finally:
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
        await consumer.stop()
        await producer.stop()
