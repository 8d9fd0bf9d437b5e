"""Publishes the first policy: the operator's file, where the topic holds none yet."""

from collections.abc import Mapping

from schemas import codec
from schemas.envelope import Event
from schemas.policies import Activation, Policy, PolicyActivated, PolicyPublished, Publication
from schemas.topics import POLICY
from services.core.instants import Instant, moment
from services.runtime import clock, kafka, log
from services.runtime.settings import Settings


async def publish_first(settings: Settings, policy: Policy, topics: Mapping[str, Mapping[str, str]]) -> None:
    """Publish and activate the file's policy where none stands; two processes at once write the same twice.

    `topics` are those of the processor that starts, with their settings; they are created where they are missing.
    """
    await kafka.ensure_topics(settings, topics)
    if await kafka.read_all(settings, POLICY):
        log.get().info("policy in force is the published one", file_not_used=str(settings.policy))
        return
    async with kafka.Publisher(settings) as publisher:
        for event in first_version(policy, clock.now()):
            await publisher.send(POLICY, event.partitionkey, codec.encode(event))
    log.get().info("policy published", version=policy.version, file=str(settings.policy))


def first_version(policy: Policy, now: Instant) -> list[Event]:
    """The two records that put a policy into force."""
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
