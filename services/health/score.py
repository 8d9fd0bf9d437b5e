"""The equation: contributions that sum to the raw score, coverage, caps that limit it. Scores are milli-points."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from schemas.health import CapCode
from schemas.policies import SignalName
from services.core.instants import DAY, HOUR, Instant
from services.health import signals
from services.health.model import Known, Mention
from services.health.policy import Place, Profile, Resolve, Rules, is_measured
from services.health.signals import Reading, Silent

FULL = 100_000
PLACES = 9  # of shares: weights such as a third do not sum to what people expect of them
BREACHED = frozenset({"breached", "passed_125", "passed_200"})


@dataclass(frozen=True, slots=True)
class Line:
    """What a signal adds: points = 1000 · weight · trust · (score − prior), rounded. No reading: trust 0."""

    place: Place
    reading: Reading | None
    trust: float
    points: int


@dataclass(frozen=True, slots=True)
class Sum:
    """Prior and lines together."""

    lines: tuple[Line, ...]
    raw: int
    coverage: float


@dataclass(frozen=True, slots=True)
class Cap:
    code: CapCode
    limit: int
    since: Instant | None  # None: since it was first seen to hold
    reason: str
    evidence: Sequence[Mention] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The score of an account at an instant. `unsure`: why it has no band."""

    at: Instant
    profile: Resolve
    sum: Sum
    caps: tuple[Cap, ...]
    unsure: tuple[str, ...]

    @property
    def score(self) -> int:
        return min([self.sum.raw, *(cap.limit for cap in self.caps)])

    @property
    def limit(self) -> int:
        """The lowest cap."""
        return min([FULL, *(cap.limit for cap in self.caps)])


def judge(known: Known, rules: Rules, at: Instant, silent: Silent) -> Verdict:
    """The score of an account about which there is at least one fact."""
    resolved = resolve(known, rules, at)
    profile = resolved.profile
    total = combine(rules.prior, (_measured(place, known, rules, at, silent) for place in profile.places))
    caps = tuple(_caps(known, rules, at, profile, total))
    return Verdict(at, resolved, total, caps, tuple(_doubts(known, rules, at, total.coverage)))


# ---------------------------------------------------------------- lines


def combine(prior: float, measured: Iterable[tuple[Place, Reading | None, float]]) -> Sum:
    """Lines, raw score and coverage of what was measured: (place, reading, trust)."""
    lines, raw, coverage = [], round(1_000 * prior), 0.0
    for place, reading, trust in measured:
        points = 0
        if reading is not None:
            share = place.weight * trust
            points = round(1_000 * share * (reading[1] - prior))
            raw += points
            coverage += share
        lines.append(Line(place, reading, trust, points))
    return Sum(tuple(lines), min(max(raw, 0), FULL), round(coverage, PLACES))


def _measured(
    place: Place, known: Known, rules: Rules, at: Instant, silent: Silent
) -> tuple[Place, Reading | None, float]:
    read = signals.READERS.get(place.signal)
    if read is None:
        return place, None, 0.0
    trust, until = signals.live(known, place.signal, at, silent)
    reading = read(known, rules, until) if trust > 0 else None
    return place, reading, 0.0 if reading is None else trust


def resolve(known: Known, rules: Rules, at: Instant) -> Resolve:
    """The first profile whose wanted groups all have evidence."""
    return next((one for one in rules.resolve if not lacking(known, rules, at, one)), rules.resolve[-1])


def lacking(known: Known, rules: Rules, at: Instant, wanted: Resolve) -> list[str]:
    """The groups a profile wants of which nothing is known. A handoff is always known, and so says nothing here."""
    return [
        group
        for group in wanted.fed
        if not any(
            signal != "handoff" and signal in signals.READERS and signals.READERS[signal](known, rules, at) is not None
            for signal in rules.groups[group]
        )
    ]


def groups(profile: Profile, total: Sum) -> dict[str, tuple[float, float]]:
    """Each group's (score, trust): means over its signals, the score's weighted by trust, (0, 0) without any."""
    found: dict[str, tuple[float, float]] = {}
    for group in profile.groups:
        lines = [line for line in total.lines if line.place.group == group]
        trust = sum(line.trust for line in lines)
        score = sum(line.trust * line.reading[1] for line in lines if line.reading) / trust if trust else 0.0
        found[group] = (score, round(trust / len(lines), PLACES))
    return found


# ---------------------------------------------------------------- caps and doubts


