"""Working time against the shared vectors, against cases of our own, and the sentences of its errors."""

import json
import pickle
from collections.abc import Iterable
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from services.core.instants import DAY, HOUR, MINUTE, SECOND, Instant, instant, moment
from services.core.worktime import DAY_NAMES, Calendar, CalendarError, calendar_hours, stage_offsets

SHARED = Path(__file__).resolve().parents[2] / "../shared/design/vectors/sla.json"
VECTORS: dict[str, Any] = json.loads(SHARED.read_text()) if SHARED.exists() else {}
needs_vectors = pytest.mark.skipif(not VECTORS, reason="../shared/design/vectors/sla.json is not beside this checkout")

OFFICE = {"mon-fri": [["09:00", "17:00"]]}
ALWAYS = {"mon-sun": [["00:00", "24:00"]]}
NEW_YORK = calendar_hours("America/New_York", OFFICE, name="ny")
UTC_OFFICE = calendar_hours("UTC", OFFICE, name="utc")
LUNCH = calendar_hours("Europe/Berlin", {"mon-fri": [["08:00", "12:00"], ["13:30", "18:00"]]}, name="lunch")


def leg(calendar: str, start: str, hours: float, due: str) -> dict[str, Any]:
    return {"calendar": calendar, "start": start, "hours": hours, "due": due}


# The cases of our own, in the form of the vectors; every date stands with its offset.
OWN: dict[str, Any] = {
    "calendars": {
        "berlin": {"zone": "Europe/Berlin", "week": OFFICE},
        "berlin_easter": {"zone": "Europe/Berlin", "week": OFFICE, "holidays": ["2026-04-03", "2026-04-06"]},
        "lunch": {"zone": "Europe/Berlin", "week": {"mon-fri": [["08:00", "12:00"], ["13:30", "18:00"]]}},
        "gulf": {"zone": "Asia/Dubai", "week": {"sun-thu": [["08:00", "16:00"]]}},
        "night": {"zone": "Europe/Berlin", "week": {"mon-sun": [["00:00", "06:00"], ["22:00", "24:00"]]}},
        "always": {"zone": "Europe/Berlin", "week": ALWAYS},
        "utc": {"zone": "UTC", "week": OFFICE},
    },
    "add": [
        # Friday afternoon runs on into Monday
        leg("berlin", "2026-02-06T16:30:00+01:00", 2, "2026-02-09T10:30:00+01:00"),
        # an amount that fills the day is done at its end, not at the next opening
        leg("berlin", "2026-02-06T09:00:00+01:00", 8, "2026-02-06T17:00:00+01:00"),
        # Saturday starts on Monday morning
        leg("berlin", "2026-02-07T12:00:00+01:00", 1, "2026-02-09T10:00:00+01:00"),
        # clocks went forward on 2026-03-29, the office hours moved with them
        leg("berlin", "2026-03-27T16:00:00+01:00", 2, "2026-03-30T10:00:00+02:00"),
        # Good Friday and Easter Monday
        leg("berlin_easter", "2026-04-02T16:00:00+02:00", 2, "2026-04-07T10:00:00+02:00"),
        # a break at noon, entered and left
        leg("lunch", "2026-02-04T11:00:00+01:00", 1, "2026-02-04T12:00:00+01:00"),
        leg("lunch", "2026-02-04T11:00:00+01:00", 2, "2026-02-04T14:30:00+01:00"),
        # a week that passes the end of the week
        leg("gulf", "2026-02-05T15:00:00+04:00", 2, "2026-02-08T09:00:00+04:00"),
        # hours over midnight; three hours of wall clock are two in the night of the change forward
        leg("night", "2026-02-04T23:00:00+01:00", 2, "2026-02-05T01:00:00+01:00"),
        leg("night", "2026-03-29T00:00:00+01:00", 5, "2026-03-29T06:00:00+02:00"),
        leg("night", "2026-10-25T00:00:00+02:00", 7, "2026-10-25T06:00:00+01:00"),
        # around the clock, over both changes
        leg("always", "2026-03-28T20:00:00+01:00", 24, "2026-03-29T21:00:00+02:00"),
        leg("always", "2026-10-24T20:00:00+02:00", 24, "2026-10-25T19:00:00+01:00"),
        # over the end of a year
        leg("utc", "2026-12-31T16:00:00+00:00", 3, "2027-01-01T11:00:00+00:00"),
    ],
    "pause": [
        # twice the weekend: one running, one paused
        {
            "calendar": "berlin",
            "start": "2026-02-06T16:00:00+01:00",
            "hours": 8,
            "paused": "2026-02-09T12:00:00+01:00",
            "resumed": "2026-02-13T16:00:00+01:00",
            "due": "2026-02-16T12:00:00+01:00",
        },
        # resumed outside working time: the clock goes on at the next opening
        {
            "calendar": "berlin",
            "start": "2026-02-04T09:00:00+01:00",
            "hours": 4,
            "paused": "2026-02-04T10:00:00+01:00",
            "resumed": "2026-02-04T20:00:00+01:00",
            "due": "2026-02-05T12:00:00+01:00",
        },
    ],
    "stages": {
        "calendar": "berlin",
        "start": "2026-02-06T15:00:00+01:00",
        "hours": 8,
        "0.50": "2026-02-09T11:00:00+01:00",
        "0.75": "2026-02-09T13:00:00+01:00",
        "1.00": "2026-02-09T15:00:00+01:00",
        "1.25": "2026-02-09T17:00:00+01:00",
        "2.00": "2026-02-10T15:00:00+01:00",
    },
    "short_targets": [
        {
            "target_h": 0.5,
            "notice": None,
            "at_risk_h": 0.25,
            "breach_h": 0.5,
            "level2_h": 2.5,
            "level3_h": 4.5,
        },
        {
            "target_h": 2.5,
            "notice_h": 1.25,
            "at_risk_h": 1.5,
            "breach_h": 2.5,
            "level2_h": 4.5,
            "level3_h": 6.5,
        },
        {"target_h": 3, "notice_h": 1.5, "at_risk_h": 2, "breach_h": 3, "level2_h": 5, "level3_h": 7},
        {"target_h": 6, "notice_h": 3, "at_risk_h": 4.5, "breach_h": 6, "level2_h": 8, "level3_h": 12},
        {"target_h": 80, "notice_h": 40, "at_risk_h": 60, "breach_h": 80, "level2_h": 100, "level3_h": 160},
    ],
}


