"""Who needs somebody now: the sentence, the group, the order, and how fresh the list is."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

import pytest

from schemas.envelope import Event
from services.board.attention import Attention, Group, attention, freshness, why_empty
from services.board.model import Account, AsOf, Deal, Handoff, Heard, Leg
from services.board.words import plain, span
from services.core.instants import DAY, HOUR, MINUTE, SECOND
from tests.board import account_of, alerted, changed, folded, taken_back, verdict
from tests.builders import ACCOUNT, minute

NOW = minute(250)  # 13:10 of a Monday
HOURS_LATE = 250 - 60


def account(*events: Event, id: str = ACCOUNT, arr: Sequence[tuple[str, str]] = ()) -> Account:
    deals = {str(number): _worth(amount, currency) for number, (amount, currency) in enumerate(arr)}
    return account_of(*events, id=id, name=id.title(), deals=deals)


def _worth(amount: str, currency: str) -> Deal:
    return Deal(0, won=True, order=(0, 0, "", ""), amount=amount, currency=currency)


@pytest.mark.parametrize(
    ("events", "group", "why"),
    [
        pytest.param(
            [changed(due=60), verdict("breached")],
            "breached",
            "Deal handoff deal-1 to ada is 3 h 10 min late",
            id="late",
        ),
        pytest.param(
            [changed("paused", due=None), verdict("breached")],
            "breached",
            "Deal handoff deal-1 to ada is paused; it was due 3 h 10 min ago",
            id="late and paused",
        ),
        pytest.param(
            [changed(due=400)], "due_today", "Deal handoff deal-1 to ada is due in 2 h 30 min", id="later today"
        ),
        pytest.param(
            [changed(due=249)],
            "due_today",
            "Deal handoff deal-1 to ada was due 1 min ago; whether it is late is not settled yet",
            id="due, not yet published as late",
        ),
        pytest.param(
            [changed(due=400), verdict("breached"), taken_back("breached")],
            "due_today",
            "Deal handoff deal-1 to ada is due in 2 h 30 min",
            id="late, then taken back",
        ),
        pytest.param([changed(due=2000)], "others", "Deal handoff deal-1 to ada is due in 1 d 5 h", id="another day"),
        pytest.param([changed("paused", due=None)], "others", "Deal handoff deal-1 to ada is paused", id="paused"),
        pytest.param(
            [changed(due=None)], "others", "Deal handoff deal-1 to ada is open and has no due time", id="no clock"
        ),
        pytest.param(
            [changed(due=400, owner=None)],
            "due_today",
            "Deal handoff deal-1 to nobody is due in 2 h 30 min",
            id="nobody's",
        ),
        pytest.param(
            [changed("accepted"), alerted("raised")],
            "others",
            "Alert on Deal handoff deal-1, which is accepted, is not resolved",
            id="an alert whose handoff is over",
        ),
        pytest.param(
            [alerted("raised")],
            "breached",
            "Alert on Deal handoff deal-1, stage breached, is not resolved",
            id="an alert whose handoff is unknown",
        ),
    ],
)
def test_the_sentence_says_what_is_open_and_how_late(events: list[Event], group: str, why: str) -> None:
    [row] = attention([account(*events)], NOW).rows
    assert (row.item.group.value, row.item.why) == (group, why)


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([changed("accepted")], id="accepted"),
        pytest.param([changed("cancelled"), verdict("breached")], id="cancelled"),
        pytest.param([verdict("breached")], id="only a verdict"),
        pytest.param([changed("accepted"), alerted("raised"), alerted("resolved", over=True)], id="resolved"),
        pytest.param([changed("accepted"), alerted("raised"), alerted("retracted")], id="retracted"),
        pytest.param([changed("accepted"), alerted("held")], id="held"),
        pytest.param([], id="nothing"),
    ],
)
def test_an_account_with_nothing_open_is_not_in_the_list(events: list[Event]) -> None:
    assert attention([account(*events)], NOW).rows == ()


def test_an_alert_of_an_open_handoff_is_no_second_thing() -> None:
    [row] = attention([account(changed(), verdict("breached"), alerted("raised"))], NOW).rows
    assert row.more == 0


def test_the_most_urgent_stands_for_the_account_and_the_others_are_counted() -> None:
    many = account(
        changed(due=300, handoff="deal-1"),
        changed(due=400, handoff="deal-2"),
        changed(due=2000, handoff="deal-3"),
        verdict("breached", due=400, handoff="deal-2"),
    )
    [row] = attention([many], NOW).rows
    assert (row.item.handoff, row.more) == ("deal-2", 2)


def test_of_several_late_clocks_the_one_that_is_late_for_longest_is_named() -> None:
    base = folded([changed(), verdict("breached")])["handoff:deal-1"]
    assert isinstance(base, Handoff)
    breach = base.reached["accept"]["breached"]
    legs = (Leg("late", minute(100), "c"), Leg("later", minute(40), "c"), Leg("next", minute(10), "c"))
    reached = {"late": {"breached": breach}, "later": {"breached": breach}}
    handoff = Handoff(1, "deal", "open", "ada", legs=legs, reached=reached)
    [row] = attention([Account("acme", handoffs={"deal-1": handoff})], NOW).rows
    assert (row.item.leg, row.item.due) == ("later", minute(40))
    assert row.item.why == "Deal handoff deal-1 to ada is 3 h 30 min late (later)"


def rows(*accounts: Account, owner: str | None = None) -> list[str]:
    return [row.account for row in attention(accounts, NOW, owner=owner).rows]


def due(id: str, minutes: float, *arr: tuple[str, str], owner: str = "ada", handoff: str = "deal-1") -> Account:
    return account(changed(due=minutes, owner=owner, handoff=handoff), id=id, arr=arr)


@pytest.mark.parametrize(
    ("accounts", "expected"),
    [
        pytest.param(
            [due("rest", 5000, ("9", "EUR")), due("today", 300), account(changed(), verdict("breached"), id="late")],
            ["late", "today", "rest"],
            id="groups come first",
        ),
        pytest.param(
            [due("small", 300, ("9.5", "EUR")), due("large", 400, ("10", "EUR"))],
            ["large", "small"],
            id="then ARR, as a number",
        ),
        pytest.param([due("later", 400), due("sooner", 300)], ["sooner", "later"], id="then due"),
        pytest.param([due("b", 300), due("a", 300)], ["a", "b"], id="then the id"),
        pytest.param(
            [due("none", 300), due("zero", 300, ("0", "EUR"))], ["zero", "none"], id="without ARR behind all with"
        ),
        pytest.param(
            [
                due("usd", 300, ("1000000", "USD")),
                due("eur-1", 300, ("1", "EUR")),
                due("eur-2", 300, ("2", "EUR")),
            ],
            ["eur-2", "eur-1", "usd"],
            id="the most common currency first",
        ),
        pytest.param(
            [due("usd", 300, ("5", "USD")), due("eur", 300, ("1", "EUR"))],
            ["eur", "usd"],
            id="of equally common ones the first by name",
        ),
        pytest.param(
            [
                due("both", 300, ("999", "USD"), ("2", "EUR")),
                due("eur", 300, ("3", "EUR")),
                due("usd", 300, ("5", "USD")),
                due("eur-4", 300, ("4", "EUR")),
            ],
            ["eur-4", "eur", "both", "usd"],
            id="several currencies are not added up",
        ),
    ],
)
def test_the_order_of_the_list(accounts: list[Account], expected: list[str]) -> None:
    assert rows(*accounts) == expected


def test_only_what_waits_for_an_owner_counts_for_that_owner() -> None:
    late = account(changed(handoff="deal-1", owner="bob"), verdict("breached"), changed(due=300, handoff="deal-2"))
    found = attention([late, due("other", 300, owner="bob")], NOW, owner="ada")
    [row] = found.rows
    assert (row.item.handoff, row.item.group, row.more, found.elsewhere) == ("deal-2", Group.DUE_TODAY, 0, 1)
    assert rows(late, due("other", 300, owner="bob"), owner="eve") == []


def test_counts_count_accounts() -> None:
    late = account(changed(), verdict("breached"), id="late")
    found = attention([late, due("a", 300), due("b", 300), due("c", 9000)], NOW)
    assert found.counts == {Group.BREACHED: 1, Group.URGENT: 0, Group.DUE_TODAY: 2, Group.OTHERS: 1}


@pytest.mark.parametrize(
    ("zone", "minutes", "group"),
    [
        pytest.param("UTC", 899, Group.DUE_TODAY, id="the last minute of the day"),
        pytest.param("UTC", 900, Group.OTHERS, id="midnight is tomorrow"),
        pytest.param("Europe/Berlin", 839, Group.DUE_TODAY, id="an hour ahead"),
        pytest.param("Europe/Berlin", 840, Group.OTHERS, id="midnight there"),
        pytest.param("Asia/Tokyo", 360, Group.OTHERS, id="their day ends earlier"),
        pytest.param("America/New_York", 1199, Group.DUE_TODAY, id="their day ends later"),
    ],
)
def test_today_is_the_calendar_day_of_the_clock_in_the_zone(zone: str, minutes: float, group: Group) -> None:
    [row] = attention([due("acme", minutes)], NOW, ZoneInfo(zone)).rows
    assert row.item.group is group


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (0, "less than a minute"),
        (-5 * SECOND, "less than a minute"),
        (MINUTE - 1, "less than a minute"),
        (MINUTE, "1 min"),
        (HOUR - 1, "59 min"),
        (HOUR, "1 h"),
        (3 * HOUR + 10 * MINUTE, "3 h 10 min"),
        (DAY, "1 d"),
        (2 * DAY + 5 * HOUR + 59 * MINUTE, "2 d 5 h"),
    ],
)
def test_a_span_is_told_in_its_two_largest_units(time: int, words: str) -> None:
    assert span(time) == words


@pytest.mark.parametrize(
    ("heard", "as_of", "simulated", "behind", "warning"),
    [
        pytest.param(0, 0, False, 0.0, None, id="up to date"),
        pytest.param(-0.1, -0.3, False, 0.3, None, id="a moment behind"),
        pytest.param(2, 2, False, 0.0, None, id="the clock of the writer goes before"),
        pytest.param(-1, -90, False, 90.0, "1 min behind the clock and catching up", id="catching up"),
        pytest.param(-300, -300, False, 300.0, "heard nothing of the clock for 5 min", id="no mark any more"),
        pytest.param(-9e6, -9e6 - 0.2, True, 0.2, None, id="simulated days are not compared with ours"),
    ],
)
def test_how_fresh_the_view_is(heard: float, as_of: float, simulated: bool, behind: float, warning: str | None) -> None:
    at = minute(0)
    found = freshness(
        Heard(1, at + int(heard * SECOND), ("helpdesk",), simulated), AsOf(1, at + int(as_of * SECOND)), at
    )
    assert (found.behind, found.silent) == (int(behind * SECOND), ("helpdesk",))
    assert (warning in found.warnings[0]) if warning else (found.warnings == ())


@pytest.mark.parametrize(
    ("read", "owner", "elsewhere", "words"),
    [
        pytest.param({}, None, 0, "nothing was ever published", id="nothing at all"),
        pytest.param({"crm.ownership": 3}, None, 0, "are `steward handoff` and `steward health` ", id="facts only"),
        pytest.param({"crm.interactions": 3}, None, 0, "neither a handoff nor a score", id="contacts only"),
        pytest.param({"cs.health": 1}, None, 0, "There is nothing to do", id="all well"),
        pytest.param({"crm.ownership": 3, "cs.handoffs": 1}, None, 0, "There is nothing to do", id="all closed"),
        pytest.param({"cs.handoffs": 9}, "eve", 4, "Nothing waits for eve; 4 other accounts", id="another's"),
    ],
)
def test_an_empty_list_says_why(read: dict[str, int], owner: str | None, elsewhere: int, words: str) -> None:
    assert words in why_empty(Attention((), {}, (), elsewhere), read, owner)


def test_what_a_terminal_would_obey_is_taken_out() -> None:
    assert plain("Bolt \x1b[31m\x9b1m\u202e Ünïcode 株") == "Bolt �[31m�1m� Ünïcode 株"
