"""The health step as it is: one partition of the engine fed from memory, at few and at many accounts, without a broker.

Every account has half a year of history. The facts of one hour are spread evenly over all accounts, so that at 100,000
accounts hardly two facts of a fetch concern the same one.
"""

import cProfile
import gc
import io
import json
import pstats
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import ParamSpec, TypeVar
from unittest import mock

from bench import goals, report
from bench.goals import Goal
from bench.profiling import Arriving
from bench.systems import ROOT, calibrate
from schemas import codec, interactions, renewals
from schemas.clock import ClockAdvanced, Mark
from schemas.envelope import Event
from schemas.topics import CLOCK, INTERACTIONS, RENEWALS, Topic
from services.core.instants import instant
from services.core.policy import Policies
from services.core.processor import Context, Fact
from services.core.states import States
from services.health import decide, facts, message
from services.health.app import count, read_policy
from services.health.model import Account
from services.health.processor import HealthProcessor
from services.health.score import Judge
from services.runtime.engine import partition
from services.runtime.engine.counted import Counted
from services.runtime.engine.partition import Meta, Partition
from services.runtime.engine.tables import Tables
from services.runtime.engine.worker import COLLECT_AFTER
from services.runtime.first_policy import first_version
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

SEED = 20261122
NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
HISTORY_DAYS = 180
HISTORY_FACTS = 24  # per account, on average
HISTORIES = 5_000  # made; further accounts get the same ones under their own names
FETCH = 500
CUT_EVERY = 2  # fetches
MARK_EVERY = 4
EVENTS = 40_000
SIZES = (1_000, 100_000)  # accounts
SAMPLES = 2
TAKEN_APART = 10_000  # further facts, once by parts and once under the profiler
SHOWN = 18
REACH = 30_000  # events a second

# What the step is made of. A part does not count what it asks of another.
PARTS: Sequence[tuple[str, object, str]] = (
    ("decode facts", partition, "admit"),
    ("take facts in", facts, "take"),
    ("judge", Judge, "__init__"),
    ("judge", Judge, "at"),
    ("look ahead", decide, "outlook"),
    ("bands, next look", decide, "advance"),
    ("bands, next look", decide, "settle"),
    ("say scores, changes", message, "scored"),
    ("say scores, changes", message, "changed"),
    ("say scores, changes", message, "closed"),
    ("encode outputs", partition, "encode"),
    ("encode states", States, "encode"),
)
REST = "engine and others"

NOTES = (
    """No broker: records come from memory, and what the step writes (changelog and outputs, encoded) is dropped. The
    step itself is the real one: a partition of the engine with the health processor and the shipped policy, fetches
    of 500 facts, a cut every second fetch, a mark every fourth.""",
    """One partition, one process, one core; the rate is the ceiling of one core, before any transport. CPU per event:
    decode, take in, judge, say, encode. CPU per look: the closing of the day, one for each account; it is not part
    of the CPU per event.""",
    """Parts: CPU of further facts on the same states, by timers around each part; the rest is what no timer covers.
    Together they are a little above the CPU per event, because timers cost something, too.""",
)


@dataclass(frozen=True, slots=True)
class Figures:
    """One run at one size. CPU in microseconds; bytes as they stand in the changelog, mean per account."""

    accounts: int
    events: int
    calibration_us: float
    events_per_second: float
    cpu_us_per_event: float
    cpu_us_per_look: float
    outputs_per_event: float
    state_bytes_per_account: float


Told = tuple[Topic, Event]


@dataclass(frozen=True, slots=True)
class Work:
    """What the runs at one size are given: states of the evening before, and the facts that come."""

    states: dict[bytes, bytes]
    live: Sequence[Arriving]


class Parts:
    """Stopwatches around functions; each shows its own time, without that of others running inside."""

    def __init__(self) -> None:
        self.seconds = defaultdict[str, float](float)
        self._inside = [0.0]

    def around(self, part: str, function: Callable[P, R]) -> Callable[P, R]:
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            self._inside.append(0.0)
            begun = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.process_time() - begun
                self.seconds[part] += took - self._inside.pop()
                self._inside[-1] += took

        return timed


