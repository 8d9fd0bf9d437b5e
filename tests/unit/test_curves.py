"""Curves and the chance of silence against the shared vectors and against numbers of our own."""

import json
import math
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from services.core import curves
from services.core.curves import Silence

CONTACT = ((0, 100), (7, 95), (14, 85), (30, 60), (60, 25), (90, 0))
PEOPLE = ((0, 0), (1, 50), (2, 70), (3, 85), (5, 100))
PEAK = ((-1, 10), (0, 90), (2, 50))
LEVEL = ((3, 42),)
MONTH = Silence(days=30, r=0.243, alpha=30.9, a=0.793, b=2.426)


@pytest.fixture
def vectors(shared_data: Path) -> dict[str, Any]:
    path = shared_data.parent / "design" / "vectors" / "scoring.json"
    if not path.is_file():
        pytest.skip("The file ../shared/design/vectors/scoring.json is not beside the project.")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


# --- curves -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("anchors", "x", "score"),
    [
        pytest.param(CONTACT, 0, 100, id="the first anchor"),
        pytest.param(CONTACT, 14, 85, id="an anchor within"),
        pytest.param(CONTACT, 90, 0, id="the last anchor"),
        pytest.param(CONTACT, 45, 42.5, id="half way down"),
        pytest.param(CONTACT, 7.7, 94, id="a tenth of the way down"),
        pytest.param(PEOPLE, 4, 92.5, id="half way up"),
        pytest.param(CONTACT, -5, 100, id="before the first"),
        pytest.param(CONTACT, 1e9, 0, id="after the last"),
        pytest.param(CONTACT, math.inf, 0, id="never"),
        pytest.param(PEAK, -0.5, 50, id="up to a peak"),
        pytest.param(PEAK, 1, 70, id="down from a peak"),
        pytest.param(LEVEL, 2, 42, id="one anchor, before it"),
        pytest.param(LEVEL, 3, 42, id="one anchor, on it"),
        pytest.param(LEVEL, 4, 42, id="one anchor, after it"),
    ],
)
def test_a_curve_is_linear_between_its_anchors_and_level_outside(
    anchors: curves.Anchors, x: float, score: float
) -> None:
    assert curves.score(anchors, x) == pytest.approx(score)


@pytest.mark.parametrize(("first", "last"), [(18.21, 83.89), (86.13, 26.94)], ids=["up", "down"])
def test_a_hair_before_an_anchor_the_score_is_not_yet_beyond_it(first: float, last: float) -> None:
    assert first + (last - first) != last, "the rounding that this is about"
    assert curves.score(((-20, first), (7, last)), math.nextafter(7, -math.inf)) == last


@pytest.mark.parametrize(
    ("anchors", "low", "high", "slope"),
    [
        pytest.param(CONTACT, 0, 7, 10 / 7, id="the lines next to both ends count"),
        pytest.param(CONTACT, 1, 2, 5 / 7, id="within one line"),
        pytest.param(CONTACT, 1, 29, 25 / 16, id="the steepest of three"),
        pytest.param(CONTACT, 31, math.inf, 35 / 30, id="without end"),
        pytest.param(CONTACT, 90.1, math.inf, 0, id="after the last anchor"),
        pytest.param(CONTACT, -10, -0.1, 0, id="before the first anchor"),
        pytest.param(CONTACT, -10, 1, 5 / 7, id="reaching in"),
        pytest.param(PEOPLE, 2, 2, 20, id="a point between two lines"),
        pytest.param(PEAK, -9, 9, 80, id="a peak"),
        pytest.param(LEVEL, 0, 9, 0, id="one anchor"),
    ],
)
def test_the_slope_is_the_greatest_on_the_interval(
    anchors: curves.Anchors, low: float, high: float, slope: float
) -> None:
    assert curves.slope(anchors, low, high) == pytest.approx(slope)


# --- silence ------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_the_chances_are_the_shared_ones(vectors: dict[str, Any]) -> None:
    case = vectors["p_silent"]
    assert case["rows"]
    for row in case["rows"]:
        silence = Silence(row["H"], case["r"], case["alpha_days"], case["a"], case["b"])
        assert silence.chance(row["x"], row["t_x"], row["T"]) == pytest.approx(row["p_silent"], abs=5.1e-7), row


@pytest.mark.parametrize(
    ("silence", "x", "span", "age", "chance"),
    [
        pytest.param(Silence(30, 1, 30, 1, 2), 0, 0, 0, 1 / 2, id="seen once, just now"),
        pytest.param(Silence(30, 1, 30, 1, 2), 0, 0, 30, 2 / 3, id="seen once, a month ago"),
        pytest.param(Silence(30, 1, 30, 1, 2), 1, 30, 30, (1 / 2 + 4 / 9) / (3 / 2), id="twice, just now"),
        pytest.param(Silence(30, 1, 30, 1, 2), 1, 0, 30, (2 + 4 / 9) / 3, id="twice, a month ago"),
        pytest.param(Silence(30, 1, 30, 1, 2), 1, 30, 10, (1 / 2 + 4 / 9) / (3 / 2), id="an age below the span"),
        pytest.param(MONTH, 10_000, 10_000, 10_000, 0.793 / 10_002.219, id="every day for 27 years"),
        pytest.param(MONTH, 10_000, 10_000, 10_030, 1, id="then a month of silence"),
        pytest.param(MONTH, 10_000, 0, 1e6, 1, id="odds beyond a float"),
        pytest.param(MONTH, 0, 0, -1, (30.9 / 60.9) ** 0.243, id="a time before the oldest fact"),
    ],
)
def test_the_chance_of_silence(silence: Silence, x: int, span: float, age: float, chance: float) -> None:
    assert silence.chance(x, span, age) == pytest.approx(chance, rel=1e-6)


@pytest.mark.parametrize(
    ("silence", "x", "age", "steepness"),
    [
        pytest.param(Silence(30, 1, 30, 1, 2), 0, 0, 1 / 30 / 2, id="seen once"),
        pytest.param(Silence(30, 1, 30, 1, 2), 0, 240, 1 / 270 / 10, id="seen once, long ago"),
        pytest.param(Silence(30, 1, 30, 1, 2), 3, 0, 4 / 30 / 2, id="several days"),
        pytest.param(Silence(30, 1, 30, 1, 2), 3, 240, 4 / 270 / 4, id="several days, long ago"),
        pytest.param(Silence(30, 1, 30, 1, 2), 3, -9, 4 / 30 / 2, id="a time before the oldest fact"),
    ],
)
def test_the_chance_moves_by_no_more_than_this_a_day(silence: Silence, x: int, age: float, steepness: float) -> None:
    assert silence.steepness(x, age) == pytest.approx(steepness)


def test_the_constants_of_a_policy_do_not_change_under_way() -> None:
    with pytest.raises(FrozenInstanceError):
        MONTH.days = 60  # type: ignore[misc]
