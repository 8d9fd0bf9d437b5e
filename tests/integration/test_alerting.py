"""From a fact to a signed alert through the processes as they are shipped, against a real endpoint in each mood."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas import codec
from schemas.accounts import AccountRecord, AccountUpserted
from schemas.envelope import Event
from schemas.ownership import Acceptance, HandoffAccepted, HandoffOpened, Opening
from schemas.renewals import ContractWon, Won
from services.core.instants import SECOND
from services.runtime.embedded.server import Server
from tests.pipeline import Pipeline, Process, running, wait_until
from tests.receiver import SECRET, Mode, Receiver, receiving

ACCOUNT = "acme"
POLICY = """
version: 1
owner: A test
calendar: always
calendars:
  always: {zone: UTC, week: {mon-sun: [["00:00", "24:00"]]}}
handoffs:
  quick: {legs: {accept: {hours: 0.0003}}}
people:
  ada: {name: Ada, manager: max}
  max: {name: Max}
  loner: {}
"""


class Installation:
    """The processes of a small installation and the endpoint that it tells."""

    def __init__(self, stack: ExitStack, broker: Server, prefix: str, folder: Path, mode: Mode) -> None:
        policy = folder / "policy.yaml"
        policy.write_text(POLICY)
        self.receiver: Receiver = stack.enter_context(receiving(mode))
        self.pipeline: Pipeline = stack.enter_context(
            running(
                broker.bootstrap,
                prefix,
                folder,
                steward_policy=str(policy),
                steward_grace_seconds="0",
                steward_alert_url=self.receiver.url,
                steward_alert_secrets=json.dumps([SECRET]),
                steward_alert_allow_private="true",
            )
        )
        self.pipeline.serve()
        for command in ("alerting-case", "alerting-desk"):
            self.desk = self.start(command)

    def start(self, command: str) -> Process:
        """Start a command and wait until it serves."""
        process = self.pipeline.start(command)
        wait_until(lambda: process.said("serving"), f"{command} serves", 60, process)
        return process

    def publish(self, topic: str, *events: Event) -> None:
        self.pipeline.publish(topic, [(event.partitionkey, codec.encode(event), None) for event in events])

    def opens(self, *handoffs: str, owner: str = "loner") -> None:
        """Handoffs that will be late in a second; nobody is told that they are at risk before they are."""
        for handoff in handoffs:
            data = Opening(handoff=handoff, kind="quick", owner=owner)
            self.publish("crm.ownership", HandoffOpened(**envelope(f"opened {handoff}"), data=data))

    def results(self, kind: str) -> list[dict[str, Any]]:
        return self._data("cs.notices", f"steward.notice.{kind}.v1")

    def alerts(self, kind: str) -> list[dict[str, Any]]:
        return self._data("cs.alerts", f"steward.alert.{kind}.v1")

    def _data(self, topic: str, kind: str) -> list[dict[str, Any]]:
        return [record.event["data"] for record in self.pipeline.records(topic) if record.event["type"] == kind]

    def delivered(self, stage: str, endpoint: str = "webhook") -> list[dict[str, Any]]:
        """What cs.alerts says was delivered of one stage."""
        found = [data for data in self.alerts("delivered") if data["endpoint"] == endpoint]
        # Read after the deliveries, or one of a notice that has come in between would be of none.
        due = {data["notice"]: data for data in self.results("due")} | {
            data["notice"]: data for data in self.results("cancelled")
        }
        return [
            {**data, "what": due[data["notice"]]["what"]} for data in found if due[data["notice"]]["stage"] == stage
        ]


def envelope(id: str, at: datetime | None = None) -> dict[str, Any]:
    time = at or datetime.now(UTC)
    return {"id": id, "source": "crm", "subject": ACCOUNT, "partitionkey": ACCOUNT, "time": time}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def breaches(receiver: Receiver) -> list[dict[str, Any]]:
    """The data of every post about a breach."""
    return [data for post in receiver.posts if (data := post.message["data"]).get("stage") == "breached"]


def test_a_breach_reaches_the_owner_and_the_manager_signed_and_is_taken_back(
    stack: ExitStack, noida: Server, prefix: str, tmp_path: Path
) -> None:
    home = Installation(stack, noida, prefix, tmp_path, "ok")
    home.publish("crm.accounts", AccountUpserted(**envelope("account"), data=AccountRecord(name="Acme")))
    home.publish(
        "crm.renewals", ContractWon(**envelope("won"), data=Won(home="crm:deal:1", amount="48000", currency="EUR"))
    )
    home.opens("deal-1", owner="ada")
    wait_until(lambda: len(home.delivered("breached")) == 2, "both are told", 60, home.desk)

    receiver = home.receiver
    told = breaches(receiver)
    assert sorted(data["recipient"] for data in told) == ["ada", "max"]
    assert all(post.is_signed for post in receiver.posts)
    assert set(receiver.ids().values()) == {1}
    assert {data["text"].partition(" (")[0] for data in told} == {"Acme: the handoff deal-1"}
    assert {(data["amount"], data["currency"]) for data in told} == {("48000", "EUR")}
    assert {record.key for record in home.pipeline.records("cs.alerts")} == {ACCOUNT}
    assert {record.key for record in home.pipeline.records("cs.notices")} == {"ada", "max"}

    opened = home.pipeline.records("crm.ownership")[0].event["time"]
    in_time = datetime.fromisoformat(opened) + timedelta(seconds=1)
    accepted = HandoffAccepted(**envelope("late", in_time), data=Acceptance(handoff="deal-1", owner="ada"))
    home.publish("crm.ownership", accepted)
    wait_until(lambda: len(home.delivered("breached")) == 4, "both are told that it was in time", 60, home.desk)
    for person in ("ada", "max"):
        heard = [data["what"] for data in breaches(receiver) if data["recipient"] == person]
        assert heard == ["raised", "retracted"]
    assert [data["stage"] for data in home.alerts("retracted")].count("breached") == 1
    assert len(home.delivered("breached", endpoint="log")) == 4
    assert len(home.desk.said("alert")) == len(home.delivered("breached", "log")) + len(
        home.delivered("at_risk", "log")
    )


@pytest.mark.parametrize(
    ("mode", "first"),
    [
        pytest.param("500 then ok", {"status": 500, "message": "HTTP 500"}, id="500"),
        pytest.param(
            "429 then ok", {"status": 429, "retry_after": 7, "message": "HTTP 429; it asks for 7 s"}, id="429"
        ),
        pytest.param("stall then ok", {"message": "no answer within 10 s"}, id="stall", marks=pytest.mark.slow),
        pytest.param("drop then ok", {}, id="accept, then drop"),
    ],
)
def test_an_attempt_that_fails_is_repeated_under_the_same_key_until_it_arrives(
    mode: Mode, first: dict[str, Any], stack: ExitStack, noida: Server, prefix: str, tmp_path: Path
) -> None:
    home = Installation(stack, noida, prefix, tmp_path, mode)
    home.receiver.retry_after = 7
    home.opens("deal-1")
    wait_until(lambda: home.delivered("breached"), "the breach is told in the end", 90, home.desk)

    assert set(home.receiver.ids().values()) == {2}
    assert all(post.is_signed for post in home.receiver.posts)
    assert len({post.body for post in home.receiver.posts}) == len(home.receiver.ids())
    failed = [data for data in home.results("failed") if data["endpoint"] == "webhook"]
    assert {data["attempt"] for data in failed} == {1}
    assert all(first.items() <= data.items() for data in failed)
    assert [data["attempt"] for data in home.delivered("breached")] == [2]
    assert home.alerts("failed") == []
    if mode == "429 then ok":
        for id in home.receiver.ids():
            once, again = [post.at for post in home.receiver.posts if post.id == id]
            assert again - once >= 7 * SECOND


def test_an_endpoint_that_is_gone_is_told_nothing_more(
    stack: ExitStack, noida: Server, prefix: str, tmp_path: Path
) -> None:
    home = Installation(stack, noida, prefix, tmp_path, "410")
    home.opens("deal-1")
    wait_until(lambda: home.alerts("failed"), "the first delivery is given up", 60, home.desk)
    posted = len(home.receiver.posts)
    home.opens("deal-2")
    wait_until(
        lambda: (
            Counter(data["handoff"] for data in home.results("due"))["deal-2"]
            and len(home.alerts("failed")) == len(home.results("due"))
        ),
        "the later ones fail at once",
        60,
        home.desk,
    )
    assert {(data["endpoint"], data["reason"], data["attempt"]) for data in home.alerts("failed")} == {
        ("webhook", "endpoint_gone", 1)
    }
    assert len(home.receiver.posts) <= posted + 1  # the second stage of the first may have been under way
    assert home.receiver.of("deal-2") == []
    assert home.delivered("breached", endpoint="log")


@pytest.mark.kafka
@pytest.mark.slow
def test_a_desk_that_was_killed_in_the_middle_tells_it_once_more_under_the_same_key(
    stack: ExitStack, kafka: Server, prefix: str, tmp_path: Path
) -> None:
    home = Installation(stack, kafka, prefix, tmp_path, "stall then ok")
    home.opens("deal-1")
    wait_until(lambda: home.receiver.of("deal-1"), "an attempt is under way", 60, home.desk)
    home.desk.kill()
    again = home.start("alerting-desk")
    wait_until(lambda: home.delivered("breached"), "the next desk tells it", 90, again)
    assert set(home.receiver.ids().values()) == {2}
    assert len({post.body for post in home.receiver.posts}) == len(home.receiver.ids())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        pytest.param({}, "STEWARD_ALERT_SECRETS is not, so no alert could be signed", id="no secret"),
        pytest.param({"STEWARD_ALERT_SECRETS": '["whsec_AA=="]'}, "secret 1 holds 1 bytes", id="a weak secret"),
    ],
)
def test_a_desk_that_could_not_sign_says_so_and_does_not_start(
    settings: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    pipeline = Pipeline("127.0.0.1:1", "", tmp_path, {"STEWARD_ALERT_URL": "https://example.com/", **settings})
    ended = pipeline.run("alerting-desk")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert sentence in ended.stderr