def _caps(known: Known, rules: Rules, at: Instant, profile: Profile, total: Sum) -> Iterator[Cap]:
    caps = rules.caps
    if caps.sev1_open:
        yield from _sev1(known, round(caps.sev1_open.limit * 1_000), at, round(caps.sev1_open.after_hours * HOUR))
    if caps.no_owner:
        yield from _no_owner(known, rules, round(caps.no_owner.limit * 1_000), at)
    if caps.handoff_breach and (breached := signals.breaches(known, BREACHED)):
        first = min(breached)
        limit = round(caps.handoff_breach.limit * 1_000)
        yield Cap("HANDOFF_BREACH", limit, first.at, "a handoff has breached its agreed time", sorted(breached)[:5])
    if weak := caps.weak_link:
        for group, (score, trust) in groups(profile, total).items():
            if profile.groups[group] >= weak.weight and trust >= weak.trust and score < weak.below:
                reason = f"{group} alone scores below {weak.below:g}"
                yield Cap("WEAK_LINK", round(weak.limit * 1_000), None, reason)
                break
    if caps.thin_data and total.coverage < caps.thin_data.coverage:
        reason = f"there is evidence for less than {caps.thin_data.coverage:.0%} of what counts"
        yield Cap("THIN_DATA", round(caps.thin_data.limit * 1_000), None, reason)
    if caps.narrow and profile.narrow:
        yield Cap("NARROW", round(caps.narrow.limit * 1_000), None, f"the profile {profile.name} looks at too little")


def _sev1(known: Known, limit: int, at: Instant, after: int) -> Iterator[Cap]:
    held = [
        (max(ticket.opened + after, ticket.graded.at), name, ticket.graded)
        for name, ticket in known.tickets.items()
        if ticket.is_open and ticket.severity == 1 and ticket.graded and ticket.opened + after <= at
    ]
    if held:
        since, name, _ = min(held)
        reason = f"ticket {name} of severity 1 has been open for more than {after // HOUR} hours"
        yield Cap("SEV1_OPEN", limit, since, reason, [graded for _, _, graded in sorted(held)][:5])


def _no_owner(known: Known, rules: Rules, limit: int, at: Instant) -> Iterator[Cap]:
    begins = ownerless(known, rules)
    if begins is not None and begins <= at:
        held = signals.ownership(known.tenures)
        hours = rules.caps.no_owner.after_working_hours if rules.caps.no_owner else 0
        reason = f"nobody has owned the account for {hours:g} working hours"
        yield Cap("NO_OWNER", limit, begins, reason, [held.mention] if held else [])


def ownerless(known: Known, rules: Rules) -> Instant | None:
    """When the account will have been, or was, without an owner for too long; None while somebody owns it."""
    held = signals.ownership(known.tenures)
    if rules.caps.no_owner is None or held is None or held.gap is None:
        return None
    return rules.calendar.add(held.gap, round(rules.caps.no_owner.after_working_hours * HOUR))


def _doubts(known: Known, rules: Rules, at: Instant, coverage: float) -> Iterator[str]:
    if coverage < rules.coverage:
        yield f"there is evidence for {coverage:.0%} of what counts, and a band needs {rules.coverage:.0%}"
    if known.oldest is not None and at - known.oldest < rules.age:
        days, wanted = (at - known.oldest) // DAY, rules.age / DAY
        yield f"the account has been known for {max(days, 0)} days, and a band needs {wanted:g}"


def why_missing(known: Known, signal: SignalName, at: Instant, silent: Silent) -> str:
    """Why a signal says nothing."""
    if not is_measured(signal):
        return "not measured yet"
    trust, heard = signals.live(known, signal, at, silent)
    if trust <= 0 and heard < at:
        return "its source has been silent for more than 24 hours"
    return "no fact about it has been seen"


# ---------------------------------------------------------------- change


def appointments(known: Known, rules: Rules, at: Instant) -> Iterator[Instant]:
    """The known instants after `at` at which score, caps or doubts jump by themselves."""
    yield from signals.jumps(known, rules, at)
    if known.oldest is not None and at < known.oldest + rules.age:
        yield known.oldest + rules.age
    if rules.caps.sev1_open:
        after = round(rules.caps.sev1_open.after_hours * HOUR)
        for ticket in known.tickets.values():
            if ticket.is_open and ticket.severity == 1 and ticket.opened + after > at:
                yield ticket.opened + after
    begins = ownerless(known, rules)
    if begins is not None and begins > at:
        yield begins


def margins(known: Known, rules: Rules, verdict: Verdict) -> Iterator[tuple[float, float]]:
    """(distance in milli-points, speed limit in milli-points a day) of whatever may cross a limit by drifting."""
    speeds = signals.steepness(known, rules, verdict.at)
    drifting = {
        line.place.signal: line.place.weight * line.trust * speeds[line.place.signal] * 1_000
        for line in verdict.sum.lines
        if line.trust and line.place.signal in speeds
    }
    speed = sum(drifting.values())
    if speed:
        raw, bands = verdict.sum.raw, rules.bands
        for limit in (*bands.falls, *bands.rises, bands.green, bands.yellow):
            yield abs(raw - limit), speed
    weak = rules.caps.weak_link
    if weak is None:
        return
    for group, (score, trust) in groups(verdict.profile.profile, verdict.sum).items():
        places = [line.place for line in verdict.sum.lines if line.place.group == group]
        own = sum(speeds.get(place.signal, 0.0) for place in places) / len(places) / (trust or 1.0)
        if own and verdict.profile.profile.groups[group] >= weak.weight:
            yield abs(score - weak.below) * 1_000, own * 1_000
