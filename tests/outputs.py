"""What a processor publishes is built without being validated: here every output is sent through the codec."""

from collections.abc import Sequence

from schemas import codec
from schemas.envelope import Event
from services.core.processor import Output


def events_of(outputs: Sequence[Output]) -> list[Event]:
    """The events of a decision; each must be what a reader of its topic will get, to the last byte."""
    for output in outputs:
        value = codec.encode(output.event)
        read = codec.decode(output.topic, value)
        assert read == output.event
        assert codec.encode(read) == value
    return [output.event for output in outputs]
