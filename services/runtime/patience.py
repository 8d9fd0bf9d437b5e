"""Keeps a consumer from asking without a pause where a broker answers empty fetches at once."""

import asyncio
from contextlib import suppress
from typing import Any

from services.runtime import clock

EMPTY_SECONDS = 0.01  # a fetch that brings nothing takes at least this long; brokers that wait take longer anyway


def hold_empty_fetches(consumer: Any) -> None:
    """The embedded broker does not hold fetches: each waiting client would keep a core busy."""
    fetcher = consumer._fetcher  # noqa: SLF001  # aiokafka has no door to it
    ask = fetcher._proc_fetch_request  # noqa: SLF001

    async def patient(*request: Any) -> Any:
        begun, found = clock.elapsed(), False
        # Whoever cancels a fetch waits for its answer, and would take the cancellation for one of its own.
        with suppress(asyncio.CancelledError):
            found = await ask(*request)
            if not found:
                await asyncio.sleep(max(0.0, EMPTY_SECONDS - (clock.elapsed() - begun)))
        return found

    fetcher._proc_fetch_request = patient  # noqa: SLF001
