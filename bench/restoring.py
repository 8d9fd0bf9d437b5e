"""Restore: a processor as shipped reads the state of many accounts back, and stock Faust that of fewer."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from aiokafka import AIOKafkaProducer

from bench import states, stock_restore
from bench.goals import Goal
from bench.running import Service
from bench.systems import ROOT, Stuck, calibrate
from services.handoff.app import read_policy
from services.runtime import kafka
from services.runtime.embedded.process import Child
from services.runtime.engine import names
from services.runtime.first_policy import publish_first
from services.runtime.kafka import Write
from services.runtime.settings import Settings

SAMPLES = 3  # restores of the same changelog, each by a process of its own
STOCK_ACCOUNTS = 20_000  # it reads 2 to 4 thousand a second
PARTITIONS = 4
STOCK_SECONDS = 180.0
RECORDS_A_SECOND = 150_000
MILLION = 1_000_000
MILLION_SECONDS = 7.0
BYTES_PER_ACCOUNT = 1_500
OURS, STOCK = "steward", "stock Faust"

NOTES = (
    """Restore: the processor's own command from its assignment to serving: InitProducerId, changelog, due times
    armed; four partitions in one process. The changelog holds one state per account as the processor
    writes it (500 made by the processor, the others the same under other names) in transactions of 10,000 records
    that each begin with a meta; compacted, nothing superseded in it. Goals are held against medians.""",
    """Memory: resident bytes of the process when it serves, after the collection that follows a restore; `per account`
    is what it holds above the same process without accounts, `all in` everything divided by the accounts.""",
    """stock Faust: a table in memory with the same states under the same keys, left as bytes (to its advantage), from
    the assignment of its partitions to the recovered table. It reads some thousand records a second, so that it gets
    fewer; its rate does not depend on the size.""",
)


@dataclass(frozen=True, slots=True)
class Restored:
    """One restore: records of the changelog, metas included, and resident bytes once it serves."""

    system: str
    processor: str
    accounts: int
    records: int
    seconds: float
    calibration_us: float
    changelog_bytes_per_account: float
    resident: int
    resident_empty: int

    @property
    def rate(self) -> float:
        return self.records / self.seconds

    @property
    def bytes_per_account(self) -> float:
        return (self.resident - self.resident_empty) / self.accounts

    @property
    def line(self) -> str:
        above = f"{self.bytes_per_account:,.0f} bytes an account, " if self.system == OURS else ""
        return (
            f"  {self.system:<12} {self.processor:<8} {self.accounts:>9,} accounts   {self.rate:>9,.0f} records/s   "
            f"{self.seconds:>6.2f} s   {above}{self.resident / self.accounts:,.0f} all in   "
            f"changelog {self.changelog_bytes_per_account:,.0f} bytes"
        )

    def as_json(self) -> dict[str, object]:
        figures = {
            "records_per_second": round(self.rate),
            **({"bytes_per_account": round(self.bytes_per_account)} if self.system == OURS else {}),
            "bytes_per_account_all_in": round(self.resident / self.accounts),
        }
        return {**asdict(self), **figures}


def measure(
    base: Settings, sizes: Sequence[int], stock: int, processors: Sequence[str], folder: Path
) -> Iterator[Restored]:
    """One restore after the other, of each size as often as there are samples. Raises Stuck."""
    for processor in processors:
        made = states.made(processor, datetime.now(UTC))
        empty = _restored(_prepared(base, processor, 0, made), processor, 1, (0, 0), 0, folder).resident
        for size in sizes:
            settings = _prepared(base, processor, size, made)
            written = asyncio.run(states.write(settings, processor, states.copies(made, size)))
            for number in range(1, SAMPLES + 1):
                yield _restored(settings, processor, size, written, empty, folder / f"{processor}-{size}-{number}")
        if stock:
            yield _stock(base, processor, stock, made, folder)


def goals(found: Sequence[Restored]) -> list[Goal]:
    """What the restores should reach, by the median of the samples of each size; memory by the largest."""
    wanted = []
    for processor, accounts in dict.fromkeys((one.processor, one.accounts) for one in found if one.system == OURS):
        mine = [one for one in found if (one.system, one.processor, one.accounts) == (OURS, processor, accounts)]
        what = f"restore {processor}, {accounts:,} accounts"
        rate = median(one.rate for one in mine)
        wanted.append(Goal(what, rate, RECORDS_A_SECOND, "records/s", at_least=True))
        if accounts >= MILLION:
            wanted.append(Goal(f"{what}: time", median(one.seconds for one in mine), MILLION_SECONDS, "s"))
            all_in = max(one.resident for one in mine) / accounts
            wanted.append(Goal(f"{what}: memory, all in", all_in, BYTES_PER_ACCOUNT, "bytes/account"))
    return wanted


def _prepared(base: Settings, processor: str, accounts: int, made: Mapping[str, states.Made]) -> Settings:
    """Topics and a policy under a prefix of its own."""
    assert made
    settings = base.model_copy(update={"prefix": f"{base.prefix}{processor}-{accounts}-", "partitions": PARTITIONS})
    topics = names.topics_of(states.PROCESSORS[processor]())
    asyncio.run(publish_first(settings, read_policy(settings.policy), topics))
    return settings


def _restored(
    settings: Settings, processor: str, accounts: int, written: tuple[int, int], empty: int, folder: Path
) -> Restored:
    calibration = calibrate()
    service = Service(settings, (processor,), folder, name=f"{settings.prefix}{processor}")
    try:
        service.awaited("serving")  # it is ready a little before the collection that follows a restore is over
        seconds = service.metric("steward_restore_seconds")
        records = round(service.metric("steward_restored_records_total"))
        known = sum(int(str(line["accounts"])) for line in service.said("restored"))
        resident = service.resident
    finally:
        service.stop()
    if known != written[0]:
        raise Stuck(f"{processor} restored {known} of {written[0]} accounts.")
    size = written[1] / max(accounts, 1)
    return Restored(OURS, processor, accounts, records, seconds, round(calibration), round(size, 1), resident, empty)


def _stock(base: Settings, processor: str, accounts: int, made: Mapping[str, states.Made], folder: Path) -> Restored:
    settings = base.model_copy(update={"prefix": f"{base.prefix}{processor}-stock-", "partitions": PARTITIONS})
    size = asyncio.run(_write_stock(settings, states.copies(made, accounts)))
    calibration = calibrate()
    environment = {**settings.environment(), "PYTHONPATH": str(ROOT)}
    command = (sys.executable, "-m", stock_restore.__name__)
    child = Child(f"{settings.prefix}restore", command, folder, environment=environment)
    try:
        told = _awaited(child)
        rows = Path(f"/proc/{child.pid}/status").read_text(encoding="ascii").splitlines()
        resident = next(int(row.split()[1]) * 1024 for row in rows if row.startswith("VmRSS:"))
    finally:
        child.stop()
    if told["accounts"] != accounts:
        raise Stuck(f"{STOCK} restored {told['accounts']} of {accounts} accounts.")
    seconds = told["seconds"]
    each = round(size / accounts, 1)
    return Restored(STOCK, processor, accounts, accounts, seconds, round(calibration), each, resident, 0)


async def _write_stock(settings: Settings, pairs: Iterator[tuple[bytes, states.Made]]) -> int:
    """The same states in a changelog as Faust writes it. Answers the bytes of keys and values."""
    compacted = {stock_restore.INPUT: {}, stock_restore.CHANGELOG: dict(names.CHANGELOG)}
    await kafka.ensure_topics(settings, compacted)
    topic, size = settings.topic(stock_restore.CHANGELOG), 0
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all", linger_ms=5, compression_type="zstd")
    await producer.start()
    try:
        futures = []
        for key, (value, _) in pairs:
            write = Write(topic, kafka.partition_of(key, settings.partitions))
            futures.append(await producer.send(topic, value, key, partition=write.partition))
            size += len(key) + len(value)
        await asyncio.gather(*futures)
    finally:
        await producer.stop()
    return size


def _awaited(child: Child) -> dict[str, float]:
    deadline = time.monotonic() + STOCK_SECONDS
    while time.monotonic() < deadline:
        for line in child.log.read_text(encoding="utf-8", errors="replace").splitlines():
            if '"event": "recovered"' in line:
                told: dict[str, float] = json.loads(line)
                return told
        if child.exit_code() is not None:
            break
        time.sleep(0.05)
    raise Stuck(f"{child.name} did not recover its table.{child.last_words()}")
