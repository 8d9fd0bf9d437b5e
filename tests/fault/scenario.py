"""One seed: processors under load and faults, then everything healed and quiet, then the oracle's verdict."""

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from aiokafka.errors import KafkaError

from tests.fault import facts, oracle_handoffs, oracle_ledger
from tests.fault.brokers import Ground
from tests.fault.injector import Injector
from tests.fault.load import Load
from tests.fault.nemesis import FLUSH, Setting
from tests.fault.oracle import CLOCK, META, Log, Record
from tests.fault.records import Reader, reader
from tests.fault.stack import LEG_SECONDS, PARTITIONS, Stack, until

LOAD_SECONDS = 12.0
QUIET_SECONDS = 150.0
SERVE_SECONDS = 120.0
OUTPUT = {"handoff": "cs.handoffs", "ledger": "fault.ledger"}
JUDGES = {"handoff": oracle_handoffs, "ledger": oracle_ledger}
WINDOW = timedelta(seconds=3)


@dataclass(slots=True)
class Outcome:
    """What one seed did and what the oracle says of it."""

    seed: int
    setting: Setting
    folder: Path
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    hits: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def met_a_flush(self) -> bool:
        """Did a fault meet a flush between its cut and its end?"""
        return self.counts.get("aborted", 0) > 0 or any(hit.partition(" ")[2] in FLUSH for hit in self.hits)

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.counts.items())
        verdict = "ok" if not self.problems else f"{len(self.problems)} PROBLEMS"
        met = ", ".join(self.hits) + ("" if self.met_a_flush else "; no flush was met")
        return f"seed {self.seed}: {self.setting}; {counts}; {met}; {self.seconds:.0f} s: {verdict}"


async def run(
    seed: int, setting: Setting, ground: Ground, folder: Path, prefix: str, *, without: str | None = None
) -> Outcome:
    """Run one seed on its ground; what stops it from being judged is a problem too."""
    outcome = Outcome(seed, setting, folder)
    begun = time.monotonic()
    replicas = {"STEWARD_REPLICATION": "3"} if setting.kind == "cluster" else {}
    stack = Stack(ground.bootstrap, ground.way, prefix, folder, replicas, without)
    keeping: asyncio.Task[None] | None = None
    try:
        keeping = asyncio.create_task(stack.keep())
        await _serve(stack, setting)
        await _lived(outcome, stack, ground, Random(f"load-{seed}"))
    except Exception as error:  # noqa: BLE001  # a run that cannot be judged has failed, and the others go on
        outcome.problems.append(f"the run could not be judged: {error!r:.1500}")
    finally:
        if keeping is not None:
            keeping.cancel()
            await asyncio.wait([keeping])
        stack.stop()
        outcome.notes = stack.notes
        outcome.hits = [f"{said['action']} {said['step']}" for said in stack.hits()]
        outcome.seconds = time.monotonic() - begun
        _keep_notes(outcome)
    return outcome


async def _serve(stack: Stack, setting: Setting) -> None:
    """Start everything; a process that does not come up is started again, as its orchestrator would."""
    stack.start("clock")
    wanted = setting.roles * setting.workers
    for role in wanted:
        stack.start("handoff" if role == "handoff" else "ledger")

    def served() -> bool:
        clocks = any(one.said("clock runs") for one in stack.alive("clock"))
        return clocks and sum(bool(one.said("serving")) for one in stack.alive("handoff", "ledger")) >= len(wanted)

    await until(served, "the clock runs and every worker serves", SERVE_SECONDS)


async def _lived(outcome: Outcome, stack: Stack, ground: Ground, random: Random) -> None:
    setting = outcome.setting
    plan = facts.plan(random, LOAD_SECONDS, has_run=random.random() < 0.5)
    load = Load(stack, plan)
    injector = Injector(stack, ground, setting, random)
    try:
        await load.prepare()
        stack.note("the load begins")
        await asyncio.gather(load.run(), injector.run())
        await injector.heal()
        stack.note("healed")
        await _quiet(stack, setting.roles, load.start + timedelta(seconds=plan.seconds))
    except AssertionError as error:  # the oracle may say why
        outcome.problems.append(str(error))
        for process in stack.alive("handoff", "ledger", "clock"):
            process.tell()
        await asyncio.sleep(1.0)
    finally:
        await injector.heal()
        await load.stop()
    await _judge(outcome, stack)


