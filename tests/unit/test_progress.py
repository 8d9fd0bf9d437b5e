"""Which partitions stand still, and for how long each has been behind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.engine.progress import SAMPLES, STEP_SECONDS, Behind, Progress, Sight

SPOT = ("crm.ownership", 3)


def looks(progress: Progress, sight: Sight, times: int, seconds: float = 1.0) -> list[str]:
    return [str(stall) for _ in range(times) for stall in progress.look(seconds, {SPOT: sight})]


def test_a_partition_that_stands_still_with_records_to_read_is_named_with_all_that_is_known_of_it() -> None:
    progress = Progress(patience=120)
    assert looks(progress, Sight(7, 9), 121) == []
    assert looks(progress, Sight(7, 12), 1) == [
        "crm.ownership partition 3 has stood at offset 7 for 121 s, and there is more up to 12"
    ]


def test_a_partition_that_has_read_everything_may_stand_still() -> None:
    assert looks(Progress(patience=2), Sight(9, 9), 50) == []


def test_one_step_begins_the_count_anew() -> None:
    progress = Progress(patience=5)
    assert [stall for at in range(9) for stall in looks(progress, Sight(at, 100), 5)] == []


def test_going_back_is_no_standstill() -> None:
    progress = Progress(patience=5)
    assert [stall for at in (9, 4, 9, 4) for stall in looks(progress, Sight(at, 100), 5)] == []


def test_other_partitions_and_topics_excuse_nobody() -> None:
    progress = Progress(patience=3)
    said = []
    for second in range(6):
        sights = {("a", 0): Sight(second, 100), ("a", 1): Sight(5, 100), ("b", 0): Sight(5, 5)}
        said += [stall.spot for stall in progress.look(1.0, sights)]
    assert said == [("a", 1), ("a", 1)]


def test_a_wait_on_purpose_is_no_standstill_but_has_a_limit_of_its_own() -> None:
    progress = Progress(patience=3, waiting=10)
    assert looks(progress, Sight(7, 9, "its restore"), 11) == []
    (said,) = looks(progress, Sight(7, 9, "its restore"), 1)
    assert "for 11 s, waiting for its restore, and" in said


def test_a_wait_between_two_standstills_does_not_excuse_them() -> None:
    progress = Progress(patience=6)
    assert looks(progress, Sight(7, 9), 4) == []
    assert looks(progress, Sight(7, 9, "its flush"), 20) == []
    assert len(looks(progress, Sight(7, 9), 4)) == 1


def test_a_partition_that_was_given_up_and_came_back_begins_anew() -> None:
    progress = Progress(patience=3)
    assert looks(progress, Sight(7, 9), 3) == []
    assert progress.look(1.0, {}) == []
    assert looks(progress, Sight(7, 9), 4) == []


def test_a_process_that_was_frozen_has_not_stood_still_meanwhile() -> None:
    progress = Progress(patience=120)
    assert looks(progress, Sight(7, 9), 2, seconds=3600.0) == []


@given(
    patience=st.integers(2, 20),
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), min_size=1, max_size=120),
)
def test_it_says_so_exactly_when_the_seconds_without_a_step_are_over_the_patience(
    patience: int, steps: list[tuple[int, int, bool]]
) -> None:
    progress = Progress(patience=patience, waiting=10_000)
    position = end = still = 0
    before = None
    for moved, came, waits in steps:
        end += came
        position = min(position + moved, end)
        still = 0 if position != before or position == end else still + (not waits)
        stalls = progress.look(1.0, {SPOT: Sight(position, end, "its flush" if waits else None)})
        assert bool(stalls) == (still > patience)
        before = position


# ---------------------------------------------------------------- for how long


def test_who_has_read_what_stood_there_a_moment_ago_is_not_behind() -> None:
    behind = Behind()
    behind.saw(0.0, 10)
    assert behind.seconds(0.0, 10) == 0.0
    behind.saw(1.0, 20)
    assert behind.seconds(1.5, 20) == 0.0


def test_the_lag_is_counted_from_the_first_look_that_saw_more() -> None:
    behind = Behind()
    for second in range(10):
        behind.saw(float(second), 10 * second)
    assert [behind.seconds(9.0, at) for at in (15, 30, 89, 90)] == [7.0, 5.0, 0.0, 0.0]


def test_a_topic_that_was_silent_for_long_makes_nobody_late() -> None:
    behind = Behind()
    behind.saw(0.0, 10)
    for second in range(1, 5000):
        behind.saw(float(second), 10)
        assert behind.seconds(float(second), 10) == 0.0
    behind.saw(5000.0, 11)
    assert behind.seconds(5001.0, 10) == 1.0


def test_of_a_lag_older_than_the_first_look_nobody_knows_how_long_it_is() -> None:
    behind = Behind()
    behind.saw(0.0, 10)
    assert behind.seconds(5.0, 3) is None
    assert behind.seconds(6.0, 10) == 0.0


@given(
    growth=st.lists(st.integers(0, 5), min_size=2, max_size=3 * SAMPLES),
    read=st.lists(st.integers(0, 9), min_size=2, max_size=3 * SAMPLES),
)
def test_the_lag_is_never_more_than_the_truth_and_nothing_is_kept_for_ever(growth: list[int], read: list[int]) -> None:
    behind, ends, position = Behind(), [], 0
    end = 0
    for second, (more, taken) in enumerate(zip(growth, read, strict=False)):
        end += more
        ends.append(end)
        position = min(position + taken, end)
        behind.saw(float(second), end)
        unread = [at for at, known in enumerate(ends) if known > position]
        lag = behind.seconds(float(second), position)
        assert lag is None or lag <= (second - unread[0] if unread else 0)
        assert (lag == 0.0) or bool(unread)
        assert len(behind.samples) <= SAMPLES + 1


@pytest.mark.parametrize("seconds", [STEP_SECONDS, 100.0])
def test_one_look_counts_for_a_few_seconds_at_most(seconds: float) -> None:
    progress = Progress(patience=2 * STEP_SECONDS)
    assert looks(progress, Sight(7, 9), 3, seconds) == []
    assert len(looks(progress, Sight(7, 9), 1, seconds)) == 1
