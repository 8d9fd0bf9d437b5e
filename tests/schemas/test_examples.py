"""Golden messages are law: each is read, written again and validated as it stands, by us and by others."""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import reduce
from typing import Any

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_structured_event
from cloudevents.core.formats.json import JSONFormat
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from schemas import codec
from schemas.envelope import CONTENT_TYPE, Event
from schemas.generate import SCHEMAS
from schemas.health import HealthScored
from schemas.topics import HELD
from tests.schemas.golden import ALL, FOLDER, Golden, each_golden, each_kind, golden

# Fields that came after a type's first golden messages: those are read and written again with the field's default.
ADDED: dict[str, dict[str, object]] = {
    "steward.clock.advanced.v1": {"data.silent": [], "data.heard": {}},
    "steward.policy.published.v1": {
        "data.policy.people": {},
        "data.policy.alerts": {"fallback": "revenue-operations", "max_age_hours": 24.0},
    },
    "steward.source.registered.v1": {"data.grace": 60},
}

# What a model fills in for a writer who leaves it out; a golden message states it, because it is written so.
FILLED_IN = {"datacontenttype", "sourcerank"}


def test_every_file_is_used() -> None:
    files = {path for path in FOLDER.rglob("*") if path.is_file()}
    assert files - {example.path for example in ALL} == set()


@each_kind
def test_every_type_has_a_minimal_and_a_full_example(kind: type[Event]) -> None:
    names = {example.path.stem for example in ALL if example.kind is kind}
    assert {"minimal", "full"} <= names


@each_golden
def test_an_example_is_read_as_its_type(example: Golden) -> None:
    event = codec.decode(example.topic, example.value)
    assert type(event) is example.kind
    assert event.type == example.name


