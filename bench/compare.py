"""Reads both systems' results back and says where they differ: states of accounts, and published events."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka import ConsumerRecord

from bench import stock_faust
from schemas.topics import HANDOFFS
from services.handoff.model import Account, Handoff
from services.handoff.processor import HandoffProcessor
from services.runtime import kafka
from services.runtime.engine import names
from services.runtime.engine.partition import META
from services.runtime.settings import Settings

SHOWN = 3


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
    return await _read(settings, names.changelog_of(HandoffProcessor.name), HANDOFFS.name)


async def stock(settings: Settings) -> Result:
    return await _read(settings, stock_faust.CHANGELOG, stock_faust.OUTPUT)


def differences(names: tuple[str, str], one: Result, other: Result) -> list[str]:
    """How much differs, and the first few of each, a line each; none: equal. Events count with all attributes."""
    states, others = _handoffs(one), _handoffs(other)
    differ = [place for place in sorted(states.keys() | others.keys()) if states.get(place) != others.get(place)]
    only = (names[0], one.outputs - other.outputs), (names[1], other.outputs - one.outputs)
    published = sum(events.total() for _, events in only)
    if not differ and not published and one.accounts.keys() == other.accounts.keys():
        return []
    return [
        f"{len(differ):,} handoffs and {published:,} published events differ",
        *(
            f"{account}, {handoff}: {name} has {found.get((account, handoff))}"
            for account, handoff in differ[:SHOWN]
            for name, found in zip(names, (states, others), strict=True)
        ),
        *(f"published by {name} only: {value.decode()}" for name, events in only for value in list(events)[:SHOWN]),
    ]


def _handoffs(result: Result) -> dict[tuple[str, str], Handoff]:
    return {
        (key, name): handoff for key, account in result.accounts.items() for name, handoff in account.handoffs.items()
    }


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
    accounts = {key: processor.decode(raw[1:], raw[0]) for key, raw in states.items()}
    return Result(accounts, outputs, sum(ends.values()), sum(map(len, states.values())))
