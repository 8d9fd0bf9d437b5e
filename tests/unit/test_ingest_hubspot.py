"""HubSpot: what its events say by a map, whose they are, and what nobody has said what it means."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas import codec
from schemas.codec import sentences
from schemas.identity import IdentityMapped
from schemas.topics import ACCOUNTS, HELD, IDENTITY, OWNERSHIP, RENEWALS
from services.core.instants import instant
from services.ingest.decide import webhook
from services.ingest.model import Accepted, Mappings, Outcome, Refused, Sender, Unknown, account_of
from services.ingest.providers.hubspot import FIELDS, Rules, read
from services.runtime.documents import DocumentError, load

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
AT = "2026-11-20T08:30:37.139000Z"
MS = 1795163437139
RECORD, OTHER = Sender("hubspot", 10, creates=True), Sender("hubspot", 10)
COMPANY, DEAL = "hubspot:company:11", "hubspot:deal:77"
ACME = account_of(COMPANY)

Json = dict[str, Any]
WON: Json = {
    "when": {"subscriptionType": "deal.propertyChange", "propertyName": "dealstage", "propertyValue": "closedwon"},
    "home": "hubspot:deal:{objectId}",
    "type": "contract.won",
    "data": {"home": "hubspot:deal:{objectId}"},
}
VALUED: Json = {
    "when": {"subscriptionType": "deal.propertyChange", "propertyName": "amount"},
    "home": "hubspot:deal:{objectId}",
    "type": "contract.valued",
    "data": {"home": "hubspot:deal:{objectId}", "amount": "{propertyValue}", "currency": "EUR"},
}
TAKEN: Json = {
    "when": {"subscriptionType": "deal.propertyChange", "propertyName": "onboarding_accepted_by"},
    "home": "hubspot:deal:{objectId}",
    "type": "handoff.accepted",
    "data": {"handoff": "hubspot:deal:{objectId}/sale_to_onboarding", "owner": "{propertyValue}"},
}


def rules(**changes: Any) -> Rules:
    document = {"source": "hubspot", "vendor": "hubspot", "account": {"create": True}, "facts": [WON, VALUED, TAKEN]}
    return Rules.model_validate_json(json.dumps(document | changes))


RULES = rules()


def change(name: str = "dealstage", value: Any = "closedwon", **changes: Any) -> Json:
    sent = {
        "objectId": 77,
        "propertyName": name,
        "propertyValue": value,
        "changeSource": "CRM_UI",
        "eventId": 100,
        "subscriptionId": 92894,
        "portalId": 5799819,
        "appId": 186886,
        "occurredAt": MS,
        "subscriptionType": "deal.propertyChange",
        "attemptNumber": 0,
    }
    return {name: value for name, value in (sent | changes).items() if value is not ...}


def company(name: str | None = "Acme", **changes: Any) -> Json:
    if name is None:
        changes |= {"propertyName": ..., "propertyValue": ..., "changeFlag": "CREATED"}
    kind = "company.creation" if name is None else "company.propertyChange"
    return change("name", name, **({"subscriptionType": kind, "objectId": 11} | changes))


def association(**changes: Any) -> Json:
    sent = {
        "subscriptionType": "deal.associationChange",
        "associationType": "DEAL_TO_COMPANY",
        "fromObjectId": 77,
        "toObjectId": 11,
        "associationRemoved": False,
        "isPrimaryAssociation": True,
        "objectId": ...,
    }
    return change(..., ..., **(sent | changes))  # type: ignore[arg-type]  # absent


def decided(
    *events: Any, sender: Sender = RECORD, mappings: Mappings | None = None, by: Rules = RULES
) -> list[Outcome]:
    items = [json.dumps(one).encode() for one in events]
    create = by.account.create
    return webhook(items, lambda item: read(item, by), sender, mappings or Mappings(), instant(NOW), create=create)


def accepted(*events: Any, **how: Any) -> list[Accepted]:
    found = decided(*events, **how)
    assert [one for one in found if not isinstance(one, Accepted)] == []
    return [one for one in found if isinstance(one, Accepted)]


def unknown(*events: Any, **how: Any) -> list[Unknown]:
    found = decided(*events, **how)
    assert [one for one in found if not isinstance(one, Unknown)] == []
    return [one for one in found if isinstance(one, Unknown)]


def written(outcome: Accepted) -> Json:
    value: Json = json.loads(codec.encode(outcome.event))
    return value


def learned(*outcomes: Accepted) -> Mappings:
    mappings = Mappings()
    for one in outcomes:
        if isinstance(one.event, IdentityMapped):
            mappings.learn(one.event)
    return mappings


MAPPED = learned(*accepted(company(), association()))


# ---------------------------------------------------------------- what a map gives


@pytest.mark.data
def test_the_captured_event_is_a_won_deal_where_its_stage_means_that(shared_data: Path) -> None:
    captured = (shared_data / "webhooks/hubspot/events/djhubspot_deal_propertyChange_attempt0.json").read_bytes()
    stage = json.loads(captured)["propertyValue"]
    won = WON | {"when": WON["when"] | {"propertyValue": stage}}
    (one,) = accepted(json.loads(captured), by=rules(facts=[won]))
    home = "hubspot:deal:697680835"
    assert (one.topic, one.held) == (HELD, home)
    event = written(one)
    assert event["type"] == "steward.contract.won.v1"
    assert event["data"] == {"home": home}
    assert (event["subject"], event["partitionkey"]) == (home, home)
    assert datetime.fromisoformat(event["time"]) == datetime(2019, 4, 24, 8, 30, 37, 139000, tzinfo=UTC)
    (other,) = unknown(json.loads(captured))
    assert json.loads(other.original) == json.loads(captured)
    assert other.what == f"deal.propertyChange/dealstage/{stage}"


FACTS = {
    "a won deal": (change(), "contract.won", {"home": DEAL}),
    "an amount": (
        change("amount", "12000.5"),
        "contract.valued",
        {"home": DEAL, "amount": "12000.5", "currency": "EUR"},
    ),
    "an acceptance": (
        change("onboarding_accepted_by", "ada@example.com"),
        "handoff.accepted",
        {"handoff": f"{DEAL}/sale_to_onboarding", "owner": "ada@example.com"},
    ),
}


@pytest.mark.parametrize(("sent", "kind", "data"), FACTS.values(), ids=FACTS)
def test_a_rule_gives_a_fact(sent: Json, kind: str, data: Json) -> None:
    (one,) = accepted(sent, mappings=MAPPED)
    event = written(one)
    assert (one.topic, one.account) == (OWNERSHIP if kind.startswith("handoff") else RENEWALS, ACME)
    assert (event["type"], event["data"]) == (f"steward.{kind}.v1", data)
    assert (event["source"], event["sourcerank"], event["time"]) == ("hubspot", 10, AT)
    assert (event["subject"], event["partitionkey"], event["receivedat"]) == (ACME, ACME, "2026-11-22T09:30:00Z")


@pytest.mark.parametrize(("sent", "kind", "data"), FACTS.values(), ids=FACTS)
def test_a_fact_of_a_deal_without_company_waits(sent: Json, kind: str, data: Json) -> None:
    (one,) = accepted(sent)
    assert (one.topic, one.held, written(one)["partitionkey"]) == (HELD, DEAL, DEAL)


def test_every_rule_that_fits_gives_a_fact() -> None:
    opened = WON | {"type": "handoff.opened", "data": {"handoff": "{objectId}", "kind": "deal"}}
    found = accepted(change(), by=rules(facts=[WON, opened]))
    assert [one.event.type for one in found] == ["steward.contract.won.v1", "steward.handoff.opened.v1"]
    assert len({one.event.id for one in found}) == 2


def test_a_rule_may_ask_for_any_field() -> None:
    for when in ({"changeSource": "CRM_UI"}, {"objectId": "77"}, {"objectTypeId": "0-3"}):
        (one,) = accepted(change(objectTypeId="0-3"), by=rules(facts=[WON | {"when": when}]))
        assert one.event.type == "steward.contract.won.v1"


# ---------------------------------------------------------------- companies and their deals


def test_a_company_that_nobody_has_mapped_becomes_an_account() -> None:
    upserted, mapped = accepted(company())
    assert (upserted.topic, mapped.topic) == (ACCOUNTS, IDENTITY)
    assert (written(upserted)["subject"], written(upserted)["data"]) == (ACME, {"name": "Acme"})
    assert (written(mapped)["subject"], written(mapped)["partitionkey"]) == (COMPANY, COMPANY)
    assert written(mapped)["data"] == {"home": COMPANY, "account": ACME}


def test_a_mapped_company_keeps_its_account() -> None:
    mappings = learned(*accepted(company(), association(fromObjectId=1)))
    (upserted,) = accepted(company("Acme Ltd"), mappings=mappings, sender=OTHER)
    assert written(upserted)["data"] == {"name": "Acme Ltd"}
    (created,) = accepted(company(None), mappings=mappings)
    assert created.account == ACME


def test_a_name_that_is_taken_away_is_no_name() -> None:
    assert written(accepted(company(""))[0])["data"] == {}


def test_a_deal_follows_its_company_in_whatever_order_they_are_told() -> None:
    first = accepted(company(), association(), change())
    second = accepted(association(), change(), company())
    assert [one.account for one in first] == [ACME] * 4
    assert [one.account for one in second] == [ACME] * 4
    assert {one.event.id for one in first} == {one.event.id for one in second}
    (mapped,) = accepted(association())
    assert written(mapped)["data"] == {"home": DEAL, "account": ACME}


def test_a_deal_moves_with_its_primary_company_only() -> None:
    moved = {"toObjectId": 12, "occurredAt": MS + 1}
    (mapped,) = accepted(association(**moved), mappings=MAPPED)
    assert mapped.account == account_of("hubspot:company:12")
    (other,) = unknown(association(isPrimaryAssociation=False, **moved), mappings=MAPPED)
    assert other.why == "'hubspot:deal:77' belongs to its primary company, and this is another one"
    accepted(association(isPrimaryAssociation=False), association(isPrimaryAssociation=...))


CREATES_NONE: dict[str, tuple[Sender, bool, str]] = {
    "the map says so": (RECORD, False, "and its map creates none"),
    "it is not the system of record": (OTHER, True, "and 'hubspot' is not the system of record"),
}


def test_a_deal_ends_with_its_primary_company_whichever_is_told_first() -> None:
    primary = association(toObjectId=1, isPrimaryAssociation=True)
    other = association(toObjectId=2, isPrimaryAssociation=False, occurredAt=primary["occurredAt"] + 2_000)
    for first, second in ((primary, other), (other, primary)):
        told = accepted(first)
        later = [one for one in decided(second, mappings=learned(*told)) if isinstance(one, Accepted)]
        assert learned(*told, *later).account("hubspot:deal:77") == account_of("hubspot:company:1")


@pytest.mark.parametrize("sent", [company(), company(None), association()], ids=["name", "creation", "association"])
@pytest.mark.parametrize(("sender", "create", "why"), CREATES_NONE.values(), ids=CREATES_NONE)
def test_what_would_need_an_account_is_unknown_where_none_may_be_created(
    sender: Sender, create: bool, why: str, sent: Json
) -> None:
    (one,) = unknown(sent, sender=sender, by=rules(account={"create": create}))
    assert one.why == f"the home '{COMPANY}' is mapped to no account, {why}"
    assert json.loads(one.original) == sent


# ---------------------------------------------------------------- the same again


def test_a_redelivery_is_the_same_fact_whatever_its_numbers() -> None:
    again = {"attemptNumber": 3, "eventId": 999, "subscriptionId": 1, "appId": 2, "changeSource": "API"}
    for sent in (change(), company(), association()):
        assert [written(one) for one in accepted(sent | again)] == [written(one) for one in accepted(sent)]


OTHERS: dict[str, Json] = {
    "the portal": {"portalId": 1},
    "the object": {"objectId": 78},
    "the time": {"occurredAt": MS + 1},
    "the value": {"propertyValue": "closedlost"},
    "the property": {"propertyName": "pipeline"},
    "the kind of object": {"subscriptionType": "ticket.propertyChange"},
}


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_another_change_is_another_fact(changes: Json) -> None:
    anything = rules(facts=[WON | {"when": {"changeSource": "CRM_UI"}}])
    (one,), (other,) = accepted(change(), by=anything), accepted(change(**changes), by=anything)
    assert one.event.id != other.event.id


def test_associations_of_one_moment_are_different_facts() -> None:
    found = accepted(*(association(fromObjectId=deal) for deal in range(5)))
    assert len({one.event.id for one in found}) == 5


# ---------------------------------------------------------------- unknown

UNKNOWN = {
    "another stage": (change(value="qualified"), "deal.propertyChange/dealstage/qualified", "no rule"),
    "another property": (change("pipeline", "default"), "deal.propertyChange/pipeline/default", "no rule"),
    "a creation": (change(..., ..., subscriptionType="deal.creation"), "deal.creation", "no rule"),  # type: ignore[arg-type]
    "a contact": (change("email", "a@b.c", subscriptionType="contact.propertyChange"), "contact.", "no rule"),
    "an association that was removed": (association(associationRemoved=True), "deal.associationChange/", "no rule"),
    "an association of others": (association(associationType="DEAL_TO_CONTACT"), "deal.associationChange/", "no rule"),
    "an amount taken away": (
        change("amount", ""),
        "deal.propertyChange/amount",
        "facts.1 needs '{propertyValue}', and a field that it names is empty",
    ),
    "a deal without number": (
        change(objectId=...),
        "deal.propertyChange/dealstage/closedwon",
        "facts.0 needs 'hubspot:deal:{objectId}', and a field that it names is empty",
    ),
}


@pytest.mark.parametrize(("sent", "what", "why"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_no_rule_fits_is_unknown_and_kept_as_it_came(sent: Json, what: str, why: str) -> None:
    (one,) = unknown(sent)
    assert one.what.startswith(what)
    assert one.why.startswith(why)
    assert json.loads(one.original) == sent


# ---------------------------------------------------------------- refused

REFUSED: dict[str, tuple[Any, str, str]] = {
    "no object": (5, "the record", "input should be an object (found 5)"),
    "nothing in it": ({}, "subscriptionType", "field required"),
    "no type": (change(subscriptionType=...), "subscriptionType", "field required"),
    "a number for the type": (change(subscriptionType=1), "subscriptionType", "input should be a valid string"),
    "a type without object": (change(subscriptionType="creation"), "subscriptionType", "string should match pattern"),
    "no portal": (change(portalId=...), "portalId", "field required"),
    "text for the portal": (change(portalId="5799819"), "portalId", "input should be a valid integer"),
    "text for the object": (change(objectId="77"), "objectId", "input should be a valid integer (found '77')"),
    "a fraction of an object": (change(objectId=7.5), "objectId", "input should be a valid integer (found 7.5)"),
    "a truth for the object": (change(objectId=True), "objectId", "input should be a valid integer (found True)"),
    "a negative object": (change(objectId=-1), "objectId", "input should be greater than or equal to 0"),
    "an object beyond all numbers": (change(objectId=10**30), "objectId", "input should be less than"),
    "a number for the value": (change(value=12000), "propertyValue", "input should be a valid string (found 12000)"),
    "a list for the value": (change(value=["closedwon"]), "propertyValue", "input should be a valid string"),
    "no time": (change(occurredAt=...), "occurredAt", "field required"),
    "text for the time": (change(occurredAt=AT), "occurredAt", "input should be a valid integer"),
    "seconds for the time": (change(occurredAt=MS // 1000 // 10), "occurredAt", "input should be greater than"),
    "a time after its arrival": (
        change(occurredAt=instant(NOW) // 1000 + 300_001),
        "occurredAt",
        "2026-11-22T09:35:00.001000+00:00 is more than 5 minutes after its arrival",
    ),
    "an amount in words": (change("amount", "a lot"), "data.amount", "string should match pattern"),
    "a negative amount": (change("amount", "-5"), "data.amount", "string should match pattern"),
    "a long name": (company("x" * 501), "data.name", "string should have at most 500 characters"),
    "a truth in words": (association(associationRemoved="false"), "associationRemoved", "input should be a valid"),
}


@pytest.mark.parametrize(("sent", "field", "why"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_refused_with_its_field_and_why(sent: Any, field: str, why: str) -> None:
    (one,) = decided(sent)
    assert isinstance(one, Refused)
    assert (one.item, one.field) == (0, field)
    assert one.why.startswith(why)
    assert json.loads(one.original) == sent


def test_of_an_event_that_is_refused_nothing_is_taken() -> None:
    longest = TAKEN | {"when": WON["when"], "data": {"handoff": "{objectId}" * 101}}
    assert [type(one) for one in decided(change(), by=rules(facts=[WON, longest]))] == [Refused]


def test_mistakes_in_a_batch_are_told_by_item_and_the_others_are_taken() -> None:
    found = decided(company(), change(objectId="x"), change("stage"), change())
    assert [type(one) for one in found] == [Accepted, Accepted, Refused, Unknown, Accepted]
    assert [one.item for one in found if isinstance(one, Refused)] == [1]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
NAMES = st.sampled_from([*FIELDS, "eventId", "attemptNumber"])


@given(
    base=st.sampled_from([change(), change("amount", "5"), company(), company(None), association()]),
    changes=st.dictionaries(NAMES, SCALARS | st.lists(SCALARS, max_size=2), max_size=4),
    dropped=st.sets(NAMES, max_size=2),
)
def test_whatever_an_event_holds_it_is_taken_unknown_or_refused(
    base: Mapping[str, Any], changes: Json, dropped: set[str]
) -> None:
    sent = {name: value for name, value in {**base, **changes}.items() if name not in dropped}
    found = decided(sent, mappings=MAPPED)
    assert found
    for one in found:
        if isinstance(one, Accepted):
            event = codec.decode(one.topic, codec.encode(one.event))
            assert event.partitionkey == event.subject
            assert event.source == "hubspot"
        else:
            assert one.why
            assert json.loads(one.original.replace(b"NaN", b"0")) is not None


# ---------------------------------------------------------------- the map

WRONG: dict[str, tuple[Json, str]] = {
    "another vendor": ({"vendor": "salesforce"}, "vendor: input should be 'hubspot' (found 'salesforce')"),
    "a key it does not know": ({"accounts": {}}, "accounts: extra inputs are not permitted (found {})"),
    "a rule for everything": (
        {"facts": [WON | {"when": {}}]},
        "facts.0.when: dictionary should have at least 1 item after validation, not 0 (found {})",
    ),
    "an unknown field": (
        {"facts": [WON | {"when": {"dealstage": "closedwon"}}]},
        f"facts.0.when.dealstage.[key]: 'dealstage' is no field of an event; those are {', '.join(FIELDS)}",
    ),
    "a number that is not in quotes": (
        {"facts": [WON | {"when": {"propertyValue": 123}}]},
        "facts.0.when.propertyValue: input should be a valid string (found 123)",
    ),
    "an unknown field in braces": (
        {"facts": [WON | {"home": "hubspot:deal:{dealId}"}]},
        f"facts.0.home: 'dealId' is no field of an event; those are {', '.join(FIELDS)}",
    ),
    "an attribute in braces": (
        {"facts": [WON | {"home": "hubspot:deal:{objectId.real}"}]},
        (
            "facts.0.home: 'hubspot:deal:{objectId.real}' must hold plain fields of an event in braces; "
            f"those are {', '.join(FIELDS)}"
        ),
    ),
    "a home of another source": (
        {"facts": [VALUED, WON | {"home": "crm:deal:{objectId}"}]},
        "the record: facts.1.home must begin like 'hubspot:deal:', with this source and a kind of its objects",
    ),
    "a home without a kind": (
        {"facts": [WON | {"home": "hubspot:{objectId}"}]},
        "the record: facts.0.home must begin like 'hubspot:deal:', with this source and a kind of its objects",
    ),
    "a type that is no fact of a home": (
        {"facts": [WON | {"type": "account.upserted"}]},
        (
            "facts.0.type: 'account.upserted' is no fact that an event can give; those are contract.won, "
            "contract.valued, handoff.opened, handoff.accepted, handoff.paused, handoff.resumed, handoff.cancelled, "
            "owner.assigned, owner.removed, interaction.logged, purchase.made, ticket.opened, ticket.updated, "
            "ticket.solved, ticket.reopened"
        ),
    ),
    "data that the type does not have": (
        {"facts": [WON | {"data": {"house": "x"}}]},
        "facts.0: contract.won has no data 'house'; it has home, amount, currency, seller, owner",
    ),
    "data that the type needs": ({"facts": [WON | {"data": {}}]}, "facts.0: contract.won needs data home"),
}


@pytest.mark.parametrize(("changes", "expected"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_map_is_said(changes: Json, expected: str) -> None:
    with pytest.raises(ValidationError) as caught:
        rules(**changes)
    assert sentences(caught.value) == [expected]


def test_a_mistake_in_a_map_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "hubspot.yaml"
    path.write_text(
        (ROOT / "deploy/mapping/hubspot.yaml").read_text().replace("dealstage,", "dealstage, propertyVal: 1,")
    )
    with pytest.raises(DocumentError, match=r"hubspot\.yaml:8: facts\.0\.when\.propertyVal"):
        load(path, Rules)


def test_the_map_in_the_repository_gives_the_facts_of_deals_of_these_tests() -> None:
    shipped = load(ROOT / "deploy/mapping/hubspot.yaml", Rules)
    deals = tuple(rule for rule in shipped.facts if rule.home == "hubspot:deal:{objectId}")
    assert shipped.model_copy(update={"facts": deals}) == RULES
