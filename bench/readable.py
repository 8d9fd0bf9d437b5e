"""Ingest to score: from a POST over HTTP, acknowledged by Kafka, to the account's score in the view that people ask."""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from itertools import count, islice
from pathlib import Path

import aiohttp
from pydantic import SecretStr
from redis.asyncio import Redis

from bench import open_loop
from bench.goals import Distribution, Found, Goal, distribution_line, milliseconds
from bench.load import half_load
from bench.open_loop import Send, Waiting
from bench.running import Service, used
from bench.systems import ROOT, Stuck
from schemas import codec
from schemas.envelope import Event
from schemas.identity import IdentityMapped
from schemas.identity import Mapping as Mapped
from schemas.interactions import Interaction, InteractionLogged
from schemas.sources import Registration, SourceRegistered
from schemas.topics import BUILT, IDENTITY, SOURCES
from services.core.instants import moment
from services.runtime import clock, kafka
from services.runtime.embedded.ports import HOST, pick_port
from services.runtime.embedded.redis import start_redis
from services.runtime.embedded.server import Server
from services.runtime.settings import Settings

PARTITIONS = 4
CONNECTIONS = 64
SOURCE = "crm"
SERVICES = (("clock",), ("ingest", "serve"), ("identity",), ("health",), ("view", "serve"))
PROBE_RATE, PROBE_SECONDS, IDLE_SECONDS = 100, 5.0, 3.0
MOST = 500  # events a second; more than one load generator beside everything else can be trusted with
LOOK_SECONDS = 0.004
LOOKED = 64  # names asked for at once: the oldest that are waited for
P99_MS = 300.0

NOTES = (
    """Ingest to score: one CloudEvent (interaction.logged) a POST, each of an account of its own, through ingest,
    Kafka, the health processor, Kafka and the view into Redis, until a reader of Redis finds the account's score;
    polled every 4 ms. `acknowledged`: from the answer 202, after Kafka's acknowledgement; `scheduled`: from the
    moment at which the request was due to be sent.""",
    f"""Half load: the rate at which the busiest process uses half a core, or all of them half of the machine, broker,
    Redis and load generator included, reckoned from what they use idle and at {PROBE_RATE} events a second.""",
)


@dataclass(frozen=True, slots=True)
class Readable:
    rate: float
    n: int
    from_acknowledged_ms: Distribution
    from_scheduled_ms: Distribution
    cpu_idle: Mapping[str, float]
    cpu_at_probe: Mapping[str, float]

    @property
    def goals(self) -> list[Goal]:
        what = f"acknowledged at ingest to score readable, {self.rate:.0f} events/s, p99"
        return [Goal(what, self.from_acknowledged_ms["p99"], P99_MS, "ms")]


@dataclass(slots=True)
class _Posting:
    """What was posted and when it was acknowledged; each event takes the next account."""

    url: str
    waiting: Waiting = field(default_factory=Waiting)
    accounts: dict[str, int] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=count)


def measure(base: Settings, broker: Server, seconds: float, folder: Path) -> Found:
    """Find half of the load, then measure under it. Raises Stuck."""
    accounts = round(MOST * seconds + 2 * PROBE_RATE * PROBE_SECONDS)
    with ExitStack() as running:
        redis = running.enter_context(start_redis(folder / "redis"))
        settings = base.model_copy(
            update={
                "redis": redis.url,
                "prefix": "score-",
                "partitions": PARTITIONS,
                "mappings": ROOT / "deploy/mapping",
                "ingest_port": pick_port(),
                "source_secrets": {SOURCE: (SecretStr(secrets.token_urlsafe(24)),)},
            }
        )
        asyncio.run(_prepare(settings, accounts))
        pids = {"broker": broker.child.pid, "redis": redis.child.pid, "load generator": os.getpid()}
        for words in SERVICES:
            one = Service(settings, words, folder, name=f"score-{words[0]}")
            running.callback(one.stop)
            pids[words[0]] = one.child.pid
        found = asyncio.run(_measure(settings, seconds, pids))
    lines = [
        distribution_line(f"acknowledged to score readable, {found.rate:.0f}/s", found.n, found.from_acknowledged_ms),
        distribution_line(f"scheduled to score readable, {found.rate:.0f}/s", found.n, found.from_scheduled_ms),
    ]
    return Found(asdict(found), lines, found.goals, NOTES)


