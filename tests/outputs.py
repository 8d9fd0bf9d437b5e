"""What a processor publishes is built without being validated: here every output is sent through the codec."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel

from schemas import codec
from schemas.envelope import Event
from services.core.moulds import encode, mould
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


def out_of_moulds(model: Any) -> Any:
    """The model and those within it, as a processor makes them; what a default gives is not told."""
    match model:
        case BaseModel():
            fields = type(model).model_fields
            told = {name: out_of_moulds(value) for name, value in model if value != fields[name].default}
            return _mould(type(model))(**told)
        case tuple():
            return tuple(out_of_moulds(one) for one in model)
        case _:
            return model


_mould = cache(mould)
