"""How the demo judges: by the receiver's log alone, and by a signature check of its own."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from services.core.instants import SECOND, moment
from services.demo import company, effects, receiver
from services.demo.effects import Effect
from services.demo.receiver import Entry
from services.handoff.app import read_policy

ROOT = Path(__file__).parents[2]
AT = 1_750_000_000 * SECOND
BODY = b'{"type":"steward.alert.raised","data":{"recipient":"ada"}}'

EXPECTED = effects.expected(company.agreement(company.with_people(read_policy(ROOT / "deploy/policy/steward.yaml"))))
CAUSED = {effect.cause: AT for effect in EXPECTED}


def entry(effect: Effect, number: int = 0, **changed: Any) -> Entry:
    """The message that the effect asks for, as the log has it, half a second after its cause."""
    data = {
        "what": effect.told.what,
        "stage": effect.told.stage,
        "handoff": effect.told.handoff,
        "recipient": effect.told.recipient,
        "account_name": effect.account,
        "due": moment(effect.due).isoformat(),
        "amount": f"{effect.worth}.00",
        "currency": "EUR",
        **changed,
    }
    return Entry(AT + SECOND // 2, f"{effect.name}-{number}", "", json.dumps({"type": "x", "data": data}))


RIGHT = [entry(effect) for effect in EXPECTED]


def test_when_everything_came_everything_is_seen_with_its_seconds() -> None:
    outcomes = effects.judged(EXPECTED, RIGHT, CAUSED)
    assert {(outcome.seen, outcome.seconds) for outcome in outcomes} == {(True, 0.5)}
    assert effects.surplus(EXPECTED, RIGHT) == []


@pytest.mark.parametrize("number", range(len(EXPECTED)), ids=[effect.name for effect in EXPECTED])
def test_what_did_not_come_is_named(number: int) -> None:
    outcomes = effects.judged(EXPECTED, [*RIGHT[:number], *RIGHT[number + 1 :]], CAUSED)
    assert [outcome.name for outcome in outcomes if not outcome.seen] == [EXPECTED[number].name]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"due": "2025-06-02T11:31:00Z"}, "its due was '2025-06-02T11:31:00Z'"),
        ({"due": None}, "its due was None"),
        ({"amount": "1.00"}, "its amount was '1.00' instead of 125000"),
        ({"amount": "much"}, "its amount was 'much'"),
        ({"currency": "USD"}, "its currency was 'USD' instead of EUR"),
        ({"account_name": "acc_1"}, "its account_name was 'acc_1' instead of Northwind"),
    ],
)
def test_a_message_that_says_something_else_is_not_the_effect(changed: dict[str, Any], said: str) -> None:
    outcome = effects.judged(EXPECTED, [entry(EXPECTED[0], **changed), *RIGHT[1:]], CAUSED)[0]
    assert not outcome.seen
    assert said in outcome.sentence


def test_a_request_that_is_not_authentic_is_no_effect_and_is_told() -> None:
    forged = replace(RIGHT[0], why="no signature in webhook-signature fits")
    assert not effects.judged(EXPECTED, [forged], CAUSED)[0].seen
    assert effects.surplus(EXPECTED, [forged]) == [
        "a request that is not authentic: no signature in webhook-signature fits"
    ]


AT_RISK = "'raised at_risk' of hubspot:deal:7000301/sale_to_onboarding"


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (entry(EXPECTED[0], 1), [f"{AT_RISK} at ada 2 times"]),
        (entry(EXPECTED[0], 1, recipient="ben"), [f"{AT_RISK} at ben, which nobody expected"]),
        (RIGHT[0], [f"{AT_RISK} at ada 2 times", "delivery northwind-at-risk-ada-0 2 times"]),
        (replace(RIGHT[0], key="k", body="{}"), ["' ' of  at , which nobody expected"]),
        (replace(RIGHT[0], key="k", body="no JSON"), ["' ' of  at , which nobody expected"]),
    ],
    ids=["the same under another key", "to somebody else", "the same again", "something else", "nothing readable"],
)
def test_nothing_else_may_arrive(extra: Entry, said: list[str]) -> None:
    assert effects.surplus(EXPECTED, [*RIGHT, extra]) == said


# -- the signature ---------------------------------------------------------------------------------------------------


def headers(body: bytes = BODY, secret: str = receiver.SECRET, at: int = AT) -> dict[str, str]:
    """As the reference implementation signs it."""
    signature = Webhook(secret).sign("msg_1", moment(at), body.decode())
    return {"webhook-id": "msg_1", "webhook-timestamp": str(at // SECOND), "webhook-signature": signature}


def test_what_the_reference_implementation_signs_is_authentic() -> None:
    assert receiver.refusal(headers(), BODY, AT) == ""


def test_one_signature_that_fits_is_enough() -> None:
    given = headers()
    several = {**given, "webhook-signature": f"v1,AAAA {given['webhook-signature']} v1a,BBBB"}
    assert receiver.refusal(several, BODY, AT) == ""


@pytest.mark.parametrize(
    ("given", "body", "said"),
    [
        (headers(), BODY + b" ", "no signature"),
        (headers(secret="whsec_" + "A" * 43 + "="), BODY, "no signature"),
        (
            {**headers(), "webhook-signature": headers()["webhook-signature"].replace("v1,", "v2,")},
            BODY,
            "no signature",
        ),
        ({**headers(), "webhook-signature": "é"}, BODY, "no signature"),
        ({**headers(), "webhook-id": "msg_2"}, BODY, "no signature"),
        (headers(at=AT - 301 * SECOND), BODY, "is not of these five minutes"),
        (headers(at=AT + 301 * SECOND), BODY, "is not of these five minutes"),
        ({**headers(), "webhook-timestamp": "²"}, BODY, "is missing"),
        ({}, BODY, "is missing"),
    ],
    ids=["body", "secret", "version", "not ASCII", "id", "too old", "too new", "no number", "no headers"],
)
def test_anything_else_is_refused(given: dict[str, str], body: bytes, said: str) -> None:
    assert said in receiver.refusal(given, body, AT)
