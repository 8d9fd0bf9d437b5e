"""How a command lives: it runs until it is done or told to stop, and says in one sentence why it could not."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def run(main: Callable[[asyncio.Event], Awaitable[T]]) -> T:
    """Run a coroutine; SIGINT and SIGTERM set the event it is given, and it ends in its own time."""

    async def guarded() -> T:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopping.set)
        return await main(stopping)

    return asyncio.run(guarded())
