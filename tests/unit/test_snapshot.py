"""What a changelog's records say, taken one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.runtime.engine.partition import DUES, META
from services.runtime.engine.restore import Snapshot
from services.runtime.kafka import Header


@dataclass
class Bare:
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header] = ()


def taken(*records: Bare) -> Snapshot:
    snapshot = Snapshot()
    snapshot.take(records, 0)
    return snapshot


def test_the_last_record_of_a_key_counts_and_none_stays_of_a_tombstone() -> None:
    found = taken(Bare(0, b"a", b"1"), Bare(1, b"b", b"2"), Bare(2, b"a", b"3"), Bare(3, b"b", None))
    assert found.states == {b"a": b"3"}


def test_the_last_meta_counts_with_its_offset() -> None:
    found = taken(Bare(4, META, b"old"), Bare(5, b"a", b"1"), Bare(7, META, b"new"))
    assert (found.raw, found.offset, found.states, found.read) == (b"new", 7, {b"a": b"1"}, 8)


def test_only_a_header_of_that_name_is_taken_for_due_times() -> None:
    found = taken(Bare(0, b"a", b"1", [(DUES, b"x")]), Bare(1, b"b", b"1", [("copied-by", b"y")]))
    assert found.dues == {b"a": b"x"}


def test_a_state_that_stands_there_without_due_times_takes_back_the_earlier_ones() -> None:
    assert taken(Bare(0, b"a", b"1", [(DUES, b"x")]), Bare(1, b"a", b"2")).dues == {}