def at(text: str) -> Instant:
    return instant(datetime.fromisoformat(text))


def hours(amount: float) -> int:
    return round(amount * HOUR)


def calendar_of(book: dict[str, Any], name: str) -> Calendar:
    return calendar_hours(name=name, **book["calendars"][name])


def cases(section: str) -> list[Any]:
    """The rows of one section from both books; without the shared vectors one row that says so."""
    params = []
    for book, origin, marks in ((VECTORS, "shared", [needs_vectors]), (OWN, "own", [])):
        rows = book.get(section, [None])
        for number, row in enumerate(rows if isinstance(rows, list) else [rows]):
            params.append(pytest.param(book, row, id=f"{origin}-{section}-{number}", marks=marks))
    return params


def named(rows: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Rows whose first column is the id."""
    return [pytest.param(*columns, id=name) for name, *columns in rows]


# --- the vectors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("book", "row"), cases("add"))
def test_a_target_is_due_at_the_earliest_instant_that_has_this_working_time(
    book: dict[str, Any], row: dict[str, Any]
) -> None:
    calendar, target = calendar_of(book, row["calendar"]), hours(row["hours"])
    start, due = at(row["start"]), at(row["due"])
    assert moment(calendar.add(start, target)) == moment(due)
    assert calendar.between(start, due) == target
    assert calendar.between(start, due - 1) == target - 1


@pytest.mark.parametrize(("book", "row"), cases("pause"))
def test_a_pause_moves_the_due_time_by_the_working_time_it_lasted(book: dict[str, Any], row: dict[str, Any]) -> None:
    calendar, target = calendar_of(book, row["calendar"]), hours(row["hours"])
    before = calendar.between(at(row["start"]), at(row["paused"]))
    due = calendar.add(at(row["resumed"]), target - before)
    assert moment(due) == moment(at(row["due"]))
    assert before + calendar.between(at(row["resumed"]), due) == target


@pytest.mark.parametrize(("book", "row"), cases("stages"))
def test_the_stages_of_a_leg_fall_on_these_instants(book: dict[str, Any], row: dict[str, Any]) -> None:
    calendar, start = calendar_of(book, row["calendar"]), at(row["start"])
    reached = [moment(calendar.add(start, offset)) for _, offset in stage_offsets(hours(row["hours"])).items()]
    assert reached == [moment(at(row[share])) for share in ("0.50", "0.75", "1.00", "1.25", "2.00")]


@pytest.mark.parametrize(("book", "row"), cases("short_targets"))
def test_a_short_target_keeps_its_stages_in_order_and_apart(book: dict[str, Any], row: dict[str, Any]) -> None:
    stages = stage_offsets(hours(row["target_h"]))
    assert stages.noticed == (hours(row["notice_h"]) if "notice_h" in row else row["notice"])
    assert stages.at_risk == hours(row["at_risk_h"])
    assert stages.breached == hours(row["breach_h"])
    assert stages.passed_125 == hours(row["level2_h"])
    assert stages.passed_200 == hours(row["level3_h"])


@needs_vectors
def test_every_section_of_the_shared_vectors_is_tested_here() -> None:
    assert set(VECTORS) == {"calendars", "edge", *(OWN.keys() - {"calendars"})}
    assert len(VECTORS["edge"]) == 3, "the three tests below are the edges; a new one needs its own"


def test_edge_an_event_at_exactly_due_has_used_its_target_and_no_more() -> None:
    start = at("2026-01-30T16:30:00-05:00")
    due = NEW_YORK.add(start, HOUR)
    assert NEW_YORK.between(start, due) == stage_offsets(HOUR).breached
    assert NEW_YORK.between(start, due + 1) == stage_offsets(HOUR).breached + 1


@pytest.mark.parametrize(
    "start", ["2026-01-30T17:00:00-05:00", "2026-01-31T12:00:00-05:00", "2026-02-02T09:00:00-05:00"]
)
def test_edge_a_start_outside_working_time_begins_at_the_next_interval(start: str) -> None:
    assert NEW_YORK.add(at(start), 1) == at("2026-02-02T09:00:00-05:00") + 1


def test_edge_due_is_the_earliest_of_the_instants_with_the_same_working_time() -> None:
    start, end_of_day, next_day = (at(f"2026-01-{hour}:00:00-05:00") for hour in ("29T09", "29T17", "30T09"))
    assert NEW_YORK.between(start, end_of_day) == NEW_YORK.between(start, next_day) == 8 * HOUR
    assert NEW_YORK.add(start, 8 * HOUR) == end_of_day


# --- changes of clocks --------------------------------------------------------------------------------------


FORWARD, BACK = ("Europe/Berlin", "2026-03-29"), ("Europe/Berlin", "2026-10-25")  # at 01:00 UTC
CHANGES: tuple[tuple[Any, ...], ...] = (
    ("an interval around a gap is shorter", FORWARD, [["01:00", "05:00"]], [("00:00", "03:00")]),
    ("from 02:30 in a gap is from 03:30", FORWARD, [["02:30", "05:00"]], [("01:30", "03:00")]),
    ("until 02:30 in a gap is until 03:30", FORWARD, [["01:00", "02:30"]], [("00:00", "01:30")]),
    ("an interval in a gap has no time", FORWARD, [["02:00", "03:00"]], []),
    ("an interval that would run backwards", FORWARD, [["02:45", "03:15"]], []),
    ("an overlap", FORWARD, [["01:00", "02:45"], ["03:15", "05:00"]], [("00:00", "03:00")]),
    ("an overlap in reverse", FORWARD, [["02:15", "02:30"], ["03:00", "05:00"]], [("01:00", "03:00")]),
    ("an interval around a fold is longer", BACK, [["01:00", "05:00"]], [("23:00", "04:00")]),
    ("from the first 02:30", BACK, [["02:30", "05:00"]], [("00:30", "04:00")]),
    ("until the first 02:30", BACK, [["01:00", "02:30"]], [("23:00", "00:30")]),
    ("a repeated hour is two", BACK, [["02:00", "03:00"]], [("00:00", "02:00")]),
    ("no midnight", ("America/Sao_Paulo", "2018-11-04"), [["00:00", "02:00"]], [("03:00", "04:00")]),
    ("half an hour", ("Australia/Lord_Howe", "2026-10-04"), [["01:00", "03:00"]], [("14:30", "16:00")]),
    ("a day that the zone skipped", ("Pacific/Apia", "2011-12-30"), [["09:00", "17:00"]], []),
)


@pytest.mark.parametrize(("change", "intervals", "expected"), named(CHANGES))
def test_hours_at_a_change_of_clocks_are_these_spans_of_utc(
    change: tuple[str, str], intervals: list[list[str]], expected: list[tuple[str, str]]
) -> None:
    zone, day = change
    calendar = calendar_hours(zone, {DAY_NAMES[date.fromisoformat(day).weekday()]: intervals})
    midnight = at(f"{day}T00:00:00+00:00")
    minutes = range(midnight - DAY, midnight + DAY, MINUTE)
    working = [minute for minute in minutes if calendar.between(minute, minute + MINUTE)]
    starts = [minute for minute in working if minute - MINUTE not in working]
    ends = [minute + MINUTE for minute in working if minute + MINUTE not in working]
    spans = [(f"{moment(a):%H:%M}", f"{moment(b):%H:%M}") for a, b in zip(starts, ends, strict=True)]
    assert spans == expected


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Apia", "Australia/Lord_Howe", "America/St_Johns"])
def test_a_calendar_around_the_clock_is_plain_subtraction(zone: str) -> None:
    calendar = calendar_hours(zone, ALWAYS)
    start = at("2008-05-03T04:05:06.000007+00:00")
    for days in (1, 100, 363, 364, 365, 1500, 8000):
        assert calendar.between(start, start + days * DAY + 1) == days * DAY + 1
        assert calendar.add(start, days * DAY + 1) == start + days * DAY + 1


# --- what is asked of a calendar ----------------------------------------------------------------------------


def test_no_work_passes_backwards_or_in_no_time() -> None:
    noon = at("2026-01-29T12:00:00-05:00")
    assert NEW_YORK.between(noon, noon) == 0
    assert NEW_YORK.between(noon, noon - 1) == 0
    assert NEW_YORK.add(noon, 0) == noon


def test_before_1970_time_passes_as_after_it() -> None:
    assert NEW_YORK.add(at("1969-12-31T16:00:00-05:00"), 2 * HOUR) == at("1970-01-01T10:00:00-05:00")


def test_whole_days_of_work_are_done_at_the_end_of_a_day_in_every_week_of_three_years() -> None:
    start = at("2026-01-01T09:00:00+00:00")
    dues = [moment(UTC_OFFICE.add(start, days * 8 * HOUR)) for days in range(1, 3 * 52 * 5)]
    assert {(due.hour, due.minute, due.microsecond) for due in dues} == {(17, 0, 0)}
    assert dues == sorted(set(dues))


def test_touching_intervals_are_one() -> None:
    divided = calendar_hours("America/New_York", {"mon-fri": [["09:00", "12:00"], ["12:00", "17:00"]]})
    start = at("2026-01-29T10:00:00-05:00")
    assert divided.add(start, 5 * HOUR) == NEW_YORK.add(start, 5 * HOUR) == start + 5 * HOUR


def test_the_form_of_the_policy_becomes_minutes_from_monday_on() -> None:
    calendar = calendar_hours(
        "UTC",
        {"fri-sun": [["13:00", "24:00"], ["00:00", "12:30"]], "tue": []},
        ["2026-12-25", date(2026, 12, 26)],
        name="x",
        version=7,
    )
    day = ((0, 750), (780, 1440))
    assert calendar == Calendar(
        "x", "UTC", ((), (), (), (), day, day, day), frozenset({date(2026, 12, 25), date(2026, 12, 26)}), 7
    )


def test_equal_calendars_are_one_key_and_different_ones_are_not() -> None:
    again = calendar_hours("America/New_York", OFFICE, name="ny")
    assert again is not NEW_YORK
    assert {again: 1}[NEW_YORK] == 1
    assert replace(NEW_YORK, version=2) != NEW_YORK
    assert hash(replace(NEW_YORK, version=2)) != hash(NEW_YORK)


def test_a_calendar_is_frozen_and_travels_by_pickle() -> None:
    assert pickle.loads(pickle.dumps(LUNCH)) == LUNCH
    assert b"_hash" not in pickle.dumps(LUNCH), "a hash of strings means nothing in another process"
    with pytest.raises(FrozenInstanceError):
        LUNCH.version = 2  # type: ignore[misc]


# --- sentences ----------------------------------------------------------------------------------------------


FAULTS: tuple[tuple[str, dict[str, Any], str], ...] = (
    (
        "zone",
        {"zone": "Europe/Berln"},
        'the zone "Europe/Berln" is not known; write an IANA zone name such as "Europe/Berlin".',
    ),
    ("a folder of zones", {"zone": "America"}, 'the zone "America" is not known'),
    ("a path", {"zone": "../etc/passwd"}, 'the zone "../etc/passwd" is not known'),
    ("no zone", {"zone": ""}, 'the zone "" is not known'),
    ("day", {"week": {"monday": []}}, '"monday" is not a day or a range of days; write one of mon, tue'),
    ("half a range", {"week": {"mon-": []}}, '"mon-" is not a day or a range'),
    ("end of a range", {"week": {"mon-fry": []}}, '"mon-fry" is not a day or a range'),
    (
        "a day twice",
        {"week": {"mon-fri": [["09:00", "17:00"]], "fri": [["09:00", "12:00"]]}},
        '"fri" and "mon-fri" both give the hours of fri; name every day once.',
    ),
    ("9:00", {"week": {"mon": [["9:00", "17:00"]]}}, "mon: '9:00' is not a time of day; write"),
    ("25:00", {"week": {"mon": [["09:00", "25:00"]]}}, "'25:00' is not a time of day"),
    ("24:01", {"week": {"mon": [["09:00", "24:01"]]}}, "'24:01' is not a time of day"),
    ("16:60", {"week": {"mon": [["09:00", "16:60"]]}}, "'16:60' is not a time of day"),
    ("YAML 1.1 number", {"week": {"mon": [[540, 1020]]}}, "540 is not a time of day; write hours"),
    ("flat list", {"week": {"mon": ["09:00", "17:00"]}}, "'09:00' is not an interval; write"),
    ("text for a list", {"week": {"mon": "09:00-17:00"}}, "'09:00-17:00' is not a list of intervals"),
    ("one time", {"week": {"mon": [["09:00"]]}}, "['09:00'] is not an interval"),
    ("backwards", {"week": {"mon": [["17:00", "09:00"]]}}, "the interval 17:00-09:00 does not end"),
    ("empty interval", {"week": {"mon": [["09:00", "09:00"]]}}, "the interval 09:00-09:00 does not end"),
    (
        "overlap",
        {"week": {"mon": [["12:00", "17:00"], ["09:00", "13:00"]]}},
        "mon: the interval 12:00-17:00 overlaps 09:00-13:00",
    ),
    ("no hours", {"week": {}}, "has no working hours; give at least one day"),
    ("no intervals", {"week": {"mon": []}}, "has no working hours"),
    ("holiday", {"holidays": ["2026-02-30"]}, 'the holiday "2026-02-30" is not a date; write year-month-day'),
    ("holiday without dashes", {"holidays": ["20261225"]}, 'the holiday "20261225" is not a date'),
    ("holiday as number", {"holidays": [20261225]}, 'the holiday "20261225" is not a date'),
    (
        "holiday with a time",
        {"holidays": [datetime(2026, 12, 25, tzinfo=UTC)]},
        "the holiday 2026-12-25 00:00:00+00:00 has a time; give the date alone",
    ),
)


@pytest.mark.parametrize(("arguments", "sentence"), named(FAULTS))
def test_a_calendar_at_fault_is_refused_with_a_sentence(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CalendarError) as caught:
        calendar_hours(**{"zone": "Europe/Berlin", "week": OFFICE, "name": "night shift", **arguments})
    assert str(caught.value).startswith('Calendar "night shift"')
    assert sentence in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("week", "sentence"),
    [
        pytest.param(((),) * 6, "has a week of 6 days; give seven, Monday first.", id="six days"),
        pytest.param((((0, 1441),),) * 7, "the interval of minutes 0 to 1441 leaves the day", id="beyond midnight"),
        pytest.param(
            (((780, 900), (540, 720)),) * 7,
            "09:00-12:00 overlaps 13:00-15:00 or stands before it",
            id="order",
        ),
    ],
)
def test_a_calendar_built_without_the_form_is_checked_too(week: Any, sentence: str) -> None:
    with pytest.raises(CalendarError, match=r'^Calendar "x"') as caught:
        Calendar("x", "UTC", week)
    assert sentence in str(caught.value)


def test_holidays_for_all_time_end_the_search_with_a_sentence() -> None:
    first = date(2026, 1, 1)
    days = [first + timedelta(days=n) for n in range(60_000)]
    closed = calendar_hours("UTC", OFFICE, days, name="closed")
    with pytest.raises(CalendarError) as caught:
        closed.add(at("2026-01-01T00:00:00+00:00"), HOUR)
    assert str(caught.value) == (
        'Calendar "closed" has no 1 working hours in the 100 years after 2026-01-01T00:00:00+00:00; '
        "shorten the target, or remove holidays."
    )


def test_dates_beyond_all_sense_are_refused_and_not_computed() -> None:
    now = at("2026-01-01T00:00:00+00:00")
    with pytest.raises(CalendarError, match="are more than 100 years; working time is not counted so far"):
        NEW_YORK.between(now, at("2226-01-01T00:00:00+00:00"))
    with pytest.raises(CalendarError, match="are more than 100 years"):
        NEW_YORK.between(now, now * 1000)
    with pytest.raises(CalendarError, match="too near to the year 1 or 9999"):
        NEW_YORK.add(at("9999-12-31T00:00:00+00:00"), HOUR)
    with pytest.raises(CalendarError, match="too near to the year 1 or 9999"):
        NEW_YORK.add(at("0001-01-01T00:00:00+00:00"), HOUR)


def test_negative_amounts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^Working time of -1 µs cannot be added; give 0 or more\.$"):
        NEW_YORK.add(0, -1)
    with pytest.raises(ValueError, match=r"^The target of a leg is 0 µs; give more than 0\.$"):
        stage_offsets(0)


# --- instants -----------------------------------------------------------------------------------------------


INSTANTS = (
    ("epoch", datetime(1970, 1, 1, tzinfo=UTC), 0),
    ("units", datetime(1970, 1, 1, 1, 1, 1, 1, tzinfo=UTC), HOUR + MINUTE + SECOND + 1),
    ("before the epoch", datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), -1),
    ("offset", datetime(1970, 1, 1, 5, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))), 0),
    ("odd offset", datetime(1970, 1, 2, tzinfo=timezone(timedelta(microseconds=1))), DAY - 1),
    ("fold 0", datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=0), 1792888200 * SECOND),
    ("fold 1", datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1), 1792891800 * SECOND),
    ("last microsecond", datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), 253402300800 * SECOND - 1),
)


@pytest.mark.parametrize(("given", "expected"), named(INSTANTS))
def test_an_instant_is_exact_and_comes_back_as_the_same_moment(given: datetime, expected: int) -> None:
    assert instant(given) == expected
    assert moment(expected) == given.astimezone(UTC)
    assert moment(expected).utcoffset() == timedelta(0)


def test_a_time_without_zone_names_no_instant() -> None:
    with pytest.raises(ValueError, match=r"^The time 2026-01-30T16:00:00 has no zone, so it names no instant; "):
        instant(datetime(2026, 1, 30, 16))  # noqa: DTZ001


@pytest.mark.parametrize("at", [10**18, -(10**18), 10**30])
def test_an_instant_out_of_range_is_refused_with_a_sentence(at: int) -> None:
    with pytest.raises(ValueError, match=f"^The instant {at} lies outside the years 1 to 9999; "):
        moment(at)
