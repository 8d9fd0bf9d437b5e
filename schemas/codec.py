"""Bytes to event and back: the contract. Whoever reads records faster must give what `decode` gives.

SchemaError          the record is not an event this topic may carry
└── UnknownType      its type is not in the catalogue: a newer writer, or a mistake
"""

from functools import cache
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from schemas.envelope import Event
from schemas.topics import CATALOGUE, Topic

STATED = {"specversion", "type"}  # a writer's model fills them in; a record without them is no CloudEvent
TYPES = frozenset(kind.name() for topic in CATALOGUE for kind in topic.types)


class SchemaError(ValueError):
    """A sentence per mistake: which field, what is wrong with it, and the value."""


class UnknownType(SchemaError):
    """The record's type is not one this topic may carry."""


def encode(event: Event) -> bytes:
    """The record's value; absent attributes are left out."""
    return event.__pydantic_serializer__.to_json(event, exclude_none=True)


def decode(topic: Topic, value: bytes) -> Event:
    """The event in a record of this topic.

    Raises UnknownType or SchemaError, whose text names the field at fault.
    """
    try:
        event: Event = _adapter(topic.types).validate_json(value)
    except ValidationError as error:
        raise _refusal(topic, error) from None
    if missing := STATED - event.model_fields_set:
        raise SchemaError("; ".join(f"{name}: field required" for name in sorted(missing)))
    return event


@cache
def _adapter(types: tuple[type[Event], ...]) -> Any:  # noqa: ANN401  # pydantic_core's validator; going through TypeAdapter costs twice as much
    union: Any = types[0]
    for other in types[1:]:
        union |= other
    if len(types) > 1:
        union = Annotated[union, Field(discriminator="type")]
    return TypeAdapter(union).validator


def _refusal(topic: Topic, error: ValidationError) -> SchemaError:
    for mistake in error.errors(include_url=False):
        match mistake["type"], mistake["loc"]:
            case "union_tag_not_found", _:
                return SchemaError("type: field required")
            case "union_tag_invalid", _:
                return _unknown(topic, mistake["ctx"]["tag"])
            case "literal_error", ("type",):  # the only type of its topic, hence no union and no tag
                return _unknown(topic, mistake["input"])
            case _:
                continue
    return SchemaError("; ".join(sentences(error)))


def _unknown(topic: Topic, tag: object) -> UnknownType:
    return UnknownType(f"type: this is no event of {topic.name} (found {_short(tag)})")


def sentences(error: ValidationError, limit: int = 5) -> list[str]:
    """One sentence per mistake: the path of the field, what is wrong, the value (shortened)."""
    found = []
    for mistake in error.errors(include_url=False)[:limit]:
        path = mistake["loc"]
        if path and path[0] in TYPES:  # the tag of the union, which is no field
            path = path[1:]
        where = ".".join(str(part) for part in path) or "the record"
        text = mistake["msg"].removeprefix("Value error, ")
        value = "" if mistake["type"] in {"missing", "value_error"} else f" (found {_short(mistake['input'])})"
        found.append(f"{where}: {text[0].lower()}{text[1:]}{value}")
    return found


def _short(value: object, width: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= width else text[: width - 1] + "…"