def run(events: int, sizes: Sequence[int], samples: int, command: str, kept: Path | None) -> None:
    """Measure each size in turn and print; then the largest by parts and under the profiler. JSON into `kept`."""
    machine = report.facts(command)
    policies = _policies()
    extra = min(events, TAKEN_APART)
    work = {size: _work(size, events, events + 2 * extra, policies) for size in sizes}
    found = list[Figures]()
    for number in range(1, samples + 1):
        for size in sizes:
            feed, figures = _measured(work[size], events, policies)
            found.append(figures)
            print(f"  sample {number} of {samples}: {_line(figures)}", flush=True)
    # The last one goes on: nothing has to be built again, and its looks are behind it.
    parts, profile = _by_parts(feed, extra), _profiled(feed, extra)
    notes = [" ".join(note.split()) for note in NOTES]
    rate = _summary(found, sizes[-1])["events_per_second"]["median"]
    wanted = [Goal(f"facts on one core, {sizes[-1]:,} accounts", rate, REACH, "events/s", at_least=True)]
    told: dict[str, object] = {
        "what": "the health step in memory: one partition, no broker",
        "machine": machine,
        "work": {"events": events, "history_facts": HISTORY_FACTS, "history_days": HISTORY_DAYS},
        "summary": {str(size): _summary(found, size) for size in sizes},
        "samples": [asdict(one) for one in found],
        "parts_cpu_us_per_event": {"accounts": sizes[-1], **parts},
        "goals": goals.told(wanted),
        "profiles": {f"{sizes[-1]:,} accounts": profile.splitlines()},
        "notes": notes,
    }
    print(f"\n{told['what']}\n{report.block('machine', machine)}\n\n{_table(found, sizes)}")
    print(f"\nby parts, {sizes[-1]:,} accounts, CPU-µs per event", *_shares(parts), sep="\n")
    sys.stdout.write(f"\nunder the profiler, {sizes[-1]:,} accounts:\n{profile}")
    print(*(goal.line for goal in wanted), *(f"- {note}" for note in notes), sep="\n")
    if kept:
        kept.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# ---------------------------------------------------------------- what is told


def _line(one: Figures) -> str:
    return (
        f"{one.accounts:>7,} accounts   calibration {one.calibration_us:>7,.0f} µs   "
        f"{one.events_per_second:>7,.0f} events/s   {one.cpu_us_per_event:>6,.1f} CPU-µs/event   "
        f"{one.cpu_us_per_look:>6,.1f} CPU-µs/look"
    )


def _summary(found: Sequence[Figures], size: int) -> dict[str, report.Spread]:
    figures = ("events_per_second", "cpu_us_per_event", "cpu_us_per_look", "state_bytes_per_account")
    return {name: report.spread([getattr(one, name) for one in found if one.accounts == size]) for name in figures}


def _table(found: Sequence[Figures], sizes: Sequence[int]) -> str:
    rows = [f"{'accounts':>8}  {'events/s, one core':<22}  {'CPU-µs/event':<16}  {'CPU-µs/look':<16}  bytes/account"]
    for size in sizes:
        spreads = _summary(found, size)
        rate, cost, look = (
            f"{one['median']:,.0f} ({one['min']:,.0f}–{one['max']:,.0f})" for one in list(spreads.values())[:3]
        )
        state = spreads["state_bytes_per_account"]["median"]
        rows.append(f"{size:>8,}  {rate:<22}  {cost:<16}  {look:<16}  {state:>13,.0f}")
    return "\n".join([*rows, "median (min–max)"])


def _shares(parts: dict[str, float]) -> Iterator[str]:
    total = sum(parts.values())
    for part, took in parts.items():
        yield f"  {part:<22} {took:>7.1f}  {took / total:>4.0%}"
    yield f"  {'together':<22} {total:>7.1f}"


