"""What `steward check` looks at: settings, policy, maps, alerts, broker, Redis, each answered by a sentence."""

import asyncio
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from schemas.topics import BUILT
from services.alerting.channels.webhook import Webhook
from services.core.errors import OperatorError
from services.handoff.app import read_policy
from services.health import app as health
from services.ingest.app import check_secrets, read_maps
from services.runtime import kafka, redis, settings
from services.runtime.settings import Settings

Finding = tuple[bool, str]
PATIENCE = 3.0


def findings() -> Iterator[Finding]:
    """(is it well, the sentence) one after the other; stops at settings that cannot be read."""
    for variable in settings.unknown():
        yield False, f"{variable} is no setting of Steward; it is misspelt or left over"
    try:
        loaded = settings.load()
    except OperatorError as error:
        yield from ((False, line) for line in str(error).splitlines())
        return
    yield True, f"settings: {len(type(loaded).model_fields)} read"
    for look in (_policy, _maps, _alerts, _broker, _redis):
        yield from _looked(look, loaded)


def _looked(look: Callable[[Settings], str], loaded: Settings) -> Iterator[Finding]:
    try:
        yield True, look(loaded)
    except OperatorError as error:
        yield from ((False, line) for line in str(error).splitlines())


def _policy(loaded: Settings) -> str:
    policy = read_policy(loaded.policy)
    if policy.health is not None:
        health.read_policy(loaded.policy)
    legs = sum(len(kind.legs) for kind in policy.handoffs.values())
    scored = (
        "no health: nothing is scored" if policy.health is None else f"{len(policy.health.profiles)} health profiles"
    )
    return f"policy {loaded.policy}: version {policy.version}, {len(policy.handoffs)} kinds, {legs} legs, {scored}"


def _maps(loaded: Settings) -> str:
    check_secrets(loaded)
    maps = read_maps(loaded.mappings)
    unnamed = ", ".join(sorted(maps.keys() - loaded.source_secrets.keys()))
    lacking = f"; without a secret in STEWARD_SOURCE_SECRETS: {unnamed}" if unnamed else ""
    return f"maps of webhooks in {loaded.mappings}: {', '.join(maps) or 'none'}{lacking}"


def _alerts(loaded: Settings) -> str:
    if loaded.alert_url is None:
        return "alerts are only logged; STEWARD_ALERT_URL names an endpoint"
    Webhook(loaded)
    return f"alerts go to {urlsplit(loaded.alert_url).hostname}, signed with {len(loaded.alert_secrets)} secrets"


def _broker(loaded: Settings) -> str:
    existing = asyncio.run(kafka.existing(loaded, [topic.name for topic in BUILT], PATIENCE))
    return f"Kafka at {loaded.kafka}: {len(existing)} of {len(BUILT)} topics exist (`steward topics apply` makes them)"


def _redis(loaded: Settings) -> str:
    return f"Redis at {redis.shown(loaded.redis)}: {redis.ping(loaded.redis)}"
