"""Fast decoding: whatever it takes, the codec takes, and gives the same; and it takes what is plain."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, StringConstraints

from schemas import codec
from schemas.envelope import Data, Event
from schemas.policies import PolicyPublished
from schemas.topics import INTERACTIONS, OWNERSHIP, Kept, Topic
from services.core import decoding
from services.core.decoding import decoder, plain_decoder
from tests.schemas.golden import ALL, PLACES, Golden, each_golden, each_kind, golden
from tests.schemas.strategies import events, json_values

# Its rules are understood by pydantic alone; it is read once for each version of the policy.
NEVER_PLAIN = {PolicyPublished}

unhurried = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
thorough = settings(unhurried, max_examples=400)
OPENED = golden("steward.handoff.opened.v1", "full").json
Read = Callable[[Topic, bytes], Event]


def decode(topic: Topic, value: bytes) -> Event:
    return decoder(topic)(value)


def outcome(read: Read, topic: Topic, value: bytes) -> Event | tuple[type[Exception], str]:
    try:
        return read(topic, value)
    except codec.SchemaError as error:
        return type(error), str(error)


def look(value: object) -> object:
    """Types and order, all the way down: what equality does not see."""
    match value:
        case BaseModel():
            return (
                type(value),
                {name: look(one) for name, one in vars(value).items()},
                list(vars(value)),
                value.model_extra,
                value.__pydantic_private__,
            )
        case tuple() | list():
            return type(value), [look(one) for one in value]
        case dict():
            return [(look(key), look(one)) for key, one in value.items()]
        case datetime():
            return value.isoformat()
        case _:
            return type(value), repr(value)


def assert_same(fast: Event, slow: Event) -> None:
    """No difference but in which fields count as set."""
    assert fast == slow
    assert slow == fast
    assert look(fast) == look(slow)
    assert codec.encode(fast) == codec.encode(slow)
    assert fast.model_dump() == slow.model_dump()
    assert fast.model_copy(update={"id": "other"}) == slow.model_copy(update={"id": "other"})
    try:
        expected = hash(slow)
    except TypeError:  # holds a dict
        with pytest.raises(TypeError):
            hash(fast)
    else:
        assert hash(fast) == expected
    for made in (fast, fast.data):
        with pytest.raises(ValueError, match="frozen"):
            setattr(made, next(iter(vars(made)), "id"), None)


def agree(topic: Topic, value: bytes) -> bool:
    """Both say the same of a record; was it plain?"""
    expected, found = outcome(codec.decode, topic, value), outcome(decode, topic, value)
    if isinstance(expected, Event):
        assert isinstance(found, Event)
        assert_same(found, expected)
    else:
        assert found == expected
    plain = plain_decoder(topic)(value)
    if plain is not None:
        assert isinstance(expected, Event)
        assert_same(plain, expected)
    return plain is not None


# ---------------------------------------------------------------- it is taken


@each_golden
def test_every_golden_message_without_a_backslash_is_plain(example: Golden) -> None:
    assert b"\\" not in example.value
    assert agree(example.topic, example.value) is (example.kind not in NEVER_PLAIN)


@each_kind
@unhurried
@given(data=st.data())
def test_every_event_without_a_backslash_is_plain(kind: type[Event], data: st.DataObject) -> None:
    topic, _ = PLACES[kind.name()]
    value = codec.encode(data.draw(events(kind)))
    is_plain = b"\\" not in value and len(value) <= decoding.LONGEST and kind not in NEVER_PLAIN
    # A measure with many digits looks like a time with too many.
    assert agree(topic, value) is (is_plain and not decoding._is_rounded(value))


def test_an_event_that_others_wrote_with_spaces_is_plain() -> None:
    value = json.dumps(OPENED | {"extra": {"nested": [1, {"type": "deep"}]}}, indent=2).encode()
    assert agree(OWNERSHIP, value)


# ---------------------------------------------------------------- it is not taken for another


def wrecked(value: bytes, draw: st.DrawFn) -> bytes:
    """A record with a piece of it cut out, doubled, or put in place of another."""
    begin, end = sorted(draw(st.lists(st.integers(0, len(value)), min_size=2, max_size=2)))
    end = min(end, begin + draw(st.integers(0, 40)))
    piece = draw(
        st.sampled_from([b"", b'"', b",", b"0", b"1.0", b"null", b"true", b"-", b"9" * 30, b"\xed\xa0\x80", b"\x7f"])
        | st.binary(max_size=3)
        | st.just(value[begin:end] * 2)
    )
    return value[:begin] + piece + value[end:]


@st.composite
def wrecks(draw: st.DrawFn) -> tuple[Topic, bytes]:
    example = draw(st.sampled_from(ALL))
    value = codec.encode(codec.decode(example.topic, example.value))
    for _ in range(draw(st.integers(1, 2))):
        value = wrecked(value, draw)
    return example.topic, value


@thorough
@given(wreck=wrecks())
def test_what_is_taken_of_wrecks_is_what_the_codec_takes(wreck: tuple[Topic, bytes]) -> None:
    agree(*wreck)


odd_values = json_values | st.sampled_from(
    [
        *(0, 1, -1, 1.0, -0.0, 5e-324, 1e308, 10**18, 1 << 53, (1 << 53) + 1, 1 << 63, 1 << 64, 10**40, True, False),
        *("", "1", "4", " ", "a" * 201, "a\x7fb", "é", "😀" * 200, "ſ", "İ", "2026-01-05", "1767607200", "12:00"),
        *("2026-01-05T10:00:00.1234567Z", "2026-01-05T10:00:00.999999999Z", "2026-01-05T10:00:00.5+05:30"),
        *("2026-01-05 10:00:00z", "2026-01-05T10:00:00+0100", "2026-01-05T10:00:00", "2026-01-05T24:00:00Z"),
        *("1989-12-31T23:59:59Z", "1990-01-01T00:00:00Z", "1990-01-01T00:30:00+01:00", "1989-12-31T23:30:00-01:00"),
        *("2199-12-31T23:59:59Z", "2200-01-01T00:00:00Z", "2200-01-01T00:30:00+01:00", "2026-02-29T00:00:00Z"),
        *("2026-01-05T10:00:00-00:00", "2026-01-05T10:00:00+23:59", "2026-12-31T23:59:60Z", "0001-01-01T00:00:00Z"),
    ]
)


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in items:
        yield from places(one, (*path, key))


@st.composite
def swapped(draw: st.DrawFn) -> tuple[Topic, bytes]:
    """A golden message with odd values in place of its own, or beside them."""
    example = draw(st.sampled_from([one for one in ALL if one.kind not in NEVER_PLAIN]))
    record = example.json
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from([one for one in places(record) if one]))
        parent: Any = record
        for key in path[:-1]:
            parent = parent[key]
        if isinstance(parent, dict) and draw(st.integers(0, 9)) == 0:
            del parent[path[-1]]
        else:
            parent[path[-1]] = draw(odd_values)
    return example.topic, json.dumps(record, ensure_ascii=False).encode(errors="surrogatepass")


@thorough
@given(record=swapped())
def test_what_is_taken_with_odd_values_is_what_the_codec_takes(record: tuple[Topic, bytes]) -> None:
    agree(*record)


def written(**changes: object) -> bytes:
    return json.dumps(OPENED | changes, ensure_ascii=False).encode()


def beside(text: bytes) -> bytes:
    """With a field that nobody reads."""
    return written(unread=0).replace(b'"unread": 0', b'"unread": ' + text)


NOT_PLAIN = {
    "a seventh digit that would be rounded": written(time="2026-01-05T10:00:00.1234567Z"),
    "digits that would be rounded to the next second": written(time="2026-01-05T10:00:00.9999999Z"),
    "a number for a time": written(time=1_767_607_200),
    "a time before 1990": written(time="1989-12-31T23:59:59Z"),
    "a time after 2199": written(time="2200-01-01T00:00:00Z"),
    "a time without a zone": written(time="2026-01-05T10:00:00"),
    "no text in a field that nobody reads": beside(b'"\xff"'),
    "no text in a name that nobody reads": beside(b'0, "\xff": 0'),
    "half of a surrogate pair": beside(b'"\xed\xa0\x80"'),
    "nested deeper than pydantic reads": beside(b"[" * 250 + b"]" * 250),
    "a number longer than pydantic reads": beside(b"9" * 5_000),
    "a raw control character": written(subject="north\x01wind").replace(b"\\u0001", b"\x01"),
    "an escape": written(subject="north\x01wind"),
    "a float for a whole number": written(sourcerank=10.0),
    "a truth for a whole number": written(sourcerank=True),
    "null for what may not be absent": written(sourcerank=None),
    "a rank out of bounds": written(sourcerank=1_001),
    "an unknown type": written(type="steward.handoff.begun.v1"),
    "a type of another topic": written(type="steward.ticket.solved.v1"),
    "no type": json.dumps({key: one for key, one in OPENED.items() if key != "type"}).encode(),
    "no version": json.dumps({key: one for key, one in OPENED.items() if key != "specversion"}).encode(),
    "data of another type": written(type="steward.owner.assigned.v1"),
    "a type within other fields first": json.dumps({"unread": {"type": "steward.owner.removed.v1"}, **OPENED}).encode(),
    "another type at the end": written()[:-1] + b', "type": "steward.owner.removed.v1"}',
    "nothing": b"",
    "a list": b'[{"type":"steward.handoff.opened.v1"}]',
}


@pytest.mark.parametrize("value", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_what_is_not_certainly_the_same_is_left_to_the_codec(value: bytes) -> None:
    assert not agree(OWNERSHIP, value)


def test_of_a_name_that_stands_twice_the_last_value_counts() -> None:
    value = written()[:-1] + b', "subject": "one", "data": {"handoff": "a", "handoff": "b", "kind": "c"}}'
    assert agree(OWNERSHIP, value)
    assert decode(OWNERSHIP, value).subject == "one"


def test_a_severity_in_digits_is_left_to_the_codec() -> None:
    ticket = golden("steward.ticket.opened.v1", "full").json
    assert agree(INTERACTIONS, json.dumps(ticket).encode())
    ticket["data"]["severity"] = "2"
    assert not agree(INTERACTIONS, json.dumps(ticket).encode())


def test_an_amount_without_a_currency_is_refused_in_the_words_of_the_codec() -> None:
    purchase = golden("steward.purchase.made.v1", "full").json
    del purchase["data"]["currency"]
    assert not agree(INTERACTIONS, json.dumps(purchase).encode())


# ---------------------------------------------------------------- schemas that are not understood


class Shouted(Data):
    text: Annotated[str, StringConstraints(to_upper=True)]


class Doubled(Data):
    text: Annotated[str, AfterValidator(lambda text: text * 2)]


class Renamed(Data):
    text: str = Field(alias="words")


class Lenient(BaseModel):
    model_config = ConfigDict(frozen=True)
    text: str


class Kept_(Data):  # noqa: N801  # the name is taken
    model_config = ConfigDict(extra="allow")
    text: str


class Secretive(Data):
    text: str
    _seen: int = PrivateAttr(default=0)


class Digits(Data):
    text: Annotated[str, StringConstraints(pattern=r"^\d+$")]


class Either(Data):
    text: str | int


class Trimmed(Data):
    text: Annotated[str, BeforeValidator(lambda text: text.strip() if isinstance(text, str) else text)]


class Changeable(Data):
    text: str
    more: dict[str, int] = {"a": 1}  # noqa: RUF012  # as somebody may write it: pydantic copies it


SHAPES: list[Any] = [Shouted, Doubled, Renamed, Lenient, Kept_, Secretive, Digits, Either, Trimmed, Changeable]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("text", ["7", " seven", "٧", 7, None], ids=repr)
def test_a_rule_that_is_not_understood_is_left_to_the_codec(shape: type[BaseModel], text: object) -> None:
    class Odd(Event):
        type: Literal["steward.odd.v1"] = "steward.odd.v1"
        data: shape  # type: ignore[valid-type]

    topic = Topic("odd", "any", (Odd,), Kept(1), (), ())
    agree(topic, written(type="steward.odd.v1", data={"text": text, "words": text, "more": 1}))
