"""Ingest over HTTP as it is shipped: a real process on the embedded broker, and what it wrote read raw."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.ingest.model import account_of
from services.runtime.embedded.server import Server
from tests.integration.senders import (
    BEARER,
    HUBSPOT,
    OLD,
    SECRETS,
    Answer,
    Ingest,
    Json,
    change,
    event,
    register,
    serve,
    settings,
)
from tests.pipeline import Pipeline, running, wait_until


@pytest.fixture(scope="module")
def ingest(noida: Server, prefixes: Iterator[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingest]:
    folder = tmp_path_factory.mktemp("ingest")
    with running(noida.bootstrap, next(prefixes), folder, **settings(steward_http_port="0")) as pipeline:
        register(pipeline)
        yield serve(pipeline)


# ---------------------------------------------------------------- what is taken


def test_a_fact_of_a_mapped_home_stands_in_its_topic_under_the_account(ingest: Ingest) -> None:
    answer = ingest.post([event("a1", "identity.mapped", "crm:deal:10"), event("a2", subject="crm:deal:10")])
    accepted = [{"id": "a1", "account": "acme"}, {"id": "a2", "account": "acme"}]
    assert answer == Answer(202, {"accepted": accepted, "refused": [], "unknown": 0})
    again = ingest.post(event("a3", subject="acme", data={"home": "crm:deal:10"}))
    assert again.content["accepted"] == [{"id": "a3", "account": "acme"}]

    (mapped,) = ingest.written("crm.identity", "a1")
    assert mapped.key == "crm:deal:10"
    first, second = ingest.written("crm.renewals", "a2", "a3")
    assert (first.key, second.key) == ("acme", "acme")
    assert (first.event["subject"], first.event["sourcerank"], first.event["source"]) == ("acme", 20, "crm")
    assert datetime.fromisoformat(first.event["receivedat"]) <= datetime.now(UTC)


def test_a_fact_of_an_unknown_home_is_held_under_it(ingest: Ingest) -> None:
    sent = event("b1", subject="crm:deal:20", partitionkey="mallory", run="x", receivedat="1999-01-01T00:00:00Z")
    answer = ingest.post(sent)
    assert answer == Answer(
        202, {"accepted": [{"id": "b1", "held": "unknown crm:deal:20"}], "refused": [], "unknown": 0}
    )
    (held,) = ingest.written("crm.held", "b1")
    assert (held.key, held.event["subject"]) == ("crm:deal:20", "crm:deal:20")
    assert "run" not in held.event
    assert held.event["receivedat"] > "2020"
    assert (held.event["id"], held.event["source"], held.event["data"]) == ("b1", "crm", sent["data"])
    assert datetime.fromisoformat(held.event["time"]) == datetime.fromisoformat(sent["time"])


def test_a_mapping_by_somebody_else_is_known_a_moment_later(ingest: Ingest) -> None:
    mapped = event("c1", "identity.mapped", "crm:deal:30", source="other", partitionkey="crm:deal:30")
    ingest.pipeline.publish("crm.identity", [("crm:deal:30", json.dumps(mapped).encode(), None)])
    numbers = iter(range(2, 99))
    wait_until(
        lambda: ingest.post(event(f"c{next(numbers)}", subject="crm:deal:30")).content["accepted"][0].get("account"),
        "the mapping is known",
        10,
    )


@pytest.mark.parametrize(
    ("kind", "join"),
    [("application/cloudevents-batch+json", b"[%s]"), ("application/x-ndjson", b"%s"), ("application/json", b"[%s]")],
    ids=["batch", "lines", "json"],
)
def test_of_a_batch_with_mistakes_the_others_are_taken(ingest: Ingest, kind: str, join: bytes) -> None:
    ids = [f"{kind}-{number}" for number in range(5)]
    sent = [event(id, subject="crm:deal:40") for id in ids]
    sent[1]["data"] = {"home": 7}
    sent[3]["time"] = "2026-01-05T10:00:00"
    content = (b"\n" if b"[" not in join else b",").join(json.dumps(one).encode() for one in sent)
    answer = ingest.post(join % content, Content_Type=kind)
    assert answer.status == 202
    assert [one["id"] for one in answer.content["accepted"]] == [ids[0], ids[2], ids[4]]
    assert [(one["item"], one["field"]) for one in answer.content["refused"]] == [(1, "data.home"), (3, "time")]
    assert len(ingest.written("crm.held", ids[0], ids[2], ids[4])) == 3


def test_a_signed_request_is_taken_by_either_of_two_secrets(ingest: Ingest) -> None:
    assert ingest.signed(event("d1", subject="crm:deal:50")).status == 202
    assert ingest.post(event("d2", subject="crm:deal:50"), Authorization=f"Bearer {OLD}").status == 202
    assert len(ingest.written("crm.held", "d1", "d2")) == 2


def test_binary_mode_is_written_as_structured(ingest: Ingest) -> None:
    sent = event("e1", subject="crm:deal:60")
    headers = {f"ce_{name}": str(value) for name, value in sent.items() if name not in {"data", "datacontenttype"}}
    assert ingest.post(sent["data"], **headers).status == 202
    (held,) = ingest.written("crm.held", "e1")
    assert (held.event["specversion"], held.event["data"]) == ("1.0", sent["data"])


def test_a_heartbeat_stands_under_a_key_of_its_own(ingest: Ingest) -> None:
    assert ingest.post(event("f1", "source.seen", "crm")).content["accepted"] == [{"id": "f1"}]
    (seen,) = ingest.written("cs.sources", "f1")
    assert seen.key == "crm:seen"


def test_a_dry_run_says_what_would_happen_and_writes_nothing(ingest: Ingest) -> None:
    topics = ("crm.held", "crm.identity", "dlq.ingest")
    before = [ingest.pipeline.ends(topic) for topic in topics]
    answer = ingest.post([event("g1", subject="crm:deal:70"), event("g2", time="now")], "/v1/events?dry_run=1")
    assert answer.status == 202
    assert answer.content["dry_run"] is True
    (would,) = answer.content["accepted"]
    assert (would["topic"], would["held"]) == ("crm.held", "unknown crm:deal:70")
    assert would["event"]["partitionkey"] == "crm:deal:70"
    assert [one["field"] for one in answer.content["refused"]] == ["time"]
    mapped = ingest.post(event("g3", "identity.mapped", "crm:deal:70"), "/v1/events?dry_run=1")
    assert mapped.content["accepted"][0]["account"] == "acme"
    answer = ingest.post(event("g4", subject="crm:deal:70"), "/v1/events?dry_run=1")
    assert answer.content["accepted"][0]["held"] == "unknown crm:deal:70"
    assert [ingest.pipeline.ends(topic) for topic in topics] == before


# ---------------------------------------------------------------- HubSpot


def test_a_batch_of_hubspot_becomes_an_account_a_mapping_and_facts(ingest: Ingest) -> None:
    company = {"subscriptionType": "company.propertyChange"}
    link: Json = {"subscriptionType": "deal.associationChange", "associationType": "DEAL_TO_COMPANY"}
    link |= {"fromObjectId": 77, "toObjectId": 11, "associationRemoved": False, "isPrimaryAssociation": True}
    sent = [
        change("dealstage", "closedwon", 77),
        change("name", "Acme", 11, **company),
        change("", "", 77, **link),
        change("amount", "12000", 77),
        change("pipeline", "default", 77),
        change("amount", "12000", 77) | {"objectId": "77"},
    ]
    answer = ingest.hubspot(sent)
    account = account_of("hubspot:company:11")
    assert answer.status == 202
    assert answer.content["unknown"] == 1
    assert [one["item"] for one in answer.content["refused"]] == [5]
    told = {one["id"].partition(".")[2]: one.get("account", one.get("held")) for one in answer.content["accepted"]}
    assert told == {
        "contract.won": "unknown hubspot:deal:77",
        "account.upserted": account,
        "identity.mapped": account,
        "contract.valued": account,
    }
    ids = {one["id"].partition(".")[2]: one["id"] for one in answer.content["accepted"]}
    (held,) = ingest.written("crm.held", ids["contract.won"])
    assert (held.key, held.event["sourcerank"]) == ("hubspot:deal:77", 10)
    (upserted,) = ingest.written("crm.accounts", ids["account.upserted"])
    assert (upserted.key, upserted.event["data"]) == (account, {"name": "Acme"})
    (valued,) = ingest.written("crm.renewals", ids["contract.valued"])
    assert (valued.key, valued.event["data"]["amount"]) == (account, "12000")
    assert {record.key for record in ingest.pipeline.records("crm.identity")} >= {
        "hubspot:deal:77",
        "hubspot:company:11",
    }

    letters = [record for record in ingest.pipeline.records("dlq.ingest") if record.event.get("objectId") in {77, "77"}]
    reasons = {letter.headers["dlq.reason"]: letter for letter in letters}
    assert (reasons["unknown_type"].event, reasons["schema"].event) == (sent[4], sent[5])
    assert {letter.key for letter in letters} == {"hubspot"}
    assert reasons["schema"].headers["dlq.message"].startswith("objectId: input should be a valid integer")
    assert reasons["unknown_type"].headers["dlq.route"] == HUBSPOT


def test_a_redelivery_is_the_same_fact_again(ingest: Ingest) -> None:
    sent = change("dealstage", "closedwon", 80)
    first, second = ingest.hubspot([sent]), ingest.hubspot(sent | {"attemptNumber": 1, "eventId": 9})
    assert first.content == second.content
    (id,) = (one["id"] for one in first.content["accepted"])
    held = [record.event for record in ingest.pipeline.records("crm.held") if record.event["id"] == id]
    assert len(held) == 2
    assert held[0] | {"receivedat": ""} == held[1] | {"receivedat": ""}


def test_the_query_of_the_address_is_signed_too(ingest: Ingest) -> None:
    assert ingest.hubspot([], f"{HUBSPOT}?a=b").status == 202


def test_what_no_map_knows_is_counted_for_a_person(ingest: Ingest) -> None:
    for _ in range(3):
        assert ingest.hubspot([change("hs_priority", "high", 90)]).content["unknown"] == 1
    lines = ingest.pipeline.done("source", "unknown").splitlines()
    (line,) = (line for line in lines if "hs_priority" in line)
    assert line.startswith("hubspot  deal.propertyChange/hs_priority/high  3 times, 20")


# ---------------------------------------------------------------- who is turned away


def test_a_wrong_secret_is_turned_away_with_one_answer(ingest: Ingest) -> None:
    sent = event("h1")
    other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
    long_ago, ahead = datetime.now(UTC) - timedelta(minutes=6), datetime.now(UTC) + timedelta(minutes=6)
    answers = [
        ingest.ask("POST", "/v1/events", b"{}", {"Content-Type": "application/json"}),
        ingest.post(sent, Authorization="Bearer wrong"),
        ingest.post(b"\xff" * 100, Authorization="Basic wrong"),
        ingest.signed(sent, secret=other),
        ingest.signed(sent, long_ago),
        ingest.signed(sent, ahead),
        ingest.signed(sent, query="source=app"),
        ingest.signed(sent, query=""),
        ingest.hubspot([], secret="wrong"),
        ingest.hubspot([], at=long_ago),
        ingest.ask("POST", HUBSPOT, b"[]", BEARER),
    ]
    assert {answer.status for answer in answers} == {401}
    assert {answer.error for answer in answers} == {"signature or token: missing, wrong, or too old"}


def test_a_source_that_is_not_registered_is_told_how(ingest: Ingest) -> None:
    answer = ingest.post(event("i1"), Authorization="Bearer a-secret-of-nobody")
    assert answer.status == 404
    assert answer.error == "source 'nobody' is not registered; run `steward source register nobody`"
    (warning,) = ingest.process.said("a source with a secret is not registered")
    assert warning["run"] == "steward source register nobody"


NOWHERE = {
    "no such path": ("POST", "/v2/events", "POST is not served at this path; there are POST /v1/events and"),
    "the root": ("GET", "/", "GET is not served at this path"),
    "a slash too many": ("POST", "/v1/events/", "POST is not served at this path"),
    "another vendor": ("POST", "/v1/webhooks/stripe/hubspot", "no source 'hubspot' of vendor 'stripe' has a map"),
    "a source without a map": ("POST", "/v1/webhooks/hubspot/crm", "no source 'crm' of vendor 'hubspot' has a map"),
    "a source without a secret": ("POST", "/v1/webhooks/hubspot/x", "no source 'x' of vendor 'hubspot' has a map"),
}


@pytest.mark.parametrize(("method", "path", "why"), NOWHERE.values(), ids=NOWHERE)
def test_what_is_not_there_is_said(ingest: Ingest, method: str, path: str, why: str) -> None:
    answer = ingest.ask(method, path, b"[]", BEARER)
    assert answer.status == 404
    assert answer.error.startswith(why)


def test_another_method_is_not_served(ingest: Ingest) -> None:
    assert ingest.ask("GET", "/v1/events").status == 405


# ---------------------------------------------------------------- what is refused

BAD: dict[str, tuple[Any, dict[str, str], int, str]] = {
    "truncated JSON": (b'[{"specversion": "1.0"', {}, 422, "the body cannot be read: Input data was truncated"),
    "no body": (b"", {}, 422, "the body is empty"),
    "another content type": (b"<a/>", {"Content_Type": "text/xml"}, 415, "send the content type application/"),
    "another charset": (b"[]", {"Content_Type": "application/json; charset=utf-16"}, 415, "send the content type"),
    "too many items": (b"1\n" * 1001, {"Content_Type": "application/x-ndjson"}, 413, "the body has 1,001 items"),
    "a large body": (b" " * (10 << 20), {}, 413, "the body is larger than 4,194,304 bytes"),
}


@pytest.mark.parametrize(("content", "headers", "status", "why"), BAD.values(), ids=BAD)
def test_a_request_that_cannot_be_read_is_refused_whole(
    ingest: Ingest, content: bytes, headers: dict[str, str], status: int, why: str
) -> None:
    answer = ingest.post(content, **headers)
    assert answer.status == status
    assert answer.error.startswith(why)


def test_a_large_body_without_a_length_is_refused_while_it_comes(ingest: Ingest) -> None:
    answer = ingest.ask("POST", "/v1/events", iter([b" " * 65536] * 160), BEARER)
    assert (answer.status, answer.error) == (413, "the body is larger than 4,194,304 bytes")


ITEMS: dict[str, tuple[Json, str, str]] = {
    "an unknown type": ({"type": "steward.deal.won.v1"}, "type", "this is no event of /v1/events"),
    "a number for text": ({"data": {"home": 7}}, "data.home", "input should be a valid string (found 7)"),
    "a long id": ({"id": "x" * 10_000}, "id", "string should have at most 200 characters"),
    "an unknown account": ({"subject": "umbrella"}, "subject", "unknown account 'umbrella'; send a home like"),
    "a naive time": ({"time": "2026-01-05T10:00:00"}, "time", "input should have timezone info"),
    "a time to come": ({"time": "2199-01-05T10:00:00Z"}, "time", "2199-01-05T10:00:00+00:00 is more than 5 minutes"),
    "another's source": ({"source": "hubspot"}, "source", "it must be 'crm', whose secret this is"),
}


@pytest.mark.parametrize(("changes", "field", "why"), ITEMS.values(), ids=ITEMS)
def test_an_event_that_is_wrong_is_refused_by_its_field(ingest: Ingest, changes: Json, field: str, why: str) -> None:
    answer = ingest.post(event("j1") | changes)
    assert answer.status == 422
    assert answer.content["error"] == "nothing was taken; `refused` says why"
    (refused,) = answer.content["refused"]
    assert (refused["item"], refused["field"]) == (0, field)
    assert refused["why"].startswith(why)


def test_a_batch_of_hubspot_without_one_good_event_is_refused_and_kept(ingest: Ingest) -> None:
    before = ingest.pipeline.ends("dlq.ingest")
    answer = ingest.hubspot([5, {}])
    assert (answer.status, len(answer.content["refused"])) == (422, 2)
    assert ingest.pipeline.ends("dlq.ingest") == before + 2


def test_neither_secrets_nor_bodies_are_logged(ingest: Ingest) -> None:
    ingest.post(event("k1", subject="umbrella-corporation"), Authorization=f"Bearer {OLD}")
    ingest.post(b"umbrella-corporation", Authorization="Bearer a-guess")
    refusals = ingest.process.said("request refused")
    assert {"signature", "schema"} <= {line["reason"] for line in refusals}
    text = ingest.process.log.read_text()
    for secret in [*(one for several in SECRETS.values() for one in several), "a-guess", "umbrella-corporation"]:
        assert secret not in text


def metrics(ingest: Ingest) -> dict[str, float]:
    (served,) = ingest.process.said("metrics served")
    text = replace(ingest, port=served["port"]).ask("GET", "/metrics").content.decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def test_requests_and_events_are_counted_by_their_source_once_that_is_known(ingest: Ingest) -> None:
    before = metrics(ingest)
    ingest.post([event("n1", subject="crm:deal:80"), event("n2", time="now")])
    ingest.post(b"{", Authorization="Bearer a-guess")
    ingest.hubspot([change("hs_next_step", "call", 91)])
    after = metrics(ingest)
    grown = {name: after[name] - before.get(name, 0) for name in after if after[name] > before.get(name, 0)}
    wanted = {
        'requests_total{code="202",source="crm"}',
        'events_total{outcome="held",source="crm"}',
        'events_total{outcome="refused",source="crm"}',
        'requests_total{code="401",source="unknown"}',
        'rejections_total{reason="signature",source="unknown"}',
        'requests_total{code="202",source="hubspot"}',
        'events_total{outcome="unknown",source="hubspot"}',
    }
    counted = {
        name: number for name, number in grown.items() if name.startswith("steward_ingest_") and "_total" in name
    }
    assert counted == {f"steward_ingest_{name}": 1 for name in wanted}
    assert grown['steward_unknown_types_total{source="hubspot"}'] == 1
    assert grown['steward_dead_letters_total{processor="ingest",reason="unknown_type",topic="hubspot"}'] == 1
    assert after["steward_ingest_inflight_bytes"] == 0


# ---------------------------------------------------------------- its life


def test_it_says_that_it_lives_and_is_ready(ingest: Ingest) -> None:
    assert ingest.ask("GET", "/live") == Answer(200, b"alive\n")
    assert ingest.ask("GET", "/ready") == Answer(200, b"ready\n")


def test_a_port_that_is_taken_ends_it_with_a_sentence(ingest: Ingest, tmp_path: Path) -> None:
    there = ingest.pipeline
    taken = there.settings | {"STEWARD_INGEST_PORT": str(ingest.port)}
    pipeline = Pipeline(there.bootstrap, there.prefix, tmp_path, taken)
    ended = pipeline.run("ingest", "serve")
    assert ended.returncode == 2
    why = f"steward: port {ingest.port} is taken (Address already in use); set STEWARD_INGEST_PORT to a free one, or 0"
    assert ended.stderr.splitlines()[-1] == why
