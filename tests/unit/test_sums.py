"""Decayed sums against the shared vectors, against numbers of our own, and the sentences of their errors."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.core import sums
from services.core.instants import DAY, HOUR, SECOND

WEEK = 7 * DAY
NOW = 20_779 * DAY  # in 2026


@pytest.fixture
def vectors(shared_data: Path) -> dict[str, Any]:
    path = shared_data.parent / "design" / "vectors" / "scoring.json"
    if not path.is_file():
        pytest.skip("The file ../shared/design/vectors/scoring.json is not beside the project.")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def one_a_day(days: int, half_life: int) -> int:
    """From `NOW` on, each at noon."""
    total = 0
    for day in range(days):
        total = sums.add(total, NOW + day * DAY + 12 * HOUR, 1.0, half_life)
    return total


def daily(days: int, silence: int, half_life: int) -> float:
    """The rate after so many days of one a day, and then of silence."""
    age = (days + silence) * DAY
    return sums.rate(sums.read(one_a_day(days, half_life), NOW + age, half_life), age, half_life)


# --- the shared vectors -------------------------------------------------------------------------------------


@pytest.mark.data
def test_the_integer_is_the_shared_one_to_the_bit(vectors: dict[str, Any]) -> None:
    case = vectors["exact_sum"]
    assert case["epoch"] == 0
    half_life, total = case["half_life_s"] * SECOND, 0
    for at, weight in case["facts"]:
        total = sums.add(total, at * SECOND, weight, half_life)
    assert hex(total) == case["integer_hex"]
    assert sums.read(total, case["read_at_s"] * SECOND, half_life) == pytest.approx(case["value"], rel=1e-15)


@pytest.mark.data
def test_ten_days_of_one_a_day_are_the_shared_rate(vectors: dict[str, Any]) -> None:
    assert daily(10, 0, 28 * DAY) == pytest.approx(vectors["rate_10_days_of_one_a_day_half_life_28"], abs=1e-4)


@pytest.mark.data
def test_the_trend_falls_in_silence_as_the_shared_one_does(vectors: dict[str, Any]) -> None:
    expected = {int(days): trend for days, trend in vectors["trend_after_60_days_of_one_a_day_then_silence"].items()}
    trends = {days: sums.trend(daily(60, days, WEEK), daily(60, days, 28 * DAY), 0.05) for days in expected}
    assert trends == pytest.approx(expected, abs=6e-4)


# --- numbers of our own -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "weight", "half_life", "total"),
    [
        pytest.param(0, 1.0, WEEK, 1 << 60, id="at 1970 a weight of one is the unit"),
        pytest.param(WEEK, 1.0, WEEK, 1 << 61, id="a half-life later twice that"),
        pytest.param(WEEK * 3 // 2, 1.0, WEEK, round(2**0.5 * 2**60) << 1, id="half of one later by the root of 2"),
        pytest.param(10 * WEEK, 3.0, WEEK, 3 << 70, id="the weight is a factor"),
        pytest.param(10 * WEEK, -3.0, WEEK, -(3 << 70), id="and may be negative"),
        pytest.param(10 * WEEK, 0.0, WEEK, 0, id="or nothing"),
        pytest.param(3000 * WEEK, 1.0, WEEK, 1 << 3060, id="2027 is far beyond a float"),
    ],
)
def test_a_fact_adds_this_integer(at: int, weight: float, half_life: int, total: int) -> None:
    assert sums.add(0, at, weight, half_life) == total
    assert sums.add(1 << 90, at, weight, half_life) == total + (1 << 90)


@pytest.mark.parametrize(
    ("half_lives", "value"),
    [
        pytest.param(0, 1.0, id="at once all of it"),
        pytest.param(0.5, 2**-0.5, id="half a half-life"),
        pytest.param(1, 0.5, id="a half-life"),
        pytest.param(3, 0.125, id="three"),
        pytest.param(1000, 2.0**-1000, id="a thousand leave all digits"),
        pytest.param(1500, 0.0, id="in the end nothing is left"),
        pytest.param(-1, 2.0, id="before the fact it is worth more"),
        pytest.param(-1000, 2.0**1000, id="as far as a float goes"),
    ],
)
def test_a_fact_is_worth_this_much_so_many_half_lives_later(half_lives: float, value: float) -> None:
    at = 3000 * WEEK
    total = sums.add(0, at, 1.0, WEEK)
    assert sums.read(total, at + round(half_lives * WEEK), WEEK) == pytest.approx(value, rel=1e-12)
    assert sums.read(-total, at + round(half_lives * WEEK), WEEK) == pytest.approx(-value, rel=1e-12)


def test_nothing_is_worth_nothing() -> None:
    assert sums.read(0, NOW, WEEK) == 0.0


@pytest.mark.parametrize(
    ("total", "packed"),
    [
        pytest.param(0, (b"", 0), id="nothing"),
        pytest.param(1, (b"\x01", 0), id="one"),
        pytest.param(-1, (b"\xff", 0), id="minus one"),
        pytest.param(1 << 3060, (b"\x01", 3060), id="a power of two"),
        pytest.param(127 << 5, (b"\x7f", 5), id="the last of one byte"),
        pytest.param(129 << 5, (b"\x81\x00", 5), id="its sign takes a bit more"),
        pytest.param(-127 << 5, (b"\x81", 5), id="negative"),
        pytest.param(0x0201 << 8, (b"\x01\x02", 8), id="the lowest byte first"),
    ],
)
def test_a_packed_sum_has_no_trailing_zero_bits(total: int, packed: tuple[bytes, int]) -> None:
    assert sums.pack(total) == packed
    assert sums.unpack(*packed) == total


def test_ten_years_of_a_fact_a_day_pack_into_some_forty_bytes() -> None:
    mantissa, exponent = sums.pack(one_a_day(3652, 14 * DAY))
    assert len(mantissa) <= 42
    assert exponent > NOW // (14 * DAY) > 1400


@pytest.mark.parametrize("half_life", [WEEK, 28 * DAY], ids=["7 days", "28 days"])
@pytest.mark.parametrize("days", [1, 10, 400])
def test_one_a_day_is_the_rate_one_however_young_the_account(days: int, half_life: int) -> None:
    assert daily(days, 0, half_life) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    ("short", "long", "trend"),
    [
        pytest.param(1.0, 1.0, 1.0, id="as usual"),
        pytest.param(0.0, 0.0, 1.0, id="as silent as ever"),
        pytest.param(0.0, 0.95, 0.05, id="suddenly silent"),
        pytest.param(1.95, 0.45, 4.0, id="livelier"),
    ],
)
def test_the_trend_compares_the_rates(short: float, long: float, trend: float) -> None:
    assert sums.trend(short, long, 0.05) == pytest.approx(trend)


def test_after_long_silence_the_trend_is_as_usual_again() -> None:
    assert sums.trend(daily(60, 40, WEEK), daily(60, 40, 28 * DAY), 0.05) < 0.25
    assert sums.trend(daily(60, 400, WEEK), daily(60, 400, 28 * DAY), 0.05) == pytest.approx(1.0, abs=1e-2)


# --- what is refused ----------------------------------------------------------------------------------------


def test_a_half_life_below_seven_days_is_refused() -> None:
    sentence = r"^A half-life of 6 days is too short for an exact sum; give 7 or more\.$"
    with pytest.raises(ValueError, match=sentence):
        sums.add(0, NOW, 1.0, 6 * DAY)
    with pytest.raises(ValueError, match=sentence):
        sums.read(0, NOW, 6 * DAY)
    with pytest.raises(ValueError, match=sentence):
        sums.rate(1.0, DAY, 6 * DAY)
    with pytest.raises(ValueError, match="too short"):
        sums.add(0, NOW, 1.0, WEEK - 1)


def test_a_fact_before_1970_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^The time -1 µs lies before 1970, where no sum begins; correct"):
        sums.add(0, -1, 1.0, WEEK)


@pytest.mark.parametrize("age", [0, -1])
def test_an_account_without_age_has_no_rate(age: int) -> None:
    with pytest.raises(ValueError, match=rf"^An account of the age {age} µs has no rate; give"):
        sums.rate(1.0, age, WEEK)


def test_a_sum_whose_facts_lie_decades_ahead_is_not_read() -> None:
    with pytest.raises(OverflowError):
        sums.read(sums.add(0, 3000 * WEEK, 1.0, WEEK), WEEK, WEEK)
