"""What a processor's group, changelog and topics are called, and how its topics are created."""

from collections.abc import Iterable, Mapping
from typing import Any

from schemas.topics import CLOCK, POLICY, Topic, dead_letters
from services.core.processor import Processor

CHANGELOG = {
    "cleanup.policy": "compact",
    "segment.bytes": str(16 << 20),  # the active segment is never compacted, and it is what a restore reads
    "min.cleanable.dirty.ratio": "0.1",
    "max.compaction.lag.ms": "3600000",
}


def group_of(processor: str) -> str:
    """Consumer group, Faust app and stem of the transactional ids of a processor."""
    return f"steward-{processor}"


def changelog_of(processor: str) -> str:
    """Where a processor's state stands."""
    return f"{group_of(processor)}-state"


def topics_of(processor: Processor[Any]) -> Mapping[str, Mapping[str, str]]:
    """Every topic a processor touches, with the settings to create it with."""
    known: Iterable[Topic] = (
        *processor.inputs,
        *processor.outputs,
        CLOCK,
        POLICY,
        dead_letters(processor.name),
    )
    return {topic.name: topic.config for topic in known} | {changelog_of(processor.name): CHANGELOG}
