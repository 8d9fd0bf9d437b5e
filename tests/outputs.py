"""What a processor publishes is built without being validated: here every output is sent through the codec."""

import json
from collections.abc import Sequence

from schemas import codec
from schemas.envelope import Event
from services.core.moulds import encode
from services.core.processor import Output


def events_of(outputs: Sequence[Output]) -> list[Event]:
    """The events of a decision as a reader of their topics gets them; each must say what it would say if written."""
    found = []
    for output in outputs:
        value = encode(output.event)
        read = codec.decode(output.topic, value)
        assert as_told(codec.encode(read)) == as_told(value)
        found.append(read)
    return found


def as_told(value: bytes) -> object:
    """A record with the order of its fields, but not the notation of its numbers."""
    return json.loads(value, object_pairs_hook=list)
