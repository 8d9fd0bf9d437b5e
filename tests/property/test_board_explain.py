"""What is printed adds up: prior and points to the raw score, with the effect of the caps to the score."""

import re
from datetime import UTC
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from schemas.envelope import Event
from schemas.health import Contribution
from services.board import why
from services.board.attention import Freshness
from tests.board import account_of, cap, lacking, scored, signal
from tests.builders import minute

NOW = minute(250)
FRESH = Freshness(NOW, NOW, 0, (), simulated=False, warnings=())
LINE = re.compile(r"^(?:\S.*|\s+(prior|raw score|effect of caps|score|astray)\s.*)\s([+-]?\d+\.\d{3})$")

groups = st.sampled_from(["engagement", "support", "ownership"])
names = st.sampled_from(["activity", "two_way_contact", "open_load", "owner", "handoff", "overdue_commitments"])
measured = st.builds(
    lambda name, points, group, trust: signal(name, points, 1.0, group, trust=trust),
    names,
    st.integers(-9_000, 9_000),
    groups,
    st.sampled_from([0.001, 0.5, 1.0]),
)
contributions = st.lists(measured | st.builds(lacking, names, groups), max_size=4)
caps = st.lists(
    st.builds(cap, st.sampled_from(["SEV1_OPEN", "NO_OWNER", "THIN_DATA"]), st.integers(0, 100_000)), max_size=3
)


@st.composite
def scores(draw: st.DrawFn) -> Event:
    found: list[Contribution] = draw(contributions)
    held = draw(caps)
    off = draw(st.sampled_from([0, 0, 0, 7]))
    prior = draw(st.integers(40_000, 60_000))
    raw = prior + sum(one.points for one in found) + off
    return scored(draw(st.sampled_from(["green", "yellow", "red", "na"])), found, held, prior, raw, colour="red")


@given(scores())
def test_the_printed_points_add_up_to_the_printed_score(event: Event) -> None:
    text = why.explain_text(account_of(event), FRESH, UTC, "")
    sheet = text.partition("\nWHY\n")[2].partition("\nMISSING\n")[0]
    printed = [found.groups() for line in sheet.splitlines() if (found := LINE.match(line.rstrip()))]
    total = Decimal(0)
    for name, points in printed:
        match name:
            case "raw score" | "score":
                assert total == Decimal(points)
            case _:
                total += Decimal(points)
    assert [name for name, _ in printed if name not in {None, "astray"}] == [
        "prior",
        "raw score",
        "effect of caps",
        "score",
    ]


@given(scores())
def test_in_the_json_the_integers_add_up(event: Event) -> None:
    health = why.explain_json(account_of(event), FRESH, "")["health"]
    assert health["raw"] + health["cap_effect"] == health["score"]
    parts = health["prior"] + sum(one["points"] for one in health["contributions"])
    assert health["raw"] - parts in {0, 7}
