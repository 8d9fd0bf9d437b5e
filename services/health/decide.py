"""The verbs: take facts of an account in, look at its score when time alone may have changed it, say what changed.

Between two facts the score is a function of time. A look finds the exact instant of each crossing in the step behind
it, and arms the next one where nothing can have crossed before.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial

from msgspec import Struct, structs

from schemas.envelope import Event
from schemas.health import Band, CapCode, Cause, HealthScored
from services.core.instants import DAY, MINUTE, SECOND, Instant
from services.health import bands, facts, message, score, signals
from services.health.message import About, Shift
from services.health.model import Account, Mention, Standing
from services.health.policy import Bands, Rules
from services.health.score import Judge, Verdict
from services.health.signals import Silent

LOOK_LEAST = MINUTE  # between looks that approach a crossing
LOOK_MOST = 15 * MINUTE  # so late may be said what a curve does after a flat part
SILENT_LOOK = 15 * MINUTE  # while trust in a silent source fades
OUTLOOK = 14 * DAY
BEGUN_KEPT = 3
SHOWN = 100  # milli-points that a published score may be out of date by time alone
CROSSINGS = 16  # in one step; more would be a mistake in the bounds of speed

Sides = Callable[[Verdict], Hashable]


class Frame(Struct, frozen=True):
    """What a decision about one account knows besides its state: the rules by time, and who is silent."""

    account: str
    rules_at: Callable[[Instant], Rules | None]
    silent: Silent


class Step(Struct, frozen=True):
    """The state of an account after steps in time, what to publish, and how to say its score where that is worth it.

    Of several scores only the last is read by anybody, and to say one costs more than all the rest of a step.
    """

    state: Account
    events: tuple[Event, ...] = ()
    score: Callable[[], HealthScored] | None = None


def settle(state: Account, at: Instant, frame: Frame, causes: Sequence[Mention] = ()) -> Step:
    """Judge the account at `at`, after facts (`causes`) or because the rules or the sources changed; publish."""
    rules = frame.rules_at(at)
    if rules is None:  # a policy without health: nothing is scored until another is in force
        return Step(structs.replace(state, wake=at + DAY, closes=0))
    if causes and state.imports and not _is_new(state):  # judged when the import is over
        return Step(state)
    about = About(frame.account, Judge(state.known, rules, frame.silent, is_importing=_is_new(state)))
    verdict = about.judge.at(at)
    step = _stepped(state, verdict, about, causes, is_told=True)
    return structs.replace(step, state=_armed(step.state, verdict, about.judge))


def _is_new(state: Account) -> bool:
    """Is an import telling of an account that has no band yet? What it told so far must not become one."""
    return bool(state.imports) and (state.standing is None or state.standing.band == bands.NA)


def advance(state: Account, until: Instant, frame: Frame) -> Step:
    """Every look that is due by `until`, one after the other."""
    step = Step(state)
    while step.state.standing is not None and step.state.wake <= until:
        step = _after(step, _look(step.state, step.state.wake, frame))
    return step


def _after(earlier: Step, later: Step) -> Step:
    return Step(later.state, (*earlier.events, *later.events), later.score or earlier.score)


def _look(state: Account, at: Instant, frame: Frame) -> Step:
    rules = frame.rules_at(at)
    if rules is None:
        return Step(structs.replace(state, wake=at + DAY, closes=0))
    about = About(frame.account, Judge(state.known, rules, frame.silent, is_importing=_is_new(state)))
    step = Step(state)
    if rules.version == state.policy and not state.imports:
        for verdict in _crossed(state, at, about.judge):
            step = _after(step, _stepped(step.state, verdict, about, ()))
    verdict = about.judge.at(at)
    is_closing = 0 < state.closes <= at
    step = _after(step, _stepped(step.state, verdict, about, (), is_told=is_closing))
    if is_closing:
        step = _closed(step, verdict, about)
    return structs.replace(step, state=_armed(step.state, verdict, about.judge, _patience(state, verdict)))


def _patience(before: Account, verdict: Verdict) -> int:
    """How long to wait at least before the next look: twice as long as last time while the score does not move at all.

    Long silence leaves scores that rest, and some of them rest at a limit.
    """
    has_moved = before.standing is None or before.standing.peaks[-1][1] != verdict.score
    return LOOK_LEAST if has_moved else min(LOOK_MOST, max(LOOK_LEAST, 2 * (verdict.at - before.at)))


def _closed(step: Step, verdict: Verdict, about: About) -> Step:
    """With the closing of the day that ends now."""
    state, zone = step.state, about.judge.rules.zone
    assert state.standing is not None  # noqa: S101  # it was just judged
    closing = message.closed(about, verdict, state.standing)
    known, closes = facts.kept(state.known, verdict.at), message.next_midnight(verdict.at, zone)
    return structs.replace(
        step, state=structs.replace(state, known=known, closes=closes), events=(*step.events, closing)
    )


# ---------------------------------------------------------------- crossings


def crossings(after: Instant, until: Instant, before: Hashable, judge: Judge, sides: Sides) -> list[Verdict]:
    """The verdict at each instant between, but before `until`, at which an account came to another side of a limit.

    To the second; several within one second are one. `before` are its sides at `after`.
    """
    found: list[Verdict] = []
    low, last = after, sides(judge.at(until))
    while before != last and until - low > SECOND and len(found) < CROSSINGS:
        high, verdict = until, None
        while high - low > SECOND:
            middle = (low + high) // 2
            tried = judge.at(middle)
            if sides(tried) == before:
                low = middle
            else:
                high, verdict = middle, tried
        if verdict is None:  # within the last second
            break
        found.append(verdict)
        low, before = high, sides(verdict)
    return found


def _crossed(state: Account, until: Instant, judge: Judge) -> list[Verdict]:
    if state.standing is None:
        return []
    sides = partial(_sides, rules=judge.rules.bands)
    return crossings(state.at, until, _stood(state, state.standing), judge, sides)


def _sides(verdict: Verdict, rules: Bands) -> Hashable:
    """On which side of every limit an account is."""
    now, codes = verdict.score, frozenset(cap.code for cap in verdict.caps)
    falls, rises = rules.falls, rules.rises
    return now < falls[0], now < falls[1], now >= rises[0], now >= rises[1], verdict.is_na, codes


def _stood(state: Account, standing: Standing) -> Hashable:
    """Its sides at the last step."""
    (green, yellow), (over_green, over_yellow) = standing.under, standing.over
    under = green is not None, yellow is not None
    return *under, over_green is not None, over_yellow is not None, standing.band == bands.NA, frozenset(state.caps)


def _sides_of(band: Band, verdict: Verdict, rules: Bands) -> Hashable:
    """The sides that can move an account out of its band."""
    now, bound = verdict.score, bands.colour(verdict.limit, rules)
    match band:
        case "green":
            return verdict.is_na, bound, now < rules.falls[0], now < rules.falls[1]
        case "yellow":
            return verdict.is_na, bound, now < rules.falls[1], now >= rules.rises[0]
        case "red":
            return verdict.is_na, bound, now >= rules.rises[0], now >= rules.rises[1]
        case "na":
            return verdict.is_na


# ---------------------------------------------------------------- one step


def _stepped(
    state: Account, verdict: Verdict, about: About, causes: Sequence[Mention], *, is_told: bool = False
) -> Step:
    """The state at the verdict's instant, with the change it makes and, where worth it, the score."""
    judge, at, before = about.judge, verdict.at, state.standing
    rules = judge.rules
    verdict = _dated(verdict, state)
    codes = _codes(verdict)
    standing = bands.step(before, at, verdict.score, verdict.limit, rules.bands, is_na=verdict.is_na)
    if before is not None and state.imports and not verdict.is_importing:
        standing, codes = before, state.caps  # half a history would take and lift caps that the whole one never had
    events: list[Event] = []
    told = state.told
    is_changed = before is None or standing.band != before.band or codes.keys() != state.caps.keys()
    if is_changed:
        shift = _shift(state, verdict, standing, about, causes)
        change, told = message.changed(about, verdict, before, standing, told, shift)
        events.append(change)
    forecast, say = outlook(standing, verdict, judge), None
    if is_changed or is_told or abs(verdict.sum.raw - state.raw) >= SHOWN or _differs(forecast, state.outlook):
        say = partial(message.scored, about, verdict, standing, forecast, causes)
        state = structs.replace(state, raw=verdict.sum.raw, outlook=forecast)
    after = structs.replace(
        state,
        standing=standing,
        at=at,
        caps=codes,
        told=told,
        policy=rules.version,
        begun=_begun(state, standing, at, causes),
        ruled=state.ruled if state.policy in {0, rules.version} else at,
        silent=signals.fallen_silent(state.known, about.judge.silent),
        closes=state.closes
        if state.closes and state.policy == rules.version
        else message.next_midnight(at, rules.zone),
    )
    return Step(after, tuple(events), say)


