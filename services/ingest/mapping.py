"""Map files: which rows of a file are which facts. Pure: header, rows and the time of arrival are arguments.

MapError    the map does not fit the file; one sentence per mistake
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from schemas.codec import sentences
from schemas.envelope import DEFAULT_RANK, EARLIEST, Event, Id, Name
from schemas.identity import Home
from schemas.topics import BUILT, Topic
from services.core.errors import OperatorError
from services.core.instants import MINUTE, Instant, instant, moment
from services.ingest.policy import Part, check_data, data_of, full_type, pieces

AHEAD = 5 * MINUTE  # a fact later than its arrival by more than this was dated by a wrong clock
ISO = "iso"
TOPICS: dict[type[Event], Topic] = {
    kind: topic for topic in BUILT if topic.key == "account" and "ingest" in topic.producers for kind in topic.types
}
TYPES = {kind.name(): kind for kind in TOPICS}

_SAMPLE = datetime(2026, 11, 23, 21, 45, 58, tzinfo=UTC)
_EARLIEST = instant(EARLIEST)
_NO_MORE: Mapping[str, int] = MappingProxyType({})
_NOBODY = "acc_0"  # stands for the account while a fact is only checked
_HOME: TypeAdapter[str] = TypeAdapter(Home)


class MapError(OperatorError):
    """The map does not fit the file."""


class _Unfit(Exception):
    """Why a row is refused."""


# ---------------------------------------------------------------- the document


def _parts(template: str) -> tuple[tuple[str, str | None], ...]:
    return pieces(template, "must hold plain column names in braces; give others an alias in columns")


def _names(template: str) -> list[str]:
    return [name for _, name in _parts(template) if name is not None]


def _template(text: str) -> str:
    _parts(text)
    return text


def _row_id(text: str) -> str:
    if not set(_names(text)) - {"file"}:
        raise ValueError(f"'{text}' is the same for every row; add {{row}} or a column with the vendor's own id")
    return text


def _alias(name: str) -> str:
    if not name.isidentifier() or name in {"file", "row"}:
        raise ValueError(f"'{name}' is no alias; take a word of letters, digits and _, but not file or row")
    return name


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"'{name}' is no time zone; write one like Europe/Berlin") from None
    return name


def _format(text: str) -> str:
    if text == ISO:
        return text
    try:
        known = datetime.strptime(_SAMPLE.strftime(text), text).date() == _SAMPLE.date()  # noqa: DTZ007  # only the format is tried
    except ValueError:
        known = False
    if not known:
        raise ValueError(f"'{text}' is neither iso nor a format with year, month and day like %d.%m.%Y %H:%M")
    return text


def _encoding(name: str) -> str:
    try:
        "".encode(name)
    except LookupError:
        raise ValueError(f"'{name}' is no encoding; write one like utf-8 or cp1252") from None
    return name


def _type(name: str) -> str:
    return full_type(name, TYPES, "a file")


def _some(facts: tuple["FactRule", ...]) -> tuple["FactRule", ...]:
    if not facts:
        raise ValueError("a map without facts imports nothing; name at least one")
    return facts


Template = Annotated[str, AfterValidator(_template)]


class Times(Part):
    """How times are written. A naive time belongs to `zone`; in the hour that occurs twice, to the first."""

    format: Annotated[str, AfterValidator(_format)] = ISO
    zone: Annotated[str, AfterValidator(_zone)] | None = None

    def read(self, text: str) -> Instant:
        try:
            iso = self.format == ISO
            time = datetime.fromisoformat(text) if iso else datetime.strptime(text, self.format)  # noqa: DTZ007  # a zone is demanded below
        except ValueError:
            wanted = "in ISO 8601" if self.format == ISO else f"of the form {self.format}"
            raise _Unfit(f"the time '{text}' is not {wanted}") from None
        if time.utcoffset() is None:
            if self.zone is None:
                raise _Unfit(f"the time '{text}' has no zone; name one under times.zone")
            time = time.replace(tzinfo=ZoneInfo(self.zone))
        return instant(time)


class AccountRule(Part):
    """Whose a row is. With `first_of`, the first row in time with the same value decides for all of them."""

    home: Template
    create: bool = False
    first_of: Template | None = None


class FactRule(Part):
    """A fact that every row gives whose cells equal those of `when`."""

    when: dict[str, str] = Field(default_factory=dict)
    type: Annotated[str, AfterValidator(_type)]
    time: Template = "{timestamp}"
    data: dict[str, Template] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_the_type(self) -> "FactRule":
        check_data(TYPES[self.type], self.data)
        return self


class MapFile(Part):
    source: Name
    format: Literal["csv"] = "csv"
    delimiter: Annotated[str, Field(pattern=r"^[^\"\r\n]$")] = ","
    encoding: Annotated[str, AfterValidator(_encoding)] = "utf-8"
    columns: dict[Annotated[str, AfterValidator(_alias)], str] = Field(default_factory=dict)
    times: Times = Times()
    sort: Literal["time"] = "time"
    account: AccountRule
    id: Annotated[Template, AfterValidator(_row_id)] = "{file}:{row}"
    facts: Annotated[tuple[FactRule, ...], AfterValidator(_some)]

    @property
    def topics(self) -> tuple[Topic, ...]:
        """Where its facts go."""
        return tuple(dict.fromkeys(TOPICS[TYPES[rule.type]] for rule in self.facts))


# ---------------------------------------------------------------- what a row gives


@dataclass(frozen=True, slots=True)
class Draft:
    """A fact that lacks only its account. `part` is the position of its rule in the map, from 0."""

    part: int
    id: str
    type: str
    at: Instant
    data: Mapping[str, str]

    def event(
        self,
        source: str,
        account: str,
        rank: int = DEFAULT_RANK,
        run: Id | None = None,
        received: Instant | None = None,
        position: int | None = None,
    ) -> Event:
        """The fact as it is sent, at this `position` of its run. Raises pydantic's ValidationError."""
        attributes = {
            "id": self.id,
            "source": source,
            "subject": account,
            "partitionkey": account,
            "time": moment(self.at),
            "sourcerank": rank,
            "run": run,
            "runposition": position,
            "receivedat": None if received is None else moment(received),
            "data": self.data,
        }
        return TYPES[self.type].model_validate(attributes)


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What a row says. With a group, the home of its first row, in order of `at`, holds for all of them."""

    drafts: tuple[Draft, ...]
    home: str | None
    group: str | None = None
    at: Instant | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that is refused as a whole; `line` is where it stands in the file."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class _Filling:
    """A template whose names have become positions in the row."""

    place: str
    text: str
    parts: tuple[tuple[str, int | None], ...]

    def fill(self, cells: Sequence[str]) -> str | None:
        """The text for this row; None when a cell that it names is empty."""
        found = []
        for text, position in self.parts:
            found.append(text)
            if position is not None:
                cell = cells[position]
                if not cell or cell.isspace():
                    return None
                found.append(cell)
        return "".join(found)

    def need(self, cells: Sequence[str]) -> str:
        filled = self.fill(cells)
        if filled is None:
            raise _Unfit(f"{self.place} needs '{self.text}', and a cell that it names is empty")
        return filled


@dataclass(frozen=True, slots=True)
class _Rule:
    when: tuple[tuple[int, str], ...]
    type: str
    time: _Filling
    data: tuple[tuple[str, _Filling, bool], ...]
    part: int

    def draft(self, cells: Sequence[str], id: str, at: Instant) -> Draft:
        data = {}
        for key, filling, required in self.data:
            value = filling.need(cells) if required else filling.fill(cells)
            if value is not None:
                data[key] = value
        return Draft(self.part, f"{id}.{self.part}", self.type, at, data)


@dataclass(frozen=True, slots=True)
class Plan:
    """A map fitted to the header of one file."""

    source: str
    times: Times
    width: int
    file: str
    id: _Filling
    home: _Filling
    group: _Filling | None
    rules: tuple[_Rule, ...]

    def read(self, row: int, line: int, cells: Sequence[str], arrival: Instant) -> RowFacts | Reject | None:
        """What a row says, counted from 1 in `row`; None when it says nothing, also not whose the others are."""
        try:
            return self._read(row, cells, arrival)
        except _Unfit as unfit:
            return Reject(line, str(unfit))

    def _read(self, row: int, cells: Sequence[str], arrival: Instant) -> RowFacts | None:
        if len(cells) != self.width:
            raise _Unfit(f"the row has {len(cells)} fields, the header {self.width}")
        rules = [rule for rule in self.rules if all(cells[at] == value for at, value in rule.when)]
        group = self.group.fill(cells) if self.group else None
        if not rules and group is None:
            return None
        home = self._home(cells, needed=group is None)
        if not rules and home is None:
            return None
        at = None if group is None else self._time(self.rules[0].time, cells, arrival)
        id = self.id.need([*cells, str(row), self.file]) if rules else ""
        drafts = tuple(rule.draft(cells, id, self._time(rule.time, cells, arrival)) for rule in rules)
        self._check(drafts)
        return RowFacts(drafts, home, group, at)

    def _home(self, cells: Sequence[str], *, needed: bool) -> str | None:
        home = self.home.need(cells) if needed else self.home.fill(cells)
        try:
            return None if home is None else _HOME.validate_python(home)
        except ValidationError:
            raise _Unfit(f"'{home}' is no home; it must read source:kind:id, with 200 characters at most") from None

    def _time(self, filling: _Filling, cells: Sequence[str], arrival: Instant) -> Instant:
        text = filling.need(cells).strip()
        at = self.times.read(text)
        if at < _EARLIEST:
            raise _Unfit(f"the time '{text}' lies before {EARLIEST.year}")
        if at > arrival + AHEAD:
            raise _Unfit(f"the time '{text}' lies in the future")
        return at

    def _check(self, drafts: Sequence[Draft]) -> None:
        for draft in drafts:
            try:
                draft.event(self.source, _NOBODY)
            except ValidationError as error:
                raise _Unfit("; ".join(sentences(error))) from None


def fit(mapping: MapFile, header: Sequence[str], file: str) -> Plan:
    """Fit the map to a file with these columns; `file` is what {file} stands for.

    Raises MapError with a sentence per column that is missing.
    """
    columns = _Columns(mapping.columns, header)
    first_of = mapping.account.first_of
    plan = Plan(
        source=mapping.source,
        times=mapping.times,
        width=len(header),
        file=file,
        id=columns.filling("id", mapping.id, {"row": len(header), "file": len(header) + 1}),
        home=columns.filling("account.home", mapping.account.home),
        group=None if first_of is None else columns.filling("account.first_of", first_of),
        rules=tuple(columns.rule(part, rule) for part, rule in enumerate(mapping.facts)),
    )
    if columns.mistakes:
        raise MapError("\n".join(dict.fromkeys(columns.mistakes)))
    return plan


class _Columns:
    """Where each name stands in a row; collects what is missing."""

    def __init__(self, aliases: Mapping[str, str], header: Sequence[str]) -> None:
        self.mistakes: list[str] = []
        at = {name: position for position, name in enumerate(header) if header.count(name) == 1}
        self._known = {name: position for name, position in at.items() if name.isidentifier()}
        for alias, column in aliases.items():
            if column not in at:
                problem = "stands there twice" if column in header else "is not there"
                self.mistakes.append(f"columns.{alias}: the column '{column}' {problem}; there are {', '.join(header)}")
            self._known[alias] = at.get(column, 0)
        self._nameless = [name for name in at if name not in self._known and name not in aliases.values()]

    def position(self, place: str, text: str, name: str, more: Mapping[str, int] = _NO_MORE) -> int:
        known = {**self._known, **more}
        if name not in known:
            others = f", and under an alias {', '.join(self._nameless)}" if self._nameless else ""
            there = f"there are {', '.join(known)}{others}"
            self.mistakes.append(f"{place}: '{text}' names the column '{name}', which is not there; {there}")
        return known.get(name, 0)

    def filling(self, place: str, text: str, more: Mapping[str, int] = _NO_MORE) -> _Filling:
        parts = (
            (fixed, None if name is None else self.position(place, text, name, more)) for fixed, name in _parts(text)
        )
        return _Filling(place, text, tuple(parts))

    def rule(self, part: int, rule: FactRule) -> _Rule:
        place = f"facts.{part}"
        required = data_of(TYPES[rule.type])
        return _Rule(
            when=tuple((self.position(f"{place}.when", name, name), value) for name, value in rule.when.items()),
            type=rule.type,
            time=self.filling(f"{place}.time", rule.time),
            data=tuple(
                (key, self.filling(f"{place}.data.{key}", text), required[key]) for key, text in rule.data.items()
            ),
            part=part,
        )
