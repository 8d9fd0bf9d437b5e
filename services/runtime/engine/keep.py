"""May a partition that comes back after a rebalance go on with the state this process still holds of it?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from schemas.topics import Topic
from services.core.processor import S
from services.runtime import kafka
from services.runtime.engine.partition import META, Meta, Partition
from services.runtime.settings import Settings

ONCE = 5_000  # records
WAIT_MS = 200


@dataclass(frozen=True, slots=True)
class Kept(Generic[S]):
    """A partition as it stands in the changelog, where its last meta has this offset; None: it has none yet."""

    partition: Partition[S]
    offset: int | None


async def unchanged(
    settings: Settings, changelog: str, inputs: Sequence[Topic], kept: Mapping[int, Kept[S]]
) -> dict[int, dict[str, int]]:
    """The kept partitions whose changelog still ends with the flush that they hold, and where their inputs end.

    Positions would not do as evidence: a flush of due times leaves them as they were. Asked after the predecessor
    is fenced. Raises BrokerAway.
    """
    waiting = {(changelog, number): one.offset for number, one in kept.items() if one.offset is not None}
    if not waiting:
        return {}
    last: dict[int, Meta] = {}
    async with kafka.tail(settings) as tail:
        bounds = await tail.bounds(waiting)
        waiting = {spot: at for spot, at in waiting.items() if bounds[spot][0] <= at < bounds[spot][1]}
        tail.seek(waiting)
        while waiting:
            found, positions = await tail.fresh(ONCE, WAIT_MS)
            for (_, number), record in found:
                if record.key == META:
                    last[number] = Meta.decode(record.value or b"")
            waiting = {spot: at for spot, at in waiting.items() if positions[spot] < bounds[spot][1]}
        same = [number for number, meta in last.items() if meta.flush == kept[number].partition.meta.flush]
        ends = await tail.bounds((topic.name, number) for topic in inputs for number in same)
    return {number: {topic.name: ends[topic.name, number][1] for topic in inputs} for number in same}