def _begun(
    state: Account, standing: Standing, at: Instant, causes: Sequence[Mention]
) -> dict[Instant, tuple[Mention, ...]]:
    """The facts with which each dwell that runs began, where it was facts."""
    running = {*standing.under, *standing.over}
    known = {since: facts for since, facts in state.begun.items() if since in running}
    if not causes or at not in running:
        return known
    return {**known, at: tuple(sorted({*known.get(at, ()), *causes}, reverse=True)[:BEGUN_KEPT])}


def _dated(verdict: Verdict, state: Account) -> Verdict:
    """With the time since when a cap holds whose beginning only the looks know."""
    if all(cap.since is not None for cap in verdict.caps):
        return verdict
    caps = [
        cap if cap.since is not None else structs.replace(cap, since=state.caps.get(cap.code, verdict.at))
        for cap in verdict.caps
    ]
    return structs.replace(verdict, caps=caps)


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
    began_with = _began_with(state, standing)
    behind = causes or (began_with if cause == "events" else ())
    if not causes and cause == "cap":
        behind = [mention for cap in verdict.caps if cap.code in began for mention in message.behind(about, cap)]
    return Shift(cause, behind, began, ended)


def _cause(state: Account, verdict: Verdict, standing: Standing, about: About, *, has_facts: bool) -> Cause:
    """Why the band or the caps changed: the first of policy, data, cap, events, decay that explains it."""
    rules, before = about.judge.rules, state.standing
    if before is None:
        return "events"
    if state.policy != rules.version:
        return "policy"
    silent = signals.fallen_silent(state.known, about.judge.silent)
    if silent or state.silent:
        believed = Judge(state.known, rules, {}, is_importing=verdict.is_importing).at(verdict.at)
        as_if = bands.step(before, verdict.at, believed.score, believed.limit, rules.bands, is_na=believed.is_na)
        was = state.caps.keys()
        changed = {cap.code for cap in verdict.caps} ^ was
        is_anyway = bool(changed & ({cap.code for cap in believed.caps} ^ was))
        if standing.band != before.band:
            is_anyway |= as_if.band == standing.band
        if silent != state.silent or not is_anyway:
            return "data"
    if {cap.code for cap in verdict.caps} != state.caps.keys():
        free = bands.step(before, verdict.at, verdict.sum.raw, score.FULL, rules.bands, is_na=verdict.is_na)
        if standing.band == before.band or free.band != standing.band:
            return "cap"
    if bands.began(before, standing) == state.ruled:  # the dwell that ends now began with the version
        return "policy"
    return "events" if has_facts or _began_with(state, standing) else "decay"


