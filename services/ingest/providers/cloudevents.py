"""Own code: CloudEvents 1.0 over HTTP, structured or binary, as events of the catalogue."""

import re
from collections.abc import Mapping

import msgspec

from schemas import codec
from schemas.accounts import AccountUpserted
from schemas.envelope import Event
from schemas.identity import IdentityMapped
from schemas.sources import SourceSeen
from schemas.topics import FOR_EVER, INTERACTIONS, OWNERSHIP, RENEWALS, Kept, Topic
from services.ingest.model import Unfit
from services.ingest.providers.body import Unreadable, parsed

# What may come from outside, read as if it were one topic: each goes on to the topic of its type.
OUTSIDE = Topic(
    "/v1/events",
    "subject",
    (*RENEWALS.types, *OWNERSHIP.types, *INTERACTIONS.types, AccountUpserted, IdentityMapped, SourceSeen),
    Kept(FOR_EVER),
    ("people",),
    ("ingest",),
)

_KNOWN = ", ".join(kind.name() for kind in OUTSIDE.types)
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
# Attributes that are ours to give. They come last: of equal names in JSON the last one counts.
_OURS = b'"partitionkey":"-","receivedat":null,"run":null,"runposition":null,"sourcerank":%d}'


def read(item: bytes, rank: int) -> Event:
    """The event that one item is, with its source's rank and without a key. Raises Unfit."""
    if not item.startswith(b"{"):
        raise Unfit("the record", "this is no JSON object")
    inside = item[1:-1].strip()
    try:
        return codec.decode(OUTSIDE, b"{" + inside + (b"," if inside else b"") + _OURS % rank)
    except codec.SchemaError as error:
        where, _, why = str(error).partition(": ")
        known = f"; known are {_KNOWN}" if isinstance(error, codec.UnknownType) else ""
        raise Unfit(where, why + known) from None


def structured(attributes: Mapping[str, str], body: bytes) -> bytes:
    """One event in binary mode as an item: `attributes` are its ce-* headers without that prefix.

    Raises Unreadable when the body is not JSON.
    """
    data = parsed(body) if body.strip() else b"null"
    try:
        texts = {name: _unquoted(text) for name, text in attributes.items()}
    except UnicodeError:
        raise Unreadable("a ce-* header is not percent-encoded UTF-8") from None
    return msgspec.json.encode({**texts, "data": msgspec.Raw(data)})


def _unquoted(text: str) -> str:
    return _PERCENT.sub(lambda found: bytes([int(found[1], 16)]), text.encode("latin-1")).decode()
