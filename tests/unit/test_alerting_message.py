"""What people and programs read, and how it is signed."""

import json
from base64 import b64encode
from typing import Any

import pytest
from msgspec.structs import replace
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from services.alerting.message import body, text
from services.alerting.model import Attempt, Notice, Why
from services.core.instants import DAY, HOUR, MINUTE, SECOND
from services.core.signing import WeakSecret, key_of, signature
from services.runtime import clock
from tests.builders import minute

NOTICE = Notice(
    notice="n1",
    what="raised",
    alert="a1",
    transition="t1",
    stage="breached",
    account="acme-1",
    handoff="crm:deal:7/sale_to_onboarding",
    kind="sale_to_onboarding",
    leg="accept",
    reason="accountable and manager",
    policy=3,
    at=minute(60),
    due=minute(60),
    owner="ada",
    owner_name="Ada Love",
    recipient_name="Max",
    account_name="Acme",
    amount="48000.00",
    currency="EUR",
)
ABOUT = "Acme: the handoff crm:deal:7/sale_to_onboarding (sale_to_onboarding, accept)"
OWNED = "Ada Love owns the next step; 48000.00 EUR a year depend on it."
DUE = "on 2026-03-02 10:00 UTC"


def attempt(*notices: Notice, number: int = 1) -> Attempt:
    return Attempt("d1", number, "webhook", "max", "n1", len(notices) > 1, notices)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        pytest.param({}, f"is late: it was due {DUE} and nobody has accepted it; {OWNED} Accept it now.", id="breach"),
        pytest.param(
            {"stage": "at_risk", "at": minute(45)},
            f"is at risk: it is due {DUE} and nobody has accepted it; {OWNED} "
            "Accept it, or return it with what is missing.",
            id="at risk",
        ),
        pytest.param(
            {"stage": "passed_200", "at": minute(60) + DAY + 2 * HOUR + 5 * MINUTE},
            f"is overdue 1 d 2 h 5 min: it was due {DUE} and nobody has accepted it; {OWNED} Accept it now.",
            id="far over due",
        ),
        pytest.param(
            {"accepted": minute(60) + 30 * SECOND},
            f"was due {DUE} and was accepted on 2026-03-02 10:00 UTC, less than a minute late; nothing more to do.",
            id="a breach that is over",
        ),
        pytest.param(
            {"what": "resolved", "accepted": minute(90)},
            f"was due {DUE} and was accepted on 2026-03-02 10:30 UTC, 30 min late; nothing more to do.",
            id="accepted",
        ),
        pytest.param({"what": "resolved"}, f"was due {DUE} and was cancelled; nothing more to do.", id="cancelled"),
        pytest.param(
            {"what": "retracted", "reason": "it was accepted in time"},
            "needs no attention after all, what was said before is withdrawn: it was accepted in time; "
            "nothing more to do.",
            id="retracted",
        ),
        pytest.param(
            {"what": "corrected", "due": minute(30)},
            f"was in truth due on 2026-03-02 09:30 UTC; the time said before was wrong; {OWNED} Accept it now.",
            id="corrected",
        ),
        pytest.param(
            {"what": "corrected", "due": minute(30), "reason": Why.OVER.value},
            "was in truth due on 2026-03-02 09:30 UTC; the time said before was wrong; nothing more to do.",
            id="corrected when it was over",
        ),
        pytest.param(
            {"owner": None, "owner_name": None, "amount": None, "currency": None},
            f"is late: it was due {DUE} and nobody has accepted it; nobody owns the next step. Name an owner.",
            id="nobody's",
        ),
    ],
)
def test_the_sentence_says_what_when_who_why_and_what_to_do(said: dict[str, Any], sentence: str) -> None:
    assert text(attempt(replace(NOTICE, **said))) == f"{ABOUT} {sentence}"


def test_an_account_without_a_name_goes_by_its_id() -> None:
    assert text(attempt(replace(NOTICE, account_name=None))).startswith("acme-1: ")


def test_the_body_is_a_standard_webhook_with_everything_known_and_nothing_else() -> None:
    read = json.loads(body(attempt(replace(NOTICE, accepted=None, recipient_name=None))))
    assert (read["type"], read["timestamp"]) == ("steward.alert.raised", "2026-03-02T10:00:00Z")
    assert read["data"]["due"] == "2026-03-02T10:00:00Z"
    assert read["data"]["recipient"] == "max"
    assert read["data"]["text"].startswith("Acme: ")
    assert "accepted" not in read["data"]


def test_every_attempt_of_a_delivery_says_the_same_bytes() -> None:
    assert body(attempt(NOTICE, number=1)) == body(attempt(NOTICE, number=7))


def test_a_digest_lists_all_its_alerts_and_tells_the_first_five() -> None:
    notices = [replace(NOTICE, notice=f"n{number}", at=minute(number)) for number in range(7)]
    read = json.loads(body(attempt(*notices)))
    assert read["type"] == "steward.alert.digest"
    assert [one["notice"] for one in read["data"]["alerts"]] == [f"n{number}" for number in range(7)]
    assert read["timestamp"] == "2026-03-02T09:06:00Z"
    assert read["data"]["text"].startswith("7 alerts have waited for you. Acme: ")
    assert read["data"]["text"].endswith("And 2 more.")


OLD, NEW, OTHER = (f"whsec_{b64encode(bytes([number]) * 32).decode()}" for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("signed_with", "known", "is_taken"),
    [
        pytest.param([NEW], NEW, True, id="one secret"),
        pytest.param([NEW, OLD], OLD, True, id="rotation: a receiver with the old one"),
        pytest.param([NEW, OLD], NEW, True, id="rotation: a receiver with the new one"),
        pytest.param([NEW], OTHER, False, id="another's secret"),
        pytest.param([NEW.removeprefix("whsec_").rstrip("=")], NEW, True, id="written without prefix and padding"),
    ],
)
def test_receivers_that_know_a_secret_take_the_signature(signed_with: list[str], known: str, is_taken: bool) -> None:
    now, said = clock.now() // SECOND, body(attempt(NOTICE))
    headers = {
        "webhook-id": "d1",
        "webhook-timestamp": str(now),
        "webhook-signature": signature([key_of(secret) for secret in signed_with], "d1", now, said),
    }
    if is_taken:
        assert Webhook(known).verify(said, headers)["type"] == "steward.alert.raised"
        with pytest.raises(WebhookVerificationError):
            Webhook(known).verify(said.replace(b"Acme", b"Acne"), headers)
    else:
        with pytest.raises(WebhookVerificationError):
            Webhook(known).verify(said, headers)


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        pytest.param("whsec_not base64!", "is not base64 after 'whsec_'", id="not base64"),
        pytest.param("whsec_c2hvcnQ=", "holds 5 bytes; the least is 24", id="too short"),
        pytest.param("", "holds 0 bytes; the least is 24", id="empty"),
    ],
)
def test_a_weak_secret_is_refused_and_not_repeated(secret: str, why: str) -> None:
    with pytest.raises(WeakSecret) as refused:
        key_of(secret)
    assert str(refused.value) == why
