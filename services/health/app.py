"""Wires the health processor: publishes the first policy where there is none, then runs the engine."""

import asyncio
from functools import partial
from pathlib import Path
from typing import cast

from schemas import health
from schemas.envelope import Event
from schemas.policies import Policy
from services.health.policy import compile_health
from services.health.processor import HealthProcessor
from services.runtime.documents import DocumentError, load
from services.runtime.engine import names, worker
from services.runtime.engine.counted import Counted
from services.runtime.first_policy import publish_first
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings

CHANGED, SCORED = health.HealthChanged.name(), health.HealthScored.name()


def read_policy(path: Path) -> Policy:
    """The policy in a file, with rules of health that can be kept. Raises DocumentError, one sentence per mistake."""
    policy = load(path, Policy)
    try:
        rules = compile_health(policy)
    except ValueError as error:  # the company's calendar
        raise DocumentError(f"{path}: {error}") from None
    if rules is None:
        raise DocumentError(f"{path}: it has no `health`, and without rules nothing can be scored")
    return policy


def run(settings: Settings) -> None:
    """Run the health service until it is told to stop."""
    processor, policy = HealthProcessor(), read_policy(settings.policy)
    asyncio.run(publish_first(settings, policy, names.topics_of(processor)))
    metrics = Metrics()
    worker.run(settings, Counted(processor, partial(count, metrics)), metrics=metrics)


def count(metrics: Metrics, event: Event) -> None:
    """Count changes of bands, and observe the coverage of scores. Outputs are no models: their `type` tells them."""
    if event.type == CHANGED:
        change = cast(health.HealthChanged, event).data
        if change.before != change.after:
            metrics.band_changes.labels(change.after, change.cause).inc()
    elif event.type == SCORED:
        metrics.coverage.observe(cast(health.HealthScored, event).data.coverage)