# ---------------------------------------------------------------- the runs


@dataclass(slots=True)
class Feed:
    """A partition and the facts that it has not been given yet."""

    partition: Partition[Account]
    live: Sequence[Arriving]
    position: int = 0
    fetches: int = 0

    def take(self, events: int) -> int:
        """Take the next facts in, fetch by fetch, with marks and cuts between; how many outputs came of it."""
        written, until = 0, self.position + events
        while self.position < until:
            written += self._fetch(min(FETCH, until - self.position))
        return written + self._cut()

    def _fetch(self, most: int) -> int:
        batch = self.live[self.position : self.position + most]
        self.position, self.fetches = self.position + most, self.fetches + 1
        self.partition.take(INTERACTIONS, batch, self.position)
        if self.fetches % MARK_EVERY == 0:
            _mark(self.partition, datetime.fromtimestamp(batch[-1].timestamp / 1000, UTC))
        return self._cut() if self.fetches % CUT_EVERY == 0 else 0

    def _cut(self) -> int:
        cut = self.partition.cut()
        self.partition.committed(cut)
        return sum(map(len, cut.outputs.values()))


def _measured(work: Work, events: int, policies: Policies) -> tuple[Feed, Figures]:
    accounts = len(work.states)
    calibration = calibrate()
    gc.unfreeze()
    feed = Feed(_partition(policies, work.states), work.live)
    # As the worker does after a restore.
    gc.set_threshold(COLLECT_AFTER, 50, 100)
    gc.collect()
    gc.freeze()
    looks = _looked(feed.partition)
    begun, cpu = time.perf_counter(), time.process_time()
    outputs = feed.take(events)
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - begun
    figures = Figures(
        accounts=accounts,
        events=events,
        calibration_us=round(calibration),
        events_per_second=round(events / seconds, 1),
        cpu_us_per_event=round(cpu / events * 1e6, 1),
        cpu_us_per_look=round(looks / accounts * 1e6, 1),
        outputs_per_event=round(outputs / events, 3),
        state_bytes_per_account=round(sum(map(len, work.states.values())) / accounts, 1),
    )
    return feed, figures


def _by_parts(feed: Feed, events: int) -> dict[str, float]:
    """Microseconds per event by part."""
    parts = Parts()
    with ExitStack() as patched:
        for part, owner, name in PARTS:
            patched.enter_context(mock.patch.object(owner, name, parts.around(part, getattr(owner, name))))
        begun = time.process_time()
        feed.take(events)
        took = time.process_time() - begun
    found = {part: parts.seconds[part] for part in dict.fromkeys(part for part, _, _ in PARTS)}
    found[REST] = took - sum(found.values())
    return {part: round(seconds / events * 1e6, 1) for part, seconds in found.items()}


def _profiled(feed: Feed, events: int) -> str:
    profile, told = cProfile.Profile(), io.StringIO()
    profile.enable()
    feed.take(events)
    profile.disable()
    pstats.Stats(profile, stream=told).strip_dirs().sort_stats("tottime").print_stats(SHOWN)
    return told.getvalue()


def _partition(policies: Policies, states: dict[bytes, bytes]) -> Partition[Account]:
    processor, metrics, tables = HealthProcessor(), Metrics(), Tables(Settings(partitions=1))
    tables.policies = policies
    partition = Partition(0, 1, Counted(processor, partial(count, metrics)), tables, metrics)
    partition.restore(states, Meta(positions={topic.name: 0 for topic in (*processor.inputs, CLOCK)}))
    return partition


def _looked(partition: Partition[Account]) -> float:
    """CPU seconds for the looks and closings of the night, one of each for every account."""
    cpu = time.process_time()
    _mark(partition, NOW - timedelta(minutes=1))
    while partition.overdue:
        partition.fire()
        partition.committed(partition.cut())
    partition.committed(partition.cut())
    return time.process_time() - cpu


