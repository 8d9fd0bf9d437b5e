"""The equation: contributions that sum to the raw score, coverage, caps that limit it. Scores are milli-points."""

from collections.abc import Iterable, Iterator

from msgspec import Struct
from msgspec.structs import force_setattr

from schemas.health import CapCode
from schemas.policies import SignalName
from services.core.instants import HOUR, Instant
from services.health import signals
from services.health.model import Known
from services.health.policy import Place, Profile, Resolve, Rules
from services.health.signals import BREACHED, FADES, Course, Reading, Silent

FULL = 100_000
NOBODY: Silent = {}
ALWAYS: frozenset[SignalName] = frozenset({"handoff"})  # known of every account
EMPTY = 0.0, 0.0, 0  # a group before its first signal
PLACES = 9  # of shares: weights such as a third do not sum to what people expect of them


class Line(Struct, frozen=True, gc=False):
    """What a signal adds: points = 1000 · weight · trust · (score − prior), rounded. No reading: trust 0."""

    place: Place
    reading: Reading | None
    trust: float
    points: int


class Sum(Struct, frozen=True, gc=False):
    """Prior and lines together. `groups`: each one's sum of trust · score, sum of trust, and number of signals."""

    lines: list[Line]
    raw: int
    coverage: float
    groups: dict[str, tuple[float, float, int]]


class Cap(Struct, frozen=True, gc=False):
    """A limit. `since` None: only whoever looked before knows since when."""

    code: CapCode
    limit: int
    since: Instant | None = None
    about: str = ""


class Verdict(Struct, frozen=True, gc=False):
    """The score of an account at an instant.

    It has no band where there is too little evidence, where it has not been known for long, and while an import is
    still telling of it.
    """

    at: Instant
    profile: Resolve
    sum: Sum
    caps: list[Cap]
    is_thin: bool = False
    is_young: bool = False
    is_importing: bool = False
    # Worked out of the others, once: the lowest cap, and what is shown.
    limit: int = FULL
    score: int = 0

    def __post_init__(self) -> None:
        if self.caps:
            force_setattr(self, "limit", min([cap.limit for cap in self.caps]))
        force_setattr(self, "score", min(self.sum.raw, self.limit))

    @property
    def is_na(self) -> bool:
        return self.is_thin or self.is_young or self.is_importing


