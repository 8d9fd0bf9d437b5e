"""A record as the broker delivers it."""

from collections.abc import Sequence
from typing import Protocol

from services.runtime.kafka import Header


class Raw(Protocol):
    """`timestamp` is when the broker took it in, in milliseconds."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]
