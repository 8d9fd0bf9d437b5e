"""Signatures of outbound webhooks after the Standard Webhooks spec: HMAC-SHA256 over id, timestamp and raw body."""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence
from hashlib import sha256

PREFIX = "whsec_"
LEAST_BYTES = 24  # the spec asks for 24 to 64 bytes


class WeakSecret(ValueError):
    """A secret that cannot be used; the sentence does not repeat it."""


def key_of(secret: str) -> bytes:
    """The key in a secret, which is base64 with or without `whsec_` before it. Raises WeakSecret."""
    text = secret.strip().removeprefix(PREFIX)
    try:
        key = b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise WeakSecret(f"is not base64 after '{PREFIX}'") from None
    if len(key) < LEAST_BYTES:
        raise WeakSecret(f"holds {len(key)} bytes; the least is {LEAST_BYTES}")
    return key


def signature(keys: Sequence[bytes], id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one signature for each key, so that a receiver may know either."""
    signed = b".".join((id.encode(), str(timestamp).encode(), body))
    digests = (hmac.new(key, signed, sha256).digest() for key in keys)
    return " ".join(f"v1,{b64encode(digest).decode()}" for digest in digests)
