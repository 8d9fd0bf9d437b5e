"""The checked examples of the design: scores, hysteresis, and caps that bound the band; the oracle passes them too."""

import json
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from schemas.health import CapCode
from schemas.policies import Policy, SignalName
from services.core.instants import HOUR, Instant, moment
from services.health import bands
from services.health.model import Standing
from services.health.policy import Place, Profile, Resolve, Rules, compile_health
from services.health.score import Cap, Sum, Verdict, combine, weak_link
from services.runtime.documents import load
from tests import oracle_bands
from tests.oracle_bands import Point

SHIPPED = load(Path(__file__).parents[2] / "deploy/policy/steward.yaml", Policy)
BAND = {"G": "green", "Y": "yellow", "R": "red", "NA": "na"}
START = datetime(2026, 3, 2, tzinfo=UTC)
T0: Instant = 1_772_409_600 * 1_000_000

Walk = Callable[[Sequence[Point]], list[tuple[datetime, str]]]


@pytest.fixture
def vectors(shared_data: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shared_data.parent / "design/vectors/scoring.json").read_text())
    return found


def shipped() -> Rules:
    rules = compile_health(SHIPPED)
    assert rules is not None
    return rules


RULES = shipped()


# ---------------------------------------------------------------- the equation


class Case:
    """A row of `score`: each group is one signal, which `combine` sums as it sums any other."""

    def __init__(self, row: dict[str, Any], prior: float) -> None:
        self.row, self.rows = row, row["signals"]
        weights = {group: weight for group, (weight, _, _) in self.rows.items()}
        places = [Place(cast("SignalName", group), group, weight / 100) for group, weight in weights.items()]
        self.profile = Profile("example", tuple(places), weights, narrow=False)
        readings = [None if score is None else (None, float(score)) for _, score, _ in self.rows.values()]
        trusts = [float(trust) for _, _, trust in self.rows.values()]
        self.sum: Sum = combine(prior, zip(places, readings, trusts, strict=True))

    def verdict(self) -> Verdict:
        named = self.row.get("caps", {})
        caps = [Cap(cast("CapCode", code), 1000 * limit, None, "by the example") for code, limit in named.items()]
        return Verdict(T0, Resolve(self.profile, ()), self.sum, caps)

    def band(self) -> str:
        verdict, is_na = self.verdict(), self.sum.coverage < RULES.coverage
        return bands.step(None, T0, verdict.score, verdict.limit, RULES.bands, is_na=is_na).band


NAMES = (
    "full data",
    "no owner for three business days",
    "stale sentiment",
    "only support and payments known",
    "watermelon",
)


@pytest.mark.parametrize("name", NAMES)
def test_the_equation_gives_the_scores_of_the_design(vectors: dict[str, Any], name: str) -> None:
    row = next(row for row in vectors["score"] if row["name"] == name)
    case = Case(row, vectors["prior"])
    assert case.sum.raw == round(1000 * row["raw"])
    assert case.sum.coverage == row["coverage"]
    assert case.sum.raw == 1000 * vectors["prior"] + sum(line.points for line in case.sum.lines)
    assert case.band() == BAND[row["band"]]
    if "final" in row:
        assert case.verdict().score == round(1000 * row["final"])


