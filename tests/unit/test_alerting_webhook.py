"""The webhook channel against a real endpoint, and the addresses and settings that it refuses."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from services.alerting.channels import webhook
from services.alerting.channels.webhook import PublicResolver, Webhook, WebhookError, is_public
from services.alerting.model import Outcome
from services.core.instants import SECOND
from services.runtime import clock
from services.runtime.settings import Settings
from tests.receiver import SECRET, Mode, receiving
from tests.unit.test_alerting_message import NOTICE, attempt

OTHER = "whsec_" + "b3RoZXItc2VjcmV0LWZvci1yb3RhdGlvbi1vbmx5"


def settings(url: str, **more: Any) -> Settings:
    given = {"alert_secrets": [SECRET], "alert_allow_private": True, **more}
    return Settings.model_validate({"alert_url": url, **given})


@asynccontextmanager
async def started(url: str, **more: Any) -> AsyncIterator[Webhook]:
    channel = Webhook(settings(url, **more))
    await channel.start()
    try:
        yield channel
    finally:
        await channel.stop()


@pytest.mark.parametrize(
    ("mode", "outcome"),
    [
        pytest.param("ok", Outcome(delivered=True, message="HTTP 200", status=200), id="taken"),
        pytest.param("500 then ok", Outcome(delivered=False, message="HTTP 500", status=500), id="broken"),
        pytest.param(
            "429 then ok",
            Outcome(delivered=False, message="HTTP 429; it asks for 2 s", status=429, retry_after=2),
            id="busy",
        ),
        pytest.param("410", Outcome(delivered=False, message="HTTP 410", status=410), id="gone"),
        pytest.param("redirect", Outcome(delivered=False, message="HTTP 307", status=307), id="redirects elsewhere"),
    ],
)
async def test_an_answer_is_an_outcome_and_the_request_is_signed(mode: Mode, outcome: Outcome) -> None:
    with receiving(mode) as receiver:
        async with started(receiver.url) as channel:
            assert await channel.send(attempt(NOTICE)) == outcome
    assert [(post.path, post.id, post.is_signed) for post in receiver.posts] == [("/alerts", "d1", True)]
    assert receiver.posts[0].headers["idempotency-key"] == "d1"
    assert receiver.posts[0].headers["content-type"] == "application/json"


async def test_an_endpoint_that_drops_the_connection_is_no_success() -> None:
    with receiving("drop then ok") as receiver:
        async with started(receiver.url) as channel:
            outcome = await channel.send(attempt(NOTICE))
    assert (outcome.delivered, outcome.status, len(receiver.posts)) == (False, None, 1)


async def test_an_endpoint_that_does_not_answer_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT_SECONDS", 0.3)
    with receiving("stall then ok") as receiver:
        async with started(receiver.url) as channel:
            outcome = await channel.send(attempt(NOTICE))
    assert (outcome.delivered, outcome.status) == (False, None)
    assert outcome.message.startswith("no answer within")


async def test_an_endpoint_that_nobody_serves_is_no_success() -> None:
    with receiving() as receiver:
        url = receiver.url
    async with started(url) as channel:
        assert (await channel.send(attempt(NOTICE))).message.startswith("no answer: ClientConnectorError")


async def test_while_secrets_change_each_of_two_is_enough() -> None:
    with receiving() as receiver:
        async with started(receiver.url, alert_secrets=[OTHER, SECRET]) as channel:
            await channel.send(attempt(NOTICE))
    assert receiver.posts[0].is_signed
    assert receiver.posts[0].headers["webhook-signature"].count("v1,") == 2


async def test_a_name_that_stands_for_a_private_address_is_refused_at_the_connection() -> None:
    async with started("https://localhost:9/", alert_allow_private=False) as channel:
        outcome = await channel.send(attempt(NOTICE))
    assert not outcome.delivered
    assert "localhost stands for" in outcome.message
    assert "not public" in outcome.message


class Fixed(AbstractResolver):
    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=2, proto=0, flags=0)
            for address in self._addresses
        ]

    async def close(self) -> None:
        pass


async def test_only_the_public_ones_of_several_addresses_are_used() -> None:
    found = await PublicResolver(Fixed("10.0.0.1", "1.1.1.1", "::1")).resolve("example.com")
    assert [one["host"] for one in found] == ["1.1.1.1"]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1",
        "ff02::1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:1:1:1:1:80ff:fffe",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_known(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_known(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        pytest.param(
            {"alert_secrets": []}, "STEWARD_ALERT_SECRETS is not, so no alert could be signed", id="no secret"
        ),
        pytest.param({"alert_secrets": ["whsec_c2hvcnQ="]}, "secret 1 holds 5 bytes", id="a short secret"),
        pytest.param({"alert_secrets": [SECRET, "whsec_?"]}, "secret 2 is not base64", id="no secret at all"),
        pytest.param({"alert_url": "http://example.com/"}, "begins with http://", id="no TLS"),
        pytest.param({"alert_url": "https://10.0.0.1/"}, "names 10.0.0.1, which is no public", id="a private address"),
        pytest.param({"alert_url": "https://[::1]/"}, "names ::1, which is no public", id="this machine"),
        pytest.param({"alert_url": "https:///path"}, "names no host", id="no host"),
        pytest.param({"alert_url": "https://[::1"}, "names no host", id="half an address"),
    ],
)
def test_settings_that_will_not_do_are_refused_with_a_sentence(given: dict[str, Any], sentence: str) -> None:
    url = given.pop("alert_url", "https://example.com/")
    with pytest.raises(WebhookError, match=sentence.replace("?", r"\?")) as refused:
        Webhook(settings(url, alert_allow_private=False, **given))
    assert "whsec_c2hvcnQ" not in str(refused.value)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("120", 120),
        ("99999999999", webhook.LONGEST_WAIT),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2199 07:28:00 GMT", webhook.LONGEST_WAIT),
    ],
)
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: int | None) -> None:
    assert webhook._seconds(header) == seconds


async def test_a_long_answer_is_not_read_to_its_end() -> None:
    async def flood(request: aiohttp.web.BaseRequest) -> aiohttp.web.StreamResponse:
        await request.read()
        response = aiohttp.web.StreamResponse()
        await response.prepare(request)
        sent = 0
        try:
            while sent < 64 << 20:
                await response.write(b"x" * 65_536)
                sent += 65_536
        except (ConnectionError, aiohttp.ClientError):
            written.append(sent)
        return response

    written: list[int] = []
    server = aiohttp.web.Server(flood)
    runner = aiohttp.web.ServerRunner(server)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    async with started(f"http://127.0.0.1:{runner.addresses[0][1]}/") as channel:
        assert (await channel.send(attempt(NOTICE))).delivered
    await runner.cleanup()
    assert written
    assert written[0] < 64 << 20


def test_the_wall_clock_stamps_signatures() -> None:
    channel = Webhook(settings("https://example.com/"))
    stamped = int(channel._headers(attempt(NOTICE), b"{}")["webhook-timestamp"])
    assert abs(stamped - clock.now() // SECOND) <= 5
