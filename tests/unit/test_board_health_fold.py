"""What the view keeps of health and of owners: the last score, the last changes, a fall while it stands."""

from itertools import permutations

import pytest

from schemas.envelope import Event
from services.board.decide import CHANGES_KEPT, CLOSINGS_KEPT, encoded, is_open
from services.board.model import NAMINGS_KEPT, Course, Health, Owner
from services.core.instants import DAY
from tests.board import (
    account_of,
    assigned,
    cap,
    changed,
    closed,
    delta,
    folded,
    removed,
    scored,
    signal,
    taken,
    went,
    won,
)
from tests.builders import minute

A_DAY = 1440.0  # minutes


def health(*events: Event) -> Health:
    found = folded(events)["health"]
    assert isinstance(found, Health)
    return found


def course(*events: Event) -> Course:
    found = folded(events)["change"]
    assert isinstance(found, Course)
    return found


def test_the_last_score_counts_with_all_its_reasons() -> None:
    found = health(scored(time=9, band="red"), scored(time=5, caps=[cap()], raw=70_000))
    assert (found.band, found.score, found.raw, found.as_of, found.offset) == ("yellow", 60_000, 70_000, minute(5), 1)
    assert [one.signal for one in found.contributions] == ["two_way_contact"]
    assert found.contributions[0].evidence[0].id == "call-1"


@pytest.mark.parametrize("event", [scored(), went(), closed(0), assigned("ada")], ids=lambda event: event.type)
def test_the_offset_comes_first_in_the_json_where_the_script_looks_for_it(event: Event) -> None:
    [field] = folded([event]).values()
    assert encoded(field).startswith(b'{"offset":0,')


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(scored("red"), False, id="red is no reason by itself"),
        pytest.param(scored("na"), False, id="nor is not being known"),
        pytest.param(scored(caps=[cap("NARROW", 74_000), cap("THIN_DATA", 74_000)]), False, id="little is known"),
        pytest.param(scored(caps=[cap("NARROW", 74_000), cap("SEV1_OPEN")]), True, id="a cap that somebody could end"),
        pytest.param(scored("na", caps=[cap("SEV1_OPEN")]), True, id="also while the band is not known"),
        pytest.param(scored(caps=[cap("WEAK_LINK", 74_000)]), False, id="a weak link of a score that is low anyway"),
        pytest.param(scored(caps=[cap("WEAK_LINK", 50_000)]), True, id="a weak link that holds the score down"),
        pytest.param(scored(contributions=[signal("owner", -500, 0.5)]), True, id="no owner"),
        pytest.param(scored(contributions=[signal("owner", 500, 0.0)]), False, id="an owner"),
        pytest.param(went("green", "yellow"), True, id="a fall"),
        pytest.param(went("green", "yellow", cause="policy"), False, id="a fall by another rule"),
        pytest.param(went("green", "yellow", cause="data"), False, id="a fall by a dead connector"),
        pytest.param(went("yellow", "green"), False, id="a rise"),
        pytest.param(closed(0), False, id="the end of a day"),
        pytest.param(assigned("ada"), False, id="a name"),
    ],
)
def test_what_keeps_an_account_in_the_list(event: Event, *, expected: bool) -> None:
    [field] = folded([event]).values()
    assert is_open(field) is expected


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([went(None, "red")], None, id="the first band is no fall"),
        pytest.param([went("green", "yellow")], ("green", "yellow", 0), id="to yellow"),
        pytest.param([went("green", "red")], ("green", "red", 0), id="to red"),
        pytest.param(
            [went("green", "yellow"), went("yellow", "red", 1)], ("yellow", "red", 1), id="the last of several falls"
        ),
        pytest.param([went("green", "red"), went("red", "yellow", 1)], None, id="until the band rises"),
        pytest.param(
            [went("green", "yellow"), went("yellow", "yellow", 1, caps_began=("SEV1_OPEN",))],
            ("green", "yellow", 0),
            id="a cap changes nothing",
        ),
        pytest.param([went("green", "na")], None, id="not known is no fall"),
        pytest.param([went("green", "yellow"), went("yellow", "na", 1)], ("green", "yellow", 0), id="nor a rise"),
        pytest.param(
            [went(None, "green"), went("green", "na", 1), went("na", "yellow", 2)],
            ("green", "yellow", 2),
            id="compared with the last that was known",
        ),
        pytest.param(
            [went("green", "yellow"), went("yellow", "na", 1), went("na", "green", 2)], None, id="a rise likewise"
        ),
        pytest.param([went("na", "red")], None, id="nothing was known before"),
        pytest.param([went("green", "red"), closed(13)], ("green", "red", 0), id="for thirteen days"),
        pytest.param([went("green", "red"), closed(14)], None, id="for fourteen days at most"),
        pytest.param([went("green", "red"), went("red", "red", 14.1 * A_DAY)], None, id="a cap comes later than that"),
    ],
)
def test_a_fall_of_the_band_stands_until_it_rises_or_is_old(
    events: list[Event], expected: tuple[str, str, float] | None
) -> None:
    fell = course(*events).fell
    assert (fell and (fell.before, fell.after, fell.at)) == (expected and (*expected[:2], minute(expected[2])))


