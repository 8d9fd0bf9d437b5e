"""What an account is worth and how it is called, in whatever order its facts come."""

from itertools import permutations

import pytest

from schemas.envelope import Event
from schemas.notices import Notice
from tests.alerting_timeline import Office, upserted, valued, verdict, won


def told(*events: Event) -> Notice:
    """What a notice says after these events, one batch each."""
    office = Office()
    for event in events:
        office.hears(event)
    office.hears(verdict("at_risk"))
    data = office.noticed[0].data
    assert isinstance(data, Notice)
    return data


ONE, TWO = "crm:deal:1", "crm:deal:2"


@pytest.mark.parametrize(
    ("facts", "amount"),
    [
        pytest.param([won(ONE, "100", "EUR")], "100", id="one deal"),
        pytest.param([won(ONE, "100.5", "EUR"), won(TWO, "20.25", "EUR")], "120.75", id="the sum of two"),
        pytest.param([won(ONE, "100", "EUR"), valued(TWO, "900")], "100", id="what is not won does not count"),
        pytest.param([won(ONE), valued(ONE, "70")], "70", id="worth and winning apart"),
        pytest.param([won(ONE, "100", "EUR", at=1), valued(ONE, "70", at=2)], "70", id="the last word counts"),
        pytest.param([won(ONE, "100", "EUR", at=3), valued(ONE, "70", at=2)], "100", id="winning was the last word"),
        pytest.param(
            [won(ONE), valued(ONE, "70", id="a"), valued(ONE, "80", id="b")], "80", id="one instant: the greater id"
        ),
        pytest.param([won(ONE, "100", "EUR"), won(TWO, "5", "USD")], None, id="two currencies are not added"),
        pytest.param([won(ONE)], None, id="not known"),
        pytest.param(
            [won(ONE, "9" * 12, "EUR"), won(TWO, "1", "EUR")], None, id="more than an amount can say is left out"
        ),
    ],
)
def test_an_account_is_worth_its_won_deals_in_any_order(facts: list[Event], amount: str | None) -> None:
    assert {told(*order).amount for order in permutations([*facts, facts[0]])} == {amount}


def test_the_latest_name_counts_in_any_order() -> None:
    names = [upserted("Old", 1), upserted("New", 2, "b"), upserted("Older", 0, "c")]
    assert {told(*order).account_name for order in permutations(names)} == {"New"}


def test_the_names_of_people_come_from_the_policy() -> None:
    notice = told()
    assert (notice.owner_name, notice.recipient_name) == ("Ada", "Ada")
