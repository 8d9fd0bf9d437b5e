"""The verbs: take facts of an account in, look at its score when time alone may have changed it, say what changed.

Between two facts the score is a function of time. A look finds the exact instant of each crossing in the step behind
it, and arms the next one where nothing can have crossed before.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from msgspec import structs

from schemas.envelope import Event
from schemas.health import Band, CapCode, Cause, HealthScored
from services.core.instants import DAY, MINUTE, SECOND, Instant
from services.health import bands, facts, message, score, signals
from services.health.message import About, Shift
from services.health.model import Account, Known, Mention, Standing
from services.health.policy import Rules
from services.health.score import Verdict
from services.health.signals import Silent

LOOK_LEAST = MINUTE  # between looks that approach a crossing
SILENT_LOOK = 15 * MINUTE  # while trust in a silent source fades
OUTLOOK = 14 * DAY
SHOWN = 100  # milli-points that a published score may be out of date by time alone
CROSSINGS = 16  # in one step; more would be a mistake in the bounds of speed

Signature = tuple[bool, bool, bool, bool, bool, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Frame:
    """What a decision about one account knows besides its state: the rules by time, and who is silent."""

    account: str
    rules_at: Callable[[Instant], Rules | None]
    silent: Silent


@dataclass(frozen=True, slots=True)
class Step:
    """The state of an account after a step in time, and what to publish."""

    state: Account
    events: tuple[Event, ...] = ()


def settle(state: Account, at: Instant, frame: Frame, causes: Sequence[Mention] = ()) -> Step:
    """Judge the account at `at`, after facts (`causes`) or because the rules or the sources changed; publish."""
    rules = frame.rules_at(at)
    if rules is None:  # a policy without health: nothing is scored until another is in force
        return Step(structs.replace(state, wake=at + DAY))
    about = About(frame.account, rules, frame.silent)
    verdict = score.judge(state.known, rules, at, frame.silent)
    step = _stepped(state, verdict, about, causes, is_told=True)
    return Step(_armed(step.state, verdict, about), step.events)


def advance(state: Account, until: Instant, frame: Frame) -> Step:
    """Every look that is due by `until`, one after the other. The last score is the one worth publishing."""
    events: list[Event] = []
    while state.standing is not None and state.wake <= until:
        step = _look(state, state.wake, frame)
        state = step.state
        events += step.events
    last = next((event for event in reversed(events) if isinstance(event, HealthScored)), None)
    return Step(state, tuple(event for event in events if event is last or not isinstance(event, HealthScored)))


def _look(state: Account, at: Instant, frame: Frame) -> Step:
    rules = frame.rules_at(at)
    if rules is None:
        return Step(structs.replace(state, wake=at + DAY))
    about = About(frame.account, rules, frame.silent)
    events: list[Event] = []
    if rules.version == state.policy:
        for verdict in crossings(state, at, about):
            step = _stepped(state, verdict, about, ())
            state = step.state
            events += step.events
    verdict = score.judge(state.known, rules, at, frame.silent)
    is_closing = at >= state.closes
    step = _stepped(state, verdict, about, (), is_told=is_closing)
    state = step.state
    events += step.events
    if is_closing and state.standing is not None:
        events.append(message.closed(about, verdict, state.standing))
        known = facts.kept(state.known, at)
        state = structs.replace(state, known=known, closes=message.next_midnight(at, rules.zone))
    return Step(_armed(state, verdict, about), tuple(events))


# ---------------------------------------------------------------- crossings


def crossings(state: Account, until: Instant, about: About) -> list[Verdict]:
    """The verdict at each instant since the last look, but before `until`, at which something crossed a limit.

    To the second; several within one second are one.
    """
    found: list[Verdict] = []
    if state.standing is None:
        return found
    low, before = state.at, _stood(state, state.standing)
    after = _signature(_judged(state.known, until, about), about.rules)
    while before != after and until - low > SECOND and len(found) < CROSSINGS:
        high, verdict = until, None
        while high - low > SECOND:
            middle = (low + high) // 2
            tried = _judged(state.known, middle, about)
            if _signature(tried, about.rules) == before:
                low = middle
            else:
                high, verdict = middle, tried
        if verdict is None:  # within the last second
            break
        found.append(verdict)
        low, before = high, _signature(verdict, about.rules)
    return found


def _judged(known: Known, at: Instant, about: About) -> Verdict:
    return score.judge(known, about.rules, at, about.silent)


def _signature(verdict: Verdict, rules: Rules) -> Signature:
    """On which side of each limit an account is."""
    now, falls, rises = verdict.score, rules.bands.falls, rules.bands.rises
    codes = frozenset[str](cap.code for cap in verdict.caps)
    return now < falls[0], now < falls[1], now >= rises[0], now >= rises[1], bool(verdict.unsure), codes


def _stood(state: Account, standing: Standing) -> Signature:
    """The signature at the last step."""
    sides = (side is not None for side in (*standing.under, *standing.over))
    return *sides, standing.band == bands.NA, frozenset(state.caps)  # type: ignore[return-value]  # four of them


# ---------------------------------------------------------------- one step


def _stepped(
    state: Account, verdict: Verdict, about: About, causes: Sequence[Mention], *, is_told: bool = False
) -> Step:
    """The state at the verdict's instant, with the change it makes and, where worth it, the score."""
    rules, at, before = about.rules, verdict.at, state.standing
    verdict = _dated(verdict, state)
    codes = _codes(verdict)
    standing = bands.step(before, at, verdict.score, verdict.limit, rules.bands, is_na=bool(verdict.unsure))
    events: list[Event] = []
    told = state.told
    is_changed = before is None or standing.band != before.band or codes.keys() != state.caps.keys()
    if is_changed:
        shift = _shift(state, verdict, standing, about, causes)
        change, told = message.changed(about, verdict, before, standing, told, shift)
        events.append(change)
    forecast = outlook(state.known, standing, verdict, about)
    if is_changed or is_told or abs(verdict.sum.raw - state.raw) >= SHOWN or _differs(forecast, state.outlook):
        events.append(message.scored(about, state.known, verdict, standing, forecast))
        state = structs.replace(state, raw=verdict.sum.raw, outlook=forecast)
    after = structs.replace(
        state,
        standing=standing,
        at=at,
        caps=codes,
        told=told,
        policy=rules.version,
        silent=signals.fallen_silent(state.known, about.silent),
        closes=state.closes or message.next_midnight(at, rules.zone),
    )
    return Step(after, tuple(events))


