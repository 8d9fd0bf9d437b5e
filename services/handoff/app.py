"""Wires the handoff processor: publishes the first policy where there is none, then runs the engine."""

import asyncio
from pathlib import Path

from schemas import codec
from schemas.envelope import Event
from schemas.policies import Activation, Policy, PolicyActivated, PolicyPublished, Publication
from schemas.topics import POLICY
from services.core.instants import Instant, moment
from services.handoff.policy import compile_kinds
from services.handoff.processor import HandoffProcessor
from services.runtime import clock, kafka, log
from services.runtime.documents import DocumentError, load
from services.runtime.engine import worker
from services.runtime.settings import Settings


def read_policy(path: Path) -> Policy:
    """The policy in a file, whole and usable. Raises DocumentError, one sentence per mistake."""
    policy = load(path, Policy)
    try:
        compile_kinds(policy)
    except ValueError as error:  # a calendar, or hours that round to nothing
        raise DocumentError(f"{path}: {error}") from None
    return policy


def run(settings: Settings) -> None:
    """Run the handoff service until it is told to stop."""
    policy = read_policy(settings.policy)
    asyncio.run(_publish_first(settings, policy))
    worker.run(settings, HandoffProcessor())


async def _publish_first(settings: Settings, policy: Policy) -> None:
    """Publish and activate the file's policy where none stands; two processes at once write the same twice."""
    await kafka.ensure_topics(settings, worker.topics_of(HandoffProcessor()))
    if await kafka.read_all(settings, POLICY):
        log.get().info("policy in force is the published one", file_not_used=str(settings.policy))
        return
    async with kafka.Publisher(settings) as publisher:
        for event in _first_version(policy, clock.now()):
            await publisher.send(POLICY, event.partitionkey, codec.encode(event))
    log.get().info("policy published", version=policy.version, file=str(settings.policy))


def _first_version(policy: Policy, now: Instant) -> list[Event]:
    at = moment(now)
    published, activated = f"published:{policy.version}", f"activated:{policy.version}"
    return [
        PolicyPublished(
            id=published, source="steward/policy", subject="policy", partitionkey=published, time=at,
            data=Publication(policy=policy),
        ),
        PolicyActivated(
            id=activated, source="steward/policy", subject="policy", partitionkey=activated, time=at,
            data=Activation(version=policy.version, at=at),
        ),
    ]  # fmt: skip
