"""Topics: which there are, and making those that are missing."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code

from services.runtime import clock
from services.runtime.kafka.connection import REQUEST_MS, bounded
from services.runtime.kafka.errors import BrokerAway, TopicMismatch
from services.runtime.settings import Settings

CREATE_TRIES = 40


@asynccontextmanager
async def admin(settings: Settings, patience: float = 10.0) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client. Raises BrokerAway when nobody answers within `patience` seconds."""
    deadline = clock.elapsed() + patience
    while True:
        client = AIOKafkaAdminClient(bootstrap_servers=settings.kafka, request_timeout_ms=REQUEST_MS)
        try:
            async with asyncio.timeout(patience):
                await client.start()
            break
        except (KafkaConnectionError, TimeoutError, OSError, AttributeError):
            # AttributeError: the broker answers, but no controller is in its metadata yet.
            await bounded(client.close())
            if clock.elapsed() > deadline:
                raise BrokerAway(
                    f"no Kafka broker answers at {settings.kafka} (waited {patience:.0f} s); "
                    "start one with `make kafka` or set STEWARD_KAFKA to its host:port"
                ) from None
            await asyncio.sleep(0.25)
    try:
        yield client
    finally:
        await bounded(client.close())


async def ensure_topics(
    settings: Settings, wanted: Mapping[str, Mapping[str, str]], patience: float = 10.0
) -> list[str]:
    """Create the topics that are missing (name without prefix → settings) and check the others' partitions.

    Answers the names created. Raises TopicMismatch with a sentence, BrokerAway.
    """
    async with admin(settings, patience) as client:
        there = await client.list_topics()
        missing = [name for name in wanted if settings.topic(name) not in there]
        for name in missing:
            await _create(client, settings, name, dict(wanted[name]))
        await _check_partitions(client, settings, wanted)
    return missing


async def existing(settings: Settings, wanted: Sequence[str], patience: float = 10.0) -> list[str]:
    """Those of the wanted topics that exist. Raises TopicMismatch with a sentence, BrokerAway."""
    async with admin(settings, patience) as client:
        there = await client.list_topics()
        found = [name for name in wanted if settings.topic(name) in there]
        await _check_partitions(client, settings, found)
    return found


async def _check_partitions(client: AIOKafkaAdminClient, settings: Settings, names: Iterable[str]) -> None:
    for topic in await _described(client, [settings.topic(name) for name in names]):
        found = len(topic["partitions"])
        if found != settings.partitions:
            raise TopicMismatch(
                f"topic {topic['topic']} has {found} partitions, STEWARD_PARTITIONS says {settings.partitions}; "
                f"a topic's partitions are chosen once: set STEWARD_PARTITIONS={found}, or use another STEWARD_PREFIX"
            )


async def _described(client: AIOKafkaAdminClient, names: Sequence[str]) -> list[dict[str, Any]]:
    # A topic just created may be unknown to the broker that answers, or not have its partitions yet.
    described: list[dict[str, Any]] = []
    for _ in range(CREATE_TRIES if names else 0):
        described = await client.describe_topics(names)
        if all(topic["partitions"] for topic in described):
            return described
        await asyncio.sleep(0.25)
    if bare := [str(topic["topic"]) for topic in described if not topic["partitions"]]:
        raise BrokerAway(
            f"Kafka knows no partitions of {', '.join(sorted(bare))} yet, {CREATE_TRIES / 4:.0f} s after it was asked "
            "first: it has no leader for them or much to do; start again when it is well"
        )
    return described


async def _create(client: AIOKafkaAdminClient, settings: Settings, name: str, config: dict[str, str]) -> None:
    new = NewTopic(settings.topic(name), settings.partitions, settings.replication, topic_configs=config)
    for attempt in range(CREATE_TRIES):
        try:
            response = await client.create_topics([new])
        except TopicAlreadyExistsError:
            return
        except (AttributeError, KafkaError):
            if attempt == CREATE_TRIES - 1:
                raise
        else:
            error = for_code(response.topic_errors[0][1])
            if error.errno in {0, TopicAlreadyExistsError.errno}:
                return
            if attempt == CREATE_TRIES - 1:
                raise error(f"creating topic {new.name}: {response.topic_errors[0]}")
        await asyncio.sleep(0.25)
