"""Events made without being validated, where their maker proves what validation would find.

`caster` makes what was read: nobody can tell it from a model that was validated, by equality, hash or what stands in a
record, though all its fields count as set. `mould` makes what will only be written.
"""

from collections.abc import Callable
from itertools import repeat
from typing import Any, ParamSpec, TypeVar, cast

import msgspec
from pydantic import BaseModel

from schemas import codec
from schemas.envelope import Event

M = TypeVar("M", bound=BaseModel)
P = ParamSpec("P")

_new = object.__new__
# What BaseModel.__init__ sets. The slots' own setters cost half of what object.__setattr__ does.
_set_values: Callable[[BaseModel, dict[str, Any]], None] = vars(BaseModel)["__dict__"].__set__
_set_given: Callable[[BaseModel, set[str]], None] = vars(BaseModel)["__pydantic_fields_set__"].__set__
_set_extra: Callable[[BaseModel, None], None] = vars(BaseModel)["__pydantic_extra__"].__set__
_set_private: Callable[[BaseModel, None], None] = vars(BaseModel)["__pydantic_private__"].__set__


def caster(kind: type[M]) -> Callable[[dict[str, Any]], M]:
    """A function that makes models of this kind from a dict of all fields in their order. It keeps the dict, and takes
    the values as they are.

    TypeError for kinds that keep more than their fields.
    """
    _known_by_fields(kind)
    every = set(kind.model_fields)

    def fill(values: dict[str, Any]) -> M:
        model = _new(kind)
        _set_values(model, values)
        _set_given(model, every)
        _set_extra(model, None)
        _set_private(model, None)
        return model

    return fill


class Cast(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """What a mould makes: the fields of its kind, which cannot be changed, and nothing else of a model."""


_write = msgspec.json.Encoder().encode


def mould(kind: Callable[P, M]) -> Callable[P, M]:
    """What makes outputs of this kind, at a fraction of what a model costs to build and to encode.

    For the type checker it is the constructor of the kind. What it makes has the same fields and the same record, by
    `encode`, but is no model: to be told it has to be written and read. The types of its maker prove what validation
    would find; tests send every output of every processor through the codec.

    TypeError for what is no class of models or keeps more than its fields, ValueError for a default that is to be made
    anew for each.
    """
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        raise TypeError(f"{kind!r} is no kind of models; give its class")
    _known_by_fields(kind)
    fields = list[Any]()
    for name, one in kind.model_fields.items():
        if one.default_factory is not None:
            raise ValueError(f"{kind.__name__}.{name} is made anew for each model; build it by its constructor")
        if one.is_required():
            fields.append((name, Any))
        elif one.default is None:
            fields.append((name, Any, None))  # as the default of the struct it is left out of the record
        else:
            # As a default it would be left out, too; a factory's is not. This one runs no Python.
            fields.append((name, Any, msgspec.field(default_factory=repeat(one.default).__next__)))
    made: Any = msgspec.defstruct(kind.__name__, fields, bases=(Cast,), frozen=True, kw_only=True, gc=False)
    return cast(Callable[P, M], made)


def encode(event: Event) -> bytes:
    """The record's value: what `schemas.codec.encode` gives, for events out of moulds, too."""
    return _write(event) if isinstance(event, Cast) else codec.encode(event)


def _known_by_fields(kind: type[BaseModel]) -> None:
    if kind.__private_attributes__ or kind.model_config.get("extra") == "allow":
        raise TypeError(f"{kind.__name__} keeps more than its fields; build it by its constructor")
