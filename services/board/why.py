"""How `steward explain` looks: the sum line by line for people, the same in integers for programs."""

from collections.abc import Iterator, Sequence
from datetime import tzinfo

from rich.table import Table

from services.board import explain, frame
from services.board.attention import Freshness, over_week
from services.board.explain import Sum
from services.board.frame import Json, Line
from services.board.model import Account, Cap, Change, Contribution, Course, Evidence, Health
from services.board.words import badge, exact, signed, span, spoken, tenths
from services.core.instants import SECOND, Instant

EVIDENCE_SHOWN = 3
INDENT = 13
BESIDE_TIME = 18
COLUMNS = (
    ("group", 10),
    ("signal", 19),
    ("measured", None),
    ("score", 5),
    ("trust", 5),
    ("weight", 6),
    ("points", 8),
)
NUMBERS = ("score", "trust", "weight", "points")


# ---------------------------------------------------------------- for people


def explain_text(account: Account, fresh: Freshness, zone: tzinfo, why_none: str) -> str:
    """Why an account has its score; `why_none` where it has none."""
    title = f"{account.name} ({account.id})" if account.name else account.id
    lines: list[Line] = [title, *frame.head(fresh, zone)]
    if account.health is None:
        return frame.printed([*lines, "", why_none])
    parts = explain.summed(account.health)
    lines += [*_verdict(account, account.health, fresh.as_of, zone), "", "WHY", *_why(parts, fresh.as_of, zone)]
    if parts.missing:
        lines += ["", "MISSING", _missing(parts.missing)]
    if account.course is not None and account.course.changes:
        lines += ["", *_changes(account.course, zone)]
    return frame.printed(lines)


def _verdict(account: Account, health: Health, at: Instant, zone: tzinfo) -> Iterator[str]:
    if (warning := explain.outdated(health, at)) is not None:
        yield f"WARNING: {warning}"
    mark, week = badge(health.band, health.colour), over_week(account)
    differs = "" if week is None else f", {signed(week)} in 7 days"
    since = frame.time(health.since, zone)
    yield ""
    yield f"{mark} {tenths(health.score)}{differs} · score {span(at - health.as_of)} old · band since {since}"
    if mark.is_hollow:
        yield f"Provisional: {'; '.join(health.unsure) or 'no reason was given'}"
        lacks = ", ".join(spoken(one.signal) for one in explain.summed(health).missing)
        yield f"What is missing: {lacks or 'nothing but time'}"
    yield explain.outlook(health, at, zone)
    yield f"Coverage {health.coverage:.0%} · policy {health.policy} · profile {health.profile}: {health.profile_reason}"
    if health.trend is None:
        yield "Trend unknown: too little happens"
    else:
        yield f"Trend {health.trend:.2f}: activity of the last days over that of the last weeks"
    if health.oldest_input is not None:
        yield f"The signal that has waited longest last heard something {span(at - health.oldest_input)} ago"


def _why(parts: Sum, at: Instant, zone: tzinfo) -> Iterator[Line]:
    """The sum, a line for each part of it, and below what caused it."""
    yield frame.table(*COLUMNS, right=NUMBERS)
    yield _part("", "prior", points=exact(parts.prior))
    for one in parts.signals:
        yield _part(
            spoken(one.group),
            spoken(one.signal),
            explain.measured(one),
            "" if one.score is None else f"{one.score:.1f}",
            f"{one.trust:.2f}",
            f"{one.weight:.1%}",
            exact(one.points, is_signed=True),
        )
        if one.evidence:
            yield frame.indented(_heard(one, at), INDENT)
    if parts.astray:
        yield _part("", "astray", explain.astray(parts), points=exact(parts.astray, is_signed=True))
    yield _part("", "raw score", points=exact(parts.raw))
    for cap in parts.caps:
        yield _part("cap", cap.code, f"limit since {frame.time(cap.since, zone)}", tenths(cap.limit))
        yield frame.indented(f"{cap.reason}: {_facts(cap.evidence)}" if cap.evidence else cap.reason, INDENT)
    yield _part("", "effect of caps", points=exact(parts.effect, is_signed=True))
    yield _part("", "score", points=exact(parts.score))


def _part(
    group: str, name: str, told: str = "", score: str = "", trust: str = "", weight: str = "", points: str = ""
) -> Table:
    row = frame.table(*COLUMNS, right=NUMBERS, has_head=False)
    frame.add(row, group, name, told, score, trust, weight, points)
    return row


def _heard(one: Contribution, at: Instant) -> str:
    facts = _facts(one.evidence)
    return facts if one.at is None else f"{span(at - one.at)} old: {facts}"


def _facts(evidence: Sequence[Evidence]) -> str:
    shown = ", ".join(f"{fact.source} {fact.id}" for fact in evidence[:EVIDENCE_SHOWN])
    left = len(evidence) - EVIDENCE_SHOWN
    return f"{shown} and {left} more" if left > 0 else shown


