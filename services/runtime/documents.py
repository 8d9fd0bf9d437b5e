"""YAML files that an operator writes: read into a model, or refused with one sentence and line per mistake.

DocumentError    the file cannot be taken as it is
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from functools import cache
from json import dumps
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSet
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.scalarbool import ScalarBoolean

from schemas.codec import sentences
from services.core.errors import OperatorError

M = TypeVar("M", bound=BaseModel)
Place = tuple[str | int, ...]  # keys and positions from the root down
Lines = dict[Place, int]  # counted from 1

_DEEPEST = 50


class DocumentError(OperatorError):
    """One sentence per mistake, each on its own line after `file:line: `."""


class _Unfit(Exception):
    """A value that YAML knows and a document of ours does not."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line


def load(path: Path, model: type[M]) -> M:
    """The document in a YAML 1.2 file; dates and times without quotes count as their ISO text.

    Raises DocumentError with every mistake, in order of lines.
    """
    root = _parsed(path, _text(path))
    lines: Lines = {(): 1 + getattr(getattr(root, "lc", None), "line", 0)}
    try:
        plain = _plain(root, (), lines)
    except _Unfit as unfit:
        raise _refusal(path, [(unfit.line, str(unfit))]) from None
    if not isinstance(plain, dict):
        what = "the file is empty" if plain is None else "this is not a mapping"
        example = next(iter(model.model_fields), "key")
        raise _refusal(path, [(lines[()], f"{what}; keys and their values belong here, such as '{example}: …'")])
    try:
        return model.model_validate_json(dumps(plain), extra="forbid")
    except ValidationError as error:
        raise _refusal(path, sorted(_mistakes(error, lines, _keys(model)))) from None


def _refusal(path: Path, found: Sequence[tuple[int, str]]) -> DocumentError:
    return DocumentError("\n".join(f"{path}:{line}: {sentence}" for line, sentence in found))


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DocumentError(f"{path}: there is no such file") from None
    except OSError as error:
        raise DocumentError(f"{path}: this cannot be read: {error.strerror}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + raw.count(b"\n", 0, error.start)
        raise _refusal(path, [(line, "this is not readable YAML: the file is not in UTF-8")]) from None


def _parsed(path: Path, text: str) -> object:
    try:
        return YAML(typ="rt").load(text)
    except DuplicateKeyError as error:
        key = (error.problem or "").partition('"')[2].partition('"')[0]
        twice = f"the key '{key}' stands here a second time; keep one of them"
        raise _refusal(path, [(_line_of(error), twice)]) from None
    except MarkedYAMLError as error:
        why = ", ".join(part for part in (error.problem, error.context) if part)
        raise _refusal(path, [(_line_of(error), f"this is not readable YAML: {why}")]) from None
    except ReaderError as error:
        line = 1 + text.count("\n", 0, error.position)
        raise _refusal(path, [(line, "this is not readable YAML: a control character stands here")]) from None


def _line_of(error: MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return 1 if mark is None else int(mark.line) + 1


def _plain(node: object, place: Place, lines: Lines) -> Any:
    """The node as JSON knows it; notes in `lines` where each value stands."""
    if len(place) > _DEEPEST:
        raise _Unfit(lines[()], f"values stand more than {_DEEPEST} levels deep under '{place[0]}'")
    match node:
        case ScalarBoolean():  # a boolean with an anchor; ruamel makes it an int
            return bool(node)
        case None | bool() | int() | float() | str():
            return node
        case date():
            return node.isoformat()
        case Mapping() if not isinstance(node, CommentedSet):
            return {str(key): _item(node, key, place, lines) for key in node}
        case Sequence() if not isinstance(node, bytes):
            return [_item(node, number, place, lines) for number in range(len(node))]
        case _:
            where = ".".join(str(part) for part in place) or "the document"
            raise _Unfit(lines[place], f"the tag of this value means nothing here; write {where} without it")


def _item(parent: Any, key: Any, place: Place, lines: Lines) -> Any:
    if isinstance(parent, Mapping) and not isinstance(key, str | int | float | date):
        raise _Unfit(lines[place], f"the key {key!r} is not a word")
    inner = (*place, key if isinstance(parent, Sequence) else str(key))
    value = parent[key]
    # Of a merged key (<<) no line is known. A value's own line counts only where it follows its key's:
    # an absent value is noted on the next line, an alias on that of its anchor.
    own = lines[place] - 1
    marks = (parent.lc.data or {}).get(key, (own, 0))
    key_line, value_line = marks[0], marks[-2]
    follows = isinstance(value, str | int | float | date) and value_line > key_line
    lines[inner] = 1 + (value_line if follows else key_line)
    return _plain(value, inner, lines)


def _mistakes(error: ValidationError, lines: Lines, keys: frozenset[str]) -> Iterator[tuple[int, str]]:
    told = sentences(error, limit=error.error_count())
    found = list(zip(error.errors(include_url=False), told, strict=True))
    strangers = [mistake["loc"] for mistake, _ in found if mistake["type"] == "extra_forbidden"]
    meant = {place: _closest(str(place[-1]), keys) for place in strangers}
    misspelt = {(*place[:-1], key) for place, key in meant.items()}
    for mistake, sentence in found:
        place = mistake["loc"]
        if place in meant:
            yield _line(place, lines), _stranger(str(place[-1]), meant[place], keys)
        elif mistake["type"] == "value_error" or not place:
            # A check over a whole part begins with the path, from there, of the value at fault.
            text = sentence.removeprefix("the record: ")
            rest = text.removeprefix(".".join(map(str, place)) + ": ")
            yield _line(_named(place, rest, lines), lines), text
        elif mistake["type"] != "missing" or place not in misspelt:
            yield _line(place, lines), sentence


def _line(place: Place, lines: Lines) -> int:
    """The line of the innermost value on the way that exists: of a missing key, its parent's."""
    while place not in lines:
        place = place[:-1]
    return lines[place]


def _named(part: Place, text: str, lines: Lines) -> Place:
    """The place in the part whose path the text begins with; the part itself where it names none."""
    path = text.partition(" ")[0].removesuffix(":")
    inner = (place for place in lines if place[: len(part)] == part and len(place) > len(part))
    return next((place for place in inner if ".".join(map(str, place[len(part) :])) == path), part)


def _closest(key: str, keys: frozenset[str]) -> str | None:
    return next(iter(get_close_matches(key, keys - {key}, n=1)), None)


def _stranger(key: str, meant: str | None, keys: frozenset[str]) -> str:
    if key in keys:
        return f"'{key}' is not a key here, but elsewhere in this file; is it indented as it should be?"
    return f"'{key}' is not a key here" + (f"; did you mean '{meant}'?" if meant else "; remove it")


@cache
def _keys(model: type[BaseModel]) -> frozenset[str]:
    """Every key that the model or one inside it may have."""
    schema = model.model_json_schema()
    parts = (schema, *schema.get("$defs", {}).values())
    return frozenset(key for part in parts for key in part.get("properties", {}))
