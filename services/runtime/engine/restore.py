"""Reads a partition's changelog back into state, and says where each input goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from schemas.topics import CLOCK, Topic
from services.runtime import kafka
from services.runtime.engine.partition import META, Meta
from services.runtime.settings import Settings


class ChangelogError(RuntimeError):
    """The changelog does not fit its inputs; going on would lose or repeat records."""


@dataclass(slots=True)
class Snapshot:
    """What one partition's changelog holds, and where its inputs ended when it was read."""

    states: dict[bytes, bytes] = field(default_factory=dict)
    meta: Meta | None = None
    offset: int | None = None  # of the meta
    records: int = 0
    read: int = 0  # up to this offset
    ends: dict[str, int] = field(default_factory=dict)


async def restore(
    settings: Settings,
    changelog: str,
    inputs: Sequence[Topic],
    numbers: Sequence[int],
    filling: dict[int, Snapshot] | None = None,
) -> dict[int, tuple[Snapshot, Meta]]:
    """The snapshot of each partition, and its meta with a position for every input.

    `filling` holds the snapshots while they fill.

    Reads only committed records. Raises ChangelogError when records stand there without a meta, or when a
    position lies outside what its input still holds.
    """
    name = settings.topic(changelog)
    snapshots = {number: Snapshot() for number in numbers}
    if filling is not None:
        filling.update(snapshots)

    def take(record: ConsumerRecord) -> None:
        snapshot = snapshots[record.partition]
        snapshot.records += 1
        snapshot.read = record.offset + 1
        if record.key == META:
            snapshot.meta, snapshot.offset = Meta.decode(record.value), record.offset
        elif record.value is None:
            snapshot.states.pop(record.key, None)
        else:
            snapshot.states[record.key] = record.value

    async with kafka.reader(settings) as consumer:
        await kafka.scan(consumer, [TopicPartition(name, number) for number in numbers], take)
        begins, ends = await _bounds(consumer, settings, inputs, numbers)
    return {
        number: (snapshot, _positions(settings, name, number, snapshot, inputs, begins, ends))
        for number, snapshot in snapshots.items()
    }


Offsets = Mapping[TopicPartition, int]


async def _bounds(
    consumer: AIOKafkaConsumer, settings: Settings, inputs: Sequence[Topic], numbers: Sequence[int]
) -> tuple[Offsets, Offsets]:
    read = [TopicPartition(settings.topic(topic), number) for topic in inputs for number in numbers]
    return await consumer.beginning_offsets(read), await consumer.end_offsets(read)


def _positions(
    settings: Settings,
    changelog: str,
    number: int,
    snapshot: Snapshot,
    inputs: Sequence[Topic],
    begins: Offsets,
    ends: Offsets,
) -> Meta:
    if snapshot.meta is None and snapshot.states:
        raise ChangelogError(
            f"{changelog} partition {number} holds {len(snapshot.states)} states but no positions; something else "
            "wrote into it. Move the records away, or use another STEWARD_PREFIX."
        )
    meta = snapshot.meta or Meta()
    for topic in inputs:
        partition = TopicPartition(settings.topic(topic), number)
        begin, end = begins[partition], ends[partition]
        snapshot.ends[topic.name] = end
        position = meta.positions.setdefault(topic.name, begin)
        if topic is CLOCK:  # marks are kept a week, and the oldest kept one does
            meta.positions[topic.name] = position if begin <= position <= end else begin
        elif not begin <= position <= end:
            raise ChangelogError(
                f"{changelog} partition {number} has read {topic.name} up to {position}, but the topic holds "
                f"{begin} to {end}: it was recreated, or records were deleted before they were read. "
                "Use another STEWARD_PREFIX, or bring the topic back."
            )
    return meta
