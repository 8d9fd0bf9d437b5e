"""Reads both systems' results back and says where they differ: states of accounts, and published events."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka import ConsumerRecord

from bench import stock_faust
from schemas.topics import HANDOFFS
from services.handoff.model import Account
from services.handoff.processor import HandoffProcessor
from services.runtime import kafka
from services.runtime.engine import worker
from services.runtime.engine.partition import META
from services.runtime.settings import Settings

SHOWN = 5


@dataclass(frozen=True, slots=True)
class Result:
    """What a system left on the broker."""

    accounts: Mapping[str, Account]
    outputs: Counter[bytes]
    changelog_written: int  # offsets used, markers of transactions included
    state_bytes: int  # of all accounts, at the end

    @property
    def published(self) -> int:
        return self.outputs.total()


async def ours(settings: Settings) -> Result:
    return await _read(settings, worker.changelog_of(HandoffProcessor.name), HANDOFFS.name)


async def stock(settings: Settings) -> Result:
    return await _read(settings, stock_faust.CHANGELOG, stock_faust.OUTPUT)


def differences(one: Result, other: Result) -> list[str]:
    """What differs, a line each, the first few; an event counts with all its attributes."""
    found = [
        f"account {key}: {one.accounts.get(key)} against {other.accounts.get(key)}"
        for key in sorted(one.accounts.keys() | other.accounts.keys())
        if one.accounts.get(key) != other.accounts.get(key)
    ]
    said, also = one.outputs - other.outputs, other.outputs - one.outputs
    events = [f"published by one only: {value.decode()}" for value in said]
    events += [f"published by the other only: {value.decode()}" for value in also]
    counts = f"{len(found)} accounts and {said.total() + also.total()} events differ"
    return [counts, *found[:SHOWN], *events[:SHOWN]] if found or events else []


async def _read(settings: Settings, changelog: str, output: str) -> Result:
    states: dict[str, bytes] = {}
    outputs: Counter[bytes] = Counter()

    def state(record: ConsumerRecord) -> None:
        if record.key == META:
            return
        key = record.key.decode()
        if record.value is None:
            states.pop(key, None)
        else:
            states[key] = record.value

    def event(record: ConsumerRecord) -> None:
        outputs[record.value] += 1

    async with kafka.reader(settings) as consumer:
        ends = await kafka.scan(consumer, kafka.partitions(settings, changelog), state)
        await kafka.scan(consumer, kafka.partitions(settings, output), event)
    processor = HandoffProcessor()
    accounts = {key: processor.decode(raw, processor.version) for key, raw in states.items()}
    return Result(accounts, outputs, sum(ends.values()), sum(map(len, states.values())))
