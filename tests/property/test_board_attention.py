"""The order of the attention list, whatever is open where."""

from dataclasses import replace
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from services.board.attention import Attention, Group, Row, attention
from services.board.model import Account, Deal, Handoff, Leg, Naming, Verdict
from services.core.instants import DAY
from tests.board import account_of, assigned, cap, removed, scored, signal, taken, went
from tests.builders import minute

NOW = minute(250)
FIRST = {Group.BREACHED: 0, Group.URGENT: 0, Group.DUE_TODAY: 1, Group.OTHERS: 2}
currencies = st.sampled_from(["EUR", "USD", "CHF"])
health = st.lists(
    st.sampled_from(
        [
            scored(),
            scored(caps=[cap()]),
            scored("na", caps=[cap("NARROW", 74_000)]),
            scored(contributions=[signal("owner", -1, 3.0)]),
            went("green", "red"),
            went("green", "yellow"),
            went("red", "green"),
            assigned("ada", 1),
            taken("bob", 2),
            removed(None, 3),
        ]
    ),
    max_size=4,
)


@st.composite
def handoffs(draw: st.DrawFn) -> Handoff:
    due = draw(st.none() | st.integers(-200, 3000).map(minute))
    is_late = draw(st.booleans())
    breach = {"accept": {"breached": Verdict(NOW, due, 1, 0, "t")}} if is_late else {}
    return Handoff(
        1,
        "deal",
        draw(st.sampled_from(["open", "paused", "accepted", ""])),
        draw(st.sampled_from(["ada", "bob", None])),
        legs=(Leg("accept", due, "office:1"),),
        reached=breach,
    )


@st.composite
def some_accounts(draw: st.DrawFn) -> list[Account]:
    ids = draw(st.lists(st.sampled_from("abcdefgh"), unique=True))
    deal = st.builds(lambda amount, currency: Deal(1, True, None, str(amount), currency), st.integers(0, 9), currencies)
    return [
        account_of(
            *draw(health),
            id=id,
            deals=draw(st.dictionaries(st.sampled_from("12"), deal)),
            handoffs=draw(st.dictionaries(st.sampled_from("xyz"), handoffs())),
        )
        for id in ids
    ]


@given(some_accounts(), st.data())
def test_the_order_in_which_accounts_come_changes_nothing(accounts: list[Account], data: st.DataObject) -> None:
    owner = data.draw(st.sampled_from([None, "ada", "nobody"]))
    shuffled = [_shuffled(account, data) for account in data.draw(st.permutations(accounts))]
    assert attention(shuffled, NOW, owner=owner) == attention(accounts, NOW, owner=owner)


@given(some_accounts())
def test_every_account_with_something_open_has_one_row(accounts: list[Account]) -> None:
    found = attention(accounts, NOW)
    wanted = sorted(one.id for one in accounts if _has_reasons(one) or any(_open(one)))
    assert sorted(row.account for row in found.rows) == wanted
    assert sum(found.counts.values()) == len(wanted)


@given(some_accounts())
def test_no_row_stands_before_one_that_is_more_urgent(accounts: list[Account]) -> None:
    found = attention(accounts, NOW)
    for row, following in zip(found.rows, found.rows[1:], strict=False):
        assert FIRST[row.item.group] <= FIRST[following.item.group]
        if FIRST[row.item.group] < FIRST[following.item.group]:
            continue
        mine, theirs = _first(row, found.currencies), _first(following, found.currencies)
        assert mine[0] <= theirs[0]
        if mine[0] == theirs[0]:
            assert mine[1] >= theirs[1]
            assert mine[1] > theirs[1] or _due(row) <= _due(following)


@given(some_accounts(), st.sampled_from(["ada", "bob", "nobody"]))
def test_an_owner_sees_what_all_see_of_that_owner(accounts: list[Account], owner: str) -> None:
    seen = attention(accounts, NOW, owner=owner)
    theirs = [_of(one, owner) for one in accounts]
    assert _without_health(replace(seen, elsewhere=0)) == _without_health(attention(theirs, NOW))


def _of(account: Account, owner: str) -> Account:
    """Only what waits for that person."""
    mine = {name: value for name, value in account.handoffs.items() if (value.owner or "nobody") == owner}
    receivers = [value.owner for _, value in sorted(account.handoffs.items()) if value.is_open and value.owner]
    if (account.owner or next(iter(receivers), "nobody")) != owner:
        return structs.replace(account, handoffs=mine, health=None, course=None)
    named = () if owner == "nobody" else (Naming((0, 1, 0, "", ""), is_named=True, owner=owner),)
    return structs.replace(account, handoffs=mine, namings=named)


def _without_health(found: Attention) -> Attention:
    """A row shows the score also where it stands there for another reason."""
    return replace(found, rows=tuple(replace(row, health=None, week=None) for row in found.rows))


def _has_reasons(account: Account) -> bool:
    fell = account.course is not None and account.course.fell is not None
    return fell or (account.health is not None and account.health.is_open)


def _open(account: Account) -> list[bool]:
    return [handoff.is_open for handoff in account.handoffs.values()]


def _first(row: Row, order: tuple[str, ...]) -> tuple[int, Decimal]:
    """The block in which a row stands, and what it is ordered by there."""
    own = [(place, row.arr[currency]) for place, currency in enumerate(order) if currency in row.arr]
    return own[0] if own else (len(order), Decimal(0))


def _due(row: Row) -> int:
    return NOW + 9999 * DAY if row.item.due is None else row.item.due


def _shuffled(account: Account, data: st.DataObject) -> Account:
    names = data.draw(st.permutations(sorted(account.handoffs)))
    deals = data.draw(st.permutations(sorted(account.deals)))
    return structs.replace(
        account,
        deals={name: account.deals[name] for name in deals},
        handoffs={name: account.handoffs[name] for name in names},
    )