def _dated(verdict: Verdict, state: Account) -> Verdict:
    """With the time since when a cap holds whose beginning only the looks know."""
    caps = tuple(
        cap if cap.since is not None else replace(cap, since=state.caps.get(cap.code, verdict.at))
        for cap in verdict.caps
    )
    return replace(verdict, caps=caps)


def _codes(verdict: Verdict) -> dict[CapCode, Instant]:
    """The caps that hold, and since when."""
    return {cap.code: verdict.at if cap.since is None else cap.since for cap in verdict.caps}


def _differs(now: tuple[Band, Instant] | None, before: tuple[Band, Instant] | None) -> bool:
    if now is None or before is None:
        return now is not before
    return now[0] != before[0] or abs(now[1] - before[1]) > MINUTE


def _shift(state: Account, verdict: Verdict, standing: Standing, about: About, causes: Sequence[Mention]) -> Shift:
    now: tuple[CapCode, ...] = tuple(cap.code for cap in verdict.caps)
    began = [code for code in now if code not in state.caps]
    ended: list[CapCode] = [code for code in state.caps if code not in now]
    cause = _cause(state, verdict, standing, about, has_facts=bool(causes))
    behind = causes
    if not causes and cause == "cap":
        behind = [mention for cap in verdict.caps if cap.code in began for mention in cap.evidence]
    return Shift(cause, behind, began, ended)


def _cause(state: Account, verdict: Verdict, standing: Standing, about: About, *, has_facts: bool) -> Cause:
    """Why the band or the caps changed: the first of policy, data, cap, events, decay that explains it."""
    rules, before = about.rules, state.standing
    if before is None:
        return "events"
    if state.policy != rules.version:
        return "policy"
    silent = signals.fallen_silent(state.known, about.silent)
    if silent or state.silent:
        believed = score.judge(state.known, rules, verdict.at, {})
        as_if = bands.step(before, verdict.at, believed.score, believed.limit, rules.bands, is_na=bool(believed.unsure))
        is_same = as_if.band == before.band and {cap.code for cap in believed.caps} == state.caps.keys()
        if is_same or silent != state.silent:
            return "data"
    if {cap.code for cap in verdict.caps} != state.caps.keys():
        free = bands.step(before, verdict.at, verdict.sum.raw, score.FULL, rules.bands, is_na=bool(verdict.unsure))
        if standing.band == before.band or free.band != standing.band:
            return "cap"
    return "events" if has_facts else "decay"


# ---------------------------------------------------------------- the next look


def _armed(state: Account, verdict: Verdict, about: About) -> Account:
    """With the instant of the next look: the first at which something may have crossed, or a day ends."""
    assert state.standing is not None  # noqa: S101  # it was just judged
    at = verdict.at
    wakes = [state.closes, *_appointments(state.known, state.standing, verdict, about)]
    for distance, speed in score.margins(state.known, about.rules, verdict):
        wakes.append(at + max(LOOK_LEAST, round(distance / speed * DAY)))
    return structs.replace(state, wake=min(wake for wake in wakes if wake > at))


def _appointments(known: Known, standing: Standing, verdict: Verdict, about: About) -> list[Instant]:
    at, rules = verdict.at, about.rules
    found = [*score.appointments(known, rules, at), *bands.dwells(standing, rules.bands)]
    if signals.fallen_silent(known, about.silent):
        found.append(at + SILENT_LOOK)
    return [instant for instant in found if instant > at]


def outlook(known: Known, standing: Standing, verdict: Verdict, about: About) -> tuple[Band, Instant] | None:
    """The next change of band within some days if nothing happens; None where none is in sight.

    The same steps as the looks will take, without their caution: from one known jump to the next.
    """
    if not _may_change(known, standing, verdict, about):
        return None
    rules, silent, horizon = about.rules, about.silent, verdict.at + OUTLOOK
    state = Account(
        known=known, standing=standing, at=verdict.at, caps=dict.fromkeys((c.code for c in verdict.caps), 0)
    )
    now = verdict
    while now.at < horizon:
        assert state.standing is not None  # noqa: S101  # it began with one
        until = min([horizon, *_appointments(known, state.standing, now, about)])
        for one in (*crossings(state, until, about), score.judge(known, rules, until, silent)):
            after = bands.step(state.standing, one.at, one.score, one.limit, rules.bands, is_na=bool(one.unsure))
            if after.band != standing.band:
                return after.band, one.at
            state = structs.replace(state, standing=after, at=one.at, caps=_codes(one))
            now = one
            if one.at < until:  # a dwell that began here may end first
                break
    return None


def _may_change(known: Known, standing: Standing, verdict: Verdict, about: About) -> bool:
    """Can the band change within the horizon? A cheap bound that is right when it says no."""
    if any(at <= verdict.at + OUTLOOK for at in _appointments(known, standing, verdict, about)):
        return True
    days = OUTLOOK / DAY
    return any(distance <= speed * days for distance, speed in score.margins(known, about.rules, verdict))
