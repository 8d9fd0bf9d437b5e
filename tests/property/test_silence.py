"""The chance of silence and the curves against their laws, and against the formula worked out with sixty digits."""

import math
from decimal import Decimal, localcontext
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.core import curves
from services.core.curves import Silence

MONTH = Silence(days=30, r=0.243, alpha=30.9, a=0.793, b=2.426)

silences = st.just(MONTH) | st.builds(
    Silence,
    days=st.floats(1, 3650),
    r=st.floats(0.01, 1000),
    alpha=st.floats(0.1, 100_000),
    a=st.floats(0.01, 1000),
    b=st.floats(1.01, 1000),
)
actives = st.integers(0, 60) | st.integers(0, 10_000)
times = st.integers(0, 4000).map(float) | st.floats(0, 20_000)
points = st.integers(-20, 120).map(float) | st.floats(-1000, 1000)


@st.composite
def anchored(draw: st.DrawFn) -> list[tuple[float, float]]:
    xs = sorted(draw(st.lists(points, min_size=1, max_size=8, unique_by=lambda x: round(x, 3))))
    scores = draw(st.lists(st.floats(0, 100), min_size=len(xs), max_size=len(xs)))
    return list(zip(xs, scores, strict=True))


def by_the_formula(silence: Silence, x: int, span: float, age: float) -> float:
    """As it is written, with powers and without logarithms."""
    with localcontext(prec=60):
        days, r, alpha, a, b = map(Decimal, (silence.days, silence.r, silence.alpha, silence.a, silence.b))
        first, last = alpha + Decimal(span), alpha + max(Decimal(age), Decimal(span))
        odds = a / (b + x - 1) * (last / first) ** (r + x) if x else Decimal(0)
        return float(1 - (1 - (last / (last + days)) ** (r + x)) / (1 + odds))


# --- the chance ---------------------------------------------------------------------------------------------


@given(silences, actives, times, times)
@example(MONTH, 10_000, 0.0, 20_000.0)
@example(MONTH, 10_000, 10_000.0, 10_000.0)
def test_the_chance_is_that_of_the_formula(silence: Silence, x: int, span: float, later: float) -> None:
    chance = silence.chance(x, span, span + later)
    assert 0 <= chance <= 1
    assert chance == pytest.approx(by_the_formula(silence, x, span, span + later), rel=1e-9, abs=1e-12)


@given(silences, actives, times, times, times)
def test_the_chance_rises_with_silence(silence: Silence, x: int, span: float, one: float, other: float) -> None:
    sooner, later = sorted((one, other))
    rounding = 1e-10
    assert silence.chance(x, span, span + later) >= silence.chance(x, span, span + sooner) - rounding


@given(silences, actives, times, times)
def test_before_the_last_active_day_nothing_is_silence(silence: Silence, x: int, span: float, age: float) -> None:
    assert silence.chance(x, span, min(age, span)) == silence.chance(x, span, span)


@given(silences, actives, times, times, times, times | st.floats(0, 1))
def test_the_chance_never_moves_faster_than_its_steepness_earlier_on(
    silence: Silence, x: int, span: float, age: float, later: float, step: float
) -> None:
    start = age + later
    moved = silence.chance(x, span, start + step) - silence.chance(x, span, start)
    rounding = 1e-10
    assert abs(moved) <= silence.steepness(x, age) * step * (1 + 1e-9) + rounding


@given(silences, actives, times, times)
def test_the_steepness_only_falls(silence: Silence, x: int, age: float, later: float) -> None:
    assert silence.steepness(x, age + later) <= silence.steepness(x, age) * (1 + 1e-12)


# --- curves -------------------------------------------------------------------------------------------------


@given(anchored(), points)
def test_a_score_lies_between_the_least_and_the_greatest_anchor(anchors: list[tuple[float, float]], x: float) -> None:
    scores = [score for _, score in anchors]
    assert min(scores) <= curves.score(anchors, x) <= max(scores)


@given(anchored())
def test_a_curve_passes_through_its_anchors(anchors: list[tuple[float, float]]) -> None:
    assert [curves.score(anchors, x) for x, _ in anchors] == [score for _, score in anchors]


@given(anchored(), st.floats(0, 1))
def test_between_two_anchors_the_curve_is_a_straight_line(anchors: list[tuple[float, float]], share: float) -> None:
    for (left, low), (right, high) in pairwise(anchors):
        x = left + share * (right - left)
        expected = low + (high - low) * (x - left) / (right - left)
        assert curves.score(anchors, x) == pytest.approx(expected, abs=1e-9)


@given(anchored(), points, points)
def test_no_curve_moves_faster_than_its_slope(anchors: list[tuple[float, float]], one: float, other: float) -> None:
    low, high = sorted((one, other))
    moved = abs(curves.score(anchors, high) - curves.score(anchors, low))
    assert moved <= curves.slope(anchors, low, high) * (high - low) * (1 + 1e-9) + 1e-9


@given(anchored(), points, points)
def test_the_slope_is_that_of_a_line_it_touches_or_nothing(
    anchors: list[tuple[float, float]], one: float, other: float
) -> None:
    low, high = sorted((one, other))
    touched = [
        abs(after - before) / (right - left)
        for (left, before), (right, after) in pairwise(anchors)
        if max(left, low) <= min(right, high)
    ]
    assert curves.slope(anchors, low, high) == pytest.approx(max(touched, default=0.0))


@given(anchored(), points)
def test_slopes_worked_out_beforehand_are_those_of_the_curve_from_there_on(
    anchors: list[tuple[float, float]], low: float
) -> None:
    slopes = curves.Slopes.of(anchors)
    for begin in (low, *(x for x, _ in anchors)):
        assert slopes.beyond(begin) == curves.slope(anchors, begin, math.inf)
