"""Which band an account was in when, by walking over the points of its score; shares no code with the product.

Scores and limits are integers in milli-points.
"""

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

Json = dict[str, Any]

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
RANKS = {"na": -1, "red": 0, "yellow": 1, "green": 2}
LOWER = {"green": "yellow", "yellow": "red"}
FARTHEST = {"down": "yellow", "up": "green"}  # who passes both thresholds at once does not stop in between


@dataclass(frozen=True)
class Point:
    """A score at an instant, with the least limit that holds. Two points of one instant: before and after a fact.

    `peak`: the highest score of the hours in which a fall counts, where that is known better than by the points.
    """

    at: datetime
    score: int
    limit: int | None = None
    is_na: bool = False
    caps: frozenset[str] = frozenset()
    peak: int | None = None


def colour(shown: int, band_rules: Json) -> str:
    """What the number alone says."""
    if shown >= 1000 * band_rules["green"]:
        return "green"
    return "yellow" if shown >= 1000 * band_rules["yellow"] else "red"


def margin(band_rules: Json, way: str, level: str) -> float:
    """Below it the way down from `level` is counted; from it on the way up to `level`."""
    threshold, width = float(band_rules[level]), float(band_rules[f"{way}_margin"])
    return 1000 * (threshold - width if way == "down" else threshold + width)


def passes(point: Point, band_rules: Json, way: str, level: str) -> bool:
    limit = margin(band_rules, way, level)
    return point.score < limit if way == "down" else point.score >= limit


@dataclass
class _Walk:
    """The band so far, since when each margin is passed, and the points of the last hours."""

    band_rules: Json
    band: str | None = None
    held: dict[tuple[str, str], datetime] = field(default_factory=dict)
    recent: list[Point] = field(default_factory=list)
    found: list[tuple[datetime, str]] = field(default_factory=list)

    def take(self, point: Point) -> None:
        self._ripen(point.at)
        window = self.band_rules["fall_hours"] * HOUR
        self.recent = [*(one for one in self.recent if one.at >= point.at - window), point]
        for level in LOWER:
            for way in ("down", "up"):
                if passes(point, self.band_rules, way, level):
                    self.held.setdefault((way, level), point.at)
                else:
                    self.held.pop((way, level), None)
        if point.is_na:
            self._becomes("na", point.at)
        elif self.band in {None, "na"}:
            self._becomes(colour(point.score, self.band_rules), point.at)
        else:
            self._drop(point)

    def _becomes(self, band: str, at: datetime) -> None:
        if band != self.band:
            self.band = band
            self.found.append((at, band))

    def _goes(self, way: str, level: str, at: datetime) -> None:
        now = RANKS[self.band or "na"]
        if way == "down" and now > RANKS[LOWER[level]]:
            self._becomes(LOWER[level], at)
        elif way == "up" and now < RANKS[level]:
            self._becomes(level, at)

    def _ripen(self, until: datetime) -> None:
        """What held long enough before `until`."""
        if self.band in {None, "na"}:
            return
        hours = {way: self.band_rules[f"{way}_hours"] * HOUR for way in ("down", "up")}
        ripe = [(since + hours[way], level != FARTHEST[way], way, level) for (way, level), since in self.held.items()]
        for at, _, way, level in sorted(ripe):
            if at <= until:
                self._goes(way, level, at)

    def _drop(self, point: Point) -> None:
        """What needs no time: a cap that bounds, a fall."""
        peak = max([point.peak or 0, *(one.score for one in self.recent)])
        fell = peak - point.score >= 1000 * self.band_rules["fall"]
        for level in reversed(LOWER):
            is_bound = point.limit is not None and point.limit < 1000 * self.band_rules[level]
            if is_bound or (fell and passes(point, self.band_rules, "down", level)):
                self._goes("down", level, point.at)


def bands(series: Iterable[Point], band_rules: Json) -> list[tuple[datetime, str]]:
    """When the band became what, over points so dense that between two of them no margin is passed and left again."""
    walk = _Walk(band_rules)
    for point in series:
        walk.take(point)
    return walk.found


@dataclass(frozen=True)
class History:
    """The score over time: `judge(number, at)` is the point at `at` by what is known from `jumps[number]` on."""

    judge: Callable[[int, datetime], Point]
    jumps: Sequence[datetime]
    band_rules: Json

    def points(self, end: datetime, step: timedelta) -> list[Point]:
        """From the first jump on, at most `step` apart, and to the second where a side changes."""
        found: list[Point] = []
        for number, (start, stop) in enumerate(pairwise([*self.jumps, end])):
            judge = partial(self.judge, number)
            grid = [judge(start)]
            while grid[-1].at < stop:
                grid.append(judge(min(stop, grid[-1].at + step)))
            found += _refined(grid, judge, self._sides)
        return self._with_falls(found)

    def _sides(self, point: Point) -> Hashable:
        passed = tuple(passes(point, self.band_rules, way, level) for way in ("down", "up") for level in LOWER)
        return point.is_na, point.limit, point.caps, colour(point.score, self.band_rules), passed

    def _with_falls(self, points: list[Point]) -> list[Point]:
        """With what the score was when the window began, and to the second where it has fallen far enough."""
        window = self.band_rules["fall_hours"] * HOUR
        found: list[Point] = []

        def peaked(point: Point) -> Point:
            recent = [one.score for one in found if one.at >= point.at - window]
            if point.at - window >= self.jumps[0]:
                number = bisect_right(self.jumps, point.at - window) - 1
                recent.append(self.judge(number, point.at - window).score)
            return replace(point, peak=max(recent, default=point.score))

        def has_fallen(point: Point) -> Hashable:
            return bool((point.peak or 0) - point.score >= 1000 * self.band_rules["fall"])

        def at_once(number: int, at: datetime) -> Point:
            return peaked(self.judge(number, at))

        for left, right in pairwise([points[0], *points]):
            ends = [peaked(left), peaked(right)]
            if left.at < right.at:
                ends = _refined(ends, partial(at_once, bisect_right(self.jumps, left.at) - 1), has_fallen)
            found += ends[1:]
        return found


def _refined(
    grid: Sequence[Point], judge: Callable[[datetime], Point], sides: Callable[[Point], Hashable]
) -> list[Point]:
    def between(left: Point, right: Point) -> Iterator[Point]:
        if sides(left) == sides(right) or right.at - left.at <= SECOND:
            return
        middle = judge(left.at + (right.at - left.at) / 2)
        yield from between(left, middle)
        yield middle
        yield from between(middle, right)

    found = [grid[0]]
    for left, right in pairwise(grid):
        found += [*between(left, right), right]
    return found
