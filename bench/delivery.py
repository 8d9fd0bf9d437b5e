"""Delivery: from a breach that can be read to the alert at an endpoint that answers at once."""

import asyncio
import json
import secrets
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from aiohttp import web

from bench import open_loop
from bench.due import POLICY, TARGET, placed
from bench.goals import Distribution, Found, Goal, distribution_line, milliseconds
from bench.open_loop import Waiting
from bench.opened import BREACHED, naming, opened
from bench.running import Service, used
from schemas.topics import HANDOFFS, OWNERSHIP
from services.core.instants import SECOND, moment
from services.handoff.app import read_policy
from services.handoff.processor import HandoffProcessor
from services.runtime import clock
from services.runtime.embedded.ports import HOST, pick_port
from services.runtime.engine import names
from services.runtime.first_policy import publish_first
from services.runtime.settings import Settings

RATE = 20  # breaches a second, each of an account and a person of its own
PARTITIONS = 4
AHEAD_SECONDS = 4.0  # between an opening and its breach: the alert that it is at risk is delivered in that time
P99_MS = 500.0
SERVICES = (("clock",), ("handoff",), ("alerting-case",), ("alerting-desk",))

NOTES = (
    f"""Breach to delivered: {RATE} breaches a second, each of an account and a person of its own, through the shipped
    processes (clock, handoff, alerting-case, alerting-desk). From the moment at which a reader of committed records
    has the breach on cs.handoffs to the arrival of the POST at an endpoint that answers at once; the commits of the
    case and of the desk lie between.""",
)


@dataclass(frozen=True, slots=True)
class Delivered:
    n: int
    rate: int
    ms: Distribution
    from_due_ms: Distribution
    cpu: Mapping[str, float]  # seconds a second, of each process

    @property
    def goals(self) -> list[Goal]:
        return [Goal("breach readable to delivered, p99", self.ms["p99"], P99_MS, "ms")]


def measure(base: Settings, seconds: float, folder: Path) -> Found:
    """Deliver for some seconds. Raises Stuck when an alert never arrives."""
    policy, port = placed(folder / "delivery.yaml", POLICY), pick_port()
    settings = Settings.model_validate(
        {
            **base.model_dump(),
            "prefix": "delivery-",
            "partitions": PARTITIONS,
            "policy": policy,
            "grace_seconds": 0,
            "alert_url": f"http://{HOST}:{port}/alerts",
            "alert_secrets": (f"whsec_{b64encode(secrets.token_bytes(24)).decode()}",),
            "alert_allow_private": True,
        }
    )
    asyncio.run(publish_first(settings, read_policy(policy), names.topics_of(HandoffProcessor())))
    with ExitStack() as services:
        pids = dict[str, int]()
        for words in SERVICES:
            one = Service(settings, words, folder, name=f"delivery-{words[0]}")
            services.callback(one.stop)
            pids[words[0]] = one.child.pid
        found = asyncio.run(_measure(settings, seconds, port, pids))
    lines = [
        distribution_line("breach readable to delivered", found.n, found.ms),
        distribution_line("due to delivered", found.n, found.from_due_ms),
    ]
    return Found(asdict(found), lines, found.goals, NOTES)


async def _measure(settings: Settings, seconds: float, port: int, pids: Mapping[str, int]) -> Delivered:
    breached, told, dues = Waiting(), Waiting(), dict[str, float]()

    def event(name: str, _number: int) -> tuple[str, bytes]:
        due = clock.now() + round(AHEAD_SECONDS * SECOND)
        dues[name] = time.perf_counter() + AHEAD_SECONDS
        account = f"acct-{name}"
        return account, opened(name, account, kind="bench", owner=f"p-{name}", at=moment(due) - TARGET)

    sender = open_loop.sender(settings, OWNERSHIP.name, event)
    hearing = open_loop.heard(settings, HANDOFFS.name, naming(BREACHED), breached)
    async with _sink(port, told), sender as send, hearing:
        warm = await open_loop.sending("warm", RATE, 3, send, Waiting())
        await open_loop.settled(warm, told)
        sent = list[str]()

        async def load() -> None:
            sent.extend(await open_loop.sending("told", RATE, seconds, send, Waiting()))
            await open_loop.settled(sent, told)

        cpu = await used(pids, load())
        await open_loop.settled(sent, breached)
    return Delivered(
        len(sent),
        RATE,
        milliseconds([max(0.0, told.seen[name] - breached.seen[name]) for name in sent]),
        milliseconds([told.seen[name] - dues[name] for name in sent]),
        cpu,
    )


@asynccontextmanager
async def _sink(port: int, told: Waiting) -> AsyncIterator[None]:
    """An endpoint that answers at once and notes when it first heard of each handoff's breach."""

    async def take(request: web.Request) -> web.Response:
        now = time.perf_counter()
        said = json.loads(await request.read())["data"]
        alerts = said.get("alerts", [said])
        for alert in alerts:
            if alert["stage"] == "breached":
                told.saw(alert["handoff"], now)
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/alerts", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
        yield
    finally:
        await runner.cleanup()
