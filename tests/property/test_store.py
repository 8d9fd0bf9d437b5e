"""The store of a partition against a plain dictionary."""

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.core.processor import CLOCK_ALONE, Due
from services.runtime.engine.store import Store, pack

KEYS = ("a", "b", "c", "d", "e")
WAITS = st.none() | st.sampled_from(["crm:1", "crm:2"]) | st.frozensets(st.sampled_from(["crm", "pay"]))
DUES = st.lists(st.builds(Due, st.integers(-(1 << 62), 1 << 60), WAITS), max_size=3)


class Box(msgspec.Struct):
    number: int


class Boxes:
    """States are numbers in boxes; each is due at its number."""

    def __init__(self, version: int = 1) -> None:
        self.version, self.decoded = version, 0

    def encode(self, state: Box) -> bytes:
        return str(state.number).encode()

    def decode(self, raw: bytes, _version: int) -> Box:
        self.decoded += 1
        return Box(int(raw))

    def dues(self, state: Box) -> Sequence[Due]:
        return (Due(state.number, CLOCK_ALONE),)


def store_of(boxes: Any, used: int) -> Store[Box]:
    return Store(boxes, used)


@given(st.data())
def test_it_is_a_dictionary_whatever_it_has_decoded(data: st.DataObject) -> None:
    here, known, dirty = store_of(Boxes(), data.draw(st.integers(0, 3))), dict[str, int](), dict[str, Box]()
    for action in data.draw(
        st.lists(st.sampled_from(["set", "del", "get", "peek", "cut", "cut", "load"]), max_size=50)
    ):
        key = data.draw(st.sampled_from(KEYS))
        match action:
            case "set":
                known[key] = data.draw(st.integers(0, 10**6))
                here[key] = dirty[key] = Box(known[key])
            case "del":
                assert here.pop(key, None) == (Box(known.pop(key)) if key in known else None)
                dirty.pop(key, None)
            case "get":
                assert here.get(key) == (Box(known[key]) if key in known else None)
            case "peek":
                assert here.peek(key) == (Box(known[key]) if key in known else None)
            case "cut":
                asked = [*dirty, key]
                assert here.encode(asked) == [b"\x01%d" % known[one] if one in known else None for one in asked]
                dirty.clear()
            case _:
                here.encode([*dirty])
                here.load({name.encode(): b"\x01%d" % number for name, number in known.items()})
                dirty.clear()
        assert [*here] == [*known] or {*here} == {*known}
        assert len(here) == len(known)
        assert all(here.get(name) is box for name, box in dirty.items()), "set, and another object comes back"
    here.encode([*dirty])
    assert here.bytes == sum(1 + len(str(number)) for number in known.values())
    assert dict(here) == {name: Box(number) for name, number in known.items()}


@given(st.dictionaries(st.sampled_from(KEYS), DUES))
def test_dues_come_back_as_they_were_packed_and_decode_no_state(wanted: dict[str, list[Due]]) -> None:
    boxes = Boxes()
    here = store_of(boxes, 10)
    here.load({key.encode(): b"\x017" for key in wanted})
    packed = {key.encode(): pack(dues) for key, dues in wanted.items()}
    assert {key: list(dues) for key, dues in here.dues(packed)} == wanted
    assert boxes.decoded == 0


def test_dues_that_another_version_packed_are_not_believed() -> None:
    here = store_of(Boxes(version=2), 10)
    here.load({b"a": b"\x017", b"b": b"\x028"})
    packed = {b"a": pack([Due(1)]), b"b": pack([Due(2)])}
    assert dict(here.dues(packed)) == {"a": (Due(7, CLOCK_ALONE),), "b": (Due(2),)}


def test_what_nobody_asks_for_is_not_kept_decoded() -> None:
    boxes = Boxes()
    here = store_of(boxes, 2)
    here.load({key.encode(): b"\x017" for key in KEYS})
    for _ in range(3):
        for key in KEYS:
            here.peek(key)
    assert boxes.decoded == 15, "peeking keeps nothing"
    for _ in range(4):
        assert here["a"] == Box(7)
        for key in KEYS[1:]:
            here.get(key)
            here.encode([])
    assert boxes.decoded < 15 + 1 + 4 * 4 + 1, "what is asked for again and again stays"
    assert len(here._young) + len(here._old) <= 2 * 3
