"""Who needs somebody for the sake of health: the reasons, the sentence, whose step it is, and how urgent."""

import pytest

from schemas.envelope import Event
from services.board.attention import Group, Item, attention
from services.board.model import Account
from tests.board import (
    account_of,
    assigned,
    cap,
    changed,
    closed,
    delta,
    removed,
    scored,
    signal,
    taken,
    verdict,
    went,
    won,
)
from tests.builders import minute

NOW = minute(250)
A_DAY = 1440.0  # minutes
BREACH = cap("HANDOFF_BREACH", 65_000, "handoff deal-1 is late")


def items(*events: Event, owner: str | None = None) -> list[Item]:
    return [row.item for row in attention([account_of(*events)], NOW, owner=owner).rows]


def item(*events: Event) -> Item:
    [found] = items(*events)
    return found


MOVED = (delta("activity", -3_240), delta("two_way_contact", -8_410), delta("owner", 40))


@pytest.mark.parametrize(
    ("events", "group", "state", "reasons", "why"),
    [
        pytest.param(
            [went("green", "yellow", 70, deltas=MOVED)],
            Group.OTHERS,
            "fell",
            ["FELL"],
            "Fell from Green to Yellow 3 h ago as time passed: two way contact -8.4, activity -3.2",
            id="a fall to yellow",
        ),
        pytest.param(
            [went("yellow", "red", 240, cause="events", deltas=(delta("open_load", -12_000),))],
            Group.URGENT,
            "fell",
            ["FELL"],
            "Fell from Yellow to Red 10 min ago as facts came: open load -12.0",
            id="a fall to red",
        ),
        pytest.param(
            [went("green", "yellow", 70, cause="cap", reason="WEAK_LINK began: engagement", deltas=MOVED)],
            Group.OTHERS,
            "fell",
            ["FELL"],
            "Fell from Green to Yellow 3 h ago: WEAK_LINK began: engagement",
            id="a fall by a cap",
        ),
        pytest.param(
            [scored(caps=[cap()])],
            Group.URGENT,
            "capped",
            ["SEV1_OPEN"],
            "SEV1_OPEN holds the score at 60.0 at most: ticket T-1 is open",
            id="a cap that is urgent",
        ),
        pytest.param(
            [scored(caps=[cap("NO_OWNER", 70_000, "nobody owns it.")])],
            Group.OTHERS,
            "no owner",
            ["NO_OWNER"],
            "NO_OWNER holds the score at 70.0 at most: nobody owns it",
            id="a cap that is not",
        ),
        pytest.param(
            [
                scored(caps=[cap("NO_OWNER", 70_000, "nobody owns it"), cap()]),
                went("green", "yellow", 130, cause="cap", caps_began=("SEV1_OPEN",)),
            ],
            Group.URGENT,
            "fell",
            ["FELL", "NO_OWNER", "SEV1_OPEN"],
            "Fell from Green to Yellow 2 h ago; NO_OWNER holds the score at 70.0 at most: nobody owns it; "
            "SEV1_OPEN holds the score at 60.0 at most: ticket T-1 is open",
            id="a cap that is told is not told twice",
        ),
        pytest.param(
            [scored(), went("green", "yellow", 130, cause="cap", reason="SEV1_OPEN began", caps_began=("SEV1_OPEN",))],
            Group.OTHERS,
            "fell",
            ["FELL"],
            "Fell from Green to Yellow 2 h ago: SEV1_OPEN began",
            id="a cap that ended",
        ),
        pytest.param(
            [scored(contributions=[signal("owner", -400, 3.5, "ownership")])],
            Group.OTHERS,
            "no owner",
            ["OWNER_MISSING"],
            "Nobody has owned it for at least 3.5 working hours",
            id="no owner",
        ),
        pytest.param(
            [scored(contributions=[signal("owner", -400, 17, "ownership")], caps=[cap("NO_OWNER", 70_000, "a gap")])],
            Group.OTHERS,
            "no owner",
            ["NO_OWNER"],
            "NO_OWNER holds the score at 70.0 at most: a gap",
            id="no owner, for so long that a cap holds",
        ),
        pytest.param(
            [scored(caps=[BREACH])],
            Group.URGENT,
            "capped",
            ["HANDOFF_BREACH"],
            "HANDOFF_BREACH holds the score at 65.0 at most: handoff deal-1 is late",
            id="a breach of a handoff that is not shown",
        ),
    ],
)
def test_the_sentence_names_cause_and_what_moved_most(
    events: list[Event], group: Group, state: str, reasons: list[str], why: str
) -> None:
    found = item(*events)
    assert (found.group, found.state, list(found.reasons), found.why) == (group, state, reasons, why)
    assert (found.handoff, found.due) == (None, None)


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([scored("red")], id="red, but not fallen"),
        pytest.param([scored("na", unsure=("coverage is 0.4",))], id="a band that is not known"),
        pytest.param([scored(caps=[cap("THIN_DATA", 74_000), cap("NARROW", 74_000)])], id="little data"),
        pytest.param([scored(), went("green", "red", -14.2 * A_DAY)], id="a fall more than fourteen days ago"),
        pytest.param([scored(), went("yellow", "green")], id="a rise"),
        pytest.param([closed(0)], id="the end of a day"),
    ],
)
def test_an_account_without_a_reason_to_act_is_not_in_the_list(events: list[Event]) -> None:
    assert items(*events) == []