def more(read: Mapping[str, Any], again: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """The path and value of what is written again and was not read."""
    for name, value in again.items():
        if name not in read:
            yield f"{path}{name}", value
        elif isinstance(value, dict):
            yield from more(read[name], value, f"{path}{name}.")


def without(record: dict[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """A copy without the fields at these paths."""
    copy: dict[str, Any] = json.loads(json.dumps(record))
    for path in paths:
        *outer, name = path.split(".")
        del reduce(dict.__getitem__, outer, copy)[name]
    return copy


def written(example: Golden) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(codec.encode(codec.decode(example.topic, example.value)))
    return found


@each_golden
def test_an_example_is_written_as_it_was_read_but_for_fields_that_came_later(example: Golden) -> None:
    added = ADDED.get(example.name, {})
    later = dict(more(example.json, written(example)))
    assert later == {path: added.get(path) for path in later}
    assert without(written(example), later) == example.json


@pytest.mark.parametrize(("name", "path"), [(name, path) for name, paths in ADDED.items() for path in paths])
def test_a_field_that_came_later_is_stated_by_some_example(name: str, path: str) -> None:
    unstated = [dict(more(example.json, written(example))) for example in ALL if example.name == name]
    assert [paths for paths in unstated if path not in paths]


@each_golden
def test_an_example_satisfies_the_committed_json_schema(example: Golden) -> None:
    schema = json.loads((SCHEMAS / f"{example.name}.schema.json").read_text())
    assert [error.message for error in Draft202012Validator(schema).iter_errors(example.json)] == []


@each_golden
def test_an_example_is_readable_to_people(example: Golden) -> None:
    assert example.value.decode() == json.dumps(example.json, indent=2, ensure_ascii=False) + "\n"


def fields(model: BaseModel, path: str = "data") -> Iterator[tuple[str, bool]]:
    """Each field's path, and whether it says something: it is neither None nor an empty collection."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        yield f"{path}.{name}", value not in (None, (), {})
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, BaseModel):
                yield from fields(part, f"{path}.{name}")


@each_kind
def test_the_examples_of_a_type_state_every_field_of_its_data(kind: type[Event]) -> None:
    full = golden(kind.name(), "full")
    later = [example for example in ALL if example.kind is kind and example.path.stem not in {"minimal", "full"}]
    data = [codec.decode(example.topic, example.value).data for example in (full, *later)]
    found = [field for one in data for field in fields(one)]
    assert {path for path, says in found if says} == {path for path, _ in found}


@pytest.mark.parametrize("example", [example for example in ALL if example.kind is HealthScored], ids=str)
def test_the_score_of_an_example_is_what_its_parts_add_up_to(example: Golden) -> None:
    said = example.json["data"]
    prior, lines = said["prior"], said["contributions"]
    for line in lines:
        above = 1000 * line.get("score", 0) - prior
        assert line["points"] == round(line["weight"] * line["trust"] * above)
    assert said["raw"] == prior + sum(line["points"] for line in lines)
    assert said["score"] == min([said["raw"], *(cap["limit"] for cap in said["caps"])])
    assert sum(line["weight"] for line in lines) == pytest.approx(1)
    assert said["coverage"] == pytest.approx(sum(line["weight"] * line["trust"] for line in lines))
    assert said.get("oldest_input") == min((line["at"] for line in lines if "at" in line), default=None)
    assert (said["band"] == "na") is bool(said["unsure"])


@pytest.mark.parametrize("example", [example for example in ALL if example.kind in HELD.types], ids=str)
def test_a_held_fact_is_read_as_in_its_own_topic(example: Golden) -> None:
    assert codec.decode(HELD, example.value) == codec.decode(example.topic, example.value)


@each_golden
def test_an_example_may_leave_out_what_models_fill_in(example: Golden) -> None:
    shorter = {name: value for name, value in example.json.items() if name not in FILLED_IN}
    event = codec.decode(example.topic, json.dumps(shorter).encode())
    expected = codec.decode(example.topic, example.value)
    assert event.data == expected.data
    assert (event.datacontenttype, event.sourcerank) == ("application/json", 100)


@pytest.mark.parametrize("where", ["envelope", "data"])
@each_golden
def test_unknown_fields_are_ignored(example: Golden, where: str) -> None:
    raw = example.json
    (raw if where == "envelope" else raw["data"])["unheardof"] = {"of": ["any", 1, None, True]}
    assert codec.decode(example.topic, json.dumps(raw).encode()) == codec.decode(example.topic, example.value)


# ---------------------------------------------------------------- the CloudEvents SDK


def attributes(example: Golden) -> dict[str, Any]:
    """The attributes as the SDK has them: `time` is a datetime, extensions are as they stand."""
    stated = {name: value for name, value in example.json.items() if name != "data"}
    return stated | {"time": datetime.fromisoformat(stated["time"])}


@each_golden
def test_the_sdk_of_cloudevents_reads_the_same_attributes_and_data(example: Golden) -> None:
    event = JSONFormat().read(None, example.value)
    assert event.get_specversion() == "1.0"
    assert event.get_attributes() == attributes(example)
    assert event.get_data() == example.json["data"]


@each_golden
def test_the_sdk_of_cloudevents_agrees_with_the_codec(example: Golden) -> None:
    ours = codec.decode(example.topic, example.value)
    theirs = JSONFormat().read(None, example.value)
    assert (theirs.get_id(), theirs.get_source(), theirs.get_type()) == (ours.id, ours.source, ours.type)
    assert (theirs.get_subject(), theirs.get_time()) == (ours.subject, ours.time)
    assert theirs.get_datacontenttype() == ours.datacontenttype


@each_golden
def test_what_the_sdk_of_cloudevents_writes_is_read_by_the_codec(example: Golden) -> None:
    event = codec.decode(example.topic, example.value)
    assert codec.decode(example.topic, JSONFormat().write(JSONFormat().read(None, example.value))) == event


@each_golden
def test_the_sdk_of_cloudevents_finds_the_key_in_the_record(example: Golden) -> None:
    key = example.json["partitionkey"]
    message = KafkaMessage({"content-type": CONTENT_TYPE.encode()}, key.encode(), example.value)
    assert from_structured_event(message).get_extension("partitionkey") == key
