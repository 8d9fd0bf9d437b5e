"""Where the engine spends its time: one partition fed from memory, without a broker, under cProfile."""

import cProfile
import io
import pstats
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench import work
from bench.small import work as small
from bench.small.processor import TallyProcessor
from bench.systems import ROOT
from schemas.topics import INTERACTIONS, OWNERSHIP, Topic
from services.core.policy import Policies
from services.core.processor import Processor
from services.handoff.app import read_policy
from services.handoff.processor import HandoffProcessor
from services.runtime import clock, kafka
from services.runtime.engine.partition import Meta, Partition
from services.runtime.engine.tables import Tables
from services.runtime.first_policy import first_version
from services.runtime.kafka import Header
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings

NUMBER = 0
BATCH = 500  # what a fetch brings of one partition when the processor keeps up with some tens of fetches a second
BATCHES_PER_FLUSH = 2
SHOWN = 15
RUNS = 3


@dataclass(slots=True)
class Arriving:
    """A record as the engine gets it from the consumer."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header] = field(default_factory=tuple)


def run(events: int, accounts: int, *, is_small: bool = False) -> None:
    """Print what `told` says."""
    print(*told(events, accounts, is_small=is_small), sep="\n")


def told(events: int, accounts: int, *, is_small: bool = False) -> list[str]:
    """CPU per event without the profiler, then the functions with the most time of their own, as lines.

    `is_small`: with the small reducer of the throughput bench, which leaves the engine's own cost to be seen.
    """
    processor: Processor[Any] = TallyProcessor("profile") if is_small else HandoffProcessor()
    found = small.records(events, accounts) if is_small else _encoded(events, accounts)
    records, profile = _of_one_partition(found), cProfile.Profile()
    topic = INTERACTIONS if is_small else OWNERSHIP
    plain = min(_fed(records, topic, processor, None) for _ in range(RUNS))
    profiled = _fed(records, topic, processor, profile)
    listed = io.StringIO()
    pstats.Stats(profile, stream=listed).strip_dirs().sort_stats("tottime").print_stats(SHOWN)
    return [
        f"{len(records):,} records of one partition, fetches of {BATCH}, a cut every {BATCH * BATCHES_PER_FLUSH:,}",
        f"CPU per event: {plain:.1f} µs, the least of {RUNS}; {profiled:.1f} µs under the profiler",
        "",
        *listed.getvalue().splitlines(),
    ]


def _encoded(events: int, accounts: int) -> Iterable[small.Record]:
    return [(key.encode(), value) for key, value in work.facts(events, accounts)]


def _of_one_partition(found: Iterable[small.Record]) -> list[Arriving]:
    mine = [(key, value) for key, value in found if kafka.partition_of(key, work.PARTITIONS) == NUMBER]
    now = clock.now() // 1000
    return [Arriving(offset, now, key, value) for offset, (key, value) in enumerate(mine)]


def _fed(
    records: Sequence[Arriving], topic: Topic, processor: Processor[Any], profile: cProfile.Profile | None
) -> float:
    """CPU microseconds per event for taking the records in and cutting flushes, which are not written."""
    partition = _partition(processor)
    begun = time.process_time()
    if profile:
        profile.enable()
    for flush, begin in enumerate(range(0, len(records), BATCH), start=1):
        batch = records[begin : begin + BATCH]
        partition.take(topic, batch, batch[-1].offset + 1)
        if flush % BATCHES_PER_FLUSH == 0:
            partition.committed(partition.cut())
    if profile:
        profile.disable()
    return (time.process_time() - begun) / len(records) * 1e6


def _partition(processor: Processor[Any]) -> Partition[Any]:
    settings = Settings(partitions=work.PARTITIONS)
    policies = Policies()
    for event in first_version(read_policy(ROOT / "deploy" / "policy" / "steward.yaml"), clock.now()):
        policies = policies.after(event)
    tables = Tables(settings)
    tables.policies = policies
    partition = Partition(NUMBER, work.PARTITIONS, processor, tables, Metrics())
    partition.restore({}, Meta(positions={topic.name: 0 for topic in processor.inputs}))
    return partition