def test_the_examples_are_all_there(vectors: dict[str, Any]) -> None:
    assert tuple(row["name"] for row in vectors["score"]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_group_is_a_weak_link_where_the_design_says_so(vectors: dict[str, Any], name: str) -> None:
    row = next(row for row in vectors["score"] if row["name"] == name)
    case = Case(row, vectors["prior"])
    assert (weak_link(RULES, case.profile, case.sum) is not None) == ("WEAK_LINK" in row.get("caps", {}))


# ---------------------------------------------------------------- bands


def by_the_slice(series: Sequence[Point]) -> list[tuple[datetime, str]]:
    """Steps at every point and at every dwell that ends between two, as the processor does."""
    standing: Standing | None = None
    found: list[tuple[datetime, str]] = []

    def step(at: Instant, point: Point) -> None:
        nonlocal standing
        limit = 100_000 if point.limit is None else point.limit
        after = bands.step(standing, at, point.score, limit, RULES.bands, is_na=point.is_na)
        if standing is None or after.band != standing.band:
            found.append((moment(at), after.band))
        standing = after

    previous: Point | None = None
    for point in series:
        now = T0 + (point.at - START) // timedelta(microseconds=1)
        while standing and previous and (ripe := [at for at in bands.dwells(standing, RULES.bands) if at < now]):
            step(min(ripe), previous)
        step(now, point)
        previous = point
    return found


def by_the_oracle(series: Sequence[Point]) -> list[tuple[datetime, str]]:
    return oracle_bands.bands(series, SHIPPED.model_dump(mode="json")["health"]["bands"])


walks = pytest.mark.parametrize("walk", [by_the_slice, by_the_oracle], ids=["slice", "oracle"])


def hours(number: float) -> datetime:
    return START + number * timedelta(hours=1)


def points(*told: tuple[float, float, float | None]) -> list[Point]:
    """From (hour, raw score, cap)."""
    found = []
    for hour, raw, cap in told:
        limit = None if cap is None else round(1000 * cap)
        found.append(Point(hours(hour), min(round(1000 * raw), limit or 100_000), limit))
    return found


@walks
def test_a_score_that_swings_around_a_threshold_changes_the_band_once(vectors: dict[str, Any], walk: Walk) -> None:
    told = vectors["hysteresis"]
    assert told["series"] == "75 + 3.5*sin(t/5), hourly, 240 h"
    series = points(*((hour, 75 + 3.5 * math.sin(hour / 5), None) for hour in range(240)))
    plain = [bands.colour(point.score, RULES.bands) for point in series]
    assert sum(before != after for before, after in pairwise(plain)) == told["naive_changes"]
    assert len(walk(series)) - 1 == told["with_rule"]


@walks
@pytest.mark.parametrize("number", range(4), ids=["green-74", "green-60", "yellow-40", "way up"])
def test_a_cap_bounds_the_band_at_once_and_the_way_up_begins_when_it_ends(
    vectors: dict[str, Any], walk: Walk, number: int
) -> None:
    assert len(vectors["cap_bounds_band"]) == 4
    told = vectors["cap_bounds_band"][number]
    if "cap" in told:
        before = points((0, {"G": 85, "Y": 70}[told["was"]], None))
        found = walk([*before, *points((1, told["raw"], told["cap"]))])
        assert found == [(hours(0), BAND[told["was"]]), (hours(1), BAND[told["band_at_once"]])]
    else:
        ends, up = told["cap_ends_at_h"], told["green_at_h"]
        held = points((ends - 90, told["raw"], 74), (ends, told["raw"], None), (up + 1, told["raw"], None))
        assert walk(held)[1:] == [(hours(up), "green")]


# ---------------------------------------------------------------- both sides of each bound of the bands

SECOND = 1 / 3600


@walks
@pytest.mark.parametrize(
    ("series", "expected"),
    [
        pytest.param([(0, 80, None), (1, 72.999, None), (7 - SECOND, 74, None)], [], id="below the margin for less"),
        pytest.param([(0, 80, None), (1, 72.999, None), (7, 72.999, None)], [(7, "yellow")], id="for as long"),
        pytest.param([(0, 80, None), (1, 73, None), (90, 73, None)], [], id="at the margin"),
        pytest.param([(0, 82.5, None), (9, 72.501, None)], [], id="not fallen enough"),
        pytest.param([(0, 82.5, None), (9, 72.5, None)], [(9, "yellow")], id="fallen"),
        pytest.param([(0, 90, None), (9, 79, None)], [], id="fallen, and still green"),
        pytest.param([(0, 84, None), (1, 78, None), (24, 72, None)], [(24, "yellow")], id="fallen within the hours"),
        pytest.param([(0, 84, None), (1, 78, None), (24 + SECOND, 72, None)], [], id="fallen in more hours"),
        pytest.param([(0, 90, None), (9, 30, None)], [(9, "red")], id="through both"),
        pytest.param([(0, 60, None), (1, 78, None), (49, 78, None)], [(49, "green")], id="up"),
        pytest.param([(0, 60, None), (1, 77.999, None), (90, 77.999, None)], [], id="not up"),
        pytest.param([(0, 40, None), (1, 85, None), (49, 85, None)], [(49, "green")], id="up over both"),
        pytest.param([(0, 40, None), (1, 85, 60), (49, 85, 60), (90, 85, 60)], [(49, "yellow")], id="up to the cap"),
    ],
)
def test_margins_and_hours_count_to_the_bound(
    walk: Walk, series: list[tuple[float, float, float | None]], expected: list[tuple[float, str]]
) -> None:
    assert walk(points(*series))[1:] == [(hours(hour), band) for hour, band in expected]


@walks
def test_the_first_band_is_taken_at_once_also_after_none(walk: Walk) -> None:
    series = [
        Point(hours(0), 76_000, None, is_na=True),
        Point(hours(30), 76_000),
        Point(hours(60), 76_000, None, is_na=True),
        Point(hours(61), 51_000),
    ]
    expected = [(0, "na"), (30, "green"), (60, "na"), (61, "yellow")]
    assert walk(series) == [(hours(hour), band) for hour, band in expected]


def test_the_clock_of_this_table_is_the_one_of_the_slice() -> None:
    assert moment(T0 + HOUR) == hours(1)
