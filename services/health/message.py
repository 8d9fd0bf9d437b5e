"""The records that say what became of an account's health: score, change, closing. Ids are hashes of what they say."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import TypedDict
from zoneinfo import ZoneInfo

from msgspec import Struct

from schemas import health as out
from services.core.instants import DAY, Instant, instant, moment
from services.core.moulds import mould
from services.health import bands, signals
from services.health.model import Mention, Standing, Told
from services.health.policy import Place, is_measured
from services.health.score import Cap, Judge, Line, Verdict, lacking
from services.health.signals import BREACHED, Reading

SOURCE = "steward/health"
EVIDENCE_KEPT = 8
SOURCES_NAMED = 2  # their names may be as long as a line has room for
DELTAS_TOLD = 3  # in a reason; all of them stand beside it

_Cap = mould(out.Cap)
_Change = mould(out.Change)
_Closing = mould(out.Closing)
_Contribution = mould(out.Contribution)
_Delta = mould(out.Delta)
_Evidence = mould(out.Evidence)
_HealthChanged = mould(out.HealthChanged)
_HealthClosed = mould(out.HealthClosed)
_HealthScored = mould(out.HealthScored)
_Outlook = mould(out.Outlook)
_Scored = mould(out.Scored)


class About(Struct, frozen=True):
    """Whose score it is, and who judges it."""

    account: str
    judge: Judge


class Shift(Struct, frozen=True):
    """Why the standing changed."""

    cause: out.Cause
    evidence: Sequence[Mention]
    began: Sequence[out.CapCode]
    ended: Sequence[out.CapCode]


def scored(
    about: About,
    verdict: Verdict,
    standing: Standing,
    outlook: tuple[out.Band, Instant] | None,
    causes: Iterable[Mention],
) -> out.HealthScored:
    """The score with every reason for it. `causes`: the facts that came, and may have changed nothing but reasons."""
    rules, at = about.judge.rules, verdict.at
    lines = tuple([_contribution(about, line, at) for line in verdict.sum.lines])
    ages = [line.at for line in lines if line.at is not None]
    data = _Scored(
        score=verdict.score,
        raw=verdict.sum.raw,
        prior=round(rules.prior * 1_000),
        band=standing.band,
        colour=bands.colour(verdict.score, rules.bands),
        since=_moment(standing.since),
        unsure=tuple(_doubts(about, verdict)),
        coverage=verdict.sum.coverage,
        contributions=lines,
        caps=tuple(
            [
                _Cap(
                    code=cap.code,
                    limit=cap.limit,
                    since=_moment(cap.since if cap.since is not None else at),
                    reason=why_capped(about, cap),
                    evidence=_evidence(behind(about, cap)),
                )
                for cap in verdict.caps
            ]
        ),
        profile=verdict.profile.profile.name,
        profile_reason=_profile_reason(about, verdict),
        trend=signals.trend(about.judge.known, rules, at),
        as_of=_moment(at),
        oldest_input=min(ages, default=None),
        outlook=None if outlook is None else _Outlook(band=outlook[0], at=_moment(outlook[1])),
        policy=rules.version,
    )
    came = [part for mention in causes for part in (mention.source, mention.id)]
    told = (str(at), str(verdict.sum.raw), str(rules.version), str(data.trend), *about.judge.silent, *came)
    name = _hash(about.account, "scored", *told)
    return _HealthScored(**_envelope(about, name, at), data=data)


def _contribution(about: About, line: Line, at: Instant) -> out.Contribution:
    place, reading = line.place, line.reading
    if reading is None and not is_measured(place.signal):
        return _without_facts(place, None, 0, "not measured yet")
    found = _evidence(signals.evidence(about.judge.course, place.signal, at))
    if reading is not None and not found and line.trust == 1.0:
        return _without_facts(place, reading, line.points, None)
    value, score = reading or (None, None)
    return _Contribution(
        signal=place.signal,
        group=place.group,
        weight=place.weight,
        value=value,
        score=score,
        trust=line.trust,
        points=line.points,
        at=found[0].at if found else None,
        evidence=found,
        missing=None if line.trust > 0 else _why_missing(about, line),
    )


@lru_cache(maxsize=1_024)  # the same of most accounts, as of handoffs where none is late
def _without_facts(place: Place, reading: Reading | None, points: int, missing: str | None) -> out.Contribution:
    value, score = reading or (None, None)
    return _Contribution(
        signal=place.signal,
        group=place.group,
        weight=place.weight,
        value=value,
        score=score,
        trust=0.0 if reading is None else 1.0,
        points=points,
        missing=missing,
    )


def _evidence(mentions: Sequence[Mention]) -> tuple[out.Evidence, ...]:
    return tuple([_fact(one) for one in mentions[:EVIDENCE_KEPT]])


@lru_cache(maxsize=4_096)  # one fact stands behind several signals, and behind the next score as well
def _fact(mention: Mention) -> out.Evidence:
    return _Evidence(source=mention.source, id=mention.id, at=_moment(mention.at))


def _why_missing(about: About, line: Line) -> str:
    if about.judge.course.is_known(line.place.signal):
        return f"silent for more than 24 hours: {_named(about)}"
    return "no fact about it has been seen"


def _profile_reason(about: About, verdict: Verdict) -> str:
    rules, chosen = about.judge.rules, verdict.profile
    if chosen.fed:
        return f"there is evidence of {', '.join(chosen.fed)}"
    if len(rules.resolve) == 1:
        return "the policy has no other"
    first = rules.resolve[0]
    return f"{first.profile.name} needs evidence of {', '.join(lacking(about.judge.course, first))}"


def _doubts(about: About, verdict: Verdict) -> Iterator[str]:
    rules, known = about.judge.rules, about.judge.known
    if verdict.is_thin:
        yield (
            f"there is evidence for {verdict.sum.coverage:.0%} of what counts, and a band needs {rules.coverage:.0%}"
        )
    if verdict.is_importing:
        yield "an import that tells of the account is under way"
    if verdict.is_young:
        days = max(verdict.at - (known.oldest or verdict.at), 0) // DAY
        yield f"the account has been known for {days} days, and a band needs {rules.age / DAY:g}"


def why_capped(about: About, cap: Cap) -> str:
    """The rule behind a cap, as it fits this account."""
    caps, profile = about.judge.rules.caps, about.judge.resolved.profile
    match cap.code:
        case "SEV1_OPEN":
            hours = caps.sev1_open.after_hours if caps.sev1_open else 0
            return f"ticket {cap.about} of severity 1 has been open for more than {hours:g} hours"
        case "NO_OWNER":
            hours = caps.no_owner.after_working_hours if caps.no_owner else 0
            return f"nobody has owned the account for {hours:g} working hours"
        case "HANDOFF_BREACH":
            return "a handoff has breached its agreed time"
        case "WEAK_LINK":
            return f"{cap.about} alone scores below {caps.weak_link.below if caps.weak_link else 0:g}"
        case "THIN_DATA":
            least = caps.thin_data.coverage if caps.thin_data else 0
            return f"there is evidence for less than {least:.0%} of what counts"
        case "NARROW":
            return f"the profile {profile.name} looks at too little"


def behind(about: About, cap: Cap) -> Sequence[Mention]:
    """The facts behind a cap."""
    match cap.code:
        case "SEV1_OPEN":
            return sorted(graded for _, _, graded in signals.urgent(about.judge.known))
        case "NO_OWNER":
            held = about.judge.course.held
            return [held.mention] if held else []
        case "HANDOFF_BREACH":
            return signals.verdicts(about.judge.known, BREACHED)
        case _:
            return ()


# ---------------------------------------------------------------- changes


def changed(
    about: About, verdict: Verdict, before: Standing | None, standing: Standing, told: Told | None, shift: Shift
) -> tuple[out.HealthChanged, Told]:
    """The change, and what the next one will compare itself to."""
    points = points_of(verdict)
    deltas = _deltas(told, points)
    effect = verdict.score - verdict.sum.raw
    now = Told(1 if told is None else told.n + 1, verdict.score, effect, points)
    data = _Change(
        n=now.n,
        before=before.band if before else None,
        after=standing.band,
        score_before=told.score if told else None,
        score=verdict.score,
        cause=shift.cause,
        reason=_reason(about, verdict, before, shift, deltas),
        evidence=_evidence(shift.evidence),
        deltas=tuple(_Delta(signal=signal, points=points) for signal, points in deltas),
        cap_effect_before=told.cap_effect if told else None,
        cap_effect=effect,
        caps_began=tuple(shift.began),
        caps_ended=tuple(shift.ended),
        policy=about.judge.rules.version,
    )
    name = _hash(about.account, "changed", str(now.n))
    return _HealthChanged(**_envelope(about, name, verdict.at), data=data), now


def points_of(verdict: Verdict) -> dict[str, int]:
    """Points by signal with evidence."""
    return {line.place.signal: line.points for line in verdict.sum.lines if line.trust > 0}


def _deltas(told: Told | None, points: dict[str, int]) -> list[tuple[str, int]]:
    before = told.points if told else {}
    found = [(name, points.get(name, 0) - before.get(name, 0)) for name in {**before, **points}]
    return sorted(((name, delta) for name, delta in found if delta), key=lambda one: (-abs(one[1]), one[0]))


def _reason(
    about: About, verdict: Verdict, before: Standing | None, shift: Shift, deltas: Sequence[tuple[str, int]]
) -> str:
    if before is None:
        return "the first score"
    moved = ", ".join(f"{name} {points / 1_000:+.1f}" for name, points in deltas[:DELTAS_TOLD])
    match shift.cause:
        case "policy":
            return f"policy version {about.judge.rules.version} is in force{_after(moved)}"
        case "data":
            return f"silent: {_named(about)}" if about.judge.silent else "its sources are heard again"
        case "cap":
            began = [f"{cap.code} began: {why_capped(about, cap)}" for cap in verdict.caps if cap.code in shift.began]
            return "; ".join([*began, *(f"{code} ended" for code in shift.ended)])
        case "events":
            return f"facts came{_after(moved)}"
        case "decay" if before.band == bands.NA:
            return "known for long enough"
        case "decay":
            return f"time passed without a fact{_after(moved)}"


def _named(about: About) -> str:
    """The silent sources of the account; only some of many."""
    silent = sorted(about.judge.silent)
    more = f" and {len(silent) - SOURCES_NAMED} more" if len(silent) > SOURCES_NAMED else ""
    return ", ".join(silent[:SOURCES_NAMED]) + more


def _after(moved: str) -> str:
    return f": {moved}" if moved else ""


def closed(about: About, verdict: Verdict, standing: Standing) -> out.HealthClosed:
    """The score at the end of the local day that ends at the verdict's instant."""
    day = _local(verdict.at - 1, about.judge.rules.zone).date().isoformat()
    data = _Closing(
        day=day,
        score=verdict.score,
        band=standing.band,
        coverage=verdict.sum.coverage,
        points=points_of(verdict),
        policy=about.judge.rules.version,
    )
    name = _hash(about.account, "closed", str(verdict.at))
    return _HealthClosed(**_envelope(about, name, verdict.at), data=data)


def _local(at: Instant, zone: ZoneInfo) -> datetime:
    return _moment(at).astimezone(zone)


def next_midnight(at: Instant, zone: ZoneInfo) -> Instant:
    """The first local midnight after an instant."""
    day = _local(at, zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    return instant((day + timedelta(days=1)).replace(tzinfo=zone))


# ---------------------------------------------------------------- shared


class _Envelope(TypedDict):
    id: str
    source: str
    subject: str
    partitionkey: str
    time: datetime


def _envelope(about: About, name: str, at: Instant) -> _Envelope:
    return {"id": name, "source": SOURCE, "subject": about.account, "partitionkey": about.account, "time": _moment(at)}


_moment = lru_cache(maxsize=4_096)(moment)  # one instant stands in several places of a record, and in many records


def _hash(*parts: str) -> str:
    return blake2b("\x00".join(parts).encode(), digest_size=16).hexdigest()
