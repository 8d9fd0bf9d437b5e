"""Who owns an account, as the shipped map reads it from HubSpot, and what customers do."""

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.topics import HELD, INTERACTIONS, OWNERSHIP
from services.core.instants import SECOND, Instant
from services.ingest.decide import webhook
from services.ingest.model import Accepted, Mappings, Outcome, Sender, account_of
from services.ingest.providers.hubspot import FactRule, Rules, read
from services.runtime.documents import load

RULES = load(Path(__file__).parents[2] / "deploy/mapping/hubspot.yaml", Rules)
NOW: Instant = 1_795_170_000 * SECOND
MS = 1_795_163_437_139
COMPANY = "hubspot:company:11"
RECORD = Sender("hubspot", 10, creates=True)

Json = dict[str, Any]


def change(name: str, value: Any, **changes: Any) -> Json:
    """A property of company 11 changed; `...` is a field left out."""
    sent = {
        "subscriptionType": "company.propertyChange",
        "portalId": 5799819,
        "objectId": 11,
        "propertyName": name,
        "propertyValue": value,
        "occurredAt": MS,
    }
    return {name: value for name, value in (sent | changes).items() if value is not ...}


def owner(value: Any, **changes: Any) -> Json:
    return change("hubspot_owner_id", value, **changes)


def decided(*events: Json, known: bool = True, rules: Rules = RULES) -> list[Outcome]:
    """What becomes of these; `known`: of a company whose name was told before."""
    items = [json.dumps(one).encode() for one in ([change("name", "Acme")] if known else []) + list(events)]
    found = webhook(items, lambda item: read(item, rules), RECORD, Mappings(), NOW, create=True)
    return found[2:] if known else found  # without the account and its mapping


def accepted(*events: Json, known: bool = True, rules: Rules = RULES) -> list[Accepted]:
    found = decided(*events, known=known, rules=rules)
    assert [one for one in found if not isinstance(one, Accepted)] == []
    return [one for one in found if isinstance(one, Accepted)]


OWNERS: dict[str, tuple[Json, str, Json]] = {
    "an owner": (owner("4711"), "owner.assigned", {"role": "owner", "owner": "4711"}),
    "an owner taken away": (owner(""), "owner.removed", {"role": "owner"}),
    "an owner of whom no value is told": (owner(...), "owner.removed", {"role": "owner"}),
    "no owner": (owner(None), "owner.removed", {"role": "owner"}),
}
each_owner = pytest.mark.parametrize(("sent", "kind", "data"), OWNERS.values(), ids=OWNERS)


@each_owner
def test_the_owner_of_a_company_owns_its_account(sent: Json, kind: str, data: Json) -> None:
    (one,) = accepted(sent)
    assert (one.topic, one.account, one.event.type) == (OWNERSHIP, account_of(COMPANY), f"steward.{kind}.v1")
    assert one.event.data.model_dump(exclude_none=True) == data


@each_owner
def test_the_owner_of_a_company_that_nobody_has_mapped_waits(sent: Json, kind: str, data: Json) -> None:
    (one,) = accepted(sent, known=False)
    assert (one.topic, one.held, one.event.type) == (HELD, COMPANY, f"steward.{kind}.v1")
    assert one.event.data.model_dump(exclude_none=True) == data


def test_an_owner_who_comes_back_is_another_fact_and_a_redelivery_is_not() -> None:
    told = [owner(value, occurredAt=MS + at) for at, value in enumerate(["4711", "", "4711", ""])]
    found = accepted(*told, *(one | {"attemptNumber": 2} for one in told))
    assert [one.event.type.split(".")[2] for one in found] == ["assigned", "removed"] * 4
    ids = [one.event.id for one in found]
    assert ids[:4] == ids[4:]
    assert len({*ids}) == 4


def test_the_owner_of_a_deal_owns_no_account() -> None:
    (one,) = decided(owner("4711", subscriptionType="deal.propertyChange"))
    assert not isinstance(one, Accepted)


TALKED = FactRule.model_validate(
    {
        "when": {"propertyName": "last_reply_by"},
        "home": "hubspot:company:{objectId}",
        "type": "interaction.logged",
        "data": {"channel": "email", "direction": "inbound", "contact": "{propertyValue}"},
    }
)
GRADED = FactRule.model_validate(
    {
        "when": {"propertyName": "ticket_severity"},
        "home": "hubspot:company:{objectId}",
        "type": "ticket.updated",
        "data": {"ticket": "hubspot:ticket:{objectId}", "severity": "{propertyValue}"},
    }
)


@pytest.mark.parametrize(
    ("rule", "sent", "data"),
    [
        pytest.param(
            TALKED,
            change("last_reply_by", "c-5"),
            {"channel": "email", "direction": "inbound", "contact": "c-5"},
            id="they wrote",
        ),
        pytest.param(
            GRADED,
            change("ticket_severity", "1"),
            {"ticket": "hubspot:ticket:11", "severity": 1},
            id="a ticket got worse",
        ),
    ],
)
def test_what_a_customer_does_goes_to_its_topic_or_waits(rule: FactRule, sent: Json, data: Json) -> None:
    rules = RULES.model_copy(update={"facts": (rule,)})
    (one,) = accepted(sent, rules=rules)
    assert (one.topic, one.account) == (INTERACTIONS, account_of(COMPANY))
    assert one.event.data.model_dump(exclude_none=True) == data
    (held,) = accepted(sent, rules=rules, known=False)
    assert (held.topic, held.held) == (HELD, COMPANY)
