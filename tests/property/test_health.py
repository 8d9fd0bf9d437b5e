"""Whatever the order, repetition, batches, clock and restarts: scores, caps and bands are those of a naive oracle."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec import structs

from schemas.envelope import Event
from schemas.health import HealthChanged, HealthClosed, HealthScored
from services.core.instants import moment
from tests import health_oracle as oracle
from tests import health_stories as stories
from tests.health_stories import DOCUMENTS, Life, minute, policies
from tests.oracle_account import Account, Json, once, when
from tests.oracle_bands import History, Point, bands

Plan = Sequence[tuple[datetime, list[Json]]]

DAY = 24 * 60
HISTORY = (-90 * DAY, 0)
SPAN = (-5 * DAY, 25 * DAY)
END = minute(32 * DAY)
STEP = timedelta(hours=8)  # scores fall or stand still between facts: no limit is passed twice on the way
SECONDS = timedelta(seconds=2)  # a crossing is found to the second on both sides

LOOKS = timedelta(minutes=15) + SECONDS  # a minute, and up to a quarter of an hour after a score has rested

names = st.sampled_from(sorted(DOCUMENTS))


def agree(verdict: oracle.Verdict, event: HealthScored) -> None:
    """Every number of a score but its band, which is a history."""
    said, slack = event.data, verdict.slack
    assert said.profile == verdict.profile
    assert [line.signal for line in said.contributions] == list(verdict.readings)
    for line in said.contributions:
        reading = verdict.readings[line.signal]
        assert line.points == reading.points or (reading.is_tied and abs(line.points - reading.points) == 1)
        assert line.weight == pytest.approx(float(reading.weight))
        assert line.trust == pytest.approx(float(reading.trust))
        assert (line.missing is None) == (reading.trust > 0)
        if reading.trust:
            assert line.value == (None if reading.value is None else pytest.approx(reading.value, abs=1e-9))
            assert line.score == pytest.approx(float(reading.score or 0), abs=1e-9)
    assert said.raw == said.prior + sum(line.points for line in said.contributions)
    assert abs(said.raw - verdict.raw) <= slack
    assert abs(said.score - verdict.score) <= slack
    assert said.coverage == verdict.coverage
    assert {cap.code: cap.limit for cap in said.caps} == verdict.limits
    for cap in said.caps:
        since = verdict.caps[cap.code]
        assert since is None or cap.since == since
    assert (said.band == "na") == verdict.is_na == bool(said.unsure)
    assert said.colour == verdict.colour
    assert said.trend == (None if verdict.trend is None else pytest.approx(verdict.trend))


# ---------------------------------------------------------------- one clock time


@st.composite
def same_time(draw: st.DrawFn) -> tuple[str, list[list[Json]], datetime]:
    """A policy, what is told in streams of fixed order, and when."""
    name, told = draw(names), draw(stories.facts(HISTORY))
    streams = stories.streams(told, *draw(stories.handoffs(HISTORY)))
    return name, streams, minute(draw(st.integers(0, 30 * DAY)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_any_order_repetition_and_batching_gives_the_score_of_the_oracle(data: st.DataObject) -> None:
    name, streams, at = data.draw(same_time())
    rules = DOCUMENTS[name]
    lives = []
    for _ in range(2):
        life = Life(policies(rules), at)
        for batch in data.draw(stories.batches(data.draw(stories.interleaved(streams)))):
            life.take(*batch)
        lives.append(life)
    told = [one for stream in streams for one in stream]
    crm = [one for one in told if one["source"] in stories.RANKS]
    handoffs = [one for one in told if one["source"] not in stories.RANKS]
    verdict = oracle.score(crm, handoffs, rules, at)
    for life in lives:
        assert life.scored.data.as_of == at
        agree(verdict, life.scored)
    one, other = lives
    assert one.state is not None
    assert other.state is not None
    assert structs.asdict(one.state.known) == structs.asdict(other.state.known)
    unlike = {"band", "since", "colour", "outlook"}
    assert one.scored.data.model_dump(exclude=unlike) == other.scored.data.model_dump(exclude=unlike)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.data())
def test_what_an_import_tells_becomes_one_band_when_it_is_over(data: st.DataObject) -> None:
    name, streams, at = data.draw(same_time())
    told = [one for stream in streams for one in stream]
    told = [stories.Record(one, run="run-1") if one["source"] in stories.RANKS else one for one in told]
    (account,) = known_from(DOCUMENTS[name], [(at, told)])
    ends, found = at + timedelta(hours=5), []
    for _ in range(2):
        life = Life(policies(DOCUMENTS[name]), at, open_runs=frozenset({"run-1"}))
        for number, batch in enumerate(data.draw(stories.batches(data.draw(stories.interleaved([account.facts]))))):
            life.until(at + timedelta(minutes=10 * number))
            life.take(*batch)
        life.take(*account.handoffs)
        life.until(ends)
        assert {band for _, band in life.bands} == {"na"}
        life.open_runs = frozenset()
        life.until(ends + timedelta(seconds=1))
        verdict = oracle.judge(account, life.at)
        agree(verdict, life.scored)
        assert life.scored.data.band == ("na" if verdict.is_na else verdict.colour)
        found.append(life.scored.data.band)
    assert found[0] == found[1]


# ---------------------------------------------------------------- a life of some weeks


@st.composite
def lives(draw: st.DrawFn) -> tuple[str, Plan]:
    """A policy, and what comes when: each fact once it has happened, some late, some together."""
    told = draw(stories.facts(SPAN, most=16))
    arriving: dict[datetime, list[Json]] = {}
    for stream in stories.streams(told, *draw(stories.handoffs(SPAN))):
        now = minute(0)
        for one in stream:
            late = timedelta(seconds=draw(st.integers(0, 300)))
            now = max(now, when(one.get("receivedat", one["time"])) + late)
            arriving.setdefault(now, []).append(one)
    assume(min(arriving) < END)
    return draw(names), sorted((at, batch) for at, batch in arriving.items() if at < END)


def lived(rules: Json, plan: Plan) -> Life:
    """A life whose clock moves when something comes, and at the end."""
    life = Life(policies(rules), plan[0][0])
    for at, batch in plan:
        life.until(at)
        life.take(*batch)
    life.until(END)
    return life


def known_from(rules: Json, plan: Plan) -> list[Account]:
    """What the oracle knows from each instant of a plan on."""
    accounts = []
    told: list[Json] = []
    for _, batch in plan:
        told += batch
        crm = once(one for one in told if one["source"] in stories.RANKS)
        accounts.append(Account(crm, [one for one in told if one["source"] not in stories.RANKS], rules))
    return accounts


def history(rules: Json, plan: Plan) -> list[Point]:
    """The oracle's score over the same time."""
    accounts = known_from(rules, plan)

    def judge(number: int, at: datetime) -> Point:
        return oracle.point(oracle.judge(accounts[number], at), at)

    return History(judge, [at for at, _ in plan], rules["health"]["bands"]).points(END, STEP)


