"""Is a request authentic? Standard Webhooks and HubSpot v3, over raw bytes; whatever is malformed is simply not."""

import re
from base64 import b64decode
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from hmac import compare_digest, digest

from services.core.instants import MINUTE, Instant

TOLERANCE = 5 * MINUTE  # between the sender's clock and ours, either way; bounds replays
PREFIX = "whsec_"
STANDARD = ("webhook-id", "webhook-timestamp", "webhook-signature")
HUBSPOT = ("x-hubspot-signature-v3", "x-hubspot-request-timestamp")

_DIGITS = re.compile(r"[0-9]{1,15}")
_SECOND, _MILLISECOND = 1_000_000, 1_000
# HubSpot signs its own reading of the URL, in which these and only these are decoded.
_DECODED = {
    "%3A": ":", "%2F": "/", "%3F": "?", "%40": "@", "%21": "!", "%24": "$",
    "%27": "'", "%28": "(", "%29": ")", "%2A": "*", "%2C": ",", "%3B": ";",
}  # fmt: skip
_ENCODED = re.compile("|".join(_DECODED), re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Keys:
    """The secrets of each source; two while one replaces the other."""

    secrets: Mapping[str, Sequence[str]]

    def sender(self, headers: Mapping[str, str], claimed: str, body: bytes, now: Instant) -> str | None:
        """Whose request this is, by its bearer token, or by the signature of the source that it claims to be from."""
        authorization = headers.get("authorization")
        if authorization is None:
            id, timestamp, signatures = (headers.get(name, "") for name in STANDARD)
            known = self.secrets.get(claimed, ())
            return claimed if is_standard(known, id, timestamp, signatures, body, now) else None
        scheme, _, token = authorization.partition(" ")
        pairs = ((source, secret) for source, secrets in self.secrets.items() for secret in secrets)
        return holder(token.strip(), pairs) if scheme.lower() == "bearer" else None

    def is_hubspot(
        self, source: str, headers: Mapping[str, str], method: str, url: str, body: bytes, now: Instant
    ) -> bool:
        """Has HubSpot signed this for the app behind the source?"""
        signature, timestamp = (headers.get(name, "") for name in HUBSPOT)
        return is_hubspot(self.secrets.get(source, ()), signature, timestamp, method, url, body, now)


def holder(token: str, secrets: Iterable[tuple[str, str]]) -> str | None:
    """Whose secret the token is, among pairs of name and secret; takes as long whichever it is."""
    given = sha256(token.encode(errors="surrogatepass")).digest()
    found = None
    for name, secret in secrets:
        if compare_digest(given, sha256(secret.encode()).digest()):
            found = name
    return found


def is_standard(secrets: Collection[str], id: str, timestamp: str, signatures: str, body: bytes, now: Instant) -> bool:
    """Has a holder of one of the secrets (`whsec_<base64>`) signed this? The texts are the webhook-* headers."""
    if not id or not _is_fresh(timestamp, _SECOND, now):
        return False
    keys = [key for secret in secrets if (key := _key(secret))]
    signed = b".".join([id.encode("latin-1", "replace"), timestamp.encode(), body])
    offered = [_decoded(text) for version, _, text in map(_parted, signatures.split(" ")) if version == "v1"]
    return _any_fits([digest(key, signed, sha256) for key in keys], offered)


def is_hubspot(
    secrets: Collection[str], signature: str, timestamp: str, method: str, url: str, body: bytes, now: Instant
) -> bool:
    """Has HubSpot signed this (v3) for an app with one of the secrets? `url` is the whole public one."""
    if not _is_fresh(timestamp, _MILLISECOND, now):
        return False
    read = _ENCODED.sub(lambda found: _DECODED[found[0].upper()], url)
    signed = b"".join([method.encode(), read.encode(errors="surrogatepass"), body, timestamp.encode()])
    return _any_fits([digest(secret.encode(), signed, sha256) for secret in secrets], [_decoded(signature)])


def is_secret(text: str) -> bool:
    """Can Standard Webhooks be verified with it?"""
    return _key(text) != b""


def _is_fresh(timestamp: str, unit: int, now: Instant) -> bool:
    return _DIGITS.fullmatch(timestamp) is not None and abs(int(timestamp) * unit - now) <= TOLERANCE


def _parted(versioned: str) -> tuple[str, str, str]:
    return versioned.partition(",")


@lru_cache(maxsize=256)
def _key(secret: str) -> bytes:
    """The bytes behind `whsec_…`, padded or not; none where it is no such secret."""
    text = secret.removeprefix(PREFIX).rstrip("=")
    return _decoded(text + "=" * (-len(text) % 4)) if secret.startswith(PREFIX) else b""


def _decoded(text: str) -> bytes:
    """Decoded base64, nothing where it is none. Bits that only pad are not compared: signers fill them differently."""
    try:
        return b64decode(text, validate=True)
    except ValueError:
        return b""


def _any_fits(expected: Collection[bytes], offered: Collection[bytes]) -> bool:
    # Every pair is compared, so that the time taken does not say which one fitted.
    return any([compare_digest(one, other) for one in expected for other in offered])  # noqa: C419  # the whole list
