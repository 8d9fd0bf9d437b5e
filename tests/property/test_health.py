"""Whatever the order, repetition, batches, clock and restarts: scores, caps and bands are those of a naive oracle."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from schemas.health import HealthScored
from tests import health_oracle as oracle
from tests import health_stories as stories
from tests.health_stories import DOCUMENTS, Life, minute, policies
from tests.oracle_account import Account, Json, once
from tests.oracle_bands import History, Point, bands

Plan = Sequence[tuple[datetime, list[Json]]]

DAY = 24 * 60
HISTORY = (-90 * DAY, 0)
SPAN = (-20 * DAY, 25 * DAY)
STEP = timedelta(hours=3)
SECONDS = timedelta(seconds=2)  # a crossing is found to the second on both sides

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
            assert line.value == pytest.approx(reading.value, abs=1e-9)
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


@settings(max_examples=200, deadline=None)
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


# ---------------------------------------------------------------- a life of some weeks


@st.composite
def lives(draw: st.DrawFn) -> tuple[str, Plan]:
    """A policy, and what comes when: batches at instants that no fact shares."""
    name = draw(names)
    told = draw(stories.interleaved(stories.streams(draw(stories.facts(SPAN)), *draw(stories.handoffs(SPAN)))))
    pieces = draw(stories.batches(told))
    seconds = st.integers(0, 30 * DAY * 60)
    times = sorted(draw(st.lists(seconds, min_size=len(pieces), max_size=len(pieces), unique=True)))
    return name, [(minute(at / 60), piece) for at, piece in zip(times, pieces, strict=True)]


END = minute(45 * DAY)


def lived(rules: Json, plan: Plan, between: Sequence[datetime] = ()) -> Life:
    """A life whose clock also stops in between."""
    life = Life(policies(rules), plan[0][0])
    batches = dict(plan)
    for at in sorted({*batches, *(one for one in between if one > life.at), END}):
        life.until(at)
        if at in batches:
            life.take(*batches[at])
    return life


def history(rules: Json, plan: Plan) -> list[Point]:
    """The oracle's score over the same time."""
    accounts = []
    told: list[Json] = []
    for _, batch in plan:
        told += batch
        crm = once(one for one in told if one["source"] in stories.RANKS)
        accounts.append(Account(crm, [one for one in told if one["source"] not in stories.RANKS], rules))

    def judge(number: int, at: datetime) -> Point:
        return oracle.point(oracle.judge(accounts[number], at), at)

    return History(judge, [at for at, _ in plan], rules["health"]["bands"]).points(END, STEP)


def same_times(found: Sequence[tuple[datetime, Any]], expected: Sequence[tuple[datetime, Any]]) -> bool:
    return [what for _, what in found] == [what for _, what in expected] and all(
        abs(left - right) <= SECONDS for (left, _), (right, _) in zip(found, expected, strict=True)
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lives())
def test_looks_find_every_crossing_to_the_second(told: tuple[str, Plan]) -> None:
    name, plan = told
    rules = DOCUMENTS[name]
    life, points = lived(rules, plan), history(rules, plan)
    expected = stories.settled(bands(points, rules["health"]["bands"]), SECONDS)
    found = stories.settled(life.bands, SECONDS)
    assert same_times(found, expected), (found, expected)
    begun = Point(plan[0][0], 0)
    caps = [(now.at, now.caps) for before, now in pairwise([begun, *points]) if before.caps != now.caps]
    held = stories.settled(life.caps, SECONDS)
    assert same_times(held, stories.settled(caps, SECONDS)), (held, caps)
