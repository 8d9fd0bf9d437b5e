"""Signatures: what an independent implementation signs is taken, and nothing else, whatever the headers hold."""

from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from hmac import digest

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from services.core.instants import MINUTE, SECOND, Instant, instant
from services.ingest.signature import Keys, holder, is_hubspot, is_secret, is_standard

NOW = instant(datetime(2026, 11, 22, 9, 30, tzinfo=UTC))
STAMP = str(NOW // SECOND)
SECRET, OTHER = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
BODY = b'{"test": 2432232314}'
TEXT = st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=80)  # as headers may be


def signed(body: bytes = BODY, secret: str = SECRET, id: str = "msg_1", at: Instant = NOW) -> str:
    # Its own pitfall: a time that is not in UTC would be signed as if it were.
    return Webhook(secret).sign(id, datetime.fromtimestamp(at / SECOND, UTC), body.decode())


def standard(
    signatures: str, *, body: bytes = BODY, id: str = "msg_1", at: str = STAMP, secrets: tuple[str, ...] = (SECRET,)
) -> bool:
    return is_standard(secrets, id, at, signatures, body, NOW)


def test_the_published_example_is_taken() -> None:
    # Of the specification's own test: made for the secret above.
    at = 1614265330 * SECOND
    signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert is_standard([SECRET], "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", signature, BODY, at)


@given(body=st.text().map(str.encode), id=st.from_regex(r"[\x21-\x7e]{1,40}", fullmatch=True))
def test_what_another_implementation_signs_is_taken(body: bytes, id: str) -> None:
    assert standard(signed(body, id=id), body=body, id=id)