def _mark(partition: Partition[Account], at: datetime) -> None:
    mark = Mark(at=at, safe=at, ends={}, writer="bench", simulated=True)
    event = ClockAdvanced(id="mark", source="bench", subject="clock", partitionkey="0", time=at, data=mark)
    offset = partition.meta.positions[CLOCK.name]
    partition.take(CLOCK, [_arriving(offset, event)], offset + 1)


def _arriving(offset: int, event: Event) -> Arriving:
    return Arriving(offset, round(event.time.timestamp() * 1000), event.partitionkey.encode(), codec.encode(event))


# ---------------------------------------------------------------- the work


def _work(accounts: int, hourly: int, events: int, policies: Policies) -> Work:
    """States of so many accounts, and `events` facts, `hourly` of them in an hour."""
    chance = random.Random(SEED)
    names = [f"acct-{number:07d}" for number in range(accounts)]
    return Work(_history(names, policies, chance), _live(names, hourly, events, chance))


def _history(names: Sequence[str], policies: Policies, chance: random.Random) -> dict[bytes, bytes]:
    """The states of accounts with half a year behind them, judged the evening before."""
    processor, at = HealthProcessor(), instant(NOW - timedelta(hours=12))
    context = Context(at=at, safe=at, policies=policies)
    made = dict[bytes, bytes]()
    for name in names[:HISTORIES]:
        past = [Fact(topic, event, instant(event.time)) for topic, event in _past(name, chance)]
        state = processor.decide(name, Account(), past, context).state
        assert state is not None
        made[name.encode()] = bytes([processor.version]) + processor.encode(state)
    # All names are of one length, and a state holds its own only within ids.
    pairs = zip(map(str.encode, names), cycle(made.items()), strict=False)
    return {name: state.replace(first, name) for name, (first, state) in pairs}


def _past(name: str, chance: random.Random) -> list[Told]:
    begin = NOW - timedelta(days=HISTORY_DAYS)
    won = renewals.Won(home=f"crm:deal:{name}", owner="ada")
    found: list[Told] = [(RENEWALS, _event(renewals.ContractWon, name, "won", begin, won))]
    for number in range(chance.randrange(HISTORY_FACTS // 2, HISTORY_FACTS * 3 // 2)):
        at = begin + timedelta(days=HISTORY_DAYS - 1) * chance.random()
        found.append((INTERACTIONS, _contact(name, f"past-{number}", at, chance)))
    return sorted(found, key=lambda one: one[1].time)


def _live(names: Sequence[str], hourly: int, events: int, chance: random.Random) -> list[Arriving]:
    found = list[Arriving]()
    for number in range(events):
        at, name = NOW + timedelta(hours=1) * (number / hourly), chance.choice(names)
        kind = chance.random()
        if kind < 0.85:
            event: Event = _contact(name, f"live-{number}", at, chance)
        elif kind < 0.95:
            ticket = interactions.Ticket(ticket=f"t-{number}", severity=chance.randrange(2, 5))
            event = _event(interactions.TicketOpened, name, f"live-{number}", at, ticket)
        else:
            event = _event(interactions.PurchaseMade, name, f"live-{number}", at, interactions.Purchase())
        found.append(_arriving(number, event))
    return found


def _contact(name: str, id: str, at: datetime, chance: random.Random) -> Event:
    data = interactions.Interaction(
        channel=chance.choice(("email", "call", "meeting")),
        direction=chance.choice(("inbound", "outbound", "mutual")),
        contact=f"c{chance.randrange(4)}",
    )
    return _event(interactions.InteractionLogged, name, id, at, data)


def _event(kind: type[Event], name: str, id: str, at: datetime, data: object) -> Event:
    attributes = {
        "id": f"{name}:{id}",
        "source": "crm",
        "subject": name,
        "partitionkey": name,
        "time": at,
        "data": data,
    }
    return kind.model_validate({**attributes, "receivedat": at})


def _policies() -> Policies:
    found = Policies()
    for event in first_version(read_policy(ROOT / "deploy" / "policy" / "steward.yaml"), instant(NOW)):
        found = found.after(event)
    return found
