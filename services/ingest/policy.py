"""What every map may say, of a file or of a vendor's events: templates, types of facts, and the data they carry."""

from collections.abc import Collection
from functools import cache, lru_cache
from string import Formatter
from typing import get_type_hints

from pydantic import BaseModel, ConfigDict

from schemas.envelope import Event


class Part(BaseModel):
    """A part of a map: strict, and without keys that nobody reads."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


@lru_cache(maxsize=4096)
def pieces(template: str, unless_plain: str) -> tuple[tuple[str, str | None], ...]:
    """Text and, after it, the name in braces.

    Raises ValueError with the sentence `unless_plain` where more than a plain name stands in braces.
    """
    try:
        parsed = list(Formatter().parse(template))
    except ValueError:
        raise ValueError(f"'{template}' has a brace without its partner; double a brace that is text") from None
    for _, name, spec, conversion in parsed:
        if name is not None and (not name.isidentifier() or spec or conversion):
            raise ValueError(f"'{template}' {unless_plain}")
    return tuple((text, name) for text, name, _, _ in parsed)


def full_type(name: str, known: Collection[str], who: str) -> str:
    """The type of a fact from its short or full name. Raises ValueError when it is none that `who` can give."""
    full = name if name in known else f"steward.{name}.v1"
    if full not in known:
        raise ValueError(f"'{name}' is no fact that {who} can give; those are {', '.join(map(short, known))}")
    return full


def short(name: str) -> str:
    """A type as people write it: contract.won."""
    return name.removeprefix("steward.").removesuffix(".v1")


@cache
def data_of(kind: type[Event]) -> dict[str, bool]:
    """What the data of a type may hold, and whether it must."""
    data: type[BaseModel] = get_type_hints(kind)["data"]
    return {name: field.is_required() for name, field in data.model_fields.items()}


def check_data(kind: type[Event], given: Collection[str]) -> None:
    """Raises ValueError when a type has no such data, or needs more."""
    known, name = data_of(kind), short(kind.name())
    for key in given:
        if key not in known:
            raise ValueError(f"{name} has no data '{key}'; it has {', '.join(known)}")
    missing = [key for key, required in known.items() if required and key not in given]
    if missing:
        raise ValueError(f"{name} needs data {' and '.join(missing)}")
