"""The order of the attention list, whatever is open where."""

from dataclasses import replace
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from services.board.attention import Group, Row, attention
from services.board.model import Account, Deal, Handoff, Leg, Verdict
from services.core.instants import DAY
from tests.builders import minute

NOW = minute(250)
currencies = st.sampled_from(["EUR", "USD", "CHF"])


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
        Account(
            id,
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
    wanted = sorted(one.id for one in accounts if any(handoff.is_open for handoff in one.handoffs.values()))
    assert sorted(row.account for row in found.rows) == wanted
    assert sum(found.counts.values()) == len(wanted)


@given(some_accounts())
def test_no_row_stands_before_one_that_is_more_urgent(accounts: list[Account]) -> None:
    found = attention(accounts, NOW)
    groups = list(Group)
    for row, following in zip(found.rows, found.rows[1:], strict=False):
        assert groups.index(row.item.group) <= groups.index(following.item.group)
        if row.item.group is not following.item.group:
            continue
        mine, theirs = _first(row, found.currencies), _first(following, found.currencies)
        assert mine[0] <= theirs[0]
        if mine[0] == theirs[0]:
            assert mine[1] >= theirs[1]
            assert mine[1] > theirs[1] or _due(row) <= _due(following)


@given(some_accounts(), st.sampled_from(["ada", "bob", "nobody"]))
def test_an_owner_sees_what_all_see_of_that_owner(accounts: list[Account], owner: str) -> None:
    theirs = [
        replace_handoffs(
            one, {name: value for name, value in one.handoffs.items() if (value.owner or "nobody") == owner}
        )
        for one in accounts
    ]
    seen = attention(accounts, NOW, owner=owner)
    assert replace(seen, elsewhere=0) == attention(theirs, NOW)


def replace_handoffs(account: Account, handoffs: dict[str, Handoff]) -> Account:
    return Account(account.id, account.name, account.deals, handoffs)


def _first(row: Row, order: tuple[str, ...]) -> tuple[int, Decimal]:
    """The block in which a row stands, and what it is ordered by there."""
    own = [(place, row.arr[currency]) for place, currency in enumerate(order) if currency in row.arr]
    return own[0] if own else (len(order), Decimal(0))


def _due(row: Row) -> int:
    return NOW + 9999 * DAY if row.item.due is None else row.item.due


def _shuffled(account: Account, data: st.DataObject) -> Account:
    names = data.draw(st.permutations(sorted(account.handoffs)))
    deals = data.draw(st.permutations(sorted(account.deals)))
    return Account(
        account.id,
        account.name,
        {name: account.deals[name] for name in deals},
        {name: account.handoffs[name] for name in names},
    )
