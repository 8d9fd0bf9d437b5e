"""Does outside what committed states want done."""

from collections.abc import Sequence
from typing import Protocol

from services.core.processor import Effect


class Courier(Protocol):
    """Does outside what states want done, and publishes what came of it. Each effect's id once, as far as it knows."""

    async def start(self) -> None:
        """Called in the worker's loop before the first partition is served."""

    def perform(self, effects: Sequence[Effect]) -> None:
        """Begin what is new among these; called after the commit of the states that want them."""

    async def revoked(self) -> None:
        """Partitions are being taken away: end what is under way within 5 s, and forget what has not begun."""

    async def stop(self) -> None:
        """The worker ends; effects that come after this are left to the next one."""


class Idle:
    """A courier for processors that want nothing done."""

    async def start(self) -> None:
        pass

    def perform(self, effects: Sequence[Effect]) -> None:
        pass

    async def revoked(self) -> None:
        pass

    async def stop(self) -> None:
        pass
