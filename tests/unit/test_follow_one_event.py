"""docs/follow-one-event.md: every symbol it names is there, and every payload it shows is what the code gives."""

import base64
import hashlib
import hmac
import importlib
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemas import codec
from schemas.envelope import Event
from schemas.identity import IdentityMapped, Mapping
from schemas.ownership import HandoffOpened, Opening
from schemas.policies import PersonRule, Policy
from schemas.renewals import SALE, handoff_of
from schemas.topics import HANDOFFS, NOTICES, OWNERSHIP, RENEWALS, Topic
from services.alerting import message
from services.alerting.case import CaseProcessor
from services.alerting.desk import DeskProcessor
from services.alerting.model import Attempt
from services.core.instants import Instant, instant
from services.core.policy import Policies
from services.core.processor import Context, Fact, Output
from services.handoff.processor import HandoffProcessor
from services.ingest import decide, signature
from services.ingest.model import Accepted, Mappings, Sender
from services.ingest.providers import body, hubspot
from services.runtime.documents import load
from tests.outputs import events_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/follow-one-event.md").read_text()
SYMBOLS = sorted(set(re.findall(r"`([\w/]+\.py)::([\w.]+)`", PAGE)))
BLOCKS = [block.strip() for block in re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]

ACCOUNT, DEAL = "acc_northwind", "hubspot:deal:77"
ARRIVED = instant(datetime(2026, 3, 6, 15, 0, 2, tzinfo=UTC))
DUE = instant(datetime(2026, 3, 9, 11, 0, tzinfo=UTC))
PEOPLE = {"ada": PersonRule(name="Ada", manager="grace"), "grace": PersonRule(name="Grace")}


@pytest.mark.parametrize(("path", "name"), SYMBOLS, ids=[f"{path}::{name}" for path, name in SYMBOLS])
def test_a_symbol_that_the_page_names_is_there(path: str, name: str) -> None:
    found: Any = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    for part in name.split("."):
        found = getattr(found, part)
    assert found is not None


def test_a_file_that_the_page_names_is_there() -> None:
    named = re.findall(r"`((?:deploy|tests|docs)/[\w./-]+)`", PAGE)
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_payloads_of_the_page_are_what_the_code_gives() -> None:
    page = [json.loads(block) for block in BLOCKS]
    walked = walk(BLOCKS[0].encode())
    assert len(walked) == len(page)
    for shown, given in zip(page, walked, strict=True):
        assert within(given, shown) == shown


def within(given: Any, shown: Any) -> Any:
    """What is given, cut down to the fields that the page shows."""
    if isinstance(given, dict) and isinstance(shown, dict):
        return {name: within(value, shown[name]) for name, value in given.items() if name in shown}
    return given


def walk(request: bytes) -> list[Any]:
    """The page's payloads, made by the code it names, from the first one."""
    policies = Policies({1: _policy()}, ((0, 1),))
    assert _is_authentic(request)
    won = _received(request)
    clocked = HandoffProcessor()

    begun = clocked.decide(ACCOUNT, clocked.empty(), [Fact(RENEWALS, won, ARRIVED)], _at(ARRIVED, policies))
    named = clocked.decide(ACCOUNT, _not_none(begun.state), [_ada_named()], _at(ARRIVED, policies))
    ended = clocked.due(ACCOUNT, _not_none(named.state), _at(DUE, policies))
    breach = next(event for event in events_of(ended.outputs) if event.type == "steward.sla.breached.v1")

    case = CaseProcessor()
    told = case.decide(ACCOUNT, case.empty(), [Fact(HANDOFFS, breach, DUE)], _at(DUE, policies))
    notice = _to(told.outputs, NOTICES, "grace")
    desk = DeskProcessor(("webhook",))
    sending = desk.decide("grace", desk.empty(), [Fact(NOTICES, notice, DUE)], _at(DUE, policies))
    (effect,) = desk.wanted("grace", _not_none(sending.state))
    assert isinstance(effect.content, Attempt)
    changed = events_of(begun.outputs)[0]
    return [json.loads(request), *map(_json, (won, changed, breach, notice)), json.loads(message.body(effect.content))]


def _policy() -> Policy:
    return load(ROOT / "deploy/policy/steward.yaml", Policy).model_copy(update={"people": PEOPLE})


def _is_authentic(request: bytes) -> bool:
    stamp, url = str(ARRIVED // 1000), "https://steward.example/v1/webhooks/hubspot/hubspot"
    signed = hmac.new(b"secret", b"POST" + url.encode() + request + stamp.encode(), hashlib.sha256).digest()
    signed_text = base64.b64encode(signed).decode()
    return signature.is_hubspot(["secret"], signed_text, stamp, "POST", url, request, ARRIVED)


def _received(request: bytes) -> Event:
    rules = load(ROOT / "deploy/mapping/hubspot.yaml", hubspot.Rules)
    sender, mappings = Sender("hubspot", 10, creates=True), Mappings()
    mappings.learn(
        IdentityMapped(
            id="1", source="hubspot", subject=DEAL, partitionkey=DEAL, time=datetime(2026, 3, 1, tzinfo=UTC),
            data=Mapping(home=DEAL, account=ACCOUNT),
        )
    )  # fmt: skip
    items = body.split(request, "either")
    (outcome,) = decide.webhook(
        items, lambda item: hubspot.read(item, rules), sender, mappings, ARRIVED, create=rules.account.create
    )
    assert isinstance(outcome, Accepted)
    assert outcome.topic is RENEWALS
    return outcome.event


def _ada_named() -> Fact:
    event = HandoffOpened(
        id="2", source="hubspot", subject=ACCOUNT, partitionkey=ACCOUNT, time=datetime(2026, 3, 6, 15, 1, tzinfo=UTC),
        data=Opening(handoff=handoff_of(DEAL), kind=SALE, owner="ada"),
    )  # fmt: skip
    return Fact(OWNERSHIP, event, ARRIVED)


def _at(now: Instant, policies: Policies) -> Context:
    return Context(now, now, policies=policies)


def _to(outputs: Sequence[Output], topic: Topic, key: str) -> Event:
    (event,) = (output.event for output in outputs if output.topic is topic and output.event.partitionkey == key)
    return event


def _json(event: Event) -> Any:
    return json.loads(codec.encode(event))


def _not_none(state: Any) -> Any:
    assert state is not None
    return state