def test_a_breach_that_is_listed_as_a_handoff_is_no_second_thing() -> None:
    late = account_of(changed(), verdict("breached"), scored(caps=[BREACH]))
    [row] = attention([late], NOW).rows
    assert (row.item.group, row.more) == (Group.BREACHED, 0)
    assert row.health is not None


@pytest.mark.parametrize(
    ("events", "owner"),
    [
        pytest.param([], "nobody", id="nobody is known"),
        pytest.param([assigned("ada")], "ada", id="whoever owns the account"),
        pytest.param([taken("eve"), changed("accepted", owner="ada")], "eve", id="whoever accepted it last"),
        pytest.param([won("1", owner="bob")], "bob", id="whoever takes it over"),
        pytest.param([changed(owner="ada")], "ada", id="whom it is being handed to"),
        pytest.param([assigned("eve"), changed(owner="ada")], "eve", id="until then whoever owns it"),
        pytest.param([assigned("eve"), removed("eve", 1), changed(owner="ada")], "ada", id="not any more"),
        pytest.param([changed(owner=None)], "nobody", id="handed to nobody"),
        pytest.param([changed("cancelled", owner="ada")], "nobody", id="a handoff that is over"),
    ],
)
def test_the_next_step_is_the_owners(events: list[Event], owner: str) -> None:
    found = items(went("green", "red"), *events, owner=owner)
    assert [one.owner for one in found if one.kind == "health"] == [owner]
    assert not items(went("green", "red"), *events, owner="somebody else")


def account(id: str, amount: str, *events: Event) -> Account:
    return account_of(won("1", amount), *events, id=id)


def test_what_is_urgent_stands_among_the_breaches_by_worth() -> None:
    found = attention(
        [
            account("yellow", "99", went("green", "yellow")),
            account("today", "98", changed(due=400)),
            account("late", "2", changed(), verdict("breached")),
            account("red", "1", went("green", "red")),
            account("sev1", "3", scored(caps=[cap()])),
        ],
        NOW,
    )
    assert [row.account for row in found.rows] == ["sev1", "late", "red", "today", "yellow"]
    assert found.counts == {Group.BREACHED: 1, Group.URGENT: 2, Group.DUE_TODAY: 1, Group.OTHERS: 1}


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        pytest.param(range(8), 69_000 - 100, id="a week of days"),
        pytest.param(range(20), 69_000 - 1_300, id="the last eight ends of days"),
        pytest.param(range(7), None, id="a day too few"),
        pytest.param([0, *range(2, 9)], None, id="that day is missing"),
        pytest.param([0, 7], 69_000 - 100, id="what lies between is not asked"),
        pytest.param([], None, id="none"),
    ],
)
def test_the_difference_is_to_the_end_of_the_day_a_week_before_the_last(days: list[int], expected: int | None) -> None:
    events = [scored(caps=[cap(limit=69_000)], raw=80_000), *(closed(day, 100 * (day + 1)) for day in days)]
    [row] = attention([account_of(*events)], NOW).rows
    assert row.week == expected


def test_a_week_in_which_the_clocks_were_changed_is_a_week() -> None:
    ends = [closed(day, 100, shift=60 * (day > 3)) for day in range(8)]
    [row] = attention([account_of(scored(caps=[cap()]), *ends)], NOW).rows
    assert row.week == 58_750 - 100
