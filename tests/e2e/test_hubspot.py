"""A webhook as HubSpot sends it, from its signature to the handoff processor."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from services.runtime.embedded.ports import pick_port
from services.runtime.embedded.server import Server
from tests.pipeline import Pipeline, running, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.data]

SECRET = "a secret of the app"
STAGE = "1f4f1ec1-8174-49f3-a112-4eaa4748e38e"
DEAL = "hubspot:deal:697680835"
OCCURRED = "2019-04-24T08:30:37.139000Z"  # 1556094637139 ms since 1970
MAP = """\
source: hubspot
vendor: hubspot
account: {create: true}
facts:
"""
WON = f"""\
  - when: {{subscriptionType: deal.propertyChange, propertyName: dealstage, propertyValue: {STAGE}}}
    home: "hubspot:deal:{{objectId}}"
    type: contract.won
    data: {{home: "hubspot:deal:{{objectId}}"}}
"""
OTHER = WON.replace(STAGE, "closedwon")


@pytest.fixture
def pipeline(noida: Server, prefix: str, tmp_path: Path) -> Iterator[Pipeline]:
    (tmp_path / "maps").mkdir()
    with running(
        noida.bootstrap,
        prefix,
        tmp_path,
        steward_mappings=str(tmp_path / "maps"),
        steward_source_secrets=json.dumps({"hubspot": [SECRET]}),
        steward_public_url="https://steward.example",
    ) as pipeline:
        pipeline.done("topics", "apply")
        pipeline.done("source", "register", "hubspot", "--role", "system of record")
        yield pipeline


@pytest.fixture
def captured(shared_data: Path) -> dict[str, Any]:
    file = shared_data / "webhooks/hubspot/events/djhubspot_deal_propertyChange_attempt0.json"
    event: dict[str, Any] = json.loads(file.read_text())
    return event


def post(address: str, *events: dict[str, Any]) -> dict[str, Any]:
    """As HubSpot would: an array, signed with the third version of its signature."""
    path, body, stamp = "/v1/webhooks/hubspot/hubspot", json.dumps(events).encode(), str(int(time.time() * 1000))
    signed = b"POST" + f"https://steward.example{path}".encode() + body + stamp.encode()
    signature = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    headers = {
        "Content-Type": "application/json",
        "X-HubSpot-Signature-v3": signature,
        "X-HubSpot-Request-Timestamp": stamp,
    }
    with urlopen(Request(f"{address}{path}", body, headers, method="POST"), timeout=30) as answer:
        assert answer.status == 202
        told: dict[str, Any] = json.load(answer)
    return told


def dropped(pipeline: Pipeline, port: int, reason: str) -> float:
    """How many records of crm.renewals the handoff processor dropped for a reason, by its own count."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    wanted = f'steward_records_total{{outcome="{reason}",processor="handoff",topic="crm.renewals"}} '
    return sum(float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted))


def test_a_sale_of_years_ago_waits_for_its_account_and_then_is_too_late_to_breach(
    pipeline: Pipeline, captured: dict[str, Any]
) -> None:
    (pipeline.folder / "maps/hubspot.yaml").write_text(MAP + WON)
    pipeline.start("clock")
    pipeline.serves("identity")
    pipeline.settings["STEWARD_HTTP_PORT"] = str(port := pick_port())
    pipeline.serves("handoff")
    del pipeline.settings["STEWARD_HTTP_PORT"]
    address = pipeline.receives()

    told = post(address, captured)
    assert [(one["held"].split()[-1]) for one in told["accepted"]] == [DEAL]
    held = pipeline.records("crm.held")
    assert [(one.key, one.event["type"], one.event["time"]) for one in held] == [
        (DEAL, "steward.contract.won.v1", OCCURRED)
    ]
    assert pipeline.records("crm.renewals") == []

    post(address, {
        "subscriptionType": "deal.associationChange", "associationType": "DEAL_TO_COMPANY",
        "fromObjectId": 697680835, "toObjectId": 4711, "associationRemoved": False, "isPrimaryAssociation": True,
        "portalId": 5799819, "occurredAt": int(time.time() * 1000), "eventId": 1, "subscriptionId": 2, "appId": 3,
        "attemptNumber": 0, "changeSource": "USER",
    })  # fmt: skip
    wait_until(lambda: pipeline.records("crm.renewals"), "the fact is released", 30)
    released = pipeline.records("crm.renewals")
    assert [(one.event["id"], one.event["time"]) for one in released] == [(held[0].event["id"], OCCURRED)]
    assert released[0].event["receivedat"] == held[0].event["receivedat"]
    assert released[0].key == released[0].event["subject"] == released[0].event["partitionkey"]
    assert released[0].key.startswith("acc_")
    wait_until(lambda: dropped(pipeline, port, "too_late") == 1, "it is counted as too late", 30)
    assert pipeline.records("cs.handoffs") == []


def test_a_stage_that_the_map_does_not_name_is_counted_and_kept(pipeline: Pipeline, captured: dict[str, Any]) -> None:
    (pipeline.folder / "maps/hubspot.yaml").write_text(MAP + OTHER)
    address = pipeline.receives()
    told = post(address, captured)
    assert (told["accepted"], told["unknown"]) == ([], 1)
    kept = pipeline.records("dlq.ingest")
    assert [(one.key, one.event, one.headers["dlq.reason"]) for one in kept] == [("hubspot", captured, "unknown_type")]
    assert pipeline.records("crm.held") == []
    shown = pipeline.done("source", "unknown")
    assert "deal.propertyChange" in shown
    assert STAGE in shown
