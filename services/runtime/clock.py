"""The one door to the wall clock and to fresh ids; only the clock writer, importers and logs pass it."""

import time
import uuid

from services.core.instants import Instant


def now() -> Instant:
    """Wall time in microseconds since 1970 UTC."""
    return time.time_ns() // 1000


def elapsed() -> float:
    """Seconds on a clock that is never set, for intervals."""
    return time.monotonic()


def fresh_id() -> str:
    """An id that nothing else has."""
    return uuid.uuid4().hex
