"""What every connection to the broker has in common: how long it waits, and how it ends."""

import asyncio
from collections.abc import Awaitable

from aiokafka.errors import KafkaError

REQUEST_MS = 10_000
CLOSE_SECONDS = 5.0


async def bounded(closing: Awaitable[None]) -> None:
    """Wait for the end of a connection, some seconds at most; what goes wrong there concerns nobody any more."""
    # aiokafka's stop() may hang for ever when the broker is gone. Not `wait_for`: it may swallow a cancellation.
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await closing
    except (
        TimeoutError,
        KafkaError,
        OSError,
        AttributeError,
        RuntimeError,
    ):  # the last is uvloop's, of a dead transport
        return
