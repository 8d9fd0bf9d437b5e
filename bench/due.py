"""Due times: from due plus grace to the breach on the topic, with many timers armed, one by one and all at once."""

import asyncio
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench import open_loop, states
from bench.goals import Distribution, Found, Goal, distribution_line, milliseconds
from bench.open_loop import Waiting
from bench.opened import BREACHED, CHANGED, naming, opened
from bench.running import Service
from bench.systems import Stuck
from schemas.topics import HANDOFFS, OWNERSHIP
from services.core.instants import SECOND, Instant, moment
from services.handoff.app import read_policy
from services.handoff.processor import HandoffProcessor
from services.runtime import clock
from services.runtime.engine import names
from services.runtime.first_policy import publish_first
from services.runtime.settings import Settings

TIMERS = 1_000_000
MASS = 100_000
PARTITIONS = 4
RATE = 50  # due times a second, one by one
FLOW = 200  # events a second that go on meanwhile
FLOW_ACCOUNTS = 20_000
AHEAD_SECONDS = 4.0
GRACE_SECONDS = 5
QUEUED = 2_000  # openings of the mass sent at once
MASS_LEAST, MASS_ALLOWED = 10.0, 40.0  # seconds for taking the mass in: in any case, and in proportion to its size
FLOW_BEFORE = 2.0  # seconds before the instant, from which on events flow
PATIENCE = 60.0
BEYOND_INTERVAL_MS = 200.0
MASS_SECONDS = 5.0
TARGET = timedelta(hours=24)
POLICY = """\
version: 1
owner: A bench
calendar: always
calendars:
  always: {zone: UTC, week: {mon-sun: [["00:00", "24:00"]]}}
handoffs:
  bench: {legs: {accept: {hours: 24}}}
  ticket: {legs: {accept: {hours: 720}}}
"""

NOTES = (
    f"""Due to readable: one process of `steward handoff` with all timers armed (restored from a changelog) and the
    shipped clock writer; grace {GRACE_SECONDS} s. Handoffs are opened as of a time that lies {TARGET} before
    their due time, which comes {AHEAD_SECONDS:.0f} s later, {RATE} a second, while {FLOW} other events a second
    flow. From due + grace to the moment at which a reader of committed records has the breach.""",
    """Mass: so many handoffs due at one instant; until the last of the breaches can be read. `events`: latency of the
    events that were sent between due + grace and that moment, from their scheduled sending to their output.""",
)


@dataclass(frozen=True, slots=True)
class Due:
    timers: int
    n: int
    clock_interval_ms: int
    ms: Distribution
    flow_n: int
    flow_ms: Distribution

    @property
    def goals(self) -> list[Goal]:
        limit = self.clock_interval_ms + BEYOND_INTERVAL_MS
        return [Goal(f"due + grace to breach readable, {self.timers:,} timers, p99", self.ms["p99"], limit, "ms")]


@dataclass(frozen=True, slots=True)
class Mass:
    due: int
    seconds_to_first: float
    seconds_to_half: float
    seconds_to_last: float
    flow_n: int
    flow_ms: Distribution

    @property
    def line(self) -> str:
        return (
            f"  {self.due:,} due at one instant: the first after {self.seconds_to_first:.2f} s, half after "
            f"{self.seconds_to_half:.2f} s, all after {self.seconds_to_last:.2f} s"
        )

    @property
    def goals(self) -> list[Goal]:
        return [Goal(f"{self.due:,} due at one instant: all on the topic", self.seconds_to_last, MASS_SECONDS, "s")]


def placed(path: Path, text: str) -> Path:
    """The file, written."""
    path.write_text(text, encoding="utf-8")
    return path


def measure(base: Settings, timers: int, mass: int, seconds: float, folder: Path) -> Found:
    """One by one for some seconds, then all at once. Raises Stuck."""
    policy = placed(folder / "due.yaml", POLICY)
    settings = base.model_copy(
        update={"prefix": "due-", "partitions": PARTITIONS, "policy": policy, "grace_seconds": GRACE_SECONDS}
    )
    asyncio.run(publish_first(settings, read_policy(policy), names.topics_of(HandoffProcessor())))
    made = states.made("handoff", datetime.now(UTC), policy=policy)
    asyncio.run(states.write(settings, "handoff", states.copies(made, timers)))
    with ExitStack() as services:
        services.callback(Service(settings, ("clock",), folder, name="due-clock").stop)
        handoff = Service(settings, ("handoff",), folder, name="due-handoff")
        services.callback(handoff.stop)
        due, at_once = asyncio.run(_measure(settings, handoff, timers, mass, seconds))
    lines = [
        distribution_line(f"due + grace to readable, {due.timers:,} timers", due.n, due.ms),
        distribution_line("events meanwhile", due.flow_n, due.flow_ms),
        at_once.line,
        distribution_line("events meanwhile", at_once.flow_n, at_once.flow_ms),
    ]
    told = {"one_by_one": asdict(due), "at_once": asdict(at_once)}
    return Found(told, lines, [*due.goals, *at_once.goals], NOTES)


