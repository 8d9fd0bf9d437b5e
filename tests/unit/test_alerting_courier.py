"""The courier: each attempt once, its result never lost, and an honest end when partitions are taken away."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import pytest

from schemas import codec, notices
from schemas.topics import NOTICES
from services.alerting import courier as subject
from services.alerting.courier import Courier
from services.alerting.model import Attempt, Outcome
from services.core.processor import Effect
from services.runtime import kafka
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings
from tests.alerting_timeline import BROKEN, OK
from tests.unit.test_alerting_message import NOTICE

Results = list[notices.NoticeDelivered | notices.NoticeFailed]


@dataclass
class Scripted:
    """A channel that answers when it is allowed to."""

    name: str = "webhook"
    at_once: int = 2
    outcome: Outcome | Exception = OK
    open: asyncio.Event = field(default_factory=asyncio.Event)
    begun: list[str] = field(default_factory=list)
    most: int = 0
    inside: int = 0

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def send(self, attempt: Attempt) -> Outcome:
        self.begun.append(attempt.delivery)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.open.wait()
        finally:
            self.inside -= 1
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Results:
    """What reached the broker, which refuses the first write of each producer."""
    found: Results = []

    class Moody:
        opened = 0

        def __init__(self, _settings: Settings) -> None:
            Moody.opened += 1
            self._number = Moody.opened

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        async def send(self, topic: object, key: str, value: bytes) -> None:
            if self._number < 3:
                raise kafka.Refused("not now")
            event = codec.decode(NOTICES, value)
            assert isinstance(event, notices.NoticeDelivered | notices.NoticeFailed)
            assert (topic, key) == (NOTICES, event.partitionkey)
            found.append(event)

    monkeypatch.setattr(kafka, "Publisher", Moody)
    monkeypatch.setattr(subject, "AGAIN_SECONDS", 0.001)
    monkeypatch.setattr(subject, "REVOKED_SECONDS", 0.05)
    return found


@asynccontextmanager
async def working(channel: Scripted) -> AsyncIterator[tuple[Courier, Metrics]]:
    metrics = Metrics()
    courier = Courier(Settings(), metrics, [channel])
    await courier.start()
    try:
        yield courier, metrics
    finally:
        await courier.stop()


def effect(delivery: str, number: int = 1, endpoint: str = "webhook") -> Effect:
    attempt = Attempt(delivery, number, endpoint, "max", "n1", is_digest=False, notices=(NOTICE,))
    return Effect(f"{delivery}.{number}", "max", attempt)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # what is waited for is not ours to announce
            await asyncio.sleep(0.001)


async def test_an_attempt_offered_again_and_again_is_made_once(published: Results) -> None:
    channel = Scripted()
    async with working(channel) as (courier, metrics):
        courier.perform([effect("d1"), effect("d1")])
        courier.perform([effect("d1")])
        await until(lambda: channel.begun)
        courier.perform([effect("d1")])
        channel.open.set()
        await until(lambda: published)
        courier.perform([effect("d1"), effect("d1", 2)])
        await until(lambda: len(published) == 2)
        assert channel.begun == ["d1", "d1"]
        assert [event.data.attempt for event in published] == [1, 2]
        text = metrics.text().decode()
    assert 'steward_delivery_attempts_total{channel="webhook",code="2xx"} 2.0' in text
    assert 'steward_outbox_pending{channel="webhook"} 0.0' in text


async def test_a_result_is_written_until_the_broker_takes_it(published: Results) -> None:
    channel = Scripted(outcome=BROKEN)
    channel.open.set()
    async with working(channel) as (courier, _):
        courier.perform([effect("d1")])
        await until(lambda: published)
    assert [(type(event), event.id, event.data.status) for event in published] == [
        (notices.NoticeFailed, "d1.1.failed", 500)
    ]


async def test_so_many_attempts_are_under_way_at_once_and_no_more(published: Results) -> None:
    channel = Scripted(at_once=3)
    async with working(channel) as (courier, _):
        courier.perform([effect(f"d{number}") for number in range(10)])
        await until(lambda: channel.inside == 3)
        channel.open.set()
        await until(lambda: len(published) == 10)
    assert channel.most == 3


async def test_what_had_not_begun_is_forgotten_on_revocation_and_begun_when_asked_again(published: Results) -> None:
    channel = Scripted(at_once=1)
    async with working(channel) as (courier, _):
        courier.perform([effect("d1"), effect("d2")])
        await until(lambda: channel.begun == ["d1"])
        asyncio.get_running_loop().call_later(0.01, channel.open.set)
        await courier.revoked()
        assert [event.data.delivery for event in published] == ["d1"]
        courier.perform([effect("d1"), effect("d2")])
        await until(lambda: len(published) == 2)
    assert channel.begun == ["d1", "d2"]


async def test_a_stopped_courier_begins_nothing_and_leaves_it_to_the_next_owner(published: Results) -> None:
    channel = Scripted()
    channel.open.set()
    async with working(channel) as (courier, _):
        await courier.stop()
        courier.perform([effect("d1")])
        await asyncio.sleep(0.02)
        assert (channel.begun, published) == ([], [])


async def test_what_takes_longer_than_a_revocation_waits_is_made_again_when_asked(published: Results) -> None:
    channel = Scripted()
    async with working(channel) as (courier, _):
        courier.perform([effect("d1")])
        await until(lambda: channel.begun)
        await courier.revoked()
        assert (published, channel.inside) == ([], 0)
        channel.open.set()
        courier.perform([effect("d1")])
        await until(lambda: published)
    assert channel.begun == ["d1", "d1"]


async def test_a_channel_that_breaks_is_a_failed_attempt(published: Results) -> None:
    channel = Scripted(outcome=RuntimeError("a mistake of ours"))
    channel.open.set()
    async with working(channel) as (courier, _):
        courier.perform([effect("d1")])
        await until(lambda: published)
    assert "a mistake of ours" in published[0].data.message


async def test_an_endpoint_that_is_not_set_up_any_more_is_a_failed_attempt(published: Results) -> None:
    async with working(Scripted()) as (courier, _):
        courier.perform([effect("d1", endpoint="pager")])
        await until(lambda: published)
    assert published[0].data.message == "no endpoint 'pager' is set up"


def test_the_log_alone_is_used_without_an_address() -> None:
    assert Courier(Settings(), Metrics()).endpoints == ("log",)
