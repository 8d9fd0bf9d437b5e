"""The due index against a dictionary that is searched from end to end."""

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
    ),
    max_size=60,
)


@given(steps)
def test_it_wakes_whom_the_dictionary_would_and_each_once(told: list[tuple[str, object, object]]) -> None:
    timers, armed = Timers(), dict[str, dict[Wait, int]]()
    for step, first, second in told:
        if step == "arm":
            assert isinstance(first, str)
            assert isinstance(second, dict)
            timers.arm(first, [Due(at, wait) for wait, at in second.items()])
            armed[first] = dict(second)
            continue
        assert isinstance(first, dict)
        assert isinstance(second, int)
        reached = first
        due = {key for key, dues in armed.items() if any(at <= reached.get(wait, -1) for wait, at in dues.items())}
        woken = timers.pop(lambda wait: reached.get(wait, -1), second)  # noqa: B023  # called at once
        assert len(woken) == len(set(woken)) == min(second, len(due))
        assert set(woken) <= due
        for key in woken:  # as the engine does: whoever was woken says anew what it waits for
            timers.arm(key, ())
            armed.pop(key)
    assert len(timers) == sum(map(len, armed.values()))


def test_rearming_a_thousand_times_keeps_the_heap_small() -> None:
    timers = Timers()
    for at in range(100_000):
        timers.arm("a", [Due(at)])
    assert sum(map(len, timers._heaps.values())) < 2_000
    assert timers.pop(lambda _: 99_999, 5) == ["a"]
    assert timers.pop(lambda _: 99_999, 5) == []
