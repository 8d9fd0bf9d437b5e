"""The health step as it is: one partition of the engine fed from memory, at few and at many accounts, without a broker.

Every account has half a year of history. The facts of one hour are spread evenly over all accounts, so that at 100,000
accounts hardly two facts of a fetch concern the same one.
"""

import cProfile
import io
import json
import pstats
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench import report
from bench.profiling import Arriving
from bench.systems import ROOT, calibrate
from schemas import codec, interactions, renewals
from schemas.clock import ClockAdvanced, Mark
from schemas.envelope import Event
from schemas.topics import CLOCK, INTERACTIONS, RENEWALS, Topic
from services.core.instants import instant
from services.core.policy import Policies
from services.core.processor import Context, Fact
from services.health.app import read_policy
from services.health.model import Account
from services.health.processor import HealthProcessor
from services.runtime.engine.partition import META, Meta, Partition
from services.runtime.engine.tables import Tables
from services.runtime.first_policy import first_version
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings

SEED = 20261122
NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
HISTORY_DAYS = 180
HISTORY_FACTS = 24  # per account, on average
FETCH = 500
CUT_EVERY = 2  # fetches
MARK_EVERY = 4
EVENTS = 40_000
SIZES = (1_000, 100_000)
SHOWN = 18


@dataclass(frozen=True, slots=True)
class Figures:
    """One run at one size. CPU in microseconds; bytes as they stand in the changelog, mean per account."""

    accounts: int
    events: int
    calibration_us: float
    events_per_second: float
    cpu_us_per_event: float
    cpu_us_per_look: float
    looks: int
    outputs: int
    state_bytes: float