async def _measure(settings: Settings, handoff: Service, timers: int, mass: int, seconds: float) -> tuple[Due, Mass]:
    await _calm(handoff, timers)
    breached, flowing = Waiting(), Waiting()

    def event(name: str, _number: int) -> tuple[str, bytes]:
        due = clock.now() + round(AHEAD_SECONDS * SECOND)
        breached.scheduled[name] = _seconds_until(due) + time.perf_counter()
        return f"acct-{name}", opened(name, f"acct-{name}", kind="bench", at=moment(due) - TARGET)

    sender = open_loop.sender(settings, OWNERSHIP.name, event)
    flow = open_loop.sender(settings, OWNERSHIP.name, _flowing)
    hearing = open_loop.heard(settings, HANDOFFS.name, naming(BREACHED), breached)
    following = open_loop.heard(settings, HANDOFFS.name, naming(CHANGED), flowing)
    async with sender as send, flow as go_on, hearing, following:
        await open_loop.run("warm", FLOW, 3, go_on, flowing)
        meanwhile = asyncio.create_task(open_loop.run("flow", FLOW, seconds, go_on, flowing))
        sent = await open_loop.sending("due", RATE, seconds, send, Waiting())
        await open_loop.settled(sent, breached)
        flowed = flowing.seconds(await meanwhile)
        due = Due(
            round(handoff.metric("steward_timers_armed")),
            len(sent),
            settings.clock_interval_ms,
            milliseconds(breached.seconds(sent)),
            len(flowed),
            milliseconds(flowed),
        )
        return due, await _at_once(settings, handoff, mass, go_on, breached, flowing)


async def _at_once(
    settings: Settings, handoff: Service, mass: int, go_on: open_loop.Send, breached: Waiting, flowing: Waiting
) -> Mass:
    allowed = MASS_LEAST + MASS_ALLOWED * mass / MASS
    due, armed = clock.now() + round(allowed * SECOND), handoff.metric("steward_timers_armed")
    at = _seconds_until(due) + time.perf_counter()
    sent = [f"mass-{number:07d}" for number in range(mass)]

    def event(name: str, _number: int) -> tuple[str, bytes]:
        return f"acct-{name}", opened(name, f"acct-{name}", kind="bench", at=moment(due) - TARGET)

    async with open_loop.sender(settings, OWNERSHIP.name, event) as send:
        for begin in range(0, mass, QUEUED):
            await asyncio.gather(*(send(name, 0) for name in sent[begin : begin + QUEUED]))
    while handoff.metric("steward_timers_armed") < armed + mass:
        if time.perf_counter() > at - FLOW_BEFORE:
            raise Stuck(f"{mass} openings were not taken in within the {allowed:.0f} s until they were due.")
        await asyncio.sleep(0.5)
    await asyncio.sleep(max(0.0, at - FLOW_BEFORE - time.perf_counter()))
    flow = open_loop.sending("meanwhile", FLOW, FLOW_BEFORE + 2 * MASS_SECONDS, go_on, flowing)
    meanwhile = asyncio.create_task(flow)
    await open_loop.settled(sent, breached)
    events = await meanwhile
    await open_loop.settled(events, flowing)
    came = sorted(breached.seen[name] for name in sent)
    during = [name for name in events if at <= flowing.scheduled[name] <= came[-1]]
    return Mass(
        mass,
        round(came[0] - at, 3),
        round(came[len(came) // 2] - at, 3),
        round(came[-1] - at, 3),
        len(during),
        milliseconds(flowing.seconds(during or events)),
    )


async def _calm(handoff: Service, timers: int) -> None:
    """Wait until the timers are armed and what follows a restore is over: the process uses little CPU."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        before = handoff.cpu
        await asyncio.sleep(2.0)
        if handoff.cpu - before < 0.6 and handoff.metric("steward_timers_armed") >= timers:
            return
    raise Stuck(f"the process with {timers} timers did not come to rest within {PATIENCE:.0f} s.")


def _seconds_until(due: Instant) -> float:
    """Until silence about it may be believed: due + grace."""
    return (due - clock.now()) / SECOND + GRACE_SECONDS


def _flowing(name: str, number: int) -> tuple[str, bytes]:
    account = f"flow-{number % FLOW_ACCOUNTS:06d}"
    return account, opened(name, account, kind="ticket")
