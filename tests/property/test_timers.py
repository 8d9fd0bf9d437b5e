"""The due index against a dictionary that is searched from end to end."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from services.core.processor import CLOCK_ALONE, LIVE, Due, Wait
from services.runtime.engine.timers import Timers

keys = st.sampled_from("abcdefgh")
waits = st.sampled_from([CLOCK_ALONE, LIVE, frozenset({"crm"}), "crm:1"])
dues = st.dictionaries(waits, st.integers(0, 50), max_size=3)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("arm"), keys, dues),
        st.tuples(st.just("pop"), st.dictionaries(waits, st.integers(0, 60)), st.integers(1, 9)),
        st.tuples(st.just("restore"), st.none(), st.none()),
    ),
    max_size=60,
)


@dataclass
class Naive:
    """What is armed, by key and wait."""

    armed: dict[str, dict[Wait, int]] = field(default_factory=dict)

    def due(self, reached: dict[Wait, int]) -> set[str]:
        return {
            key for key, dues in self.armed.items() if any(at <= reached.get(wait, -1) for wait, at in dues.items())
        }

    def loaded(self) -> Timers:
        timers = Timers()
        timers.load((key, listed(dues)) for key, dues in self.armed.items())
        return timers


def listed(dues: dict[Wait, int]) -> list[Due]:
    return [Due(at, wait) for wait, at in dues.items()]


def drained(timers: Timers) -> list[tuple[int, Wait, set[str]]]:
    """Who is woken at which instant of which clock alone, to the end."""
    found = []
    for wait in (CLOCK_ALONE, LIVE, frozenset({"crm"}), "crm:1"):
        for now in range(51):
            woken = timers.pop(lambda asked: now if asked == wait else -1, 99)  # noqa: B023  # called at once
            found += [(now, wait, set(woken))] if woken else []
    return found


@given(steps)
def test_it_wakes_whom_the_dictionary_would_and_each_once(told: list[tuple[str, object, object]]) -> None:
    timers, naive = Timers(), Naive()
    for step, first, second in told:
        if step == "arm":
            assert isinstance(first, str)
            assert isinstance(second, dict)
            timers.arm(first, listed(second))
            naive.armed[first] = dict(second)
            continue
        if step == "restore":
            timers = naive.loaded()
            continue
        assert isinstance(first, dict)
        assert isinstance(second, int)
        due = naive.due(first)
        late = [
            first[wait] - at for dues in naive.armed.values() for wait, at in dues.items() if at <= first.get(wait, -1)
        ]
        assert timers.overdue(lambda wait: first.get(wait, -1)) == max(late, default=0)  # noqa: B023  # called at once
        woken = timers.pop(lambda wait: first.get(wait, -1), second)  # noqa: B023  # called at once
        assert len(timers.taken) == len(woken)
        for key, (wait, waited) in zip(woken, timers.taken, strict=True):
            assert naive.armed[key][wait] == first[wait] - waited
        assert len(woken) == len(set(woken)) == min(second, len(due))
        assert set(woken) <= due
        for key in woken:  # as the engine does: whoever was woken says anew what it waits for
            timers.arm(key, ())
            naive.armed.pop(key)
    assert len(timers) == sum(map(len, naive.armed.values()))
    assert drained(timers) == drained(naive.loaded()), "the index that a restore would build is another one"
    assert not timers._heaps, "nothing is armed, and something is kept"


@given(st.lists(st.tuples(keys, dues), max_size=200))
def test_stale_entries_are_bounded_for_each_thing_waited_for(told: list[tuple[str, dict[Wait, int]]]) -> None:
    timers, armed = Timers(), dict[str, dict[Wait, int]]()
    for key, wanted in told:
        timers.arm(key, listed(wanted))
        armed[key] = wanted
    for wait, heap in timers._heaps.items():
        assert heap.live == sum(wait in dues for dues in armed.values())


def test_rearming_a_thousand_times_keeps_the_heap_small() -> None:
    timers = Timers()
    for at in range(100_000):
        timers.arm("a", [Due(at), Due(at, "crm:1")])
    assert sum(len(heap.entries) for heap in timers._heaps.values()) < 4_000
    assert timers.pop(lambda _: 99_999, 5) == ["a"]
    assert timers.pop(lambda _: 99_999, 5) == []


def test_one_due_of_two_that_was_reached_leaves_the_other_armed() -> None:
    timers = Timers()
    timers.arm("a", [Due(1), Due(9, CLOCK_ALONE)])
    assert timers.pop(lambda wait: 1 if wait == LIVE else -1, 5) == ["a"]
    assert len(timers) == 1
    assert timers.pop(lambda wait: 9 if wait == CLOCK_ALONE else -1, 5) == ["a"]