def same_times(found: Sequence[tuple[datetime, Any]], expected: Sequence[tuple[datetime, Any]]) -> bool:
    return [what for _, what in found] == [what for _, what in expected] and all(
        abs(left - right) <= SECONDS for (left, _), (right, _) in zip(found, expected, strict=True)
    )


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(lives())
def test_looks_find_every_crossing_to_the_second(told: tuple[str, Plan]) -> None:
    name, plan = told
    rules = DOCUMENTS[name]
    assert_same(lived(rules, plan), history(rules, plan), rules["health"]["bands"])


def assert_same(life: Life, points: Sequence[Point], band_rules: Json) -> None:
    """The bands and caps of a life are, to the second, those of the oracle's points."""
    expected = stories.settled(bands(points, band_rules), SECONDS)
    found = stories.settled(life.bands, SECONDS)
    assert same_times(found, expected), (found, expected)
    begun = Point(points[0].at, 0)
    caps = [(now.at, now.caps) for before, now in pairwise([begun, *points]) if before.caps != now.caps]
    held = stories.settled(life.caps, SECONDS)
    assert same_times(held, stories.settled(caps, SECONDS)), (held, caps)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(lives())
def test_changes_follow_one_another_add_up_and_name_a_cause(told: tuple[str, Plan]) -> None:
    name, plan = told
    life, arrivals = lived(DOCUMENTS[name], plan), {at for at, _ in plan}
    first, *later = [(change.time, change.data) for change in life.told(HealthChanged)]
    assert (first[0], first[1].before, first[1].cause, first[1].n) == (plan[0][0], None, "events", 1)
    for (_, before), (at, after) in pairwise([first, *later]):
        assert (after.n, after.before, after.score_before) == (before.n + 1, before.after, before.score)
        assert after.cap_effect_before == before.cap_effect
        moved = sum(delta.points for delta in after.deltas) + after.cap_effect - before.cap_effect
        assert after.score - before.score == moved
        if not after.caps_began and not after.caps_ended:
            assert after.before != after.after
            assert after.cause != "cap"
        elif after.before == after.after:
            assert after.cause == "cap"
        assert after.cause in ({"events", "cap"} if at in arrivals else {"events", "decay", "cap"})
    for kind in (HealthChanged, HealthClosed, HealthScored):
        assert len({event.id for event in life.told(kind)}) == len(life.told(kind))


