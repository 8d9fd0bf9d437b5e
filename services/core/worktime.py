"""Working time: how much passes between two instants, when an amount has passed, where stages fall.

A calendar's wall-clock intervals become spans of UTC under these rules:
- A wall time is read with fold=0: the first of two readings where clocks go back; where they go
  forward, a time that is skipped is read with the offset before the change (02:30 is 03:30).
- A local day lasts from its midnight to the next one, and no interval reaches beyond its day. A day
  that a zone skips altogether has no working time, whatever its weekday.
- An interval that a change of clocks would make end before it begins has no working time, and time that
  it would put into two intervals counts once. An interval around a change is as long as the time that
  truly passes. Spans that touch are one, so a 24x7 calendar has no seam at a change.
- A holiday empties the local day of its date.

Errors: ValueError <- CalendarError.
"""

import re
import zoneinfo
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache

from services.core.instants import DAY, HOUR, Instant, instant, moment

Interval = tuple[int, int]  # minutes of the local day, the end not included; 1440 is 24:00
Week = tuple[tuple[Interval, ...], ...]  # seven days, Monday first

DAY_NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HORIZON_YEARS = 100  # farther apart than this, a date is a typing error and not work

_MIDNIGHT = 24 * 60
# A block stands for a calendar year: 52 weeks, so that an instant's block is one division.
_BLOCK = 364 * DAY
_HORIZON = HORIZON_YEARS * 366 * DAY // _BLOCK
# A block of one interval a day takes about 30 kB: 2,048 hold some 400 calendars over five years in 60 MB.
_BLOCKS_KEPT = 2048
_DAY_OF_1970 = date(1970, 1, 1).toordinal()
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00")


class CalendarError(ValueError):
    """A calendar that cannot be used, or that has no answer; the sentence says what to change."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """Somebody's working hours. Equal calendars share what was computed for one of them."""

    name: str
    zone: str
    week: Week
    holidays: frozenset[date] = frozenset()
    version: int = 1
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check(self)
        # Each call looks its block up by calendar; to hash the week there would cost more than the rest.
        content = (self.name, self.zone, self.week, self.holidays, self.version)
        object.__setattr__(self, "_hash", hash(content))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[type["Calendar"], tuple[str, str, Week, frozenset[date], int]]:
        """Hashes of strings differ between processes: a copy sent to another one is built anew there."""
        return Calendar, (self.name, self.zone, self.week, self.holidays, self.version)

    def between(self, a: Instant, b: Instant) -> int:
        """Working microseconds from `a` to `b`; 0 if `b` is not after `a`, as no work has passed yet."""
        if b <= a:
            return 0
        first, last = a // _BLOCK, b // _BLOCK
        block = _block(self, first)
        if first == last:
            return block.until(b) - block.until(a)
        if last - first > _HORIZON:
            raise CalendarError(
                f"From {_show(a)} to {_show(b)} are more than {HORIZON_YEARS} years; "
                "working time is not counted so far, correct the date that is wrong."
            )
        whole = sum(_block(self, number).total for number in range(first + 1, last))
        return block.total - block.until(a) + whole + _block(self, last).until(b)

    def add(self, t: Instant, worked: int) -> Instant:
        """The earliest instant `d` with `between(t, d) == worked`, in microseconds; `add(t, 0)` is `t`."""
        if worked <= 0:
            if worked == 0:
                return t
            raise ValueError(f"Working time of {worked} µs cannot be added; give 0 or more.")
        number = t // _BLOCK
        limit = number + _HORIZON
        block = _block(self, number)
        goal = block.until(t) + worked
        while goal > block.total:
            goal -= block.total
            number += 1
            if number > limit:
                raise CalendarError(
                    f'Calendar "{self.name}" has no {worked / HOUR:g} working hours in the {HORIZON_YEARS} '
                    f"years after {_show(t)}; shorten the target, or remove holidays."
                )
            block = _block(self, number)
        return block.at(goal)

    def add_each(self, t: Instant, amounts: Sequence[int]) -> list[Instant]:
        """What `add` gives for each amount; `t` is looked up once."""
        block = _block(self, t // _BLOCK)
        before = block.until(t)
        left = block.total - before
        return [block.at(before + worked) if 0 < worked <= left else self.add(t, worked) for worked in amounts]


@dataclass(frozen=True, slots=True)
class _Block:
    """The working spans of one calendar in 52 weeks: disjoint, sorted, the first one possibly empty."""

    starts: tuple[Instant, ...]
    ends: tuple[Instant, ...]
    after: tuple[int, ...]  # working time from the start of the block to the end of the span
    total: int

    def until(self, t: Instant) -> int:
        """Working time from the start of the block to `t`, which lies in the block."""
        i = bisect_right(self.starts, t) - 1
        left = self.ends[i] - t
        return self.after[i] - left if left > 0 else self.after[i]

    def at(self, worked: int) -> Instant:
        """The earliest instant with `until(instant) == worked`, for 0 < worked <= total."""
        i = bisect_left(self.after, worked)
        return self.ends[i] - (self.after[i] - worked)


@lru_cache(maxsize=_BLOCKS_KEPT)
def _block(calendar: Calendar, number: int) -> _Block:
    begin = number * _BLOCK
    end = begin + _BLOCK
    # An empty span at the beginning: bisect then finds a span for every instant of the block.
    starts, ends, after = [begin], [begin], [0]
    for opened, closed in _spans(calendar, begin, end):
        start, stop = max(opened, begin), min(closed, end)
        if stop <= start:
            continue
        if start == ends[-1]:
            ends[-1] = stop
            after[-1] += stop - start
        else:
            starts.append(start)
            ends.append(stop)
            after.append(after[-1] + stop - start)
    return _Block(tuple(starts), tuple(ends), tuple(after), after[-1])


def _spans(calendar: Calendar, begin: Instant, end: Instant) -> Iterator[tuple[Instant, Instant]]:
    """The spans of every local day that touches [begin, end), disjoint and in order; some lie outside."""
    zone = zoneinfo.ZoneInfo(calendar.zone)
    # Offsets are below one day; the second day of margin costs nothing and covers a fold at midnight.
    first = begin // DAY + _DAY_OF_1970 - 2
    last = end // DAY + _DAY_OF_1970 + 2
    if first < 1 or last >= date.max.toordinal():
        raise CalendarError(
            f"The instant {begin} µs since 1970 is too near to the year 1 or 9999 to count working time; "
            "correct the date."
        )
    for day in map(date.fromordinal, range(first, last + 1)):
        intervals = calendar.week[day.weekday()]
        if not intervals or day in calendar.holidays:
            continue
        done, midnight = _utc(zone, day, 0), _utc(zone, day, _MIDNIGHT)
        # Read in a gap, an interval may begin after its successor: in order of instants, none hides another.
        for opens, closes in sorted((_utc(zone, day, start), _utc(zone, day, end)) for start, end in intervals):
            start, end = max(opens, done), min(closes, midnight)
            if start < end:
                yield start, end
                done = end


def _utc(zone: zoneinfo.ZoneInfo, day: date, minute: int) -> Instant:
    if minute == _MIDNIGHT:
        day, minute = day + timedelta(days=1), 0
    return instant(datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=zone, fold=0))


