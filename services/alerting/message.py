"""The message of a delivery: JSON for a webhook, one plain sentence for people; the same bytes at each attempt."""

import json
from datetime import timedelta
from typing import Any, assert_never

from services.alerting.model import Attempt, Notice, Why
from services.core.instants import MINUTE, Instant, moment

LISTED = 5  # alerts that the sentence of a digest names


def body(attempt: Attempt) -> bytes:
    """What is posted: `type`, `timestamp` and `data`, as the Standard Webhooks spec has it."""
    newest = max(notice.at for notice in attempt.notices)
    if attempt.is_digest:
        said = [_said(notice) for notice in attempt.notices]
        kind, data = "steward.alert.digest", {"recipient": attempt.recipient, "alerts": said}
    else:
        notice = attempt.notices[0]
        kind, data = f"steward.alert.{notice.what}", {"recipient": attempt.recipient, **_said(notice)}
    whole = {"type": kind, "timestamp": _iso(newest), "data": {"text": text(attempt), **data}}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


def text(attempt: Attempt) -> str:
    """One plain sentence, or for a digest one for each of its first alerts."""
    if not attempt.is_digest:
        return sentence(attempt.notices[0])
    count = len(attempt.notices)
    told = [sentence(notice) for notice in attempt.notices[:LISTED]]
    more = [f"And {count - LISTED} more."] if count > LISTED else []
    return " ".join([f"{count} {'alert has' if count == 1 else 'alerts have'} waited for you.", *told, *more])


def sentence(notice: Notice) -> str:
    """Account, what happened and how late, who owns the next step, why it matters, what to do."""
    account = notice.account_name or notice.account
    owner = notice.owner_name or notice.owner
    what = f"{account}: the handoff {notice.handoff} ({notice.kind}, {notice.leg}) {_happened(notice)}"
    if notice.what in {"retracted", "resolved"} or notice.accepted is not None or notice.reason == Why.OVER:
        return f"{what}; nothing more to do."
    owned = f"{owner} owns the next step" if owner else "nobody owns the next step"
    worth = f"; {notice.amount} {notice.currency} a year depend on it" if notice.amount else ""
    return f"{what}; {owned}{worth}. {_action(notice, owner)}"


def _happened(notice: Notice) -> str:
    due = "at a time not known" if notice.due is None else f"on {_readable(notice.due)}"
    match notice.what:
        case "raised":
            return _raised(notice, due)
        case "corrected":
            return f"was in truth due {due}; the time said before was wrong{_taken(notice)}"
        case "resolved":
            return f"was due {due}{_taken(notice) or ' and was cancelled'}"
        case "retracted":
            return f"needs no attention after all, what was said before is withdrawn: {notice.reason}"
        case _:
            assert_never(notice.what)


def _raised(notice: Notice, due: str) -> str:
    if notice.accepted is not None:
        return f"was due {due}{_taken(notice)}"
    match notice.stage:
        case "at_risk":
            return f"is at risk: it is due {due} and nobody has accepted it"
        case "passed_125" | "passed_200":
            late = "" if notice.due is None else f" {_span(notice.at - notice.due)}"
            return f"is overdue{late}: it was due {due} and nobody has accepted it"
        case "breached" | "noticed" | "met":
            return f"is late: it was due {due} and nobody has accepted it"
        case _:
            assert_never(notice.stage)


def _taken(notice: Notice) -> str:
    if notice.accepted is None:
        return ""
    late = (
        "" if notice.due is None or notice.accepted <= notice.due else f", {_span(notice.accepted - notice.due)} late"
    )
    return f" and was accepted on {_readable(notice.accepted)}{late}"


def _action(notice: Notice, owner: str | None) -> str:
    if owner is None:
        return "Name an owner."
    return "Accept it, or return it with what is missing." if notice.stage == "at_risk" else "Accept it now."


def _span(length: Instant) -> str:
    """In words, to the minute: `2 d 3 h 5 min`."""
    if length < MINUTE:
        return "less than a minute"
    whole = timedelta(minutes=length // MINUTE)
    hours, minutes = divmod(whole.seconds // 60, 60)
    parts = [(whole.days, "d"), (hours, "h"), (minutes, "min")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def _said(notice: Notice) -> dict[str, Any]:
    """The notice's fields for programs; what is not known is left out."""
    fields = {
        "what": notice.what,
        "stage": notice.stage,
        "alert": notice.alert,
        "transition": notice.transition,
        "notice": notice.notice,
        "account": notice.account,
        "account_name": notice.account_name,
        "amount": notice.amount,
        "currency": notice.currency,
        "handoff": notice.handoff,
        "kind": notice.kind,
        "leg": notice.leg,
        "due": None if notice.due is None else _iso(notice.due),
        "accepted": None if notice.accepted is None else _iso(notice.accepted),
        "owner": notice.owner,
        "owner_name": notice.owner_name,
        "recipient_name": notice.recipient_name,
        "reason": notice.reason,
        "policy": notice.policy,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _iso(at: Instant) -> str:
    return moment(at).isoformat().replace("+00:00", "Z")


def _readable(at: Instant) -> str:
    return f"{moment(at):%Y-%m-%d %H:%M} UTC"
