"""From a measured value to a score: curves of straight lines, and the chance that a customer stays silent."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Anchors = Sequence[tuple[float, float]]  # (x, score), at least one, x rising

_CERTAIN = math.log(1e300)  # odds beyond this differ from certainty by nothing that a float holds


def score(anchors: Anchors, x: float) -> float:
    """The curve at `x`: linear between two anchors, constant before the first and after the last."""
    after = bisect_right(anchors, (x, math.inf))
    if after == 0:
        return anchors[0][1]
    left, low = anchors[after - 1]
    if after == len(anchors):
        return low
    right, high = anchors[after]
    value = low + (high - low) * ((x - left) / (right - left))
    # A hair before the next anchor rounding may step over its score, and one beyond 100 would be no score.
    if low <= high:
        return min(value, high)
    return max(value, high)


def slope(anchors: Anchors, low: float, high: float) -> float:
    """The greatest |d score/dx| on the closed interval [low, high]: 0 outside the anchors.

    An anchor belongs to the lines on both of its sides, so that the bound also holds for a step away from it.
    """
    return max(
        (
            abs((after - before) / (right - left))
            for (left, before), (right, after) in pairwise(anchors)
            if left <= high and low <= right
        ),
        default=0.0,
    )


@dataclass(frozen=True, slots=True)
class Slopes:
    """`slope` from any x on, worked out once for a curve: where its lines end, and the steepest from each line on."""

    ends: tuple[float, ...]
    steepest: tuple[float, ...]

    @classmethod
    def of(cls, anchors: Anchors) -> "Slopes":
        ends = tuple(right for right, _ in anchors[1:])
        return cls(ends, (*(slope(anchors, end, math.inf) for end in ends), 0.0))

    def beyond(self, low: float) -> float:
        """The greatest |d score/dx| on [low, ∞)."""
        return self.steepest[bisect_left(self.ends, low)]


@dataclass(frozen=True, slots=True)
class Silence:
    """P_silent: the chance that an account shows no active day within the next `days`. All times in days.

    BG/NBD (Fader, Hardie, Lee, "'Counting Your Customers' the Easy Way: An Alternative to the Pareto/NBD Model",
    Marketing Science 24(2), 2005): active accounts act at rates spread as Gamma(r, alpha), and after each active day
    some leave for good, a share spread as Beta(a, b). With x active days after the first, `span` from first to last,
    and the age T since the first, an account has left with the odds (the same authors, "Computing P(alive) Using the
    BG/NBD Model", 2008)

        odds = a/(b+x-1) · ((alpha+T)/(alpha+span))^(r+x), and 0 for x = 0, as nobody leaves before a second day

    and one that has not left is quiet for H days with the chance ((alpha+T)/(alpha+T+H))^(r+x). It ranks accounts;
    it is no calibrated probability.
    """

    days: float
    r: float
    alpha: float
    a: float
    b: float

    def chance(self, x: int, span: float, age: float) -> float:
        """P_silent, in [0, 1]; rises with `age`. An age below `span` ≥ 0 counts as `span`.

        In logarithms, because the power overflows from about 800 active days on.
        """
        age = max(age, span)
        since, power = self.alpha + age, self.r + x
        quiet = math.exp(-power * math.log1p(self.days / since))
        if x <= 0:
            return quiet
        odds = math.log(self.a / (self.b + x - 1)) + power * math.log1p((age - span) / (self.alpha + span))
        if odds > _CERTAIN:
            return 1.0
        left = math.exp(odds)
        return (left + quiet) / (left + 1)

    def steepness(self, x: int, age: float) -> float:
        """A bound of |d P_silent/dT| per day that holds from `age` on, for as long as no active day is added.

        With p = odds/(1+odds), g the chance of a quiet H and c = H/(alpha+T+H), the derivative is
        (r+x)/(alpha+T) · ((1−g)·p(1−p) + g·c·(1−p)). As p(1−p) ≤ 1/4, the bracket is at most max(c, 1/4); for x = 0,
        where p = 0, at most c. Both factors only fall with T.
        """
        since = self.alpha + max(age, 0.0)
        share = self.days / (since + self.days)
        return (self.r + x) / since * (share if x <= 0 else max(share, 0.25))