async def _quiet(stack: Stack, roles: Sequence[str], last: datetime) -> None:
    """Wait until every partition has read everything, its clock is past every due time, and nothing is added."""
    past = last + timedelta(seconds=LEG_SECONDS) + WINDOW + timedelta(seconds=1)
    deadline = time.monotonic() + QUIET_SECONDS
    seen, why = -1, ""
    async with reader(stack.bootstrap, stack.prefix, PARTITIONS) as topics:
        while time.monotonic() < deadline:
            if not stack.alive("handoff", "ledger"):
                raise AssertionError("no worker runs any more; see the last log of each")
            with suppress(KafkaError):
                why = await _unquiet(topics, roles, past)
                total = sum((await topics.ends([OUTPUT[role] for role in roles])).values())
                if not why and total == seen:
                    return
                seen = total
            await asyncio.sleep(1.0)
    raise AssertionError(f"not quiet within {QUIET_SECONDS:.0f} s after the end of the faults: {why}")


async def _unquiet(topics: Reader, roles: Sequence[str], past: datetime) -> str:
    """What is still to come; nothing when there is nothing."""
    for role in roles:
        inputs = JUDGES[role].INPUTS
        ends = await topics.ends(inputs)
        metas = _metas((await topics.read([f"steward-{role}-state"]))[f"steward-{role}-state"])
        for number in range(PARTITIONS):
            meta = metas.get(number)
            if meta is None:
                return f"{role} partition {number} has written nothing"
            behind = [topic for topic in inputs if meta["positions"][topic] < ends[topic, number]]
            if behind:
                return f"{role} partition {number} has not read {behind}"
            until = min([meta["safe"], meta["promises"].get(facts.SLOW, meta["safe"])])
            if until < past.timestamp() * 1_000_000:
                told = datetime.fromtimestamp(max(until, 0) / 1_000_000, UTC)
                return f"{role} partition {number} believes the time {told}, not yet {past}"
    return ""


def _metas(records: Sequence[Record]) -> dict[int, dict[str, Any]]:
    return {record.partition: json.loads(record.value or b"{}") for record in records if record.key == META}


async def _judge(outcome: Outcome, stack: Stack) -> None:
    roles = outcome.setting.roles
    changelogs = [f"steward-{role}-state" for role in roles]
    letters = [f"dlq.{role}" for role in roles]
    sources = ["crm.ownership", "crm.renewals", "crm.interactions", CLOCK]
    async with reader(stack.bootstrap, stack.prefix, PARTITIONS) as topics:
        log = Log(
            await topics.read([*sources, *(OUTPUT[role] for role in roles), *changelogs, *letters]),
            timedelta(seconds=LEG_SECONDS),
        )
    async with reader(stack.bootstrap, stack.prefix, PARTITIONS, "read_uncommitted") as topics:
        written = await topics.read(changelogs)
    for role in roles:
        await asyncio.to_thread(JUDGES[role].judge, log)
    flushes = sum(record.key == META for name in changelogs for record in log.of(name))
    aborted = sum(record.key == META for name in changelogs for record in written[name]) - flushes
    outcome.counts = {
        "facts": len(log.facts),
        **log.counts,
        "flushes": flushes,
        "aborted": aborted,
        "given up": stack.given_up,
    }
    outcome.problems += log.problems


def _keep_notes(outcome: Outcome) -> None:
    outcome.folder.mkdir(parents=True, exist_ok=True)
    told = [str(outcome), "", *outcome.notes, "", *outcome.problems]
    (outcome.folder / "run.txt").write_text("\n".join(told) + "\n")
