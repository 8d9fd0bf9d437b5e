"""HubSpot's events in every shape that its schemas describe: each has a documented answer, whatever its values."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import codec
from services.core.instants import instant
from services.ingest.decide import webhook
from services.ingest.model import Accepted, Mappings, Outcome, Refused, Sender, Unknown
from services.ingest.providers import body
from services.ingest.providers.hubspot import Rules, read
from services.runtime.documents import load

pytestmark = pytest.mark.data

ROOT = Path(__file__).parents[2]
RULES = load(ROOT / "deploy/mapping/hubspot.yaml", Rules)
NOW = instant(datetime(2026, 11, 22, 9, 30, tzinfo=UTC))
RECORD = Sender("hubspot", 10, creates=True)
WORDS = {"change": "propertyChange", "creation": "creation", "deletion": "deletion"}
MS = 1_556_094_637_139

Json = dict[str, Any]


@pytest.fixture(scope="module")
def schemas(shared_data: Path) -> dict[str, Json]:
    """The schema of each type of event, by `deal.propertyChange`."""
    found = {}
    for path in sorted((shared_data / "webhooks/hubspot/json_schemas").glob("*.schema.json")):
        kind, word = path.name.partition(".")[0].split("_")
        found[f"{kind}.{WORDS[word]}"] = json.loads(path.read_text())
    assert len(found) == 9
    return found


def decided(content: bytes) -> list[Outcome]:
    items = body.split(content, "either")
    return webhook(items, lambda item: read(item, RULES), RECORD, Mappings(), NOW, create=True)


def examples(schema: Json) -> Iterator[Json]:
    """An event with all its fields at their greatest, and one with each field at its least."""
    properties = schema["properties"]
    yield {name: _value(one, greatest=True) for name, one in properties.items()}
    yield {name: _value(one, greatest=False) for name, one in properties.items()}


def _value(field: Json, *, greatest: bool) -> Any:
    match field:
        case {"type": "integer"}:
            return field["maximum"] if greatest else field["minimum"]
        case {"format": "date-time"}:
            return "2019-04-24T08:30:37.139Z"
        case _:
            return "x" * field.get("maxLength", 9) if greatest else ""


def as_sent(kind: str, example: Json) -> Json:
    """The schemas describe events as a collector changes them: it writes the time as text and cuts the type off."""
    return example | {"subscriptionType": kind, "occurredAt": MS}


def test_every_shape_is_known_as_ours_or_kept(schemas: dict[str, Json]) -> None:
    told: dict[str, set[type]] = {}
    for kind, schema in schemas.items():
        for example in examples(schema):
            jsonschema.Draft4Validator(schema).validate(example)
            told.setdefault(kind, set()).update(map(type, decided(json.dumps([as_sent(kind, example)]).encode())))
    ours = {"company.creation"}
    assert told == {kind: {Accepted} if kind in ours else {Unknown} for kind in schemas}


def test_the_time_as_a_collector_writes_it_is_refused_by_its_field(schemas: dict[str, Json]) -> None:
    for kind, schema in schemas.items():
        for example in examples(schema):
            (one,) = decided(json.dumps(example | {"subscriptionType": kind}).encode())
            assert isinstance(one, Refused)
            assert one.field == "occurredAt"


def test_the_captured_event_is_answered_in_a_batch_and_alone(shared_data: Path) -> None:
    captured = (shared_data / "webhooks/hubspot/events/djhubspot_deal_propertyChange_attempt0.json").read_bytes()
    (alone,), (first, second) = decided(captured), decided(b"[" + captured + b"," + captured + b"]")
    assert isinstance(alone, Unknown)
    assert (alone.what, alone.original) == (first.what, first.original) == (second.what, second.original)  # type: ignore[union-attr]


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.floats(allow_nan=False, allow_infinity=False)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_events_are_accepted_unknown_or_refused_and_nothing_else(
    schemas: dict[str, Json], data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from(sorted(schemas)))
    example = as_sent(kind, data.draw(st.sampled_from([*examples(schemas[kind])])))
    changes = data.draw(st.dictionaries(st.sampled_from(sorted(example)), SCALARS, max_size=3))
    kept = data.draw(st.sets(st.sampled_from(sorted(example)), min_size=len(example) - 2))
    sent = {name: value for name, value in (example | changes).items() if name in kept}
    content = json.dumps([sent]).encode()
    cut = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    try:
        found = decided(content[:cut])
    except body.Unreadable:
        assert cut < len(content)
        return
    for one in found:
        match one:
            case Accepted():
                assert codec.decode(one.topic, codec.encode(one.event)).partitionkey
            case Refused() | Unknown():
                assert one.why