# ---------------------------------------------------------------- clocks that leap, and restarts


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(lives(), st.lists(st.integers(0, 32 * DAY * 60), max_size=30), st.data())
def test_clocks_that_leap_step_and_restart_say_the_same_and_steps_say_it_in_time(
    told: tuple[str, Plan], stops: list[int], data: st.DataObject
) -> None:
    name, plan = told
    leaping = lived(DOCUMENTS[name], plan)
    stopping = Life(policies(DOCUMENTS[name]), plan[0][0])
    batches, between = dict(plan), {minute(stop / 60) for stop in stops if minute(stop / 60) > plan[0][0]}
    for at in sorted({*batches, *between, END}):
        while stopping.state is not None and moment(stopping.next_due) < at:
            said = stopping.until(max(stopping.at, moment(stopping.next_due)))
            # Nothing is found later than the looks are allowed to be apart.
            assert all(stopping.at - event.time <= LOOKS for event in said)
            if data.draw(st.integers(0, 9)) == 0:
                stopping.restart()
        stopping.until(at)
        stopping.restart()
        if at in batches:
            stopping.take(*batches[at])
            stopping.restart()
    assert stopping.state == leaping.state
    for kind in (HealthChanged, HealthClosed):
        assert stopping.told(kind) == leaping.told(kind)
    assert stopping.scored == leaping.scored


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(lives())
def test_every_local_day_is_closed_once_with_the_score_of_its_midnight(told: tuple[str, Plan]) -> None:
    name, plan = told
    life, accounts = lived(DOCUMENTS[name], plan), known_from(DOCUMENTS[name], plan)
    starts = [at for at, _ in plan]
    expected = accounts[0].calendar.midnights(plan[0][0], END)
    assert [(one.time, one.data.day) for one in life.closings] == expected
    for closing in life.closings:
        # What comes at midnight belongs to the day that begins.
        verdict = oracle.judge(accounts[bisect_left(starts, closing.time) - 1], closing.time)
        assert abs(closing.data.score - verdict.score) <= verdict.slack
        assert closing.data.coverage == verdict.coverage
        trusted = {signal: reading for signal, reading in verdict.readings.items() if reading.trust}
        assert closing.data.points.keys() == trusted.keys()
        assert all(abs(closing.data.points[name] - one.points) <= one.is_tied for name, one in trusted.items())
        assert (closing.data.band == "na") == verdict.is_na


# ---------------------------------------------------------------- what the score rests on


Heard = dict[str, int]


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(same_time(), st.dictionaries(st.sampled_from(["crm", "desk", "fax"]), st.integers(-30 * 60, 0), min_size=1))
def test_silent_sources_outdate_the_accounts_they_fed_and_their_word_fades(
    told: tuple[str, list[list[Json]], datetime], heard: Heard
) -> None:
    name, streams, at = told
    (account,) = known_from(DOCUMENTS[name], [(at, [one for stream in streams for one in stream])])
    life = Life(policies(DOCUMENTS[name]), at)
    life.take(*account.facts, *account.handoffs)
    silenced, spoke = at + timedelta(minutes=7), at + timedelta(hours=32)
    life.until(silenced)
    life.silent = {source: silenced + timedelta(minutes=minutes) for source, minutes in heard.items()}
    is_concerned = any(source in life.silent for sources in account.sources.values() for source in sources)
    assert life.is_outdated() == is_concerned
    assert causes(life.catch_up()) <= {"data"}
    assert not life.is_outdated()
    if is_concerned:
        agree(oracle.judge(account, silenced, life.silent), life.scored)
    life.until(spoke)
    agree(oracle.judge(account, life.scored.time, life.silent), life.scored)

    def judge(number: int, at: datetime) -> Point:
        return oracle.point(oracle.judge(account, at, life.silent if number else None), at)

    history = History(judge, [at, silenced], account.health["bands"]).points(spoke, timedelta(hours=1))
    assert_same(life, history, account.health["bands"])
    life.silent = {}
    assert life.is_outdated() == is_concerned
    assert causes(life.catch_up()) <= {"data"}
    assert not life.is_outdated()
    agree(oracle.judge(account, life.scored.time), life.scored)


def causes(events: Iterable[Event]) -> set[str]:
    return {event.data.cause for event in events if isinstance(event, HealthChanged)}


@settings(max_examples=30, deadline=None, derandomize=True)
@given(same_time(), st.sampled_from(["plain", "steep", "lively", "sudden", "abroad"]), st.integers(1, 5 * DAY))
def test_another_version_of_the_policy_outdates_every_account_and_is_the_cause(
    told: tuple[str, list[list[Json]], datetime], later: str, minutes: int
) -> None:
    name, streams, at = told
    after = DOCUMENTS[later] | {"version": 2}
    # What is meaningful is decided when a fact comes, by the version in force when it happened.
    first = DOCUMENTS[name] | {"health": DOCUMENTS[name]["health"] | {"meaningful": after["health"]["meaningful"]}}
    facts = [one for stream in streams for one in stream]
    activated = at + timedelta(minutes=minutes)
    life = Life(policies(first, (activated, after)), at)
    life.take(*facts)
    assert not life.is_outdated()
    life.until(activated - timedelta(microseconds=1))
    assert not life.is_outdated()
    assert life.scored.data.policy == 1
    life.at = activated
    assert life.is_outdated()
    assert causes(life.catch_up()) <= {"policy"}
    assert not life.is_outdated()
    assert life.scored.data.policy == 2
    crm = [one for one in facts if one["source"] in stories.RANKS]
    handoffs = [one for one in facts if one["source"] not in stories.RANKS]
    agree(oracle.score(crm, handoffs, after, activated), life.scored)
