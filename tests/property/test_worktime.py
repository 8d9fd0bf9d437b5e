"""Working time against its laws, and against two naive clocks that walk minute by minute."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from services.core.instants import DAY, HOUR, MINUTE, Instant, instant, moment
from services.core.worktime import Calendar, calendar_hours, stage_offsets

Pairs = list[tuple[str, str]]
Days = tuple[str, ...]

DAYS: Days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

# Places and days (UTC) where clocks change: gaps, folds, half hours, midnights, two hours, a skipped day.
CHANGES = (
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("Australia/Lord_Howe", "2026-04-04"),  # by half an hour, back
    ("Australia/Lord_Howe", "2026-10-03"),
    ("America/Sao_Paulo", "2018-02-18"),  # midnight becomes 23:00
    ("America/Sao_Paulo", "2018-11-04"),  # midnight becomes 01:00
    ("America/St_Johns", "2010-11-07"),  # 00:01 becomes 23:01 of the day before
    ("America/St_Johns", "2011-03-13"),
    ("Antarctica/Troll", "2026-03-29"),  # by two hours
    ("Antarctica/Troll", "2026-10-25"),
    ("Africa/Casablanca", "2026-02-15"),  # winter time in Ramadan
    ("Africa/Casablanca", "2026-03-22"),
    ("Pacific/Apia", "2011-12-30"),  # 30 December did not happen
    ("Asia/Kathmandu", "2026-06-01"),  # no change, +05:45
)


# --- two oracles; they share nothing with the module under test ---------------------------------------------


def _minutes(a: datetime, b: datetime) -> Iterator[tuple[datetime, int]]:
    """Every minute of UTC that [a, b) touches, with the microseconds of it that lie inside."""
    minute = a.replace(second=0, microsecond=0)
    while minute < b:
        following = minute + timedelta(minutes=1)
        yield minute, (min(b, following) - max(a, minute)) // timedelta(microseconds=1)
        minute = following


def _edge(day: date, text: str, zone: str) -> datetime:
    if text == "24:00":
        day, text = day + timedelta(days=1), "00:00"
    return datetime.combine(day, time.fromisoformat(text), tzinfo=ZoneInfo(zone))


def _days_around(a: datetime, b: datetime) -> Iterator[date]:
    for step in range(-3, (b - a).days + 5):
        yield (a + timedelta(days=step)).date()


class Naive:
    """Openings and closings in UTC by the documented rule; a minute works if any pair contains it."""

    def __init__(self, zone: str, week: dict[str, Pairs], holidays: set[date]) -> None:
        self.zone, self.week, self.holidays = zone, week, holidays

    def spans(self, a: datetime, b: datetime) -> list[tuple[datetime, datetime]]:
        found = []
        for day in _days_around(a, b):
            if day in self.holidays:
                continue
            opens, closes = (_edge(day, text, self.zone).astimezone(UTC) for text in ("00:00", "24:00"))
            for pair in self.week.get(DAYS[day.weekday()], []):
                start, end = (_edge(day, text, self.zone).astimezone(UTC) for text in pair)
                found.append((max(start, opens), min(end, closes)))
        return found

    def between(self, a: datetime, b: datetime) -> int:
        spans = self.spans(a, b)
        return sum(size for minute, size in _minutes(a, b) if any(start <= minute < end for start, end in spans))

    def add(self, t: datetime, worked: int) -> datetime | None:
        """None if the working time is not used up in eight days."""
        limit = t + timedelta(days=8)
        spans = self.spans(t, limit)
        for minute, size in _minutes(t, limit):
            if any(start <= minute < end for start, end in spans):
                if size >= worked:
                    return max(minute, t) + timedelta(microseconds=worked)
                worked -= size
        return None


class ByTheWall:
    """A minute works if the clock on the wall shows a time of the interval; gaps and folds have no rule."""

    def __init__(self, zone: str, week: dict[str, Pairs], holidays: set[date]) -> None:
        self.zone, self.week, self.holidays = zone, week, holidays

    def is_plain(self, a: datetime, b: datetime) -> bool:
        """Whether each opening and closing around [a, b) is read exactly once on that clock."""
        for day in _days_around(a, b):
            for pair in self.week.get(DAYS[day.weekday()], []):
                for wall in (_edge(day, text, self.zone) for text in pair):
                    if wall.utcoffset() != wall.replace(fold=1).utcoffset():
                        return False
        return True

    def between(self, a: datetime, b: datetime) -> int:
        zone, total = ZoneInfo(self.zone), 0
        for minute, size in _minutes(a, b):
            wall = minute.astimezone(zone)
            pairs = [] if wall.date() in self.holidays else self.week.get(DAYS[wall.weekday()], [])
            if any(start <= f"{wall:%H:%M}" < end for start, end in pairs):
                total += size
        return total


# --- strategies ---------------------------------------------------------------------------------------------


@st.composite
def intervals(draw: st.DrawFn) -> Pairs:
    """Up to three intervals of a day, with edges where clocks change more often than elsewhere."""
    night = st.integers(0, 16).map(lambda quarter: 15 * quarter)
    late = st.sampled_from([22 * 60 + 30, 23 * 60, 23 * 60 + 1, 23 * 60 + 30, 1440])
    edges = sorted(draw(st.lists(st.one_of(night, late, st.integers(0, 1440)), unique=True, max_size=6)))
    texts = [f"{minute // 60:02d}:{minute % 60:02d}" for minute in edges]
    return list(zip(texts[::2], texts[1::2], strict=False))


@st.composite
def weeks(draw: st.DrawFn) -> dict[str, Pairs]:
    week = draw(st.dictionaries(st.sampled_from(DAYS), intervals(), min_size=1))
    assume(any(week.values()))
    return week


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, set[date], datetime, datetime]:
    """A zone, holidays, and up to three days around one of its changes, cut at any microsecond."""
    zone, day = draw(st.sampled_from(CHANGES))
    middle = datetime.fromisoformat(day).replace(tzinfo=UTC)
    offsets = st.integers(-2 * DAY, 2 * DAY) | st.integers(-60, 60).map(lambda half: half * 30 * MINUTE)
    first, second = sorted((draw(offsets), draw(offsets)))
    assume(second - first <= 3 * DAY)
    holidays = draw(st.sets(st.integers(-2, 2).map(lambda step: middle.date() + timedelta(days=step)), max_size=2))
    return zone, holidays, middle + timedelta(microseconds=first), middle + timedelta(microseconds=second)


@st.composite
def calendars(draw: st.DrawFn) -> Calendar:
    zone, _ = draw(st.sampled_from(CHANGES))
    holidays = draw(st.sets(st.dates(date(2009, 1, 1), date(2014, 12, 31)), max_size=5))
    return calendar_hours(zone, draw(weeks()), holidays)


instants = st.integers(instant(datetime(2009, 1, 1, tzinfo=UTC)), instant(datetime(2014, 1, 1, tzinfo=UTC)))
amounts = st.one_of(st.integers(0, 4).map(lambda hours: hours * HOUR), st.integers(1, 30 * HOUR), st.integers(0, 5))


# --- the laws -----------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(calendars(), instants, amounts)
def test_add_gives_the_earliest_instant_with_this_working_time(calendar: Calendar, t: Instant, worked: int) -> None:
    due = calendar.add(t, worked)
    assert calendar.between(t, due) == worked
    if worked:
        assert calendar.between(t, due - 1) == worked - 1
    else:
        assert due == t


@settings(deadline=None)
@given(calendars(), instants, st.lists(st.one_of(amounts, st.integers(0, 5_000 * HOUR)), max_size=5))
def test_adding_each_of_several_amounts_is_adding_one_by_one(
    calendar: Calendar, t: Instant, several: list[int]
) -> None:
    assert calendar.add_each(t, several) == [calendar.add(t, worked) for worked in several]


@settings(deadline=None)
@given(calendars(), instants, instants)
def test_adding_what_lay_between_never_passes_the_end(calendar: Calendar, a: Instant, b: Instant) -> None:
    a, b = sorted((a, b))
    worked = calendar.between(a, b)
    back = calendar.add(a, worked)
    assert back <= b
    assert calendar.between(back, b) == 0


@settings(deadline=None)
@given(calendars(), st.lists(instants, min_size=3, max_size=3).map(sorted))
def test_between_adds_up_and_never_exceeds_the_time_that_passed(calendar: Calendar, three: list[Instant]) -> None:
    a, b, c = three
    assert calendar.between(a, b) + calendar.between(b, c) == calendar.between(a, c)
    assert 0 <= calendar.between(a, b) <= b - a
    assert calendar.between(b, a) == 0 or a == b


@settings(deadline=None)
@given(calendars(), instants, amounts, amounts, st.integers(0, 5 * DAY))
def test_adding_is_monotone_and_may_be_done_in_steps(
    calendar: Calendar, t: Instant, one: int, other: int, later: int
) -> None:
    assert calendar.add(calendar.add(t, one), other) == calendar.add(t, one + other)
    assert calendar.add(t, min(one, other)) <= calendar.add(t, max(one, other))
    assert calendar.add(t, one) <= calendar.add(t + later, one)


@settings(deadline=None)
@given(st.sampled_from(CHANGES), instants, st.integers(0, 5000 * DAY))
def test_around_the_clock_is_plain_time(change: tuple[str, str], t: Instant, passed: int) -> None:
    calendar = calendar_hours(change[0], {"mon-sun": [["00:00", "24:00"]]})
    assert calendar.between(t, t + passed) == passed
    assert calendar.add(t, passed) == t + passed


@settings(deadline=None)
@given(st.integers(1, 1000 * HOUR))
@example(1)
@example(HOUR)
@example(4 * HOUR)
def test_stages_come_in_order_and_never_early(target: int) -> None:
    stages = stage_offsets(target)
    offsets = [offset for _, offset in stages.items()]
    assert offsets == sorted(offsets)
    assert 2 * stages.at_risk >= target
    assert stages.at_risk <= stages.breached == target
    assert stages.noticed is None or target <= 2 * stages.noticed < 2 * stages.at_risk
    assert 4 * stages.passed_125 >= 5 * target
    assert stages.passed_125 - target >= 2 * HOUR
    assert stages.passed_200 >= 2 * target
    assert stages.passed_200 - stages.passed_125 >= 2 * HOUR


@settings(deadline=None)
@given(st.datetimes(timezones=st.timezones()))
def test_instants_and_moments_are_one_thing(at: datetime) -> None:
    # Near the first and the last day an offset leads out of the years that datetime knows.
    assume(datetime(1, 1, 3, tzinfo=UTC) < at < datetime(9999, 12, 29, tzinfo=UTC))
    assert moment(instant(at)) == at.astimezone(UTC)
    assert instant(moment(instant(at))) == instant(at)


# --- agreement with the oracles -----------------------------------------------------------------------------


@settings(deadline=None)
@given(changes(), weeks())
def test_between_counts_what_a_walk_by_minutes_counts(
    change: tuple[str, set[date], datetime, datetime], week: dict[str, Pairs]
) -> None:
    zone, holidays, a, b = change
    calendar = calendar_hours(zone, week, holidays)
    assert calendar.between(instant(a), instant(b)) == Naive(zone, week, holidays).between(a, b)


@settings(deadline=None)
@given(changes(), weeks(), amounts)
def test_add_stops_where_a_walk_by_minutes_stops(
    change: tuple[str, set[date], datetime, datetime], week: dict[str, Pairs], worked: int
) -> None:
    zone, holidays, start, _ = change
    assume(worked > 0)
    expected = Naive(zone, week, holidays).add(start, worked)
    due = moment(calendar_hours(zone, week, holidays).add(instant(start), worked))
    if expected is None:
        assert due > start + timedelta(days=8)
    else:
        assert due == expected


@settings(deadline=None)
@given(changes(), weeks())
def test_where_no_edge_is_skipped_or_repeated_the_clock_on_the_wall_decides(
    change: tuple[str, set[date], datetime, datetime], week: dict[str, Pairs]
) -> None:
    zone, holidays, a, b = change
    wall = ByTheWall(zone, week, holidays)
    assume(wall.is_plain(a, b))
    assert calendar_hours(zone, week, holidays).between(instant(a), instant(b)) == wall.between(a, b)


@pytest.mark.parametrize(("zone", "day"), CHANGES)
def test_the_oracles_agree_on_office_hours_at_every_change(zone: str, day: str) -> None:
    week = {day: [("04:00", "12:00"), ("13:30", "18:00")] for day in DAYS}
    middle = datetime.fromisoformat(day).replace(tzinfo=UTC)
    a, b = middle - timedelta(days=2), middle + timedelta(days=2)
    counted = calendar_hours(zone, week).between(instant(a), instant(b))
    assert counted == Naive(zone, week, set()).between(a, b)
    if zone != "Pacific/Apia":  # every edge of its skipped day is skipped
        assert counted == ByTheWall(zone, week, set()).between(a, b)
