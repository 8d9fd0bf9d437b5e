"""The outlet: a publisher that died is replaced, whatever stands in the way of the next one."""

import asyncio
from collections.abc import Sequence
from typing import Self

import pytest

from services.ingest import outlet
from services.ingest.outlet import Away, Outlet
from services.runtime import kafka
from services.runtime.settings import Settings


@pytest.mark.parametrize("obstacle", [kafka.BrokerAway("nobody"), RuntimeError("a code nobody knows")], ids=repr)
async def test_a_dead_publisher_is_replaced_whatever_keeps_the_next_one_from_opening(
    monkeypatch: pytest.MonkeyPatch, obstacle: Exception
) -> None:
    opened: list[kafka.Publisher] = []

    class Mortal(kafka.Publisher):
        def __init__(self, _settings: Settings) -> None:
            pass

        async def __aenter__(self) -> Self:
            opened.append(self)
            if len(opened) == 2:
                raise obstacle
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        async def deliver(self, records: Sequence[kafka.Outgoing], seconds: float) -> None:
            if len(opened) == 1:
                raise kafka.Refused("dead")

    monkeypatch.setattr(kafka, "Publisher", Mortal)
    monkeypatch.setattr(outlet, "AGAIN_SECONDS", 0.001)
    async with Outlet(Settings()) as out:
        with pytest.raises(Away):
            await out.write([])
        async with asyncio.timeout(5):
            while not out.is_open:  # noqa: ASYNC110  # what is waited for is not ours to announce
                await asyncio.sleep(0.001)
        await out.write([])
