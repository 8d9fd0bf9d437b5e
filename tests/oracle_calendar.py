"""Working time of a policy's calendar, walked day by day and interval by interval; shares no code with the product."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

DAY = timedelta(days=1)
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@lru_cache(maxsize=100_000)
def edge(zone: str, day: date, text: str) -> datetime:
    """The instant of a wall time: the first of two readings, a skipped one by the offset before it."""
    if text == "24:00":
        day, text = day + DAY, "00:00"
    return datetime.combine(day, time.fromisoformat(text.zfill(5)), tzinfo=ZoneInfo(zone)).astimezone(UTC)


@dataclass(frozen=True)
class Calendar:
    """A zone, the intervals of each weekday, and ISO dates without work."""

    zone: str
    week: dict[str, list[tuple[str, str]]]
    holidays: frozenset[str]

    @classmethod
    def of(cls, policy: dict[str, Any]) -> "Calendar":
        """The company's calendar."""
        rule = policy["calendars"][policy["calendar"]]
        week: dict[str, list[tuple[str, str]]] = {}
        for named, intervals in rule["week"].items():
            first, _, last = named.partition("-")
            number = WEEKDAYS.index(first)
            while True:
                week[WEEKDAYS[number]] = [(begin, end) for begin, end in intervals]
                if WEEKDAYS[number] == (last or first):
                    break
                number = (number + 1) % 7
        return cls(rule["zone"], week, frozenset(rule.get("holidays", ())))

    def between(self, a: datetime, b: datetime) -> timedelta:
        total = timedelta(0)
        for begin, end in self._spans(a):
            if begin >= b:
                break
            total += max(timedelta(0), min(end, b) - max(begin, a))
        return total

    def add(self, at: datetime, worked: timedelta) -> datetime:
        """The first instant by which so much was worked."""
        for begin, end in self._spans(at):
            here = max(begin, at)
            if end > here and end - here >= worked:
                return here + worked
            worked -= max(timedelta(0), end - here)
        raise AssertionError

    def midnights(self, a: datetime, b: datetime) -> list[tuple[datetime, str]]:
        """Each local midnight in (a, b], and the day that ended there."""
        days = [a.date() + number * DAY for number in range(-2, (b - a).days + 4)]
        ends = [(edge(self.zone, day, "24:00"), day.isoformat()) for day in days]
        return [(at, day) for at, day in ends if a < at <= b]

    def _spans(self, start: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Working spans in order, from some days before `start` on and without end."""
        day = start.date() - 2 * DAY
        while True:
            done, midnight = edge(self.zone, day, "00:00"), edge(self.zone, day, "24:00")
            pairs = [] if day.isoformat() in self.holidays else self.week.get(WEEKDAYS[day.weekday()], [])
            for begin, end in sorted((edge(self.zone, day, begin), edge(self.zone, day, end)) for begin, end in pairs):
                if max(begin, done) < min(end, midnight):
                    yield max(begin, done), min(end, midnight)
                    done = min(end, midnight)
            day += DAY