def test_bits_that_only_pad_may_be_set() -> None:
    signature = signed()
    assert signature.endswith("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = alphabet.index(signature[-2])
    variants = [signature[:-2] + alphabet[last ^ bits] + "=" for bits in range(4)]
    assert [standard(variant) for variant in variants] == [True] * 4


@pytest.mark.parametrize(
    "signatures",
    [
        pytest.param(f"{signed(secret=OTHER)} {signed()}", id="the second of two"),
        pytest.param(f"v1a,xyz v2, {signed()} v1,", id="among versions we do not know"),
    ],
)
def test_one_signature_that_fits_is_enough(signatures: str) -> None:
    assert standard(signatures)


@pytest.mark.parametrize("secrets", [(SECRET, OTHER), (OTHER, SECRET)])
def test_either_secret_fits_while_one_replaces_the_other(secrets: tuple[str, str]) -> None:
    assert standard(signed(), secrets=secrets)
    assert standard(signed(secret=OTHER), secrets=secrets)


WRONG = {
    "none": "",
    "no version": signed().removeprefix("v1,"),
    "another version": signed().replace("v1,", "v1a,"),
    "another secret": signed(secret=OTHER),
    "another body": signed(b"{}"),
    "another id": signed(id="msg_2"),
    "another time": signed(at=NOW + SECOND),
    "cut short": signed()[:-4],
    "not base64": "v1,***",
    "a line break inside": signed()[:20] + "\n" + signed()[20:],
    "not ASCII": "v1,é" + signed()[4:],
    "commas instead of spaces": f"v1,x,{signed()}",
}


@pytest.mark.parametrize("signatures", WRONG.values(), ids=WRONG)
def test_a_wrong_signature_is_refused(signatures: str) -> None:
    assert not standard(signatures)


WINDOW = {
    "five minutes ago": (-5 * MINUTE, True),
    "more than five minutes ago": (-5 * MINUTE - SECOND, False),
    "in five minutes": (5 * MINUTE, True),
    "in more than five minutes": (5 * MINUTE + SECOND, False),
}


@pytest.mark.parametrize(("shift", "fits"), WINDOW.values(), ids=WINDOW)
def test_a_signature_holds_for_five_minutes_either_way(shift: int, fits: bool) -> None:
    at = NOW + shift
    assert standard(signed(at=at), at=str(at // SECOND)) is fits


@pytest.mark.parametrize("at", ["", "now", f"{STAMP}.0", f" {STAMP}", f"+{STAMP}", "-1", "٣", "9" * 400, f"{STAMP}\n"])
def test_a_time_that_is_no_number_of_seconds_is_refused(at: str) -> None:
    assert not standard(signed(), at=at)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
def test_what_is_no_secret_of_standard_webhooks_verifies_nothing(secret: str) -> None:
    empty = "v1," + b64encode(digest(b"", f"msg_1.{STAMP}.".encode() + BODY, sha256)).decode()
    assert not is_secret(secret)
    assert not standard(f"{signed()} {empty}", secrets=(secret,))


@given(id=TEXT, at=TEXT | st.just(STAMP), signatures=TEXT | TEXT.map("v1,{}".format), body=st.binary())
def test_no_header_is_taken_by_chance_and_none_raises(id: str, at: str, signatures: str, body: bytes) -> None:
    assert not is_standard([SECRET, OTHER], id, at, signatures, body, NOW)


# ---------------------------------------------------------------- HubSpot

URL = "https://steward.example/v1/webhooks/hubspot/hubspot"
APP = "a-clients-secret"
MS = str(NOW // 1000)


def made(url: str = URL, body: bytes = BODY, at: str = MS, secret: str = APP, method: str = "POST") -> str:
    return b64encode(digest(secret.encode(), method.encode() + url.encode() + body + at.encode(), sha256)).decode()


def hubspot(signature: str, *, at: str = MS, url: str = URL, secrets: tuple[str, ...] = (APP,)) -> bool:
    return is_hubspot(secrets, signature, at, "POST", url, BODY, NOW)


def test_a_request_that_hubspot_signed_is_taken() -> None:
    assert hubspot(made())


def test_hubspot_signs_the_url_with_some_characters_decoded() -> None:
    sent = f"{URL}?to=a%3Ab%2Fc%20d&x=%3f"
    assert hubspot(made(f"{URL}?to=a:b/c%20d&x=?"), url=sent)
    assert not hubspot(made(f"{URL}?to=a:b/c d&x=?"), url=sent)


HUBSPOT_WRONG = {
    "none": "",
    "another secret": made(secret="another"),
    "another address": made("https://steward.example/v1/webhooks/hubspot/hubspot-eu"),
    "without TLS": made(URL.replace("https", "http")),
    "another method": made(method="PUT"),
    "another body": made(body=b"[]"),
    "another time": made(at=str(int(MS) + 1)),
    "not base64": "%%%",
}


@pytest.mark.parametrize("signature", HUBSPOT_WRONG.values(), ids=HUBSPOT_WRONG)
def test_a_wrong_signature_of_hubspot_is_refused(signature: str) -> None:
    assert not hubspot(signature)


@pytest.mark.parametrize(("shift", "fits"), WINDOW.values(), ids=WINDOW)
def test_a_signature_of_hubspot_holds_for_five_minutes_either_way(shift: int, fits: bool) -> None:
    at = str((NOW + shift) // 1000)
    assert hubspot(made(at=at), at=at) is fits


def test_seconds_are_no_milliseconds() -> None:
    assert not hubspot(made(at=STAMP), at=STAMP)


@given(signature=TEXT, at=TEXT | st.just(MS), url=st.text())
def test_no_header_of_hubspot_raises(signature: str, at: str, url: str) -> None:
    assert not is_hubspot([APP], signature, at, "POST", url, BODY, NOW)


# ---------------------------------------------------------------- who

KEYS = Keys({"crm": [SECRET, "token-1"], "billing": [OTHER], "hubspot": [APP]})
SIGNED = {"webhook-id": "msg_1", "webhook-timestamp": STAMP, "webhook-signature": signed()}
WHO = {
    "a token": ({"authorization": "Bearer token-1"}, "", "crm"),
    "a token in small letters": ({"authorization": f"bearer {OTHER}"}, "", "billing"),
    "a wrong token": ({"authorization": "Bearer token-2"}, "", None),
    "no token": ({"authorization": "Bearer "}, "", None),
    "a token that is not ASCII": ({"authorization": "Bearer tökén"}, "", None),
    "a password": ({"authorization": "Basic token-1"}, "", None),
    "a signature": (SIGNED, "crm", "crm"),
    "a signature of somebody else": (SIGNED, "billing", None),
    "a signature of nobody": (SIGNED, "", None),
    "a wrong token beside a signature": ({**SIGNED, "authorization": "Bearer x"}, "crm", None),
    "nothing": ({}, "crm", None),
}


@pytest.mark.parametrize(("headers", "claimed", "source"), WHO.values(), ids=WHO)
def test_the_secret_says_who_sends(headers: dict[str, str], claimed: str, source: str | None) -> None:
    assert KEYS.sender(headers, claimed, BODY, NOW) == source


def test_a_source_without_secrets_is_not_believed() -> None:
    headers = {"x-hubspot-signature-v3": made(secret=""), "x-hubspot-request-timestamp": MS}
    assert not KEYS.is_hubspot("salesforce", headers, "POST", URL, BODY, NOW)
    assert KEYS.is_hubspot("hubspot", headers | {"x-hubspot-signature-v3": made()}, "POST", URL, BODY, NOW)


@given(token=st.text())
def test_a_token_is_found_only_whole(token: str) -> None:
    assert holder(token, [("crm", "token-1")]) == ("crm" if token == "token-1" else None)
