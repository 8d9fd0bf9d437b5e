"""Watches a system from outside: how much of its output readers of committed records may see, at which CPU."""

import asyncio
import json
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.running import cpu_of
from bench.systems import Stuck
from services.runtime import kafka
from services.runtime.embedded.process import Child
from services.runtime.settings import Settings

LOOK_EVERY = 0.025
STILL_SECONDS = 0.4  # nothing new for so long: look whether all is there
# Offsets at a partition's end among which the output of its last event stands: markers of transactions count, and who
# takes a fetch in by keys puts its outputs into another order.
TAIL = 6_000
PATIENCE = 600.0


@dataclass(frozen=True, slots=True)
class Look:
    """One moment: seconds of CPU used by the system's processes and by the broker, last stable offset by partition."""

    at: float
    cpu: float
    broker: float
    visible: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """What happened between two looks, as readers saw it."""

    events: int
    seconds: float
    cpu: float
    broker: float


async def watch(
    settings: Settings, output: str, last: Mapping[int, str], children: Sequence[Child], broker: int
) -> list[Look]:
    """Look until the id in `last` stands among each partition's last outputs, and nothing moves any more.

    Raises Stuck when a child ends, or after PATIENCE.
    """
    partitions = kafka.partitions(settings, output)
    looks = list[Look]()
    moved_at = begun = time.monotonic()
    async with kafka.reader(settings) as consumer:
        while True:
            ends = await consumer.end_offsets(partitions)
            cpu = sum(cpu_of(child.pid) for child in children)
            now = time.monotonic()
            visible = tuple(ends[partition] for partition in partitions)
            looks.append(Look(now, cpu, cpu_of(broker), visible))
            if len(looks) > 1 and visible != looks[-2].visible:
                moved_at = now
            elif sum(visible) and now - moved_at > STILL_SECONDS:
                found = await _ids_at_end(settings, output, visible)
                if all(wanted in found.get(number, ()) for number, wanted in last.items()):
                    return looks
                moved_at = now
            for child in children:
                if child.exit_code() is not None or now - begun > PATIENCE:
                    raise Stuck(f"{child.name} stands at offsets {visible} of {output}.{child.last_words()}")
            await asyncio.sleep(LOOK_EVERY)


async def _ids_at_end(settings: Settings, output: str, ends: Sequence[int]) -> dict[int, set[str]]:
    """The ids of the last records of each partition before these ends."""
    found: dict[int, set[str]] = {}
    partitions = kafka.partitions(settings, output)
    async with kafka.reader(settings) as consumer:
        consumer.assign(partitions)
        for partition, end in zip(partitions, ends, strict=True):
            consumer.seek(partition, max(0, end - TAIL))
        until = time.monotonic() + STILL_SECONDS
        while time.monotonic() < until:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                for record in records:
                    if record.offset < ends[record.partition]:  # what came since that look is for the next one
                        found.setdefault(record.partition, set()).add(json.loads(record.value)["id"])
    return found


def window(looks: Sequence[Look], offsets: Sequence[Sequence[int]], warm_up: int, left: int) -> Window:
    """What was measured after the first `warm_up` outputs and before the last `left`.

    At both ends a system has worked on something that nobody sees yet; a window up to the very last output would give
    it the CPU of what it did before the window began. `offsets` of the outputs, ascending, by partition.
    """

    def outputs(look: Look) -> int:
        return sum(bisect_left(of_one, end) for of_one, end in zip(offsets, look.visible, strict=True))

    total = sum(map(len, offsets))
    begin = next(look for look in looks if outputs(look) >= warm_up)
    end = next(look for look in looks if outputs(look) >= total - left)
    events, seconds = outputs(end) - outputs(begin), end.at - begin.at
    if not events or not seconds:
        raise ValueError(f"{total:,} outputs came too fast to be measured; take more events")
    return Window(events, seconds, end.cpu - begin.cpu, end.broker - begin.broker)
