"""Events of own code: what is taken under which key, what waits, and what is refused with which words."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import codec
from schemas.identity import IdentityMapped
from schemas.topics import ACCOUNTS, HELD, IDENTITY, INTERACTIONS, OWNERSHIP, RENEWALS, SOURCES, Topic
from services.core.instants import instant
from services.ingest.decide import cloud_events
from services.ingest.model import Accepted, Mappings, Outcome, Refused, Sender
from services.ingest.providers import body, cloudevents

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
CRM = Sender("crm", 10, creates=True)
APP = Sender("app", 50)

Json = dict[str, Any]
DATA: dict[str, Json] = {
    "contract.won": {"home": "crm:deal:7"},
    "contract.valued": {"home": "crm:deal:7", "amount": "12000.50", "currency": "EUR"},
    "handoff.opened": {"handoff": "crm:deal:7/sale_to_onboarding", "kind": "sale_to_onboarding"},
    "handoff.accepted": {"handoff": "crm:deal:7/sale_to_onboarding", "owner": "ada"},
    "handoff.paused": {"handoff": "crm:deal:7/sale_to_onboarding", "reason": "waiting_customer"},
    "handoff.resumed": {"handoff": "crm:deal:7/sale_to_onboarding"},
    "handoff.cancelled": {"handoff": "crm:deal:7/sale_to_onboarding"},
    "owner.assigned": {"role": "owner", "owner": "ada"},
    "owner.removed": {"role": "owner"},
    "interaction.logged": {"channel": "email", "direction": "inbound", "contact": "c-5"},
    "purchase.made": {"order": "o-1", "amount": "29.33", "currency": "EUR"},
    "ticket.opened": {"ticket": "crm:ticket:5", "severity": 2},
    "ticket.updated": {"ticket": "crm:ticket:5", "severity": 1},
    "ticket.solved": {"ticket": "crm:ticket:5"},
    "ticket.reopened": {"ticket": "crm:ticket:5"},
    "account.upserted": {"name": "Acme"},
    "identity.mapped": {"home": "crm:deal:7", "account": "acme"},
    "source.seen": {"source": "crm"},
}
PLACES = {
    "contract": RENEWALS,
    "handoff": OWNERSHIP,
    "owner": OWNERSHIP,
    "interaction": INTERACTIONS,
    "purchase": INTERACTIONS,
    "ticket": INTERACTIONS,
}
FACTS = tuple(name for name in DATA if name.partition(".")[0] in PLACES)


def event(kind: str = "contract.won", subject: Any = "crm:deal:7", **changes: Any) -> Json:
    attributes = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "crm",
        "type": f"steward.{kind}.v1",
        "subject": subject,
        "time": NOW.isoformat(),
        "datacontenttype": "application/json",
        "data": DATA.get(kind, {}),
    }
    return {name: value for name, value in (attributes | changes).items() if value is not ...}


def known(**homes: str) -> Mappings:
    """What is mapped: `deal_1="acme"` is crm:deal:1."""
    mappings = Mappings()
    for name, account in homes.items():
        kind, _, number = name.partition("_")
        mapped = event("identity.mapped", f"crm:{kind}:{number}", partitionkey="-")
        mapped["data"] = {"home": mapped["subject"], "account": account}
        learned = codec.decode(IDENTITY, json.dumps(mapped).encode())
        assert isinstance(learned, IdentityMapped)
        mappings.learn(learned)
    return mappings


def decided(*events: Any, sender: Sender = CRM, mappings: Mappings | None = None) -> list[Outcome]:
    items = [json.dumps(one).encode() for one in events]
    return cloud_events(items, sender, mappings or Mappings(), instant(NOW))


def accepted(*events: Any, sender: Sender = CRM, mappings: Mappings | None = None) -> list[Accepted]:
    found = decided(*events, sender=sender, mappings=mappings)
    assert [one for one in found if not isinstance(one, Accepted)] == []
    return [one for one in found if isinstance(one, Accepted)]


def refused(one: Any, sender: Sender = CRM, mappings: Mappings | None = None) -> tuple[str, str]:
    (found,) = decided(one, sender=sender, mappings=mappings)
    assert isinstance(found, Refused)
    assert found.item == 0
    return found.field, found.why


def written(outcome: Accepted) -> Json:
    value: Json = json.loads(codec.encode(outcome.event))
    return value


# ---------------------------------------------------------------- whose it is


@pytest.mark.parametrize("kind", FACTS)
@pytest.mark.parametrize("subject", ["crm:deal:7", "acme"])
def test_a_fact_goes_to_its_topic_under_the_account_of_its_subject(kind: str, subject: str) -> None:
    (one,) = accepted(event(kind, subject), mappings=known(deal_7="acme"))
    assert one.topic is PLACES[kind.partition(".")[0]]
    assert (one.account, one.held) == ("acme", None)
    assert (written(one)["subject"], written(one)["partitionkey"]) == ("acme", "acme")


@pytest.mark.parametrize("kind", FACTS)
def test_a_fact_of_a_home_that_nobody_has_mapped_waits_under_the_home(kind: str) -> None:
    (one,) = accepted(event(kind))
    assert one.topic is HELD
    assert (one.account, one.held) == (None, "crm:deal:7")
    assert (written(one)["subject"], written(one)["partitionkey"]) == ("crm:deal:7", "crm:deal:7")
    assert type(one.event) in HELD.types


def test_everything_else_of_an_event_stays_as_it_came() -> None:
    sent = event(id="x-9", traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    (one,) = accepted(sent, mappings=known(deal_7="acme"))
    ours = {"subject": "acme", "partitionkey": "acme", "sourcerank": 10, "receivedat": "2026-11-22T09:30:00Z"}
    time = "2026-11-22T09:30:00Z"
    assert written(one) == sent | ours | {"time": time}


OURS: dict[str, Any] = {
    "partitionkey": "mallory",
    "receivedat": "1999-01-01T00:00:00Z",
    "run": "crm:0",
    "runposition": 7,
    "sourcerank": 0,
}


@pytest.mark.parametrize("value", [..., None, 5, False, "x", {"a": 1}, "1" * 1000])
@pytest.mark.parametrize("name", OURS)
def test_what_is_ours_to_say_is_never_taken_from_outside(name: str, value: Any) -> None:
    (plain,) = accepted(event(), mappings=known(deal_7="acme"))
    (one,) = accepted(event(**{name: OURS[name] if value is ... else value}), mappings=known(deal_7="acme"))
    assert written(one) == written(plain)
    assert not {"run", "runposition"} & written(one).keys()


def test_of_equal_names_in_an_event_the_last_counts_for_the_check_as_for_what_is_written() -> None:
    sent = json.dumps(event())[:-1].encode()
    (one,) = cloud_events([sent + b',"source":"erp"}'], CRM, Mappings(), instant(NOW))
    assert isinstance(one, Refused)
    assert one.field == "source"
    (two,) = cloud_events([sent + b',"id":"2","sourcerank":1,"run":"x","run":"y"}'], CRM, Mappings(), instant(NOW))
    assert isinstance(two, Accepted)
    assert written(two) == written(accepted(event(id="2"))[0])


def test_a_mapping_counts_for_what_follows_it_in_the_same_request() -> None:
    found = accepted(event(id="1"), event("identity.mapped"), event(id="2"), event("handoff.accepted", "acme"))
    assert [one.topic for one in found] == [HELD, IDENTITY, RENEWALS, OWNERSHIP]


def test_a_mapping_that_is_older_than_the_one_in_force_changes_nothing_for_what_follows() -> None:
    older = event("identity.mapped", time="2026-01-01T00:00:00Z", data={"home": "crm:deal:7", "account": "old"})
    newer = event("identity.mapped", time="2026-02-01T00:00:00Z")
    assert accepted(newer, older, event())[-1].account == "acme"


# ---------------------------------------------------------------- who may create accounts


def test_the_system_of_record_creates_an_account_by_mapping_a_home_to_it() -> None:
    (one,) = accepted(event("identity.mapped"))
    assert (one.topic, one.account, written(one)["partitionkey"]) == (IDENTITY, "acme", "crm:deal:7")


def test_others_map_homes_to_accounts_that_are_known() -> None:
    mapped = event("identity.mapped", "app:user:1", source="app", data={"home": "app:user:1", "account": "acme"})
    (one,) = accepted(mapped, sender=APP, mappings=known(deal_7="acme"))
    assert (one.topic, one.account) == (IDENTITY, "acme")
    why = "unknown account 'acme'; only the system of record creates accounts"
    assert refused(mapped, APP) == ("data.account", why)


def test_the_record_of_an_account_may_be_given_by_its_id_or_a_home_of_it() -> None:
    for subject in ("acme", "crm:company:1"):
        (one,) = accepted(event("account.upserted", subject), mappings=known(company_1="acme"))
        assert (one.topic, one.account, written(one)["partitionkey"]) == (ACCOUNTS, "acme", "acme")


def test_a_new_account_is_given_by_the_system_of_record_alone() -> None:
    (one,) = accepted(event("account.upserted", "new"))
    assert one.account == "new"
    why = "unknown account 'new'; only the system of record creates accounts"
    assert refused(event("account.upserted", "new", source="app"), APP) == ("subject", why)


def test_anybody_may_add_to_the_record_of_a_known_account() -> None:
    (one,) = accepted(event("account.upserted", "acme", source="app"), sender=APP, mappings=known(deal_7="acme"))
    assert one.account == "acme"


# ---------------------------------------------------------------- heartbeats


def test_a_heartbeat_has_a_key_of_its_own() -> None:
    (one,) = accepted(event("source.seen", "crm"))
    assert (one.topic, one.account, one.held) == (SOURCES, None, None)
    assert (written(one)["subject"], written(one)["partitionkey"]) == ("crm", "crm:seen")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"subject": "app"}, "subject", id="as its subject"),
        pytest.param({"data": {"source": "app"}}, "data.source", id="in its data"),
    ],
)
def test_nobody_gives_a_heartbeat_for_another_source(changes: Json, field: str) -> None:
    why = "it must be 'crm', whose secret this is (found 'app')"
    assert refused(event("source.seen", **({"subject": "crm"} | changes))) == (field, why)


# ---------------------------------------------------------------- what is refused

NAIVE = "input should have timezone info (found '2026-11-22T09:30:00')"
KNOWN = "; known are steward.contract.won.v1, steward.contract.valued.v1, steward.handoff.opened.v1"
REFUSED: dict[str, tuple[Any, str, str]] = {
    "not an object": ([event()], "the record", "this is no JSON object"),
    "text": ("steward", "the record", "this is no JSON object"),
    "nothing": ({}, "type", "field required"),
    "no type": (event(type=...), "type", "field required"),
    "an unknown type": (
        event("deal.won"),
        "type",
        "this is no event of /v1/events (found 'steward.deal.won.v1')" + KNOWN,
    ),
    "a verdict of ours": (event("sla.breached"), "type", "this is no event of /v1/events"),
    "a mark of the clock": (event("clock.advanced"), "type", "this is no event of /v1/events"),
    "a registration": (event("source.registered"), "type", "this is no event of /v1/events"),
    "a type that is no text": (event(type=5), "type", "this is no event of /v1/events (found"),
    "no version": (event(specversion=...), "specversion", "field required"),
    "another version": (event(specversion="0.3"), "specversion", "input should be '1.0' (found '0.3')"),
    "no id": (event(id=...), "id", "field required"),
    "an empty id": (event(id=""), "id", "string should have at least 1 character (found '')"),
    "a long id": (event(id="x" * 10_000), "id", "string should have at most 200 characters (found 'xxxx"),
    "a number for an id": (event(id=5), "id", "input should be a valid string (found 5)"),
    "a line break in the id": (event(id="a\nb"), "id", "string should match pattern"),
    "another's source": (event(source="erp"), "source", "it must be 'crm', whose secret this is (found 'erp')"),
    "no subject": (event(subject=...), "subject", "field required"),
    "a subject of null": (event(subject=None), "subject", "input should be a valid string"),
    "an unknown account": (
        event(subject="acme"),
        "subject",
        "unknown account 'acme'; send a home like crm:company:123",
    ),
    "no time": (event(time=...), "time", "field required"),
    "a naive time": (event(time="2026-11-22T09:30:00"), "time", NAIVE),
    "a number for a time": (event(time=1732267800), "time", "1732267800 is no time; write it like"),
    "a time before 1990": (event(time="1989-12-31T23:59:59Z"), "time", "1989-12-31T23:59:59+00:00 lies before 1990"),
    "a time after its arrival": (
        event(time=(NOW + timedelta(minutes=5, microseconds=1)).isoformat()),
        "time",
        "2026-11-22T09:35:00.000001+00:00 is more than 5 minutes after its arrival",
    ),
    "no data": (event(data=...), "data", "field required"),
    "text for data": (event(data="won"), "data", "input should be an object (found 'won')"),
    "data of another type": (event(data={"handoff": "x"}), "data.home", "field required"),
    "a number in the data": (event(data={"home": 7}), "data.home", "input should be a valid string (found 7)"),
    "an amount that is a number": (
        event("contract.valued", data={"home": "crm:deal:7", "amount": 12000, "currency": "EUR"}),
        "data.amount",
        "input should be a valid string (found 12000)",
    ),
    "data that is not JSON": (
        event(datacontenttype="application/xml", data="<won/>"),
        "datacontenttype",
        "input should be 'application/json' (found 'application/xml')",
    ),
    "a mapping of another home": (
        event("identity.mapped", "crm:deal:8"),
        "subject",
        "it must be data.home, 'crm:deal:7' (found 'crm:deal:8')",
    ),
    "the record of a home that nobody has mapped": (
        event("account.upserted"),
        "subject",
        "the home 'crm:deal:7' is mapped to no account; map it first, with steward.identity.mapped.v1",
    ),
}


@pytest.mark.parametrize(("sent", "field", "why"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_refused_with_its_field_and_why(sent: Any, field: str, why: str) -> None:
    found = refused(sent)
    assert found[0] == field
    assert found[1].startswith(why)


def test_five_minutes_after_its_arrival_is_in_time() -> None:
    accepted(event(time=(NOW + timedelta(minutes=5)).isoformat()))


def test_mistakes_in_a_batch_are_told_by_item_and_the_others_are_taken() -> None:
    found = decided(event(id="1"), event(id=2), event(id="3", time="yesterday"), event(id="4"))
    assert [type(one) for one in found] == [Accepted, Refused, Refused, Accepted]
    told = [(one.item, one.field) for one in found if isinstance(one, Refused)]
    assert told == [(1, "id"), (2, "time")]


# ---------------------------------------------------------------- bodies

ONE = json.dumps(event()).encode()
SHAPES: dict[str, tuple[str, bytes, int]] = {
    "one event": ("application/cloudevents+json", ONE, 1),
    "one event, spaced": ("application/json", b"\n " + ONE + b" \r\n", 1),
    "a batch": ("application/cloudevents-batch+json", b"[" + ONE + b" , " + ONE + b"]", 2),
    "a batch as plain JSON": ("application/json; charset=utf-8", b" [" + ONE + b"]", 1),
    "an empty batch": ("application/json", b"[]", 0),
    "lines": ("application/x-ndjson", ONE + b"\r\n\r\n  " + ONE + b"\n", 2),
    "a type in capitals": ("Application/CloudEvents+JSON; Charset=UTF-8", ONE, 1),
}


@pytest.mark.parametrize(("content_type", "content", "number"), SHAPES.values(), ids=SHAPES)
def test_a_body_is_divided_by_its_content_type(content_type: str, content: bytes, number: int) -> None:
    shape = body.shape(content_type)
    assert shape is not None
    assert body.split(content, shape) == [ONE] * number


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/xml", "application/json; charset=latin-1", "json", "*/*"]
)
def test_other_content_types_are_not_taken(content_type: str) -> None:
    assert body.shape(content_type) is None


UNREADABLE: dict[str, tuple[body.Shape, bytes, str]] = {
    "nothing": ("either", b" \n", "the body is empty"),
    "truncated": ("either", b"[" + ONE[:-5], "the body cannot be read: Input data was truncated"),
    "truncated in the second event": ("batch", b"[" + ONE + b"," + ONE[:30], "the body cannot be read"),
    "two values": ("one", ONE + ONE, "the body cannot be read"),
    "an object for a batch": ("batch", ONE, "the body must be a JSON array of events"),
    "a form": ("either", b"a=1&b=2", "the body cannot be read"),
    "too deep": ("batch", b"[" * 100_000, "the body is nested too deeply"),
    "too deep inside": ("either", b'{"a":' * 100_000, "the body is nested too deeply"),
    "a byte order mark": ("either", b"\xef\xbb\xbf[]", "the body cannot be read"),
}


@pytest.mark.parametrize(("shape", "content", "why"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_body_that_is_not_what_it_says_is_unreadable(shape: body.Shape, content: bytes, why: str) -> None:
    with pytest.raises(body.Unreadable) as caught:
        body.split(content, shape)
    assert str(caught.value).startswith(why)


def test_a_request_has_a_thousand_items_at_most() -> None:
    assert len(body.split(b"[" + b",".join([b"1"] * 1000) + b"]", "batch")) == 1000
    with pytest.raises(body.TooMany, match="the body has 1,001 items; send at most 1,000 at once"):
        body.split(b"1\n" * 1001, "lines")


def test_binary_mode_is_read_as_structured() -> None:
    attributes = {name: value for name, value in event().items() if name not in {"data", "datacontenttype"}}
    data = json.dumps(DATA["contract.won"]).encode()
    (one,) = cloud_events([cloudevents.structured(attributes, data)], CRM, Mappings(), instant(NOW))
    assert one == accepted(event())[0]


def test_a_header_of_binary_mode_may_be_percent_encoded() -> None:
    item = cloudevents.structured({"id": "gr%C3%BC%C3%9Fe%20%F0%9F%8C%8E"}, b"{}")
    assert json.loads(item)["id"] == "grüße 🌎"
    with pytest.raises(body.Unreadable, match="percent-encoded"):
        cloudevents.structured({"id": "%FF"}, b"{}")


@pytest.mark.parametrize("data", [b'{}, "source": "erp"', b"{", b"won"])
def test_a_binary_body_is_one_json_value(data: bytes) -> None:
    with pytest.raises(body.Unreadable):
        cloudevents.structured({"id": "1"}, data)


# ---------------------------------------------------------------- anything

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.sampled_from([*OURS, "acme"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
CHANGES = st.dictionaries(st.sampled_from([*event(), *OURS, "extra"]) | st.text(max_size=9), VALUES, max_size=4)


@given(
    kind=st.sampled_from([*DATA]), changes=CHANGES, data=st.dictionaries(st.sampled_from(["home", "handoff"]), VALUES)
)
def test_whatever_is_sent_is_taken_as_its_type_or_refused(kind: str, changes: Mapping[str, Any], data: Json) -> None:
    sent = event(kind, **{**changes, **({"data": DATA[kind] | data} if data else {})})
    (one,) = decided(sent, mappings=known(deal_7="acme"))
    if isinstance(one, Accepted):
        read = codec.decode(one.topic, codec.encode(one.event))
        assert (read.source, read.sourcerank, read.run, read.runposition) == ("crm", 10, None, None)
        assert read.partitionkey in {"acme", "crm:seen", read.subject}
    else:
        assert isinstance(one, Refused)
        assert one.field
        assert one.why


@given(
    content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode),
    shape=st.sampled_from([*body.SHAPES.values()]),
)
@settings(max_examples=300)
def test_whatever_the_body_it_is_divided_or_unreadable(content: bytes, shape: body.Shape) -> None:
    try:
        items = body.split(content, shape)
    except body.Unreadable:
        return
    for outcome in cloud_events(items, CRM, Mappings(), instant(NOW)):
        assert isinstance(outcome, Refused)


TOPICS: tuple[Topic, ...] = (INTERACTIONS, RENEWALS, OWNERSHIP, ACCOUNTS, IDENTITY, SOURCES)


def test_every_type_of_the_facts_that_ingest_writes_may_come_from_outside() -> None:
    ours = {"source.registered", "run.started", "run.advanced", "run.finished", "run.abandoned"}
    wanted = {kind.name() for topic in TOPICS for kind in topic.types} - {f"steward.{name}.v1" for name in ours}
    assert {kind.name() for kind in cloudevents.OUTSIDE.types} == wanted == {f"steward.{name}.v1" for name in DATA}