def _show(at: Instant) -> str:
    try:
        return moment(at).isoformat()
    except ValueError:
        return f"{at} µs since 1970"


# --- what a calendar must be --------------------------------------------------------------------------------


def _check(calendar: Calendar) -> None:
    where = f'Calendar "{calendar.name}"'
    _check_zone(where, calendar.zone)
    if len(calendar.week) != len(DAY_NAMES):
        raise CalendarError(f"{where} has a week of {len(calendar.week)} days; give seven, Monday first.")
    for day, intervals in zip(DAY_NAMES, calendar.week, strict=True):
        _check_day(f"{where}, {day}", intervals)
    if not any(calendar.week):
        raise CalendarError(f'{where} has no working hours; give at least one day, as "mon-fri": [["09:00", "17:00"]].')
    for holiday in calendar.holidays:
        if isinstance(holiday, datetime):  # it is a date for Python, but equals none
            raise CalendarError(f"{where}: the holiday {holiday} has a time; give the date alone.")


def _check_zone(where: str, zone: str) -> None:
    try:
        zoneinfo.ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:  # OSError: the name of a folder, such as "America"
        close = get_close_matches(zone, zoneinfo.available_timezones(), 1) or ["Europe/Berlin"]
        raise CalendarError(
            f'{where}: the zone "{zone}" is not known; write an IANA zone name such as "{close[0]}".'
        ) from error


def _check_day(where: str, intervals: tuple[Interval, ...]) -> None:
    done, previous = 0, ""
    for start, end in intervals:
        shown = f"{_clock(start)}-{_clock(end)}"
        if not 0 <= start <= _MIDNIGHT or not 0 <= end <= _MIDNIGHT:
            raise CalendarError(f"{where}: the interval of minutes {start} to {end} leaves the day; keep to 0 to 1440.")
        if end <= start:
            raise CalendarError(
                f"{where}: the interval {shown} does not end after its start; "
                'write the earlier time first, and divide hours over midnight at "24:00" '
                'and "00:00" of the next day.'
            )
        if start < done:
            raise CalendarError(
                f"{where}: the interval {shown} overlaps {previous} or stands before it; "
                "join the two, or let one end where the next starts."
            )
        done, previous = end, shown


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


