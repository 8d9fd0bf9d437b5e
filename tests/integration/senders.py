"""Sends events and webhooks to a running `steward ingest serve`, signed as their senders sign them."""

import http.client
import json
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from hmac import digest
from typing import Any

from standardwebhooks import Webhook

from tests.pipeline import Pipeline, Process, Written, wait_until

Json = dict[str, Any]
SECRET, OLD, APP = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "the-token-before", "an-apps-secret"
SECRETS = {"crm": [SECRET, OLD], "hubspot": [APP], "nobody": ["a-secret-of-nobody"], "app": ["app-token"]}
BEARER = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
HUBSPOT = "/v1/webhooks/hubspot/hubspot"


@dataclass(frozen=True)
class Answer:
    status: int
    content: Any
    retry_after: str | None = None

    @property
    def error(self) -> str:
        assert list(self.content) == ["error"]
        return str(self.content["error"])


@dataclass(frozen=True)
class Ingest:
    """A running `steward ingest serve`."""

    pipeline: Pipeline
    process: Process
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            content = response.read()
            if response.getheader("Content-Type") == "application/json":
                content = json.loads(content)
            return Answer(response.status, content, response.getheader("Retry-After"))
        finally:
            connection.close()

    def post(self, content: Any, path: str = "/v1/events", **headers: str) -> Answer:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", path, body, BEARER | named)

    def signed(
        self, content: Any, at: datetime | None = None, secret: str = SECRET, query: str = "source=crm"
    ) -> Answer:
        body = json.dumps(content)
        at = at or datetime.now(UTC)
        signature = Webhook(secret).sign("msg_1", at, body)
        stamp = str(int(at.timestamp()))
        signed = {"webhook-id": "msg_1", "webhook-timestamp": stamp, "webhook-signature": signature}
        return self.ask("POST", f"/v1/events?{query}", body, {"Content-Type": "application/json", **signed})

    def hubspot(self, content: Any, path: str = HUBSPOT, at: datetime | None = None, secret: str = APP) -> Answer:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        stamp = str(int((at or datetime.now(UTC)).timestamp() * 1000))
        text = f"POST{self.url}{path}".encode() + body + stamp.encode()
        signature = b64encode(digest(secret.encode(), text, sha256)).decode()
        headers = {"X-HubSpot-Signature-v3": signature, "X-HubSpot-Request-Timestamp": stamp}
        return self.ask("POST", path, body, {"Content-Type": "application/json", **headers})

    def written(self, topic: str, *ids: str) -> list[Written]:
        """The raw records of a topic with these ids, each of them once."""
        found = [record for record in self.pipeline.records(topic) if record.event.get("id") in ids]
        assert sorted(record.event["id"] for record in found) == sorted(ids)
        assert [record for record in found if record.key != record.event["partitionkey"]] == []
        return sorted(found, key=lambda record: ids.index(record.event["id"]))


def serve(pipeline: Pipeline) -> Ingest:
    process = pipeline.start("ingest", "serve")
    (serving,) = wait_until(lambda: process.said("serving"), "ingest serves", 60, process)
    return Ingest(pipeline, process, int(serving["url"].rpartition(":")[2]))


def settings(**more: str) -> dict[str, str]:
    return {"steward_ingest_port": "0", "steward_source_secrets": json.dumps(SECRETS), **more}


def register(pipeline: Pipeline) -> None:
    for name, rank, role in (("crm", "20", "system of record"), ("hubspot", "10", "system of record")):
        pipeline.done("source", "register", name, "--rank", rank, "--role", role)
    pipeline.done("source", "register", "app", "--heartbeat", "30", "--grace", "5")


def event(id: str, kind: str = "contract.won", subject: str = "crm:deal:1", **changes: Any) -> Json:
    data: dict[str, Json] = {
        "contract.won": {"home": subject},
        "identity.mapped": {"home": subject, "account": "acme"},
        "source.seen": {"source": "crm"},
    }
    return {
        "specversion": "1.0",
        "id": id,
        "source": "crm",
        "type": f"steward.{kind}.v1",
        "subject": subject,
        "time": datetime.now(UTC).isoformat(),
        "datacontenttype": "application/json",
        "data": data[kind],
        **changes,
    }


def change(name: str, value: str, deal: int, **changes: Any) -> Json:
    return {
        "objectId": deal,
        "propertyName": name,
        "propertyValue": value,
        "changeSource": "CRM_UI",
        "eventId": 1,
        "subscriptionId": 2,
        "portalId": 3,
        "appId": 4,
        "occurredAt": int(datetime.now(UTC).timestamp() * 1000),
        "subscriptionType": "deal.propertyChange",
        "attemptNumber": 0,
        **changes,
    }
