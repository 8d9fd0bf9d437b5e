"""Why an account has its score: words for what was measured, what is to come, what changed, and the whole sheet."""

import json
from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from rich.cells import cell_len

from schemas.envelope import Event
from schemas.health import Contribution, Outlook
from services.board import explain, why
from services.board.attention import Freshness
from services.board.frame import WIDTH
from services.board.model import Account
from services.board.words import badge, exact, signed, tenths
from services.core.instants import HOUR, SECOND
from tests.board import (
    account_of,
    assigned,
    at,
    called,
    cap,
    closed,
    delta,
    fact,
    lacking,
    scored,
    signal,
    went,
)
from tests.builders import minute

NOW = minute(250)  # 13:10 of a Monday
A_DAY = 1440.0  # minutes
FRESH = Freshness(NOW, NOW, SECOND // 5, (), simulated=False, warnings=())
NOBODY_SAID = "nobody said"

FULL = account_of(
    called("Northwind"),
    assigned("ada", -9000),
    scored(
        contributions=[
            signal("activity", 1_733, 0.81, score=80.8, weight=1 / 12, evidence=[fact(f"c-{one}") for one in "12345"]),
            signal("two_way_contact", -583, 12.3, score=53.0, weight=1 / 12, trust=0.5),
            signal("open_load", -2_667, 8, "support", score=20.0, weight=1 / 15),
            lacking("reopened", "support"),
            signal("handoff", 1_333, None, "ownership", score=100.0, weight=1 / 30, evidence=[]),
            lacking("owner_churn", "ownership", "nobody counts them"),
        ],
        caps=[cap(evidence=(fact("T-1", -300, "helpdesk"),)), cap("WEAK_LINK", 59_000, "support scores 20")],
        outlook=Outlook(band="red", at=at(3000)),
        trend=0.641,
        oldest_input=at(-9000),
    ),
    went(None, "green", -9000, cause="events", reason="enough is known", deltas=(delta("owner", 1),)),
    went(
        "green",
        "yellow",
        100,
        2,
        cause="cap",
        reason="ticket T-1 has been open for 48 h",
        evidence=(fact("T-1", -300, "helpdesk"),),
        deltas=(delta("open_load", -2_666), delta("two_way_contact", -400)),
        caps_began=("SEV1_OPEN",),
        caps_ended=("NO_OWNER",),
        cap_effect_before=0,
        cap_effect=-816,
    ),
    *(closed(day, 65_210) for day in range(-8, 0)),
)


def text(account: Account, zone: str = "UTC", fresh: Freshness = FRESH) -> str:
    return why.explain_text(account, fresh, ZoneInfo(zone), NOBODY_SAID)


def flat(account: Account, zone: str = "UTC") -> str:
    return " ".join(text(account, zone).split())


@pytest.mark.parametrize(
    ("one", "words"),
    [
        pytest.param(signal("activity", value=0.814), "activity index 0.81", id="activity"),
        pytest.param(signal(value=12.345), "12.3 days since", id="days since"),
        pytest.param(signal(value=12.345, evidence=()), "never yet in 12.3 days", id="never"),
        pytest.param(signal("breadth", value=1.0), "1 person heard of", id="one person"),
        pytest.param(signal("breadth", value=3.0), "3 people heard of", id="people"),
        pytest.param(signal("open_load", value=10.0), "open tickets weigh 10", id="tickets"),
        pytest.param(signal("owner", value=3.52), "unowned for 3.5 working hours", id="no owner"),
        pytest.param(signal("owner", value=0.0), "unowned for 0.0 working hours", id="no owner yet"),
        pytest.param(signal("owner", value=None), "an owner is named", id="an owner"),
        pytest.param(signal("handoff", value=None), "a handoff at risk or late", id="a handoff in trouble"),
        pytest.param(signal("handoff", value=None, evidence=()), "no handoff at risk or late", id="none in trouble"),
        pytest.param(signal("nps", value=9.0), "9", id="of a kind that has no words yet"),
        pytest.param(signal("nps", value=None), "", id="nothing"),
    ],
)
def test_what_was_measured_is_told_in_words(one: Contribution, words: str) -> None:
    health = account_of(scored(contributions=[one])).health
    assert health is not None
    assert explain.measured(health.contributions[0]) == words


@pytest.mark.parametrize(
    ("minutes", "zone", "words"),
    [
        pytest.param(3000, "UTC", "From Wed 11:00 Red if nothing changes", id="this week"),
        pytest.param(3000, "Europe/Berlin", "From Wed 12:00 Red if nothing changes", id="there"),
        pytest.param(10 * A_DAY, "UTC", "From Thu 2026-03-12 09:00 Red if nothing changes", id="later with its date"),
        pytest.param(None, "UTC", "No change of band within 14 days if nothing happens", id="none in sight"),
    ],
)
def test_what_is_to_come_is_told(minutes: float | None, zone: str, words: str) -> None:
    outlook = None if minutes is None else Outlook(band="red", at=at(minutes))
    assert words in text(account_of(scored(outlook=outlook)), zone).splitlines()


@pytest.mark.parametrize(
    ("band", "colour", "words"),
    [
        ("green", "green", "● G Green"),
        ("yellow", "yellow", "▲ Y Yellow"),
        ("red", "red", "■ R Red"),
        ("na", "green", "○ (G) NA, provisional Green"),
        ("na", "yellow", "△ (Y) NA, provisional Yellow"),
        ("na", "red", "□ (R) NA, provisional Red"),
    ],
)
def test_a_band_has_a_letter_a_word_and_a_shape(band: Any, colour: Any, words: str) -> None:
    assert str(badge(band, colour)) == words
    assert f"{words} 58.8" in text(account_of(scored(band, colour=colour)))


@pytest.mark.parametrize(
    ("milli", "one_place", "difference", "all_places"),
    [
        (0, "0.0", "0.0", "0.000"),
        (49, "0.0", "0.0", "0.049"),
        (50, "0.1", "+0.1", "0.050"),
        (-50, "-0.1", "-0.1", "-0.050"),
        (-42, "0.0", "0.0", "-0.042"),
        (61_449, "61.4", "+61.4", "61.449"),
        (99_950, "100.0", "+100.0", "99.950"),
        (-1_005, "-1.0", "-1.0", "-1.005"),
    ],
)
def test_milli_points_are_written_to_one_place_or_to_all(
    milli: int, one_place: str, difference: str, all_places: str
) -> None:
    assert (tenths(milli), signed(milli), exact(milli)) == (one_place, difference, all_places)


def test_the_sheet_says_how_it_is_why_what_is_missing_and_what_changed() -> None:
    told = flat(FULL)
    for words in (
        "Northwind (acme) As of 13:10:00 UTC, 0.2 s behind the clock",
        "▲ Y Yellow 59.0, -6.2 in 7 days · score 4 h 10 min old · band since 2026-03-02 06:00",
        "From Wed 11:00 Red if nothing changes",
        "Coverage 75% · policy 3 · profile contract: there is evidence of support, sentiment and commercial",
        "Trend 0.64: activity of the last days over that of the last weeks",
        "The signal that has waited longest last heard something 6 d 10 h ago",
        "prior 60.000",
        "engagement activity activity index 0.81 80.8 1.00 8.3% +1.733",
        "+1.733 14 h 10 min old: crm c-1, crm c-2, crm c-3 and 2 more",
        "engagement two way contact 12.3 days since 53.0 0.50 8.3% -0.583 14 h 10 min old: crm call-1",
        "ownership handoff no handoff at risk or late 100.0 1.00 3.3% +1.333",
        "raw score 59.816",
        "cap SEV1_OPEN limit since 2026-03-02 08:00 60.0 ticket T-1 is open: helpdesk T-1",
        "cap WEAK_LINK limit since 2026-03-02 08:00 59.0 support scores 20",
        "effect of caps -0.816 score 59.000",
        "support reopened nothing measures it yet 5.0%",
        "ownership owner churn nobody counts them 5.0%",
        "LAST CHANGE 2026-03-02 10:40 Green 76.2 to Yellow 70.0 (cap) ticket T-1 has been open for 48 h",
        "caused by helpdesk T-1",
        "points: open load -2.666, two way contact -0.400",
        "caps: SEV1_OPEN began, NO_OWNER ended; effect of caps 0.000 to -0.816",
        "policy 3, change 2",
        "EARLIER CHANGES 2026-02-24 03:00 first Green 70.0 (events) enough is known",
    ):
        assert words in told
    assert max(cell_len(line) for line in text(FULL).splitlines()) <= WIDTH
    assert text(FULL).index("score  ") < text(FULL).index("MISSING") < text(FULL).index("LAST CHANGE")


def test_what_is_provisional_says_why_and_what_is_missing() -> None:
    found = account_of(
        scored("na", [signal(), lacking("csat"), lacking("nps")], unsure=("coverage is 0.4", "it is 3 days old"))
    )
    told = text(found).splitlines()
    assert told[3].startswith("△ (Y) NA, provisional Yellow 58.8 · ")
    assert told[4:6] == ["Provisional: coverage is 0.4; it is 3 days old", "What is missing: csat, nps"]


def test_of_an_account_about_which_all_is_known_nothing_is_missing() -> None:
    found = account_of(scored(trend=None))
    assert "MISSING" not in text(found)
    assert "LAST CHANGE" not in text(found)
    assert "Trend unknown: too little happens" in text(found)
    assert "What is missing: nothing but time" in text(account_of(scored("na")))


def test_a_sum_that_does_not_add_up_is_shown_as_one() -> None:
    assert "astray nobody said what for +0.042" in flat(account_of(scored(raw=58_792)))
    full = account_of(scored(contributions=[signal(points=40_001)], raw=100_000))
    assert "astray a score lies within 0 and 100 -0.001" in flat(full)
    assert "astray" not in text(FULL)


@pytest.mark.parametrize(
    ("hours", "warns"),
    [pytest.param(26, False, id="as old as scores become"), pytest.param(26.1, True, id="older")],
)
def test_a_score_that_is_too_old_is_warned_of(hours: float, *, warns: bool) -> None:
    later = NOW + int((hours - 250 / 60) * HOUR)
    told = text(account_of(scored()), fresh=Freshness(later, later, 0, (), simulated=True, warnings=()))
    assert ("WARNING: The score is 1 d 2 h old, though one goes out each day: is `steward health`" in told) is warns


@pytest.mark.parametrize(
    ("read", "words"),
    [
        pytest.param({}, "acme has no score, and no other account has one: start `steward health`", id="nobody has"),
        pytest.param({"cs.health": 1}, "acme has no score, though others have: no fact of it", id="others have"),
    ],
)
def test_an_account_without_a_score_says_why_and_what_to_do(read: dict[str, int], words: str) -> None:
    account = account_of(called("Northwind"))
    why_none = explain.why_none(account, read)
    assert words in why_none
    told = why.explain_text(account, FRESH, UTC, why_none)
    assert " ".join(told.split()).endswith(why_none)
    answer = why.explain_json(account, FRESH, why_none)
    assert (answer["health"], answer["why_none"], answer["changes"]) == (None, why_none, [])


NASTY = ["[red]Bracket[/red] GmbH", "Escape \x1b[2J Ltd.", "株式会社" * 30, "W" * 480, "Ünïcode\nin two lines", ""]


@pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
def test_whatever_stands_in_a_score_the_screen_stays_in_its_columns(name: str) -> None:
    events: list[Event] = [
        scored(
            "na",
            contributions=[signal("w" * 64, group="g" * 64, evidence=[fact("i" * 200)]), lacking(why=name)],
            caps=[cap(reason=name)],
            unsure=(name,),
            profile_reason=name,
        ),
        went(reason=name, evidence=(fact("i" * 200),), deltas=(delta("w" * 64, 1),)),
    ]
    told = text(account_of(*events, id="x" * 200, name=name))
    assert max(cell_len(line) for line in told.splitlines()) <= WIDTH
    assert "\x1b" not in told
    assert "[red]" not in name or name in told


def names(value: Any) -> Any:
    """Only the names of an answer: lists by their first entry."""
    match value:
        case dict():
            return {name: names(one) for name, one in value.items()}
        case [first, *_]:
            return [names(first)]
        case _:
            return None


FACT = dict.fromkeys(["source", "id", "at"])


def test_the_json_says_the_same_in_integers_under_stable_names() -> None:
    answer = why.explain_json(FULL, FRESH, NOBODY_SAID)
    contribution = ["group", "signal", "value", "measured", "score", "trust", "weight", "points", "at", "missing"]
    change = ["n", "at", "before", "after", "score_before", "score", "cause", "reason", "cap_effect_before"]
    single = ["band", "colour", "provisional", "unsure", "since", "prior", "raw", "cap_effect", "score", "over_7_days"]
    single += ["coverage", "profile", "profile_reason", "trend", "as_of", "age_seconds", "oldest_input", "policy"]
    assert names(answer) == {
        "freshness": dict.fromkeys(["as_of", "clock", "behind_seconds", "silent", "simulated", "warnings"]),
        **dict.fromkeys(["account", "name", "owner", "why_none"]),
        "health": {
            **dict.fromkeys(single),
            "contributions": [{**dict.fromkeys(contribution), "evidence": [FACT]}],
            "caps": [{**dict.fromkeys(["code", "limit", "since", "reason"]), "evidence": [FACT]}],
            "outlook": dict.fromkeys(["band", "at"]),
        },
        "changes": [
            {
                **dict.fromkeys([*change, "cap_effect", "policy"]),
                "evidence": [FACT],
                "deltas": [dict.fromkeys(["signal", "points"])],
                "caps_began": [None],
                "caps_ended": [None],
            }
        ],
        "closings": [dict.fromkeys(["day", "at", "score", "band"])],
    }
    assert json.loads(json.dumps(answer)) == answer
    health = answer["health"]
    assert health["prior"] + sum(one["points"] for one in health["contributions"]) == health["raw"] == 59_816
    assert (health["raw"] + health["cap_effect"], health["over_7_days"]) == (health["score"], -6_210)
    assert [change["n"] for change in answer["changes"]] == [2, 1]
    assert (answer["owner"], answer["why_none"]) == ("ada", None)
