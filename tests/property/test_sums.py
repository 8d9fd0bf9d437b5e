"""Decayed sums against their laws, and against a naive sum of floats."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core import sums
from services.core.instants import DAY

Fact = tuple[int, float]

half_lives = st.integers(7, 400).map(lambda days: days * DAY) | st.integers(7 * DAY, 400 * DAY)
instants = st.integers(7_305 * DAY, 29_220 * DAY)  # 1990 to 2050
weights = st.floats(0.01, 1000.0) | st.integers(1, 20).map(float)
facts = st.lists(st.tuples(instants, weights), max_size=30)
totals = st.integers() | st.builds(lambda number, zeros: number << zeros, st.integers(), st.integers(0, 4000))


def summed(told: list[Fact], half_life: int, total: int = 0) -> int:
    for at, weight in told:
        total = sums.add(total, at, weight, half_life)
    return total


@given(facts, half_lives, st.data())
def test_any_order_of_the_facts_gives_the_same_integer(told: list[Fact], half_life: int, data: st.DataObject) -> None:
    assert summed(data.draw(st.permutations(told)), half_life) == summed(told, half_life)


@given(facts, half_lives, st.data())
def test_any_split_of_the_facts_adds_up_to_the_same_integer(
    told: list[Fact], half_life: int, data: st.DataObject
) -> None:
    owners = data.draw(st.lists(st.integers(0, 3), min_size=len(told), max_size=len(told)))
    parts = [[fact for fact, owner in zip(told, owners, strict=True) if owner == part] for part in range(4)]
    whole = summed(told, half_life)
    assert sum(summed(part, half_life) for part in parts) == whole
    # Parted again, the account that was merged into another is what it was.
    assert whole - summed(parts[0], half_life) == sum(summed(part, half_life) for part in parts[1:])


@given(facts, facts, half_lives, st.data())
def test_what_was_added_can_be_taken_back_in_any_order(
    kept: list[Fact], taken: list[Fact], half_life: int, data: st.DataObject
) -> None:
    former = summed(kept, half_life)
    back = data.draw(st.permutations([(at, -weight) for at, weight in taken]))
    assert summed(back, half_life, summed(taken, half_life, former)) == former


@given(facts, instants, half_lives)
def test_reading_agrees_with_a_naive_sum_of_floats(told: list[Fact], at: int, half_life: int) -> None:
    past = [(min(time, at), weight) for time, weight in told]
    naive = math.fsum(weight * 2.0 ** ((time - at) / half_life) for time, weight in past)
    assert sums.read(summed(past, half_life), at, half_life) == pytest.approx(naive, rel=1e-9, abs=1e-300)


@given(facts, instants, half_lives, st.integers(0, 900))
def test_each_half_life_halves_the_sum(told: list[Fact], at: int, half_life: int, number: int) -> None:
    total = summed([(min(time, at), weight) for time, weight in told], half_life)
    halved = math.ldexp(sums.read(total, at, half_life), -number)
    assert sums.read(total, at + number * half_life, half_life) == pytest.approx(halved, rel=1e-9, abs=1e-300)


@given(totals)
def test_packing_loses_nothing_and_leaves_no_zero_bit_at_the_end(total: int) -> None:
    mantissa, exponent = sums.pack(total)
    assert sums.unpack(mantissa, exponent) == total
    if total:
        assert mantissa[0] % 2 == 1
        assert len(mantissa) == (total >> exponent).bit_length() // 8 + 1
    else:
        assert (mantissa, exponent) == (b"", 0)


@given(st.integers(1, 200), half_lives, st.integers(1, 5))
def test_a_steady_stream_has_its_own_rate_at_every_age_and_half_life(days: int, half_life: int, each: int) -> None:
    start = 20_000 * DAY
    stream = [(start + day * DAY + DAY // 2, float(each)) for day in range(days)]
    value = sums.read(summed(stream, half_life), start + days * DAY, half_life)
    assert sums.rate(value, days * DAY, half_life) == pytest.approx(each, rel=1e-3)


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0.001, 1))
def test_the_trend_is_above_one_where_the_short_rate_is_above_the_long_one(
    short: float, long: float, floor: float
) -> None:
    trend = sums.trend(short, long, floor)
    assert trend > 0
    assert trend >= 1 if short >= long else trend <= 1