def run(events: int, sizes: Sequence[int], samples: int, command: str, kept: Path | None) -> None:
    """Measure each size in turn and print; a profile of the last."""
    machine = report.facts(command)
    policies = _policies()
    found = {size: list[Figures]() for size in sizes}
    profile = cProfile.Profile()
    for number in range(samples):
        for size in sizes:
            last = number == samples - 1 and size == sizes[-1]
            found[size].append(_measured(size, events, policies, None))
            if last:
                _measured(size, events, policies, profile)
    for size, runs in found.items():
        best = sorted(runs, key=lambda one: one.cpu_us_per_event)
        low, middle, high = best[0], best[len(best) // 2], best[-1]
        print(
            f"{size:>7,} accounts: {middle.events_per_second:,.0f} events/s on one core; CPU per event "
            f"{middle.cpu_us_per_event:.1f} µs ({low.cpu_us_per_event:.1f}-{high.cpu_us_per_event:.1f}), per look "
            f"{middle.cpu_us_per_look:.1f} µs; state {middle.state_bytes:.0f} bytes an account"
        )
    told = io.StringIO()
    pstats.Stats(profile, stream=told).strip_dirs().sort_stats("tottime").print_stats(SHOWN)
    sys.stdout.write(f"\nunder the profiler, {sizes[-1]:,} accounts:\n{told.getvalue()}")
    if kept:
        text = {
            "what": "health step: decode, take in, judge, encode outputs and changelog; no broker",
            "machine": machine,
            "runs": [asdict(one) for runs in found.values() for one in runs],
            "profile": told.getvalue().splitlines(),
        }
        kept.write_text(json.dumps(text, indent=2) + "\n", "utf-8")


def _measured(accounts: int, events: int, policies: Policies, profile: cProfile.Profile | None) -> Figures:
    calibration = calibrate()
    processor, chance = HealthProcessor(), random.Random(SEED)
    names = [f"acct-{number:07d}" for number in range(accounts)]
    states = _history(processor, names, policies, chance)
    bytes_kept = sum(map(len, states.values())) / accounts
    partition = _partition(processor, policies, states)
    records = _live(names, events, chance)
    looks = _looked(partition)
    begun, cpu = time.perf_counter(), time.process_time()
    if profile:
        profile.enable()
    outputs = _fed(partition, records)
    if profile:
        profile.disable()
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - begun
    return Figures(
        accounts=accounts,
        events=events,
        calibration_us=calibration,
        events_per_second=events / seconds,
        cpu_us_per_event=cpu / events * 1e6,
        cpu_us_per_look=looks / accounts * 1e6,
        looks=accounts,
        outputs=outputs,
        state_bytes=bytes_kept,
    )


def _history(
    processor: HealthProcessor, names: Sequence[str], policies: Policies, chance: random.Random
) -> dict[bytes, bytes]:
    """The states of accounts with half a year behind them, judged the evening before."""
    at = instant(NOW - timedelta(hours=12))
    context = Context(at=at, safe=at, policies=policies)
    found = {}
    for name in names:
        facts = [Fact(topic, event, instant(event.time)) for topic, event in _past(name, chance)]
        state = processor.decide(name, Account(), facts, context).state
        assert state is not None
        found[name.encode()] = bytes([processor.version]) + processor.encode(state)
    return found


def _past(name: str, chance: random.Random) -> list[tuple[Topic, Event]]:
    begin = NOW - timedelta(days=HISTORY_DAYS)
    found: list[tuple[Topic, Event]] = [
        (RENEWALS, _event(renewals.ContractWon, name, "won", begin, renewals.Won(home=f"crm:deal:{name}", owner="ada")))
    ]
    for number in range(chance.randrange(HISTORY_FACTS // 2, HISTORY_FACTS * 3 // 2)):
        at = begin + timedelta(days=HISTORY_DAYS - 1) * chance.random()
        found.append((INTERACTIONS, _contact(name, f"past-{number}", at, chance)))
    return sorted(found, key=lambda one: one[1].time)


def _live(names: Sequence[str], events: int, chance: random.Random) -> list[tuple[Topic, Event]]:
    found: list[tuple[Topic, Event]] = []
    for number in range(events):
        at, name = NOW + timedelta(hours=1) * (number / events), chance.choice(names)
        kind = chance.random()
        if kind < 0.85:
            event: Event = _contact(name, f"live-{number}", at, chance)
        elif kind < 0.95:
            ticket = interactions.Ticket(ticket=f"t-{number}", severity=chance.randrange(2, 5))
            event = _event(interactions.TicketOpened, name, f"live-{number}", at, ticket)
        else:
            event = _event(interactions.PurchaseMade, name, f"live-{number}", at, interactions.Purchase())
        found.append((INTERACTIONS, event))
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


def _partition(processor: HealthProcessor, policies: Policies, states: dict[bytes, bytes]) -> Partition[Account]:
    tables = Tables(Settings(partitions=1))
    tables.policies = policies
    partition = Partition(0, 1, processor, tables, Metrics())
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
    partition.take(CLOCK, [_arriving(offset, "0", event)], offset + 1)


def _arriving(offset: int, key: str, event: Event) -> Arriving:
    return Arriving(offset, round(event.time.timestamp() * 1000), key.encode(), codec.encode(event))


def _fed(partition: Partition[Account], live: Sequence[tuple[Topic, Event]]) -> int:
    """Take the facts in, fetch by fetch, with marks and cuts between; how many records came of it."""
    written = 0
    for fetch, begin in enumerate(range(0, len(live), FETCH), start=1):
        batch = [
            _arriving(begin + place, event.partitionkey, event)
            for place, (_, event) in enumerate(live[begin : begin + FETCH])
        ]
        partition.take(INTERACTIONS, batch, batch[-1].offset + 1)
        if fetch % MARK_EVERY == 0:
            _mark(partition, live[min(begin + FETCH, len(live) - 1)][1].time)
        if fetch % CUT_EVERY == 0:
            cut = partition.cut()
            written += sum(map(len, cut.outputs.values())) + sum(key != META for key, _, _ in cut.changelog)
            partition.committed(cut)
    return written


def _policies() -> Policies:
    found = Policies()
    for event in first_version(read_policy(ROOT / "deploy" / "policy" / "steward.yaml"), instant(NOW)):
        found = found.after(event)
    return found
