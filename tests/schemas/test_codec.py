"""The codec: what it refuses and in which words, what it ignores, and that it never breaks."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError

from schemas import codec
from schemas.codec import SchemaError, UnknownType
from schemas.envelope import Event, Id, Name
from schemas.generate import json_schema
from schemas.identity import Home
from schemas.renewals import DealHome, handoff_of
from schemas.topics import ACCOUNTS, CATALOGUE, CLOCK, IDENTITY, INTERACTIONS, OWNERSHIP, POLICY, RENEWALS, Topic
from tests.schemas.golden import ALL, PLACES, Golden, each_golden, each_kind, golden
from tests.schemas.strategies import DATA, events, json_values, names

OPENED = golden("steward.handoff.opened.v1", "full").json
BUILT = [topic for topic in CATALOGUE if topic.types]

each_built = pytest.mark.parametrize("topic", BUILT, ids=str)
Path = tuple[str | int, ...]  # keys and positions from the record down

# A busy machine is no failure.
unhurried = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
thorough = settings(unhurried, max_examples=500)


def opened(**changes: object) -> bytes:
    """The full golden opening with attributes changed."""
    return json.dumps(OPENED | changes).encode()


def carrying(**changes: object) -> bytes:
    """The full golden opening with its data changed."""
    return opened(data=OPENED["data"] | changes)


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in OPENED.items() if key != name}).encode()


def policy_with_hours(text: str) -> bytes:
    raw = golden("steward.policy.published.v1", "minimal").value
    return raw.replace(b'"hours": 4.0', f'"hours": {text}'.encode())


def policy_with_people(**people: object) -> bytes:
    raw = golden("steward.policy.published.v1", "people").json
    raw["data"]["policy"]["people"] = people
    return json.dumps(raw).encode()


def won(without: str = "", **changes: object) -> bytes:
    """The full golden win with its data changed, and one field of it left out."""
    raw = golden("steward.contract.won.v1", "full").json
    raw["data"] = {key: value for key, value in (raw["data"] | changes).items() if key != without}
    return json.dumps(raw).encode()


def ticket(severity: object) -> bytes:
    raw = golden("steward.ticket.opened.v1", "full").json
    raw["data"]["severity"] = severity
    return json.dumps(raw).encode()


def bought(without: str) -> bytes:
    raw = golden("steward.purchase.made.v1", "full").json
    del raw["data"][without]
    return json.dumps(raw).encode()


def mapped(home: str) -> bytes:
    raw = golden("steward.identity.mapped.v1", "full").json
    raw["data"]["home"] = home
    return json.dumps(raw).encode()


def account(**changes: object) -> bytes:
    return json.dumps(golden("steward.account.upserted.v1", "full").json | changes).encode()


NOT_TEXT = "input should be a valid string"
NOT_WHOLE = "input should be a valid integer"
NO_JSON = "the record: invalid JSON:"
TIME_LIKE = "is no time; write it like 2026-01-05T10:00:00+01:00"
HOME_LIKE = r"string should match pattern '^[a-z0-9][a-z0-9_-]*:[a-z0-9_-]+:[^\x00-\x1f]+$'"
TOGETHER = "data: amount and currency belong together; give both or neither"
HOURS = "data.policy.handoffs.sale_to_onboarding.legs.accept.hours"


def case(name: str, value: bytes, sentence: str, topic: Topic = OWNERSHIP) -> Any:
    return pytest.param(topic, value, sentence, id=name)


REFUSED = [
    case(
        "boolean where an integer belongs",
        opened(sourcerank=True),
        "sourcerank: input should be a valid integer (found True)",
    ),
    case(
        "fraction where an integer belongs",
        opened(sourcerank=10.0),
        "sourcerank: input should be a valid integer (found 10.0)",
    ),
    case(
        "text where an integer belongs",
        opened(sourcerank="10"),
        "sourcerank: input should be a valid integer (found '10')",
    ),
    case(
        "integer above its bound",
        opened(sourcerank=1001),
        "sourcerank: input should be less than or equal to 1000 (found 1001)",
    ),
    case("number where text belongs", opened(id=77), f"id: {NOT_TEXT} (found 77)"),
    case("boolean where text belongs", opened(id=False), f"id: {NOT_TEXT} (found False)"),
    case("number where text belongs, in data", carrying(handoff=77), f"data.handoff: {NOT_TEXT} (found 77)"),
    case("no value in data", carrying(handoff=None), f"data.handoff: {NOT_TEXT} (found None)"),
    case(
        "id of 10,000 characters",
        opened(id="x" * 10_000),
        f"id: string should have at most 200 characters (found '{'x' * 58}…)",
    ),
    case("empty id", opened(id=""), "id: string should have at least 1 character (found '')"),
    case("no id", without("id"), "id: field required"),
    case("no data", without("data"), "data: field required"),
    case("null data", opened(data=None), "data: input should be an object (found None)"),
    case("data that is a list", opened(data=[]), "data: input should be an object (found [])"),
    case("data that is text", opened(data="{}"), "data: input should be an object (found '{}')"),
    case(
        "name with a capital",
        carrying(kind="Sale"),
        "data.kind: string should match pattern '^[a-z0-9][a-z0-9_-]{0,63}$' (found 'Sale')",
    ),
    case(
        "name with a line break at its end",
        carrying(kind="sale\n"),
        "data.kind: string should match pattern '^[a-z0-9][a-z0-9_-]{0,63}$' (found 'sale\\n')",
    ),
    case(
        "naive time",
        opened(time="2026-02-06T16:00:00"),
        "time: input should have timezone info (found '2026-02-06T16:00:00')",
    ),
    case(
        "date instead of a time",
        opened(time="2026-02-06"),
        "time: input should have timezone info (found '2026-02-06')",
    ),
    case("time as a number", opened(time=1770390000), f"time: 1770390000 {TIME_LIKE}"),
    case("time as a number in quotes", opened(time="1770390000"), f"time: '1770390000' {TIME_LIKE}"),
    case("time as milliseconds in quotes", opened(time="1770390000000"), f"time: '1770390000000' {TIME_LIKE}"),
    case("time as a boolean", opened(time=True), f"time: true {TIME_LIKE}"),
    case("empty time", opened(time=""), f"time: '' {TIME_LIKE}"),
    case("long nonsense as a time", opened(time="x" * 10_000), f"time: '{'x' * 39} {TIME_LIKE}"),
    case(
        "time before 1990",
        opened(time="1989-12-31T23:59:59Z"),
        "time: 1989-12-31T23:59:59+00:00 lies before 1990; give the time at which it happened",
    ),
    case(
        "time that is before 1990 only in UTC",
        opened(time="1990-01-01T00:30:00+01:00"),
        "time: 1990-01-01T00:30:00+01:00 lies before 1990; give the time at which it happened",
    ),
    case(
        "time after 2199",
        opened(time="2200-01-01T00:00:00Z"),
        "time: 2200-01-01T00:00:00+00:00 lies after 2199; give the time at which it happened",
    ),
    case(
        "naive time in data",
        golden("steward.clock.advanced.v1", "minimal").value.replace(
            b'"at": "2026-02-06T15:00:00.100000Z"', b'"at": "2026-02-06T15:00:00"'
        ),
        "data.at: input should have timezone info (found '2026-02-06T15:00:00')",
        CLOCK,
    ),
    case("NaN where an integer belongs", opened(sourcerank=float("nan")), f"sourcerank: {NOT_WHOLE} (found nan)"),
    case(
        "NaN where a number belongs",
        policy_with_hours("NaN"),
        f"{HOURS}: input should be less than or equal to 2000 (found nan)",
        POLICY,
    ),
    case(
        "infinity where a number belongs",
        policy_with_hours("Infinity"),
        f"{HOURS}: input should be less than or equal to 2000 (found inf)",
        POLICY,
    ),
    case(
        "boolean where a number belongs",
        policy_with_hours("true"),
        f"{HOURS}: input should be a valid number (found True)",
        POLICY,
    ),
    case("no hours", policy_with_hours("0"), f"{HOURS}: input should be greater than 0 (found 0)", POLICY),
    case("amount without a currency", won(without="currency"), TOGETHER, RENEWALS),
    case("currency without an amount", won(without="amount"), TOGETHER, RENEWALS),
    case(
        "amount as a number",
        won(amount=48000),
        "data.amount: input should be a valid string (found 48000)",
        RENEWALS,
    ),
    case(
        "amount below zero",
        won(amount="-1"),
        r"data.amount: string should match pattern '^[0-9]{1,12}(\.[0-9]{1,4})?$' (found '-1')",
        RENEWALS,
    ),
    case(
        "home of a deal that would leave no room for a kind",
        won(home="hubspot:deal:" + "7" * 118),
        f"data.home: string should have at most 130 characters (found 'hubspot:deal:{'7' * 45}…)",
        RENEWALS,
    ),
    case("purchase of an amount without a currency", bought(without="currency"), TOGETHER, INTERACTIONS),
    case("purchase of a currency without an amount", bought(without="amount"), TOGETHER, INTERACTIONS),
    case("severity 0", ticket(0), "data.severity: input should be greater than or equal to 1 (found 0)", INTERACTIONS),
    case("severity 5", ticket(5), "data.severity: input should be less than or equal to 4 (found 5)", INTERACTIONS),
    case("severity in words", ticket("high"), f"data.severity: {NOT_WHOLE} (found 'high')", INTERACTIONS),
    case("severity 5 in quotes", ticket("5"), f"data.severity: {NOT_WHOLE} (found '5')", INTERACTIONS),
    case("severity in foreign digits", ticket("٢"), f"data.severity: {NOT_WHOLE} (found '٢')", INTERACTIONS),
    case("boolean for a severity", ticket(True), f"data.severity: {NOT_WHOLE} (found True)", INTERACTIONS),
    case(
        "a place in the run below 0",
        opened(runposition=-1),
        "runposition: input should be greater than or equal to 0 (found -1)",
    ),
    case("home that is no id", mapped("a:b:c\x01"), f"data.home: {HOME_LIKE} (found 'a:b:c\\x01')", IDENTITY),
    case("home without a kind", mapped("hubspot:77"), f"data.home: {HOME_LIKE} (found 'hubspot:77')", IDENTITY),
    case(
        "manager whom the policy does not know",
        policy_with_people(mira={"manager": "tomas"}, ann={}),
        "data.policy: people.mira.manager names 'tomas', but people has no such person",
        POLICY,
    ),
    case(
        "truncated",
        b'{"specversion": "1.0", "id":',
        f"""{NO_JSON} EOF while parsing a value at line 1 column 28 (found b'{{"specversion": "1.0", "id":')""",
    ),
    case("empty", b"", f"{NO_JSON} EOF while parsing a value at line 1 column 0 (found b'')"),
    case("not UTF-8", b'"\xff"', f"""{NO_JSON} invalid unicode code point at line 1 column 2 (found b'"\\xff"')"""),
    case("list", b"[]", "the record: input should be an object (found [])"),
    case("text", b'"opened"', "the record: input should be an object (found 'opened')"),
    case("null", b"null", "the record: input should be an object (found None)"),
    case("other version of CloudEvents", opened(specversion="0.3"), "specversion: input should be '1.0' (found '0.3')"),
    case("no version of CloudEvents", without("specversion"), "specversion: field required"),
    case(
        "data of another kind",
        opened(datacontenttype="text/xml"),
        "datacontenttype: input should be 'application/json' (found 'text/xml')",
    ),
    case("no type", without("type"), "type: field required"),
    case(
        "no type where only one is possible",
        json.dumps({key: value for key, value in json.loads(account()).items() if key != "type"}).encode(),
        "type: field required",
        ACCOUNTS,
    ),
    case(
        "several mistakes",
        opened(id=1, source=2),
        f"id: {NOT_TEXT} (found 1); source: {NOT_TEXT} (found 2)",
    ),
    case(
        "more than five mistakes",
        opened(id=1, source=2, subject=3, partitionkey=4, run=5, traceparent=6),
        "; ".join(
            f"{name}: {NOT_TEXT} (found {number})"
            for number, name in enumerate(["id", "source", "subject", "partitionkey", "run"], start=1)
        ),
    ),
]

UNKNOWN = [
    case(
        "unknown type",
        opened(type="steward.handoff.vanished.v1"),
        "type: this is no event of crm.ownership (found 'steward.handoff.vanished.v1')",
    ),
    case(
        "newer version",
        opened(type="steward.handoff.opened.v2"),
        "type: this is no event of crm.ownership (found 'steward.handoff.opened.v2')",
    ),
    case(
        "type of another topic",
        account(),
        "type: this is no event of crm.ownership (found 'steward.account.upserted.v1')",
    ),
    case(
        "type of another topic where only one is possible",
        opened(),
        "type: this is no event of crm.accounts (found 'steward.handoff.opened.v1')",
        ACCOUNTS,
    ),
    case(
        "type of another topic, with other mistakes",
        opened(id=1, data=None),
        "type: this is no event of crm.accounts (found 'steward.handoff.opened.v1')",
        ACCOUNTS,
    ),
    case(
        "type of 10,000 characters",
        opened(type="x" * 10_000),
        f"type: this is no event of crm.ownership (found '{'x' * 58}…)",
    ),
]


@pytest.mark.parametrize(("topic", "value", "sentence"), REFUSED)
def test_a_record_is_refused_in_a_sentence(topic: Topic, value: bytes, sentence: str) -> None:
    with pytest.raises(SchemaError) as refusal:
        codec.decode(topic, value)
    assert str(refusal.value) == sentence
    assert not isinstance(refusal.value, UnknownType)


@pytest.mark.parametrize(("topic", "value", "sentence"), UNKNOWN)
def test_a_type_that_a_topic_does_not_carry_is_named(topic: Topic, value: bytes, sentence: str) -> None:
    with pytest.raises(UnknownType) as refusal:
        codec.decode(topic, value)
    assert str(refusal.value) == sentence


@each_golden
def test_a_type_is_read_only_from_topics_that_carry_it(example: Golden) -> None:
    for topic in BUILT:
        if example.kind not in topic.types:
            with pytest.raises(UnknownType):
                codec.decode(topic, example.value)


def test_a_time_keeps_its_offset() -> None:
    event = codec.decode(OWNERSHIP, opened(time="2026-02-06T16:00:00+01:00"))
    assert json.loads(codec.encode(event))["time"] == "2026-02-06T16:00:00+01:00"


def test_absent_attributes_are_left_out() -> None:
    minimal = golden("steward.handoff.opened.v1", "minimal")
    written = codec.encode(codec.decode(OWNERSHIP, minimal.value))
    assert b"null" not in written
    assert b"traceparent" not in written


@pytest.mark.parametrize("severity", ["1", "2", "3", "4"])
def test_a_severity_in_quotes_is_read_as_its_number_as_maps_of_files_write_it(severity: str) -> None:
    assert codec.decode(INTERACTIONS, ticket(severity)) == codec.decode(INTERACTIONS, ticket(int(severity)))


def test_a_win_may_leave_out_its_value() -> None:
    event = codec.decode(RENEWALS, golden("steward.contract.won.v1", "minimal").value)
    assert b"amount" not in codec.encode(event)


def test_the_handoff_of_the_longest_deal_and_kind_is_an_id() -> None:
    deal = TypeAdapter(DealHome).validate_python("hubspot:deal:" + "7" * 117)
    kind = TypeAdapter(Name).validate_python("k" * 64)
    assert TypeAdapter(Id).validate_python(handoff_of(deal, kind)) == f"{deal}/{kind}"


def test_a_connector_knows_the_handoff_of_a_won_deal() -> None:
    assert handoff_of("hubspot:deal:77") == "hubspot:deal:77/sale_to_onboarding"


def test_null_counts_as_absent() -> None:
    assert codec.decode(OWNERSHIP, opened(run=None)) == codec.decode(OWNERSHIP, without("run"))


# ---------------------------------------------------------------- properties


@thorough
@given(home=st.builds("{}:{}:{}".format, names, names, st.text(max_size=200)))
def test_every_home_is_an_id(home: str) -> None:
    try:
        TypeAdapter(Home).validate_python(home)
    except ValidationError:
        return
    assert TypeAdapter(Id).validate_python(home) == home


def test_every_kind_of_data_has_a_strategy() -> None:
    wanted: set[object] = {kind.model_fields["data"].annotation for _, kind in PLACES.values()}
    assert wanted == set(DATA)


@cache
def validator(kind: type[Event]) -> Draft202012Validator:
    return Draft202012Validator(json_schema(kind))


def complaints(kind: type[Event], raw: object) -> list[str]:
    """What the JSON Schema of the type has against the record."""
    return [error.message for error in validator(kind).iter_errors(raw)]


@each_kind
@unhurried
@given(data=st.data(), name=st.from_regex(r"x[a-z]{3,12}", fullmatch=True), value=json_values)
def test_what_is_written_is_read_again_and_unknown_fields_change_nothing(
    kind: type[Event], data: st.DataObject, name: str, value: object
) -> None:
    topic, _ = PLACES[kind.name()]
    event = data.draw(events(kind))
    written = codec.encode(event)
    assert codec.decode(topic, written) == event
    raw = json.loads(written)
    raw[name] = raw["data"][name] = value
    assert codec.decode(topic, json.dumps(raw).encode()) == event
    assert complaints(kind, raw) == []


def survives(topic: Topic, value: bytes) -> Event | None:
    """The event or None; anything but a SchemaError is a failure of the test."""
    try:
        return codec.decode(topic, value)
    except SchemaError:
        return None


@each_built
@unhurried
@given(value=st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_an_event_or_refused(topic: Topic, value: bytes) -> None:
    survives(topic, value)


def places(value: object, path: Path = ()) -> Iterator[Path]:
    """The path of every value inside."""
    yield path
    match value:
        case dict():
            for key, part in value.items():
                yield from places(part, (*path, key))
        case list():
            for number, part in enumerate(value):
                yield from places(part, (*path, number))
        case _:
            return


def changed(value: Any, path: Path, new: object) -> Any:
    """A copy in which the value at the path is `new`."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


@thorough
@given(example=st.sampled_from(ALL), data=st.data(), new=json_values)
def test_a_changed_value_is_taken_or_refused_and_never_refused_by_the_schema_alone(
    example: Golden, data: st.DataObject, new: object
) -> None:
    raw = changed(example.json, data.draw(st.sampled_from(list(places(example.json)))), new)
    event = survives(example.topic, json.dumps(raw).encode())
    if event is not None:
        assert complaints(type(event), raw) == []
        assert codec.decode(example.topic, codec.encode(event)) == event


@thorough
@given(
    example=st.sampled_from(ALL),
    start=st.floats(min_value=0, max_value=1),
    length=st.integers(min_value=0, max_value=40),
    new=st.binary(max_size=10),
)
def test_changed_bytes_are_an_event_or_refused(example: Golden, start: float, length: int, new: bytes) -> None:
    at = int(start * len(example.value))
    survives(example.topic, example.value[:at] + new + example.value[at + length :])


@each_golden
def test_a_truncated_example_is_refused(example: Golden) -> None:
    whole = example.value.rstrip()
    assert [end for end in range(len(whole)) if survives(example.topic, whole[:end]) is not None] == []
