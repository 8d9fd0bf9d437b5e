"""Signed webhooks after the Standard Webhooks spec: one POST for each attempt, and only to addresses that may be told.

WebhookError    the settings name no endpoint that could be used
"""

import errno
import socket
from datetime import UTC
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from services.alerting.message import body
from services.alerting.model import Attempt, Outcome
from services.core.errors import OperatorError
from services.core.instants import SECOND, instant
from services.core.signing import WeakSecret, key_of, signature
from services.runtime import clock
from services.runtime.settings import Settings

TIMEOUT_SECONDS = 10.0
ANSWER_BYTES = 64 << 10
LONGEST_WAIT = 30 * 24 * 3600  # seconds; an endpoint that asks for more is told again after a month
NAT64 = IPv6Network("64:ff9b::/96")


class WebhookError(OperatorError):
    """Alerts cannot be posted with these settings; the sentence names the one at fault."""


class AddressRefused(OSError):
    """A host name stands for no public address."""


class Webhook:
    """Implements services.alerting.courier.Channel. Settings that will not do raise WebhookError when it is made."""

    name = "webhook"
    at_once = 32

    def __init__(self, settings: Settings) -> None:
        self._allow_private = settings.alert_allow_private
        self._url = _endpoint(settings.alert_url or "", allow_private=self._allow_private)
        self._keys = _keys(settings)
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the session; called in the loop in which it will send."""
        resolver = aiohttp.ThreadedResolver()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self.at_once, resolver=resolver if self._allow_private else PublicResolver(resolver)
            ),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, attempt: Attempt) -> Outcome:
        """One POST; any 2xx is a success, however the answer's body ends. Redirects are answers like any other."""
        assert self._session is not None  # noqa: S101  # started
        said = body(attempt)
        try:
            async with self._session.post(
                self._url, data=said, headers=self._headers(attempt, said), allow_redirects=False
            ) as response:
                await _drain(response)
                return _outcome(response.status, response.headers.get("Retry-After"))
        except TimeoutError:
            return Outcome(delivered=False, message=f"no answer within {TIMEOUT_SECONDS:.0f} s")
        except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as error:  # they quote the address, token and all
            return Outcome(delivered=False, message=f"no answer: {type(error).__name__}")
        except (aiohttp.ClientError, OSError) as error:
            return Outcome(delivered=False, message=f"no answer: {type(error).__name__}: {error}")

    def _headers(self, attempt: Attempt, said: bytes) -> dict[str, str]:
        now = clock.now() // SECOND  # the wall clock, also in simulated time: receivers compare it with theirs
        return {
            "Content-Type": "application/json",
            "User-Agent": "steward",
            "Idempotency-Key": attempt.delivery,
            "webhook-id": attempt.delivery,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(self._keys, attempt.delivery, now, said),
        }


class PublicResolver(AbstractResolver):
    """Resolves to public addresses alone, and the connection goes to what it answered: no second look-up."""

    def __init__(self, inner: AbstractResolver) -> None:
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The public addresses of a host. Raises AddressRefused where there is none."""
        found = await self._inner.resolve(host, port, family)
        public = [one for one in found if is_public(one["host"])]
        if not public:
            addresses = ", ".join(one["host"] for one in found)
            raise AddressRefused(errno.EACCES, f"{host} stands for {addresses}, which is not public")
        return public

    async def close(self) -> None:
        await self._inner.close()


def is_public(address: str) -> bool:
    """May this IP address be posted to? Not if it is, or stands for, a private, local or reserved one."""
    ip = ip_address(address.partition("%")[0])
    inner = _inside(ip)
    if inner is not None:
        return is_public(str(inner))
    is_local = isinstance(ip, IPv6Address) and ip.is_site_local
    return ip.is_global and not ip.is_multicast and not is_local


def _inside(ip: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address of a transition mechanism leads to."""
    if isinstance(ip, IPv4Address):
        return None
    if ip in NAT64 or 1 < int(ip) < 1 << 32:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    teredo = ip.teredo
    return ip.ipv4_mapped or ip.sixtofour or (teredo[1] if teredo else None)


def _endpoint(url: str, *, allow_private: bool) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.port != 0 else None
    except ValueError:  # half an IPv6 address, or a port beyond 65535
        host = None
    if not host:
        raise WebhookError("STEWARD_ALERT_URL names no host and port; give it like https://alerts.example.com/steward")
    if allow_private:
        return url
    remedy = "or set STEWARD_ALERT_ALLOW_PRIVATE=true if it is meant"
    if parts.scheme != "https":
        raise WebhookError(f"STEWARD_ALERT_URL begins with {parts.scheme}://, which is not secret; use https, {remedy}")
    try:
        address = str(ip_address(host))
    except ValueError:  # a name; what it stands for is seen at each connection
        return url
    if not is_public(address):
        raise WebhookError(f"STEWARD_ALERT_URL names {address}, which is no public address; use another, {remedy}")
    return url


def _keys(settings: Settings) -> tuple[bytes, ...]:
    if not settings.alert_secrets:
        raise WebhookError(
            "STEWARD_ALERT_URL is set and STEWARD_ALERT_SECRETS is not, so no alert could be signed; "
            "give the receiver's secret, such as '[\"whsec_…\"]'"
        )
    found = []
    for number, secret in enumerate(settings.alert_secrets, start=1):
        try:
            found.append(key_of(secret.get_secret_value()))
        except WeakSecret as error:
            raise WebhookError(
                f"STEWARD_ALERT_SECRETS: secret {number} {error}; take the one the receiver shows"
            ) from None
    return tuple(found)


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read a short answer to its end, so that the connection can be used again; of a long one only so much."""
    left = ANSWER_BYTES
    try:
        while left > 0 and (chunk := await response.content.read(left)):
            left -= len(chunk)
    except (TimeoutError, aiohttp.ClientError, OSError):  # the status has been said, and it is what counts
        response.close()


def _outcome(status: int, retry_after: str | None) -> Outcome:
    if 200 <= status < 300:
        return Outcome(delivered=True, message=f"HTTP {status}", status=status)
    wait = _seconds(retry_after)
    asked = f"; it asks for {wait} s" if wait else ""
    return Outcome(delivered=False, message=f"HTTP {status}{asked}", status=status, retry_after=wait)


def _seconds(retry_after: str | None) -> int | None:
    """The seconds in a Retry-After header, which holds a number or a date; none in one that holds neither."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return min(int(text[:9]), LONGEST_WAIT)
    try:
        until = parsedate_to_datetime(text)
        left = instant(until if until.tzinfo else until.replace(tzinfo=UTC)) - clock.now()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(-(-left // SECOND), 0), LONGEST_WAIT)