class Judge:
    """Judges one account at any instant, for as long as no fact comes."""

    __slots__ = (
        "_begins", "_breached", "_faded", "_read", "_urgent",
        "course", "is_importing", "known", "resolved", "rules", "silent",
    )  # fmt: skip

    def __init__(self, known: Known, rules: Rules, silent: Silent, *, is_importing: bool = False) -> None:
        self.known, self.rules, self.is_importing = known, rules, is_importing
        unheard = signals.fallen_silent(known, silent)
        self.silent = {source: silent[source] for source in unheard} if unheard else NOBODY
        self._faded = [silent[source] + FADES for source in unheard]
        self.course = Course(known, rules)
        self.resolved = next((one for one in rules.resolve if not lacking(self.course, one)), rules.resolve[-1])
        self._begins = _ownerless(self.course, rules)
        self._breached = signals.verdicts(known, BREACHED)[:1] if known.handoffs else []
        self._urgent = [(one.open_since, graded.at, name) for name, one, graded in signals.urgent(known)]
        readers = self.course.readers
        self._read = [(place, readers.get(place.signal)) for place in self.resolved.profile.places]

    def at(self, at: Instant) -> Verdict:
        """The score of an account about which there is at least one fact."""
        rules, profile = self.rules, self.resolved.profile
        if self.silent:
            measured = [self._measured(place, at) for place in profile.places]
        else:
            measured = [(place, None, 0.0) if read is None else (place, read(at), 1.0) for place, read in self._read]
        total = combine(rules.prior, measured)
        oldest = self.known.oldest
        return Verdict(
            at,
            self.resolved,
            total,
            self._caps(at, profile, total),
            total.coverage < rules.coverage,
            oldest is not None and at - oldest < rules.age,
            self.is_importing,
        )

    def _measured(self, place: Place, at: Instant) -> tuple[Place, Reading | None, float]:
        trust, until = signals.live(self.known, place.signal, at, self.silent)
        reading = self.course.reading(place.signal, until) if trust > 0 else None
        return place, reading, 0.0 if reading is None else trust

    def _caps(self, at: Instant, profile: Profile, total: Sum) -> list[Cap]:
        caps, limits, found = self.rules.caps, self.rules.limits, list[Cap]()
        if caps.sev1_open and self._urgent:
            after = round(caps.sev1_open.after_hours * HOUR)
            held = [
                (max(opened + after, graded), name) for opened, graded, name in self._urgent if opened + after <= at
            ]
            if held:
                since, name = min(held)
                found.append(Cap("SEV1_OPEN", limits["SEV1_OPEN"], since, name))
        if self._begins is not None and self._begins <= at:
            found.append(Cap("NO_OWNER", limits["NO_OWNER"], self._begins))
        if self._breached and caps.handoff_breach:
            found.append(Cap("HANDOFF_BREACH", limits["HANDOFF_BREACH"], self._breached[0].at))
        if group := weak_link(self.rules, profile, total):
            found.append(Cap("WEAK_LINK", limits["WEAK_LINK"], None, group))
        if (thin := caps.thin_data) and total.coverage < thin.coverage:
            found.append(Cap("THIN_DATA", limits["THIN_DATA"]))
        if profile.narrow and caps.narrow:
            found.append(Cap("NARROW", limits["NARROW"]))
        return found

    # -- change --------------------------------------------------------------------------------------------------

    def appointments(self, at: Instant) -> list[Instant]:
        """The known instants after `at` at which score, caps or doubts jump by themselves."""
        rules, known = self.rules, self.known
        found = [*self.course.jumps(at), *self._faded]
        if known.oldest is not None:
            found.append(known.oldest + rules.age)
        if rules.caps.sev1_open:
            after = round(rules.caps.sev1_open.after_hours * HOUR)
            found += [opened + after for opened, _, _ in self._urgent]
        if self._begins is not None:
            found.append(self._begins)
        return [instant for instant in found if instant > at]

    def is_fading(self, at: Instant) -> bool:
        """Is a silent source believed less and less?"""
        return any(at < end for end in self._faded) if self._faded else False

    def margins(self, verdict: Verdict) -> Iterator[tuple[float, float]]:
        """(distance in milli-points, speed limit in milli-points a day) of whatever may cross a limit by drifting."""
        rules, profile = self.rules, verdict.profile.profile
        speeds = self.course.steepness(verdict.at)
        own: dict[str, float] = {}
        speed = 0.0
        for line in verdict.sum.lines if speeds else ():
            if line.trust and (fast := speeds.get(line.place.signal)):
                speed += 1_000 * line.place.weight * line.trust * fast
                own[line.place.group] = own.get(line.place.group, 0.0) + 1_000 * line.trust * fast
        if speed:
            raw, bands = verdict.sum.raw, rules.bands
            for limit in (*bands.falls, *bands.rises):
                yield abs(raw - limit), speed
        if rules.caps.weak_link and own:
            for group, (scores, trusts, _) in verdict.sum.groups.items():
                if group in own and profile.groups[group] >= rules.caps.weak_link.weight:
                    yield abs(scores / trusts - rules.caps.weak_link.below) * 1_000, own[group] / trusts


def milli(points: float) -> int:
    return round(1_000 * points)


# ---------------------------------------------------------------- lines


def combine(prior: float, measured: Iterable[tuple[Place, Reading | None, float]]) -> Sum:
    """Lines, raw score and coverage of what was measured: (place, reading, trust)."""
    lines, raw, coverage = list[Line](), milli(prior), 0.0
    found: dict[str, tuple[float, float, int]] = {}
    group, scores, trusts, count = "", 0.0, 0.0, 0
    for place, reading, trust in measured:
        if place.group != group:
            if count:
                found[group] = scores, trusts, count
            group = place.group
            scores, trusts, count = found.get(group, EMPTY)
        points = 0
        if reading is not None:
            share, score = place.weight * trust, reading[1]
            points = round(1_000 * share * (score - prior))
            raw += points
            coverage += share
            scores += trust * score
            trusts += trust
        count += 1
        lines.append(Line(place, reading, trust, points))
    if count:
        found[group] = scores, trusts, count
    return Sum(lines, min(max(raw, 0), FULL), round(coverage, PLACES), found)


def lacking(course: Course, wanted: Resolve) -> list[str]:
    """The groups a profile wants of which nothing is known. A handoff is always known, and so says nothing here."""
    if not wanted.fed:
        return []
    groups, known = course.rules.groups, course.readers.keys() - ALWAYS
    return [group for group in wanted.fed if known.isdisjoint(groups[group])]


def weak_link(rules: Rules, profile: Profile, total: Sum) -> str | None:
    """The first group that is heavy and trusted, and scores too low."""
    weak = rules.caps.weak_link
    if weak is None:
        return None
    below = weak.below
    for group, (scores, trusts, count) in total.groups.items():
        if not trusts or scores / trusts >= below:
            continue
        if profile.groups[group] >= weak.weight and round(trusts / count, PLACES) >= weak.trust:
            return group
    return None


def _ownerless(course: Course, rules: Rules) -> Instant | None:
    """When the account will have been, or was, without an owner for too long; None while somebody owns it."""
    if rules.caps.no_owner is None or course.held is None or course.held.gap is None:
        return None
    return rules.calendar.add(course.held.gap, round(rules.caps.no_owner.after_working_hours * HOUR))
