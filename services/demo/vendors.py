"""What the vendors of the demo send over HTTP: payloads, headers and signatures, made on their side of the wire."""

import hmac
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from schemas.renewals import SALE
from services.core.instants import Instant, moment
from services.demo.company import BILLING, CRM, CURRENCY, DESK

# They guard nothing but one showing on this machine.
CRM_SECRET = "3f0c-demo-app-secret-of-the-crm"  # noqa: S105
BILLING_SECRET = "6b1d-demo-token-of-the-billing-system"  # noqa: S105
DESK_SECRET = "a44c-demo-token-of-the-help-desk"  # noqa: S105
TOKENS = {BILLING: BILLING_SECRET, DESK: DESK_SECRET}
STRANGER = "not-the-secret-of-the-crm"

PATHS = {CRM: f"/v1/webhooks/hubspot/{CRM}", BILLING: "/v1/events", DESK: "/v1/events"}
MAP = f"""\
source: {CRM}
vendor: hubspot
account: {{create: true}}
facts:
  - when: {{subscriptionType: deal.propertyChange, propertyName: dealstage, propertyValue: closedwon}}
    home: "{CRM}:deal:{{objectId}}"
    type: contract.won
    data: {{home: "{CRM}:deal:{{objectId}}"}}
  - when: {{subscriptionType: deal.propertyChange, propertyName: amount}}
    home: "{CRM}:deal:{{objectId}}"
    type: contract.valued
    data: {{home: "{CRM}:deal:{{objectId}}", amount: "{{propertyValue}}", currency: {CURRENCY}}}
  - when: {{subscriptionType: deal.propertyChange, propertyName: onboarding_owner}}
    home: "{CRM}:deal:{{objectId}}"
    type: handoff.opened
    data: {{handoff: "{CRM}:deal:{{objectId}}/{SALE}", kind: {SALE}, owner: "{{propertyValue}}"}}
  - when: {{subscriptionType: deal.propertyChange, propertyName: onboarding_accepted_by}}
    home: "{CRM}:deal:{{objectId}}"
    type: handoff.accepted
    data: {{handoff: "{CRM}:deal:{{objectId}}/{SALE}", owner: "{{propertyValue}}"}}
"""
PORTAL, APP = 24_681_357, 1_357_924
SUBSCRIPTIONS = {
    "deal.propertyChange": 501,
    "deal.associationChange": 502,
    "company.creation": 503,
    "company.propertyChange": 504,
}

Item = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """What one request says. `by`: whose secret it carries."""

    source: str
    items: Sequence[Item]
    by: Literal["its own", "a stranger's"] = "its own"

    @property
    def body(self) -> bytes:
        whole = self.items if self.source == CRM else self.items[0]
        return json.dumps(whole, separators=(",", ":")).encode()

    def headers(self, url: str, at: Instant) -> dict[str, str]:
        """The headers of this request when it is sent at `at`."""
        if self.source in TOKENS:
            token = TOKENS[self.source] if self.by == "its own" else STRANGER
            return {"Content-Type": "application/cloudevents+json", "Authorization": f"Bearer {token}"}
        timestamp = str(at // 1_000)
        signed = b"".join([b"POST", url.encode(), self.body, timestamp.encode()])
        secret = CRM_SECRET if self.by == "its own" else STRANGER
        signature = b64encode(hmac.digest(secret.encode(), signed, sha256)).decode()
        return {
            "Content-Type": "application/json",
            "X-HubSpot-Signature-v3": signature,
            "X-HubSpot-Request-Timestamp": timestamp,
        }

    def again(self) -> "Request":
        """The same batch as HubSpot redelivers it: another attempt, in another order."""
        items = [{**item, "attemptNumber": item["attemptNumber"] + 1} for item in reversed(self.items)]
        return Request(self.source, items, self.by)


def deal_changed(deal: int, name: str, value: str, at: Instant) -> Item:
    """A property of a deal has another value."""
    return {**_change("deal.propertyChange", at), "objectId": deal, "propertyName": name, "propertyValue": value}


def deal_linked(deal: int, company: int, at: Instant) -> Item:
    """A deal belongs to a company."""
    return {
        **_change("deal.associationChange", at),
        "associationType": "DEAL_TO_COMPANY",
        "fromObjectId": deal,
        "toObjectId": company,
        "associationRemoved": False,
        "isPrimaryAssociation": True,
    }


def company_created(company: int, at: Instant) -> Item:
    return {**_change("company.creation", at), "objectId": company, "changeFlag": "NEW"}


def company_named(company: int, name: str, at: Instant) -> Item:
    return {**_change("company.propertyChange", at), "objectId": company, "propertyName": "name", "propertyValue": name}


def valued(home: str, amount: int, at: Instant) -> Item:
    """The billing system's word on what a deal is worth a year, as a CloudEvent."""
    name = f"contract-{home.rpartition(':')[2]}-{at}"
    data = {"home": home, "amount": f"{amount}.00", "currency": CURRENCY}
    return _event(BILLING, name, "contract.valued", home, at, data)


def graded(home: str, ticket: str, severity: int, at: Instant) -> Item:
    """The help desk says how bad a ticket is now, as a CloudEvent about the customer in whose home it is."""
    return _event(DESK, f"{ticket}-{at}", "ticket.updated", home, at, {"ticket": ticket, "severity": severity})


def solved(home: str, ticket: str, at: Instant) -> Item:
    """The help desk says that a ticket is solved, as a CloudEvent."""
    return _event(DESK, f"{ticket}-{at}", "ticket.solved", home, at, {"ticket": ticket})


def _event(source: str, id: str, kind: str, home: str, at: Instant, data: Mapping[str, object]) -> Item:
    return {
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": f"steward.{kind}.v1",
        "subject": home,
        "time": moment(at).isoformat(),
        "datacontenttype": "application/json",
        "data": data,
    }


def _change(kind: str, at: Instant) -> dict[str, Any]:
    # HubSpot does not promise that eventId is unique, and it is not.
    return {
        "eventId": at // 1_000 % 1_000_003,
        "subscriptionId": SUBSCRIPTIONS[kind],
        "portalId": PORTAL,
        "appId": APP,
        "occurredAt": at // 1_000,
        "subscriptionType": kind,
        "attemptNumber": 0,
        "changeSource": "CRM_UI",
    }