async def _measure(settings: Settings, seconds: float, pids: Mapping[str, int]) -> Readable:
    async with _posting(settings) as (send, posting):
        await open_loop.run("warm", PROBE_RATE, PROBE_SECONDS, send, posting.waiting)
        idle = await used(pids, asyncio.sleep(IDLE_SECONDS))
        busy = await used(pids, open_loop.run("probe", PROBE_RATE, PROBE_SECONDS, send, posting.waiting))
        rate = min(MOST, half_load(idle, busy, PROBE_RATE, os.cpu_count() or 1))
        sent = await open_loop.sending("score", rate, seconds, send, posting.waiting)
        await open_loop.settled(sent, posting.waiting)
    seen, acknowledged = posting.waiting.seen, posting.waiting.acknowledged
    return Readable(
        round(rate, 1),
        len(sent),
        milliseconds([max(0.0, seen[name] - acknowledged[name]) for name in sent]),
        milliseconds(posting.waiting.seconds(sent)),
        {name: round(used, 3) for name, used in idle.items()},
        {name: round(used, 3) for name, used in busy.items()},
    )


@asynccontextmanager
async def _posting(settings: Settings) -> AsyncIterator[tuple[Send, _Posting]]:
    """What posts to ingest, while a reader of the view notes which scores are there."""
    posting = _Posting(f"http://{HOST}:{settings.ingest_port}/v1/events")
    secret = settings.source_secrets[SOURCE][0].get_secret_value()
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/cloudevents+json"}
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def send(name: str, _number: int) -> None:
            number = next(posting.numbers)
            async with session.post(posting.url, data=_logged(name, number)) as answer:
                if answer.status != HTTPStatus.ACCEPTED:
                    raise Stuck(f"ingest answered {answer.status}: {await answer.text()}")
            posting.accounts[name] = number

        redis = Redis.from_url(settings.redis)
        try:
            async with open_loop.running(_look(redis, settings, posting)):
                yield send, posting
        finally:
            await redis.aclose()


async def _look(redis: Redis, settings: Settings, posting: _Posting) -> None:
    generation = int(await redis.get(f"{settings.prefix}st:current") or 1)
    while True:
        names = list(islice(posting.accounts, LOOKED))
        async with redis.pipeline(transaction=False) as asked:
            for name in names:
                asked.hexists(f"{settings.prefix}st:{generation}:acct:{_account(posting.accounts[name])}", "health")
            found = await asked.execute()
        now = time.perf_counter()
        for name, there in zip(names, found, strict=True):
            if there:
                del posting.accounts[name]
                posting.waiting.saw(name, now)
        await asyncio.sleep(LOOK_SECONDS)


# ---------------------------------------------------------------- what is sent


async def _prepare(settings: Settings, accounts: int) -> None:
    """Topics, the source, and a mapped home for every account."""
    await kafka.ensure_topics(settings, {topic.name: topic.config for topic in BUILT})
    registered = SourceRegistered(
        id="1",
        source=SOURCE,
        subject=SOURCE,
        partitionkey=SOURCE,
        time=moment(clock.now()),
        data=Registration(source=SOURCE),
    )
    async with kafka.Publisher(settings) as publisher:
        await publisher.send(SOURCES, SOURCE, codec.encode(registered))
        mapped = [_mapped(number) for number in range(accounts)]
        queued = [await publisher.put(IDENTITY, event.partitionkey, codec.encode(event)) for event in mapped]
        await asyncio.gather(*queued)


def _home(number: int) -> str:
    return f"{SOURCE}:company:{number}"


def _account(number: int) -> str:
    return f"acct-{number:06d}"


def _mapped(number: int) -> Event:
    home = _home(number)
    return IdentityMapped(
        id=f"map-{number}",
        source=SOURCE,
        subject=home,
        partitionkey=home,
        time=moment(clock.now()),
        data=Mapped(home=home, account=_account(number)),
    )


def _logged(name: str, number: int) -> bytes:
    home = _home(number)
    return codec.encode(
        InteractionLogged(
            id=name,
            source=SOURCE,
            subject=home,
            partitionkey=home,
            time=moment(clock.now()),
            data=Interaction(channel="call", direction="mutual", contact=f"{SOURCE}:contact:{number}"),
        )
    )
