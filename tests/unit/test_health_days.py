"""Days: the active ones of an account, as bits, and the ends of local ones."""

from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.instants import DAY, instant, moment
from services.health.facts import with_day
from services.health.message import next_midnight
from tests.health_timeline import Story, at, call, plain, versions

# ---------------------------------------------------------------- active days


@pytest.mark.parametrize(
    ("days", "bits", "first"),
    [
        pytest.param([5], b"\x01", 5, id="one"),
        pytest.param([5, 5], b"\x01", 5, id="the same again"),
        pytest.param([5, 6], b"\x03", 5, id="the next"),
        pytest.param([6, 5], b"\x03", 5, id="the one before"),
        pytest.param([5, 12], b"\x81", 5, id="within a byte"),
        pytest.param([5, 13], b"\x01\x01", 5, id="in the next byte"),
        pytest.param([13, 5], b"\x01\x01", 5, id="a byte before"),
        pytest.param([-1, 1], b"\x05", -1, id="around 1970"),
    ],
)
def test_a_day_is_a_bit_from_the_first_one_on(days: list[int], bits: bytes, first: int) -> None:
    found = b"", 0
    for day in days:
        found = with_day(*found, day)
    assert found == (bits, first)


@given(st.lists(st.integers(7_000, 30_000), min_size=1))
def test_days_are_a_set(told: list[int]) -> None:
    bits, first = b"", 0
    for day in told:
        bits, first = with_day(bits, first, day)
    value = int.from_bytes(bits, "little")
    assert {first + place for place in range(value.bit_length()) if value >> place & 1} == set(told)
    assert bits[0] & 1
    assert bits[-1]
    assert with_day(bits, first, told[0]) == (bits, first)


def test_an_active_day_is_a_day_in_utc() -> None:
    story = Story(versions(plain()))  # START is at nine
    story.hears(call(hours=-9), call(hours=-9, seconds=-1), call(hours=15, seconds=-1))
    assert story.state is not None
    assert (story.state.known.days, story.state.known.first_day) == (b"\x03", at() // DAY - 1)


# ---------------------------------------------------------------- local days


@pytest.mark.parametrize(
    ("zone", "first", "days"),
    [
        pytest.param("Europe/Berlin", "2026-03-27", 5, id="clocks go forward at two"),
        pytest.param("Europe/Berlin", "2026-10-23", 5, id="clocks go back at three"),
        pytest.param("America/Santiago", "2026-09-04", 5, id="clocks go forward at midnight"),
        pytest.param("America/Havana", "2026-10-30", 5, id="midnight comes twice"),
        pytest.param("Asia/Kathmandu", "2026-01-01", 3, id="no whole hours from Greenwich"),
    ],
)
def test_each_local_day_ends_once(zone: str, first: str, days: int) -> None:
    local = ZoneInfo(zone)
    ends = [instant(datetime.fromisoformat(first).replace(hour=12, tzinfo=local))]
    for _ in range(days):
        ends.append(next_midnight(ends[-1], local))
    closed = [moment(end - 1).astimezone(local).date() for end in ends[1:]]
    assert [str(closed[0]), len(set(closed))] == [first, days]
    assert all((after - before).days == 1 for before, after in pairwise(closed))
    assert all(moment(end).astimezone(local).date() != day for end, day in zip(ends[1:], closed, strict=True))


def test_a_day_that_a_zone_skips_does_not_end() -> None:
    samoa = ZoneInfo("Pacific/Apia")  # it had no 30 December 2011
    before = instant(datetime(2011, 12, 29, 12, tzinfo=samoa))
    end = next_midnight(before, samoa)
    assert moment(end).astimezone(samoa) == datetime(2011, 12, 31, tzinfo=samoa)
    assert moment(end - 1).astimezone(samoa).day == 29
    assert at() > end
