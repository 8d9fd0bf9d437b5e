"""Live handoffs on Apache Kafka, from a POST to a signed alert, with one alerting process killed in the middle."""

import json
import random
import secrets
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from services.runtime.embedded.server import Server
from tests.pipeline import Pipeline, running, wait_until
from tests.receiver import SECRET, Receiver, receiving

HANDOFFS = 500
BATCH = 50
ACCOUNTS = 40
OWNERS = 7
TOKEN = "a token of the connector"
PEOPLE = "\n".join(f"  owner-{number}: {{manager: boss}}" for number in range(OWNERS))
POLICY = f"""
version: 1
owner: A test
calendar: always
calendars:
  always: {{zone: UTC, week: {{mon-sun: [["00:00", "24:00"]]}}}}
handoffs:
  quick: {{legs: {{accept: {{hours: 0.0015}}}}}}
people:
{PEOPLE}
  boss: {{}}
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving("ok") as receiver:
        yield receiver


@pytest.fixture
def pipeline(kafka: Server, prefix: str, tmp_path: Path, receiver: Receiver) -> Iterator[Pipeline]:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    (tmp_path / "maps").mkdir()
    with running(
        kafka.bootstrap,
        prefix,
        tmp_path,
        steward_policy=str(policy),
        steward_mappings=str(tmp_path / "maps"),
        steward_grace_seconds="0",
        steward_source_secrets=json.dumps({"crm": [TOKEN]}),
        steward_alert_url=receiver.url,
        steward_alert_secrets=json.dumps([SECRET]),
        steward_alert_allow_private="true",
    ) as pipeline:
        pipeline.done("topics", "apply")
        pipeline.done("source", "register", "crm", "--role", "system of record")
        yield pipeline


def event(kind: str, subject: str, id: str, /, **data: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": id, "source": "crm", "type": f"steward.{kind}.v1", "subject": subject,
        "time": datetime.now(UTC).isoformat(), "datacontenttype": "application/json", "data": data,
    }  # fmt: skip


def post(address: str, events: list[dict[str, Any]]) -> None:
    headers = {"Content-Type": "application/cloudevents-batch+json", "Authorization": f"Bearer {TOKEN}"}
    request = Request(f"{address}/v1/events", json.dumps(events).encode(), headers, method="POST")
    with urlopen(request, timeout=30) as answer:
        told = json.load(answer)
    assert (len(told["accepted"]), told["refused"]) == (len(events), [])


def home(number: int) -> str:
    return f"crm:company:{number % ACCOUNTS}"


def mapped(number: int) -> dict[str, Any]:
    return event("identity.mapped", home(number), f"map-{number}", home=home(number), account=f"acme-{number}")


def opened(number: int) -> dict[str, Any]:
    data = {"handoff": f"deal-{number}", "kind": "quick", "owner": f"owner-{number % OWNERS}"}
    return event("handoff.opened", home(number), f"opened-{number}", **data)


def told(receiver: Receiver) -> Counter[tuple[str, str, str]]:
    """How many posts there were for each (handoff, recipient, key) about a breach."""
    return Counter(found for post in receiver.posts if (found := about(post.id, post.body)))


@cache
def about(key: str, body: bytes) -> tuple[str, str, str] | None:
    data = json.loads(body)["data"]
    return (data["handoff"], data["recipient"], key) if data["stage"] == "breached" else None


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.parametrize("victim", ["alerting-case", "alerting-desk"])
def test_every_breach_is_delivered_under_one_key_although_an_alerting_process_is_killed(
    pipeline: Pipeline, receiver: Receiver, victim: str
) -> None:
    seed = secrets.randbelow(1_000_000)
    share = random.Random(seed).uniform(0.1, 0.9)
    pipeline.start("clock")
    processes = {name: pipeline.serves(name) for name in ("handoff", "alerting-case", "alerting-desk")}
    address = pipeline.receives()
    wanted = {
        (f"deal-{number}", recipient)
        for number in range(HANDOFFS)
        for recipient in (f"owner-{number % OWNERS}", "boss")
    }

    post(address, [mapped(number) for number in range(ACCOUNTS)])
    for start in range(0, HANDOFFS, BATCH):
        post(address, [opened(number) for number in range(start, start + BATCH)])
    wait_until(lambda: len(told(receiver)) >= share * len(wanted), "some alerts have arrived", 90, pause=0.02)
    processes[victim].kill()
    at_the_kill = len(told(receiver))
    pipeline.serves(victim)
    wait_until(lambda: {key[:2] for key in told(receiver)} >= wanted, "every breach is delivered", 120)
    wait_until(lambda: len(delivered(pipeline)) >= len(wanted), "every delivery is recorded", 60, pause=1.0)

    posts = told(receiver)
    repeated = sum(posts.values()) - len(posts)
    print(f"seed {seed}: {victim} killed after {at_the_kill} of {len(wanted)}; {repeated} posts repeated")
    assert Counter(key[:2] for key in posts) == dict.fromkeys(wanted, 1), f"seed {seed}"
    assert repeated <= 32, f"seed {seed}"  # what a courier may have under way
    assert max(posts.values()) <= 2, f"seed {seed}"
    assert all(post.is_signed for post in receiver.posts)
    assert {(data["handoff"]) for data in pipeline.verdicts()} == {handoff for handoff, _ in wanted}


def delivered(pipeline: Pipeline) -> set[str]:
    """The deliveries about a breach that cs.alerts records, each once."""
    records = pipeline.records("cs.alerts")
    breached = {
        record.event["data"]["transition"]
        for record in records
        if record.event["type"] == "steward.alert.raised.v1" and record.event["data"]["stage"] == "breached"
    }
    notices = {
        record.event["data"]["notice"]
        for record in pipeline.records("cs.notices")
        if record.event["type"] == "steward.notice.due.v1" and record.event["data"]["transition"] in breached
    }
    told = [record.event["data"] for record in records if record.event["type"] == "steward.alert.delivered.v1"]
    return {one["delivery"] for one in told if one["endpoint"] == "webhook" and one["notice"] in notices}