def _began_with(state: Account, standing: Standing) -> Sequence[Mention]:
    """The facts with which the dwell began that ends now."""
    since = None if state.standing is None else bands.began(state.standing, standing)
    return () if since is None else state.begun.get(since, ())


# ---------------------------------------------------------------- the next look


def _armed(state: Account, verdict: Verdict, judge: Judge, least: int = LOOK_LEAST) -> Account:
    """With the instant of the next look: the first at which something may have crossed, or a day ends.

    Looks that only approach a limit stand at least `least` apart.
    """
    assert state.standing is not None  # noqa: S101  # it was just judged
    at = verdict.at
    wakes = [state.closes, *_appointments(state.standing, verdict, judge)]
    if judge.is_fading(at):
        wakes.append(at + SILENT_LOOK)
    for distance, speed in judge.margins(verdict):
        if distance < speed * OUTLOOK / DAY:  # else a day ends before
            wakes.append(at + max(least, round(distance / speed * DAY)))
    return structs.replace(state, wake=min(wake for wake in wakes if wake > at))


def _appointments(standing: Standing, verdict: Verdict, judge: Judge) -> list[Instant]:
    at = verdict.at
    return [*judge.appointments(at), *(one for one in bands.dwells(standing, judge.rules.bands) if one > at)]


def outlook(standing: Standing, verdict: Verdict, judge: Judge) -> tuple[Band, Instant] | None:
    """The next change of band within some days if nothing happens; None where none is in sight.

    The same steps as the looks will take, but from one known jump to the next. What is measured so far only falls as
    time passes, so where nothing has crossed at the horizon and nothing waits, nothing crosses before.
    """
    rules, horizon = judge.rules.bands, verdict.at + OUTLOOK
    sides = partial(_sides_of, standing.band, rules=rules)
    is_waiting = next(bands.dwells(standing, rules), None) is not None
    if not is_waiting and not judge.silent and sides(judge.at(horizon)) == sides(verdict):
        return None
    now, stands = verdict, standing
    while now.at < horizon:
        until = min([horizon, *_appointments(stands, now, judge)])
        for one in (*crossings(now.at, until, sides(now), judge, sides), judge.at(until)):
            stands = bands.step(stands, one.at, one.score, one.limit, rules, is_na=one.is_na)
            now = one
            if stands.band != standing.band:
                return stands.band, one.at
            if one.at < until:  # a dwell that began here may end first
                break
    return None
