"""Connections that do not begin, or do not end as they should."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from services.runtime.engine import engine as engine_module
from services.runtime.engine.engine import _begun
from services.runtime.kafka import BrokerAway
from services.runtime.kafka import connection as connection_module
from services.runtime.kafka import topics as topics_module
from services.runtime.kafka.connection import bounded


class Closing:
    """A client whose end goes wrong."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def stop(self) -> None:
        if self._error is not None:
            raise self._error
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    "error",
    [RuntimeError("the handler is closed"), KafkaConnectionError(), OSError(), None],
    ids=["uvloop", "aiokafka", "socket", "hangs"],
)
async def test_however_a_connection_ends_it_ends_nothing_else(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_SECONDS", 0.01)
    async with asyncio.timeout(5):
        await bounded(Closing(error).stop())


async def test_a_mistake_of_ours_is_no_end_of_a_connection() -> None:
    with pytest.raises(ZeroDivisionError):
        await bounded(Closing(ZeroDivisionError()).stop())


async def test_a_topic_whose_partitions_are_not_known_yet_is_no_mistake_of_the_operator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Young:
        async def describe_topics(self, names: Sequence[str]) -> list[dict[str, Any]]:
            return [{"topic": name, "partitions": []} for name in names]

    monkeypatch.setattr(topics_module, "CREATE_TRIES", 1)
    young: Any = Young()
    with pytest.raises(BrokerAway, match=r"Kafka knows no partitions of cs\.sources yet"):
        await topics_module._described(young, ["cs.sources"])


async def test_a_producer_that_may_not_begin_is_said_by_its_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    class Waiting:
        async def open(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(engine_module, "WRITER_SECONDS", 0.01)
    writer: Any = Waiting()
    with pytest.raises(BrokerAway, match="has not let partition 3 write for 0 s"):
        await _begun(3, writer)
