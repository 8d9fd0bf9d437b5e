"""CloudEvents over HTTP: the specification's own examples and features, read in place, and what its SDK sends."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from services.core.instants import instant
from services.ingest.decide import cloud_events
from services.ingest.model import Accepted, Mappings, Refused, Sender
from services.ingest.receiver import Denied, items_of

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
CRM = Sender("crm", 10)


def named(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers as a server gives them."""
    return {name.lower(): value for name, value in headers.items()}


# ---------------------------------------------------------------- the specification


@pytest.fixture(scope="module")
def examples(shared_data: Path) -> dict[str, bytes]:
    found = {path.name: path.read_bytes() for path in (shared_data / "webhooks/cloudevents/examples").glob("*.json")}
    assert len(found) == 8
    return found


@pytest.mark.data
def test_the_examples_are_read_and_refused_for_their_types_alone(examples: dict[str, bytes]) -> None:
    for name, content in examples.items():
        kind = "application/cloudevents-batch+json" if content.startswith(b"[") else "application/cloudevents+json"
        items = items_of(named({"content-type": kind}), content)
        parsed = json.loads(content)
        assert [json.loads(item) for item in items] == (parsed if isinstance(parsed, list) else [parsed])
        for outcome in cloud_events(items, CRM, Mappings(), instant(NOW)):
            assert isinstance(outcome, Refused), name
            assert outcome.field == "type"
            assert "; known are steward.contract.won.v1" in outcome.why


def scenarios(feature: str) -> list[tuple[dict[str, str], bytes, dict[str, str], Any]]:
    """Headers, body, and the attributes and data expected, of each example in a feature."""
    found = []
    for outline in feature.split("Scenario Outline:")[1:]:
        sent, expected = re.findall(r'"""\n(.*?)"""', outline, re.DOTALL)
        table = dict(re.findall(r"\|\s*(\w+)\s*\|\s*(\S.*?)\s*\|", outline.split("attributes are:")[1].split('"""')[0]))
        table.pop("key")
        head, _, content = "\n".join(line.strip() for line in sent.splitlines()).partition("\n\n")
        headers = dict(line.split(": ", 1) for line in head.splitlines()[1:])
        for kind in re.findall(r"^\s*\| (application/\S.*?)\s*\|$", outline.split("Examples:")[1], re.MULTILINE):
            filled = {name: value.replace("<contentType>", kind) for name, value in table.items()}
            asked = {name: value.replace("<contentType>", kind) for name, value in headers.items()}
            found.append((asked, content.encode(), filled, json.loads(expected)))
    return found


@pytest.mark.data
def test_the_features_of_the_http_binding_hold(shared_data: Path) -> None:
    feature = (shared_data / "webhooks/cloudevents/conformance/http-protocol-binding.feature").read_text()
    examples = scenarios(feature)
    assert len(examples) == 4
    for headers, content, attributes, data in examples:
        (item,) = items_of(named(headers), content)
        read = json.loads(item)
        assert read.pop("data") == data
        # JSON is the only kind of data there is here, so a content type that says so once more is not kept.
        kind = attributes.pop("datacontenttype").partition(";")[0]
        assert read.pop("datacontenttype", "application/json") == kind
        assert read == attributes


# ---------------------------------------------------------------- the SDK


def made(**changes: Any) -> CloudEvent:
    attributes = {
        "id": "grüße 🌎 1",
        "source": "crm",
        "type": "steward.handoff.accepted.v1",
        "subject": "crm:deal:7",
        "time": NOW,
        "datacontenttype": "application/json",
        "specversion": "1.0",
    }
    return CloudEvent({**attributes, **changes}, {"handoff": "crm:deal:7/sale_to_onboarding", "owner": "ada"})


def sent(message: HTTPMessage) -> list[Any]:
    items = items_of(named(message.headers), message.body)
    return list(cloud_events(items, CRM, Mappings(), instant(NOW)))


def test_what_the_sdk_sends_in_binary_and_in_structured_mode_is_the_same_event() -> None:
    (binary,), (structured,) = sent(to_binary_event(made())), sent(to_structured_event(made()))
    assert isinstance(binary, Accepted)
    assert binary == structured
    assert binary.event.id == "grüße 🌎 1"
    assert binary.held == "crm:deal:7"


def test_an_extension_of_ours_is_not_taken_from_a_header() -> None:
    (one,) = sent(to_binary_event(made(sourcerank=1, run="x", partitionkey="mallory")))
    assert isinstance(one, Accepted)
    assert (one.event.sourcerank, one.event.run, one.event.partitionkey) == (10, None, "crm:deal:7")


@pytest.mark.parametrize("kind", ["application/xml", "text/plain; charset=utf-8", ""])
def test_data_in_binary_mode_is_json(kind: str) -> None:
    message = to_binary_event(made(datacontenttype="application/json"))
    with pytest.raises(Denied, match="application/json"):
        items_of(named({**message.headers, "content-type": kind}), message.body)