# --- the policy's form --------------------------------------------------------------------------------------


def calendar_hours(
    zone: str,
    week: Mapping[str, Sequence[object]],
    holidays: Iterable[str | date] = (),
    *,
    name: str = "calendar",
    version: int = 1,
) -> Calendar:
    """A calendar from the policy's form: `"UTC", {"mon-fri": [["09:00", "17:00"]]}, ["2026-12-25"]`.

    A key of `week` is a day or a range of days, which may pass the end of the week ("sun-thu").
    Raises CalendarError with the value at fault.
    """
    where = f'Calendar "{name}"'
    days: dict[int, tuple[str, tuple[Interval, ...]]] = {}
    for key, intervals in week.items():
        hours = _hours(f"{where}, {key}", intervals)
        for day in _days(where, key):
            if day in days:
                raise CalendarError(
                    f'{where}: "{key}" and "{days[day][0]}" both give the hours of {DAY_NAMES[day]}; '
                    "name every day once."
                )
            days[day] = (key, hours)
    whole: Week = tuple(days[day][1] if day in days else () for day in range(len(DAY_NAMES)))
    return Calendar(name, zone, whole, frozenset(_holiday(where, given) for given in holidays), version)


def _days(where: str, key: str) -> list[int]:
    first, dash, last = key.partition("-")
    if first not in DAY_NAMES or (dash and last not in DAY_NAMES):
        raise CalendarError(
            f'{where}: "{key}" is not a day or a range of days; '
            f'write one of {", ".join(DAY_NAMES)}, or a range such as "mon-fri".'
        )
    begin = DAY_NAMES.index(first)
    length = (DAY_NAMES.index(last) - begin) % 7 + 1 if dash else 1
    return [(begin + step) % 7 for step in range(length)]


def _hours(where: str, intervals: Sequence[object]) -> tuple[Interval, ...]:
    if not isinstance(intervals, list | tuple):
        raise CalendarError(f'{where}: {intervals!r} is not a list of intervals; write [["09:00", "17:00"]].')
    return tuple(sorted(_interval(where, given) for given in intervals))


def _interval(where: str, given: object) -> Interval:
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise CalendarError(
            f"{where}: {given!r} is not an interval; write a start and an end in brackets of their own, "
            'as [["09:00", "17:00"]].'
        )
    return _minute(where, given[0]), _minute(where, given[1])


def _minute(where: str, given: object) -> int:
    if not isinstance(given, str) or not _TIME.fullmatch(given):
        raise CalendarError(
            f'{where}: {given!r} is not a time of day; write hours and minutes in quotes, from "00:00" to "24:00".'
        )
    return int(given[:2]) * 60 + int(given[3:])


def _holiday(where: str, given: object) -> date:
    if isinstance(given, date):
        return given
    try:
        day = date.fromisoformat(str(given))
    except ValueError:
        day = None
    if day is None or day.isoformat() != given:  # the parser also takes 20261225 and 2026-W52-5
        raise CalendarError(f'{where}: the holiday "{given}" is not a date; write year-month-day, as "2026-12-25".')
    return day


# --- the stages of a leg ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StageOffsets:
    """Elapsed working microseconds at which each stage of a leg is reached, in the order of the stages."""

    noticed: int | None  # None: it would coincide with at_risk and is dropped
    at_risk: int
    breached: int  # an event at exactly this elapsed time is still in time
    passed_125: int
    passed_200: int

    def items(self) -> tuple[tuple[str, int], ...]:
        """(stage, offset) of the stages that this leg has."""
        notice = () if self.noticed is None else (("noticed", self.noticed),)
        return (
            *notice,
            ("at_risk", self.at_risk),
            ("breached", self.breached),
            ("passed_125", self.passed_125),
            ("passed_200", self.passed_200),
        )


@lru_cache(maxsize=1024)
def stage_offsets(target: int) -> StageOffsets:
    """The stages of a leg with this target in working microseconds; shares round up: none comes early."""
    if target <= 0:
        raise ValueError(f"The target of a leg is {target} µs; give more than 0.")
    half = _share(target, 50)
    at_risk = max(half, min(_share(target, 75), target - HOUR))
    passed_125 = max(_share(target, 125), target + 2 * HOUR)
    passed_200 = max(_share(target, 200), passed_125 + 2 * HOUR)
    return StageOffsets(half if at_risk > half else None, at_risk, target, passed_125, passed_200)


def _share(target: int, percent: int) -> int:
    return -(-target * percent // 100)
