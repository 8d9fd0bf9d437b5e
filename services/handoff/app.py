"""Wires the handoff processor: publishes the first policy where there is none, then runs the engine."""

import asyncio
from pathlib import Path

from schemas.policies import Policy
from services.handoff.policy import compile_kinds
from services.handoff.processor import HandoffProcessor
from services.runtime.documents import DocumentError, load
from services.runtime.engine import names, worker
from services.runtime.first_policy import publish_first
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
    processor, policy = HandoffProcessor(), read_policy(settings.policy)
    asyncio.run(publish_first(settings, policy, names.topics_of(processor)))
    worker.run(settings, processor)