def test_the_last_changes_are_kept_and_of_the_very_last_its_details() -> None:
    events = [went("green", "yellow", number, number, deltas=(delta("owner", 1),)) for number in range(1, 15)]
    found = course(*events)
    assert [one.n for one in found.changes] == list(range(15 - CHANGES_KEPT, 15))
    assert [(len(one.evidence), len(one.deltas)) for one in found.changes] == [(0, 0)] * (CHANGES_KEPT - 1) + [(1, 1)]


def test_of_the_ends_of_days_the_last_are_kept_and_of_each_day_the_last_word() -> None:
    found = course(*(closed(day, day) for day in range(12)), closed(11, 99), closed(10, 98))
    assert [(one.score, one.at) for one in found.closings] == [
        *((day, minute((day + 1) * A_DAY - 540)) for day in range(12 - CLOSINGS_KEPT, 10)),
        (98, minute(11 * A_DAY - 540)),
        (99, minute(12 * A_DAY - 540)),
    ]
    assert found.closings[-1].at - found.closings[0].at == 7 * DAY


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([], None, id="nobody was ever named"),
        pytest.param([assigned("ada")], "ada", id="assigned"),
        pytest.param([assigned("ada", 1), assigned("bob", 2)], "bob", id="the last one"),
        pytest.param([assigned("ada", role="sponsor")], None, id="of another role"),
        pytest.param([taken("ada", 1)], "ada", id="accepted a handoff"),
        pytest.param([taken(None, 1)], None, id="accepted by nobody named"),
        pytest.param([won("1", owner="ada")], "ada", id="took it over with a deal"),
        pytest.param([assigned("ada", 1), won("1", owner="bob", time=2)], "bob", id="the deal came later"),
        pytest.param([assigned("ada", 1), won("1", time=2)], "ada", id="a deal that names nobody"),
        pytest.param([assigned("ada", 1), removed("ada", 2)], None, id="removed"),
        pytest.param([assigned("ada", 1), removed(None, 2)], None, id="removed, whoever it was"),
        pytest.param([assigned("ada", 1), removed("bob", 2)], "ada", id="somebody else was removed"),
        pytest.param([assigned("ada", 1), removed("ada", 2), taken("eve", 3)], "eve", id="followed by another"),
        pytest.param([removed("ada", 1), assigned("bob", 1)], "bob", id="in the same instant"),
        pytest.param([assigned("ada", 1, rank=5), assigned("bob", 1, rank=9)], "bob", id="by rank"),
    ],
)
def test_the_owner_is_who_was_named_last_in_whatever_order_it_is_heard(
    events: list[Event], expected: str | None
) -> None:
    for order in permutations(events):
        assert account_of(*order).owner == expected
    assert account_of(*events, *events).owner == expected


def test_of_very_many_owners_the_last_are_kept_in_whatever_order_they_come() -> None:
    events = [assigned(f"person-{number}", number) for number in range(40)]
    found = [folded(order)["owner"] for order in (events, events[::-1])]
    kept = [[one.owner for one in field.namings] for field in found if isinstance(field, Owner)]
    assert kept == [[f"person-{number}" for number in range(40 - NAMINGS_KEPT, 40)]] * 2


def test_an_open_handoff_names_no_owner_yet() -> None:
    assert account_of(changed(owner="ada")).owner is None
