"""The shipped map of a log of purchases, on a file as it describes one, and on real purchases in that shape."""

import csv
import gzip
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.interactions import PurchaseMade
from schemas.topics import INTERACTIONS
from services.core.instants import instant, moment
from services.ingest.files import History, Homed, read
from services.ingest.mapping import TOPICS, MapFile, Reject, RowFacts, fit
from services.runtime.documents import load

MAP = load(Path(__file__).parents[2] / "deploy/mapping/purchases.yaml", MapFile)
HEADER = ["customer", "date", "amount"]
NOW = instant(datetime(2026, 11, 22, tzinfo=UTC))


def bought(fact: Homed) -> PurchaseMade:
    event = fact.draft.event(MAP.source, "acc_1")
    assert isinstance(event, PurchaseMade)
    return event


def history(path: Path, rows: Iterable[Sequence[str]], header: Sequence[str] = HEADER) -> History:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return read(path, MAP, NOW)


def test_a_log_gives_a_purchase_for_each_row_in_order_of_days(tmp_path: Path) -> None:
    rows = [["7", "19970112", "77.00"], ["2", "19970112", "12"], ["7", "19970101", "11.7725"]]
    with history(tmp_path / "cds.csv", rows) as found:
        facts = list(found.in_order())
    assert [(fact.home, fact.draft.id) for fact in facts] == [
        ("shop:customer:7", "cds:3.0"),
        ("shop:customer:7", "cds:1.0"),
        ("shop:customer:2", "cds:2.0"),
    ]
    events = [bought(fact) for fact in facts]
    assert [str(event.time) for event in events] == ["1997-01-01 00:00:00+00:00"] + ["1997-01-12 00:00:00+00:00"] * 2
    assert [(event.data.amount, event.data.currency) for event in events] == [
        ("11.7725", "USD"),
        ("77.00", "USD"),
        ("12", "USD"),
    ]
    assert TOPICS[PurchaseMade] is INTERACTIONS


def test_further_columns_are_ignored(tmp_path: Path) -> None:
    header = ["customer", "date", "number_of_cds", "amount"]
    with history(tmp_path / "cds.csv", [["1", "19970101", "2", "9.99"]], header) as found:
        assert [bought(fact).data.amount for fact in found.in_order()] == ["9.99"]


REFUSED = {
    "a day that is none": (["1", "19970230", "1"], "the time '19970230' is not of the form %Y%m%d"),
    "a day in ISO": (["1", "1997-01-01", "1"], "the time '1997-01-01' is not of the form %Y%m%d"),
    "no customer": (["", "19970101", "1"], "account.home needs 'shop:customer:{customer}', and a cell that it names"),
    "no amount": (["1", "19970101", ""], "data: amount and currency belong together; give both or neither"),
    "an amount below zero": (["1", "19970101", "-1"], "data.amount: string should match pattern"),
    "tomorrow": (["1", "20261123", "1"], "the time '20261123' lies in the future"),
}


@pytest.mark.parametrize(("row", "why"), REFUSED.values(), ids=REFUSED)
def test_a_row_that_is_no_purchase_is_refused(row: list[str], why: str) -> None:
    said = fit(MAP, HEADER, "cds").read(1, 2, row, NOW)
    assert isinstance(said, Reject)
    assert said.reason.startswith(why)


@given(
    day=st.dates(datetime(1990, 1, 1, tzinfo=UTC).date(), datetime(2026, 11, 22, tzinfo=UTC).date()),
    customer=st.text("0123456789abcXYZ-", min_size=1, max_size=20),
    cents=st.integers(0, 10**9),
)
def test_any_purchase_is_read_as_it_stands_there(day: datetime, customer: str, cents: int) -> None:
    amount = f"{cents // 100}.{cents % 100:02}"
    said = fit(MAP, HEADER, "cds").read(5, 6, [customer, f"{day:%Y%m%d}", amount], NOW)
    assert isinstance(said, RowFacts)
    (draft,) = said.drafts
    assert said.home == f"shop:customer:{customer}"
    assert str(moment(draft.at)) == f"{day} 00:00:00+00:00"
    assert draft.data == {"amount": amount, "currency": "USD"}


@pytest.mark.data
def test_every_real_purchase_fits_the_map(shared_data: Path, tmp_path: Path) -> None:
    lines = gzip.decompress((shared_data / "transactions/CDNOW_master.txt.gz").read_bytes()).decode().splitlines()
    log = [[customer, date, amount] for customer, date, _, amount in map(str.split, lines[1:])]
    with history(tmp_path / "cdnow.csv", log) as found:
        facts = list(found.in_order())
        assert (found.rows, found.rejects) == (69_659, 0)
        assert len(found.homes()) == 23_570
    assert len(facts) == len({fact.draft.id for fact in facts}) == 69_659
    days = [moment(fact.draft.at) for fact in facts]
    assert days == sorted(days)
    assert (days[0], days[-1]) == (datetime(1997, 1, 1, tzinfo=UTC), datetime(1998, 6, 30, tzinfo=UTC))
    assert {day - day.replace(hour=0, minute=0) for day in days} == {timedelta(0)}
