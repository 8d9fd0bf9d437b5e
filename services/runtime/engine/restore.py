"""Reads a partition's changelog back into state, and says where each input goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from schemas.topics import CLOCK, Topic
from services.runtime import clock, kafka, log
from services.runtime.engine.incarnations import recreated, sentence
from services.runtime.engine.partition import DUES, META, Meta
from services.runtime.settings import Settings

TELL_SECONDS = 2.0  # between two lines in the log

Bounds = Mapping[kafka.Spot, tuple[int, int]]


class ChangelogError(RuntimeError):
    """The changelog does not fit its inputs; going on would lose or repeat records."""


@dataclass(slots=True)
class Snapshot:
    """What one partition's changelog holds, and where its inputs ended when it was read."""

    states: dict[bytes, bytes] = field(default_factory=dict)
    dues: dict[bytes, bytes] = field(default_factory=dict)  # beside the states, packed; older states have none
    meta: Meta | None = None  # once all is read
    offset: int | None = None  # of the meta
    records: int = 0
    read: int = 0  # up to this offset
    left: int = 0  # offsets still to be read
    ends: dict[str, int] = field(default_factory=dict)
    raw: bytes | None = None  # the last meta as it was read

    def take(self, records: Sequence[kafka.Bare], left: int) -> None:
        """The next records of the changelog; the last one of each key counts."""
        states, dues = self.states, self.dues
        for record in records:
            key, value = record.key or b"", record.value
            if value is None:
                states.pop(key, None)
            elif key == META:
                self.raw, self.offset = value, record.offset
            else:
                states[key] = value
                headers = record.headers
                if headers and headers[0][0] == DUES:
                    dues[key] = headers[0][1]
                else:  # the state says it, too
                    dues.pop(key, None)
        self.records += len(records)
        self.left = left
        if records:
            self.read = records[-1].offset + 1


async def restore(
    settings: Settings,
    changelog: str,
    inputs: Sequence[Topic],
    numbers: Sequence[int],
    filling: dict[int, Snapshot] | None = None,
    *,
    transactional: bool = True,
) -> dict[int, tuple[Snapshot, Meta]]:
    """The snapshot of each partition, and its meta with a position for every input and the ids of all topics.

    `filling` holds the snapshots while they fill. `transactional`: does the broker have transactions? Reads only
    committed records, and may be cancelled at any time. Raises BrokerAway, Undelivered, and ChangelogError when
    records stand there without a meta, when a topic was made anew, when a position lies outside what its input
    still holds, and when what was written with transactions would go on without.
    """
    snapshots = {number: Snapshot() for number in numbers}
    if filling is not None:
        filling.update(snapshots)
    told = clock.elapsed()

    def take(number: int, records: Sequence[kafka.Bare], left: int) -> None:
        nonlocal told
        snapshots[number].take(records, left)
        if clock.elapsed() - told > TELL_SECONDS:
            told = clock.elapsed()
            remaining = {one: snapshot.left for one, snapshot in snapshots.items() if snapshot.left}
            done = sum(snapshot.records for snapshot in snapshots.values())
            log.get().info("restoring", records=done, remaining=remaining)

    await kafka.replay(settings, changelog, numbers, take)
    ids = await kafka.topic_ids(settings, [*(topic.name for topic in inputs), changelog])
    async with kafka.tail(settings) as tail:
        bounds = await tail.bounds((topic.name, number) for topic in inputs for number in numbers)
    broker = _Broker(bounds, ids, transactional)
    name = settings.topic(changelog)
    return {
        number: (snapshot, _meta(f"{name} partition {number}", number, snapshot, inputs, broker))
        for number, snapshot in snapshots.items()
    }


@dataclass(frozen=True, slots=True)
class _Broker:
    """What stands on the broker now."""

    bounds: Bounds
    ids: Mapping[str, str]
    transactional: bool


def _meta(where: str, number: int, snapshot: Snapshot, inputs: Sequence[Topic], broker: _Broker) -> Meta:
    meta = _recorded(where, snapshot)
    check(where, meta, broker.ids, transactional=broker.transactional or snapshot.raw is None)
    for topic in inputs:
        begin, end = broker.bounds[topic.name, number]
        snapshot.ends[topic.name] = end
        position = meta.positions.setdefault(topic.name, begin)
        if topic is CLOCK:  # marks are kept a week, and the oldest kept one does
            is_other = CLOCK.name in recreated(meta.topics, broker.ids)
            meta.positions[topic.name] = begin if is_other or not begin <= position <= end else position
        elif not begin <= position <= end:
            raise ChangelogError(
                f"{where} has read {topic.name} up to {position}, but the topic holds "
                f"{begin} to {end}: it was recreated, or records were deleted before they were read. "
                "Use another STEWARD_PREFIX, or bring the topic back."
            )
    meta.topics = {name: ident or meta.topics.get(name, "") for name, ident in broker.ids.items()}
    meta.transactional = broker.transactional
    snapshot.meta = meta
    return meta


def _recorded(where: str, snapshot: Snapshot) -> Meta:
    if snapshot.raw is None:
        if snapshot.states:
            raise ChangelogError(
                f"{where} holds {len(snapshot.states)} states but no positions; something else "
                "wrote into it. Move the records away, or use another STEWARD_PREFIX."
            )
        return Meta()
    try:
        return Meta.decode(snapshot.raw)
    except (ValueError, TypeError) as error:
        raise ChangelogError(f"{where} cannot be read: {error}") from error


def check(where: str, meta: Meta, ids: Mapping[str, str], *, transactional: bool) -> None:
    """Raise ChangelogError where going on from this meta would read other records, or guarantee less than before.

    `ids` are those of the topics now. Marks of the clock are all alike, so that their topic may be made anew.
    """
    for name in recreated(meta.topics, ids):
        if name != CLOCK.name:
            raise ChangelogError(sentence(where, name, meta.topics, ids))
    if meta.transactional and not transactional:
        raise ChangelogError(
            f"{where} was written in transactions, and this broker has none: from here on a crash might repeat "
            "what was written. Connect to a broker with transactions, or begin anew with another STEWARD_PREFIX."
        )
