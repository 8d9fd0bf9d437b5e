"""Bodies of requests into items, each as it came.

Unreadable    the body as a whole is not what its content type says; nothing of it is taken
└── TooMany   it has more items than one request may
"""

import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

ITEMS = 1_000
Shape = Literal["one", "batch", "either", "lines"]  # how many items, and between what
SHAPES: dict[str, Shape] = {
    "application/cloudevents+json": "one",
    "application/cloudevents-batch+json": "batch",
    "application/json": "either",
    "application/x-ndjson": "lines",
}

_CHARSET = re.compile(r"charset\s*=\s*\"?([\w-]+)", re.IGNORECASE)
_UTF8 = frozenset({"utf-8", "us-ascii"})


class Unreadable(ValueError):
    """A sentence; nothing of the body is quoted in it."""


class TooMany(Unreadable):
    """More items than one request may have."""


def shape(content_type: str) -> Shape | None:
    """The shape of a body of this type; None: nothing we take."""
    name, _, parameters = content_type.partition(";")
    charset = _CHARSET.search(parameters)
    if charset and charset[1].lower() not in _UTF8:
        return None
    return SHAPES.get(name.strip().lower())


def split(body: bytes, shape: Shape) -> Sequence[bytes]:
    """The items of a body. Raises Unreadable, TooMany."""
    if not body.strip():
        raise Unreadable("the body is empty")
    if shape == "lines":
        items: Sequence[bytes] = [line.strip() for line in body.splitlines() if line.strip()]
    elif shape == "batch" or (shape == "either" and body.lstrip().startswith(b"[")):
        items = [bytes(item) for item in _parsed(body, list[msgspec.Raw])]
    else:
        items = [parsed(body)]
    if len(items) > ITEMS:
        raise TooMany(f"the body has {len(items):,} items; send at most {ITEMS:,} at once")
    return items


def parsed(body: bytes) -> bytes:
    """The one JSON value that the body is, without what surrounds it. Raises Unreadable."""
    return bytes(_parsed(body, msgspec.Raw))


def _parsed(body: bytes, kind: Any) -> Any:  # noqa: ANN401  # as msgspec has it
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError:
        raise Unreadable("the body must be a JSON array of events") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Unreadable(f"the body cannot be read: {error}") from None
    except RecursionError:
        raise Unreadable("the body is nested too deeply") from None
