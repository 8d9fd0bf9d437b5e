"""Events made without being validated, where their maker proves what validation would find.

Nobody can tell them from others: not by equality, hash or the fields that were set, nor by what stands in a record.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ParamSpec, TypeVar

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)
P = ParamSpec("P")

_new = object.__new__
# What BaseModel.__init__ sets. The slots' own setters cost half of what object.__setattr__ does.
_set_values: Callable[[BaseModel, dict[str, Any]], None] = vars(BaseModel)["__dict__"].__set__
_set_given: Callable[[BaseModel, set[str]], None] = vars(BaseModel)["__pydantic_fields_set__"].__set__
_set_extra: Callable[[BaseModel, None], None] = vars(BaseModel)["__pydantic_extra__"].__set__
_set_private: Callable[[BaseModel, None], None] = vars(BaseModel)["__pydantic_private__"].__set__


@cache
def caster(kind: type[M]) -> Callable[[Mapping[str, Any]], M]:
    """A function that makes models of this kind from fields by name, every required one among them. It takes the
    values as they are.

    TypeError for kinds that keep more than their fields.
    """
    if kind.__private_attributes__ or kind.model_config.get("extra") == "allow":
        raise TypeError(f"{kind.__name__} keeps more than its fields; build it by its constructor")
    fields = kind.model_fields
    # In their order, because records are written in it.
    defaults = {name: None if one.is_required() else one.default for name, one in fields.items()}
    made_anew = [name for name, one in fields.items() if one.default_factory is not None]

    def fill(values: Mapping[str, Any]) -> M:
        filled = {**defaults, **values}
        if made_anew:
            for name in made_anew:
                if name not in values:
                    filled[name] = fields[name].get_default(call_default_factory=True)
        made = _new(kind)
        _set_values(made, filled)
        _set_given(made, set(values))
        _set_extra(made, None)
        _set_private(made, None)
        return made

    return fill


_fillers: dict[object, Callable[[Mapping[str, Any]], Any]] = {}


def made(kind: Callable[P, M], *_: P.args, **fields: P.kwargs) -> M:
    """A model of ours; `kind` is its class, and the types of its maker prove what validation would find.

    Tests send every output of every processor through the codec.
    """
    fill = _fillers.get(kind)
    if fill is None:
        assert isinstance(kind, type)  # noqa: S101  # a class of models, known here by how it is built
        fill = _fillers[kind] = caster(kind)
    model: M = fill(fields)
    return model
