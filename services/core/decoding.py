"""Records to events, fast: reads what is plain, and leaves everything else to `schemas.codec`, which is the contract.

What pydantic would do with each type is known from its core schema. From that a decoder of msgspec is built, which may
only say yes: a record that it does not take, for whatever reason, is asked of the codec, which takes or refuses it.
A type whose schema holds anything that is not understood here is always asked of the codec.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec.structs import asdict
from pydantic import BaseModel, WrapValidator

from schemas import codec
from schemas.envelope import EARLIEST, LATEST, Event, Time
from schemas.topics import Topic
from services.core.moulds import caster

# What msgspec skips of unknown fields it checks less than pydantic: depth of nesting, and length of numbers.
LONGEST = 4_400
DEEPEST = 190
SHORT = 500  # in so few bytes no event nests so deep
BACKSLASH = ord("\\")

_type_in = re.compile(rb'"type": ?"([^"]*)"').search
# Digits of a second beyond the sixth are cut off by pydantic, and rounded by msgspec.
_is_rounded = re.compile(rb"\.[0-9]{7}").search
_YEARS = range(EARLIEST.year + 1, LATEST.year - 1)  # these lie within the bounds in whatever zone
_LARGEST = 1 << 62  # as bound of a number
_plausible = next(one.func for one in get_args(Time) if isinstance(one, WrapValidator))
# With neither backslashes nor raw control characters in a record, no string of it holds one: any string fits.
_ANY_TEXT = r"^[^\x00-\x1f]+$"
# Patterns that Python reads as Rust does: ASCII without classes such as \d.
_is_plain_pattern = re.compile(r"\^(?:[ -\[\]-~]|\\[.x])+\$").fullmatch

Schema = Mapping[str, Any]
Finish = Callable[[Any], Any]
Shape = tuple[Any, Finish | None]
"""The type that msgspec reads, and what makes of it what pydantic would give; None: it is that already."""


class _Unfit(Exception):
    """The schema holds something that is not understood here."""


class _Unsure(Exception):
    """The record may or may not be right, or is read in another way."""


@cache
def decoder(topic: Topic) -> Callable[[bytes], Event]:
    """What decodes records of a topic. It gives what `schemas.codec.decode` gives, equal but for `model_fields_set`; it
    raises what that raises.
    """
    plain = plain_decoder(topic)

    def decode(value: bytes) -> Event:
        event = plain(value)
        return codec.decode(topic, value) if event is None else event

    return decode


@cache
def plain_decoder(topic: Topic) -> Callable[[bytes], Event | None]:
    """What gives the events in plain records of a topic, and None where only the codec can say."""
    found = {kind.name().encode(): _reader(kind) for kind in topic.types}
    readers = {name: one for name, one in found.items() if one is not None}

    def decode(value: bytes) -> Event | None:
        # The first type that stands in the record: if it is not the event's own, its reader will not take it.
        told = _type_in(value)
        reader = told and readers.get(told[1])
        if not reader or BACKSLASH in value or _is_rounded(value):
            return None
        size = len(value)
        if size > SHORT and (size > LONGEST or value.count(b"[") + value.count(b"{") > DEEPEST):
            return None
        read, finish = reader
        try:
            if not value.isascii():
                value.decode()  # msgspec does not look into what it skips
            event: Event = finish(read(value))
        except (msgspec.MsgspecError, UnicodeDecodeError, _Unsure):
            return None
        return event

    return decode


@cache
def _reader(kind: type[Event]) -> tuple[Callable[[bytes], Any], Finish] | None:
    """What reads records of this type, and what makes an event of it; None where its schema is not understood."""
    try:
        shape, finish = _model(kind.__pydantic_core_schema__, codec.STATED)
    except _Unfit:
        return None
    assert finish is not None  # noqa: S101  # a model is always made
    return msgspec.json.Decoder(shape).decode, finish


# ---------------------------------------------------------------- schemas


def _shape(schema: Schema) -> Shape:
    match schema["type"]:
        case "str" | "int" | "float" | "bool":
            return _scalar(schema), None
        case "literal" if all(isinstance(one, str) for one in schema["expected"]):
            _only(schema, "expected")
            return Literal[tuple(schema["expected"])], None
        case "nullable":
            _only(schema, "schema")
            shape, finish = _shape(schema["schema"])
            return shape | None, finish and _unless_null(finish)
        case "tuple":
            return _tuple(schema)
        case "dict":
            return _dict(schema)
        case "function-wrap":
            return _time(schema)
        case "function-before" | "function-after":
            return _checked(schema)
        case "model":
            return _model(schema)
        case _:
            raise _Unfit


def _only(schema: Schema, *names: str) -> None:
    """Nothing else may stand in a schema: it would be a rule that is not kept here."""
    if schema.keys() - {"type", "metadata", "ref", *names}:
        raise _Unfit


def _scalar(schema: Schema) -> Any:  # noqa: ANN401  # a form that msgspec understands
    kind = {"str": str, "int": int, "float": float, "bool": bool}[schema["type"]]
    _only(schema, *{str: ("min_length", "max_length", "pattern"), bool: ()}.get(kind, ("ge", "gt", "le", "lt")))
    rules = {name: rule for name, rule in schema.items() if name not in {"type", "metadata", "ref"}}
    pattern = rules.get("pattern")
    if pattern == _ANY_TEXT:
        del rules["pattern"]
        rules["min_length"] = max(1, rules.get("min_length", 1))
    elif pattern is not None and not (isinstance(pattern, str) and _is_plain_pattern(pattern)):
        raise _Unfit
    if any(abs(rule) > _LARGEST for name, rule in rules.items() if name != "pattern"):
        raise _Unfit
    return Annotated[kind, msgspec.Meta(**rules)] if rules else kind


def _tuple(schema: Schema) -> Shape:
    _only(schema, "items_schema", "variadic_item_index", "min_length", "max_length")
    shapes = [_shape(one) for one in schema["items_schema"]]
    rules = {name: schema[name] for name in ("min_length", "max_length") if name in schema}
    if "variadic_item_index" in schema:
        if len(shapes) > 1:
            raise _Unfit
        shape, finish = shapes[0]
        whole: Any = tuple[shape, ...]  # type: ignore[valid-type]
        return Annotated[whole, msgspec.Meta(**rules)] if rules else whole, finish and _each(finish)
    if rules or any(finish for _, finish in shapes):
        raise _Unfit
    return tuple[tuple(shape for shape, _ in shapes)], None  # type: ignore[misc]


def _dict(schema: Schema) -> Shape:
    _only(schema, "keys_schema", "values_schema")
    (key, finish_key), (shape, finish) = _shape(schema["keys_schema"]), _shape(schema["values_schema"])
    if finish_key is not None:
        raise _Unfit
    whole: Any = dict[key, shape]  # type: ignore[valid-type]
    return whole, finish and _each_value(finish)


def _time(schema: Schema) -> Shape:
    inner = dict(schema["schema"])
    inner.pop("metadata", None)
    aware = {"type": "datetime", "tz_constraint": "aware", "strict": False, "microseconds_precision": "truncate"}
    if schema["function"]["function"] is not _plausible or inner != aware:
        raise _Unfit
    return Annotated[datetime, msgspec.Meta(tz=True)], _within


def _checked(schema: Schema) -> Shape:
    """A function before or after: asked afterwards, and it must leave what it is given as it is."""
    _only(schema, "schema", "function")
    function, (shape, finish) = schema["function"], _shape(schema["schema"])
    is_made = schema["type"] == "function-after" and schema["schema"]["type"] == "model"
    if function["type"] != "no-info" or not (is_made or _bare(shape) in {str, int, bool}):
        raise _Unfit
    return shape, _unchanged(function["function"], finish)


def _bare(shape: Any) -> Any:  # noqa: ANN401  # a form that msgspec understands
    return get_args(shape)[0] if hasattr(shape, "__metadata__") else shape


def _model(schema: Schema, stated: Collection[str] = ()) -> Shape:
    """A model; `stated` are fields that must stand in the record though they have defaults."""
    if schema["type"] == "function-after":
        return _checked(schema)
    _only(schema, "cls", "config", "custom_init", "root_model", "schema")
    config, inner = schema["config"], schema["schema"]
    is_usual = config.get("strict") is True and config.get("extra_fields_behavior") == "ignore"
    if not is_usual or config.keys() - {"title", "strict", "extra_fields_behavior"}:
        raise _Unfit
    if schema["custom_init"] or schema["root_model"] or inner["type"] != "model-fields":
        raise _Unfit
    _only(inner, "computed_fields", "fields", "model_name")
    forms, late = list[tuple[str, Any, Any]](), list[tuple[str, Finish]]()
    for name, field in inner["fields"].items():
        _only(field, "schema")
        rule, default = field["schema"], msgspec.NODEFAULT
        if rule["type"] == "default":
            _only(rule, "schema", "default", "default_factory", "default_factory_takes_data")
            if name not in stated:
                default = _default(rule)
            rule = rule["schema"]
        shape, finish = _shape(rule)
        forms.append((name, shape, default))
        if finish is not None:
            late.append((name, finish))
    read = msgspec.defstruct(schema["cls"].__name__, forms, kw_only=True, gc=False)
    return read, _made(schema["cls"], late)


def _default(rule: Schema) -> Any:  # noqa: ANN401  # what msgspec understands as a default
    if "default_factory" in rule:
        if rule.get("default_factory_takes_data"):
            raise _Unfit
        return msgspec.field(default_factory=rule["default_factory"])
    # A model is finished already; what can be changed would be shared, and msgspec refuses it.
    if isinstance(rule["default"], BaseModel | dict | list | set):
        raise _Unfit
    return rule["default"]


# ---------------------------------------------------------------- what comes after reading


def _made(kind: type[BaseModel], late: Sequence[tuple[str, Finish]]) -> Finish:
    fill: Finish = caster(kind)

    def make(read: msgspec.Struct) -> Any:  # noqa: ANN401  # a model of this kind
        found = asdict(read)
        for name, finish in late:
            value = found[name]
            if value is not None:
                found[name] = finish(value)
        return fill(found)

    return make


def _within(time: datetime) -> datetime:
    if time.year not in _YEARS and not EARLIEST <= time < LATEST:
        raise _Unsure
    return time


def _unless_null(finish: Finish) -> Finish:
    return lambda value: None if value is None else finish(value)


def _each(finish: Finish) -> Finish:
    return lambda values: tuple([finish(value) for value in values])


def _each_value(finish: Finish) -> Finish:
    return lambda values: {key: finish(value) for key, value in values.items()}


def _unchanged(function: Finish, finish: Finish | None) -> Finish:
    def check(value: Any) -> Any:  # noqa: ANN401  # whatever the field holds
        found = value if finish is None else finish(value)
        try:
            is_same = function(found) is found
        except (ValueError, AssertionError):
            is_same = False
        if not is_same:
            raise _Unsure
        return found

    return check