def _missing(signals: Sequence[Contribution]) -> Table:
    grid = frame.table(("group", 10), ("signal", 19), ("why", None), ("weight", 6), right=("weight",))
    for one in signals:
        frame.add(grid, spoken(one.group), spoken(one.signal), explain.lacking(one), f"{one.weight:.1%}")
    return grid


def _changes(course: Course, zone: tzinfo) -> Iterator[Line]:
    *earlier, last = course.changes
    yield "LAST CHANGE"
    yield from _change_line(last, zone)
    if last.evidence:
        yield frame.indented(f"caused by {_facts(last.evidence)}", BESIDE_TIME)
    if last.deltas:
        points = ", ".join(f"{spoken(one.signal)} {exact(one.points, is_signed=True)}" for one in last.deltas)
        yield frame.indented(f"points: {points}", BESIDE_TIME)
    if caps := explain.caps_moved(last):
        before = f"{exact(last.cap_effect_before)} to " if last.cap_effect_before is not None else ""
        yield frame.indented(f"caps: {caps}; effect of caps {before}{exact(last.cap_effect)}", BESIDE_TIME)
    yield frame.indented(f"policy {last.policy}, change {last.n}", BESIDE_TIME)
    if earlier:
        yield ""
        yield "EARLIER CHANGES"
    for one in reversed(earlier):
        yield from _change_line(one, zone)


def _change_line(change: Change, zone: tzinfo) -> Iterator[Line]:
    yield f"{frame.time(change.at, zone)}  {explain.moved(change)}"
    yield frame.indented(change.reason, BESIDE_TIME)


# ---------------------------------------------------------------- for programs


def explain_json(account: Account, fresh: Freshness, why_none: str) -> Json:
    """The same for programs: scores, points and limits in milli-points, newest changes first."""
    course = account.course or Course(offset=0)
    return {
        "freshness": frame.freshness(fresh),
        "account": account.id,
        "name": account.name,
        "owner": account.owner,
        "why_none": None if account.health else why_none,
        "health": None if account.health is None else _health(account, account.health, fresh.as_of),
        "changes": [_change(one) for one in reversed(course.changes)],
        "closings": [
            {"day": one.day, "at": frame.iso(one.at), "score": one.score, "band": one.band} for one in course.closings
        ],
    }


def _health(account: Account, health: Health, at: Instant) -> Json:
    return {
        "band": health.band,
        "colour": health.colour,
        "provisional": health.band == "na",
        "unsure": list(health.unsure),
        "since": frame.iso(health.since),
        "prior": health.prior,
        "contributions": [_contribution(one) for one in health.contributions],
        "raw": health.raw,
        "caps": [_cap(cap) for cap in health.caps],
        "cap_effect": health.score - health.raw,
        "score": health.score,
        "over_7_days": over_week(account),
        "outlook": health.outlook and {"band": health.outlook.band, "at": frame.iso(health.outlook.at)},
        "coverage": health.coverage,
        "profile": health.profile,
        "profile_reason": health.profile_reason,
        "trend": health.trend,
        "as_of": frame.iso(health.as_of),
        "age_seconds": max(0, at - health.as_of) / SECOND,
        "oldest_input": frame.iso(health.oldest_input),
        "policy": health.policy,
    }


def _contribution(one: Contribution) -> Json:
    return {
        "group": one.group,
        "signal": one.signal,
        "value": one.value,
        "measured": explain.measured(one) or None,
        "score": one.score,
        "trust": one.trust,
        "weight": one.weight,
        "points": one.points,
        "at": frame.iso(one.at),
        "evidence": [_fact(fact) for fact in one.evidence],
        "missing": explain.lacking(one) if one.trust == 0 else None,
    }


def _cap(cap: Cap) -> Json:
    return {
        "code": cap.code,
        "limit": cap.limit,
        "since": frame.iso(cap.since),
        "reason": cap.reason,
        "evidence": [_fact(fact) for fact in cap.evidence],
    }


def _change(change: Change) -> Json:
    return {
        "n": change.n,
        "at": frame.iso(change.at),
        "before": change.before,
        "after": change.after,
        "score_before": change.score_before,
        "score": change.score,
        "cause": change.cause,
        "reason": change.reason,
        "evidence": [_fact(fact) for fact in change.evidence],
        "deltas": [{"signal": one.signal, "points": one.points} for one in change.deltas],
        "cap_effect_before": change.cap_effect_before,
        "cap_effect": change.cap_effect,
        "caps_began": list(change.caps_began),
        "caps_ended": list(change.caps_ended),
        "policy": change.policy,
    }


def _fact(fact: Evidence) -> Json:
    return {"source": fact.source, "id": fact.id, "at": frame.iso(fact.at)}
