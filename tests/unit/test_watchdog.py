"""The watchdog: what counts as a main loop that hangs."""

from collections.abc import Iterator

import pytest

from services.runtime.watchdog import BLOCKED_SECONDS, END_SECONDS, Watchdog


class Dog:
    """A watchdog whose thread is not started, and what it would have ended the process for."""

    def __init__(self) -> None:
        self.ended: list[tuple[float, list[str]]] = []
        self.dog = Watchdog(lambda blocked, where: self.ended.append((blocked, where)))

    def looks(self, times: float, seconds: float = 1.0) -> None:
        for _ in range(int(times)):
            self.dog.look(seconds)


@pytest.fixture
def watched() -> Iterator[Dog]:
    watched = Dog()
    yield watched
    watched.dog.__exit__()  # or the timer it wound up ends the tests


def test_a_loop_that_turns_is_live(watched: Dog) -> None:
    for _ in range(500):
        watched.dog.beat()
        watched.looks(1)
    assert watched.dog.is_live
    assert watched.ended == []


def test_a_loop_that_hangs_is_no_longer_live_and_then_ended_with_the_place_where_it_hangs(watched: Dog) -> None:
    watched.dog.beat()
    live = []
    for seconds in (1 + BLOCKED_SECONDS, 1):
        watched.looks(seconds)
        live.append(watched.dog.is_live)
    assert live == [True, False]
    watched.looks(END_SECONDS - BLOCKED_SECONDS - 1)
    assert watched.ended == []
    watched.looks(1)
    ((blocked, where),) = watched.ended
    assert blocked == END_SECONDS + 1
    assert any("test_watchdog.py" in frame and frame.endswith("looks") for frame in where)


def test_a_loop_that_never_began_to_turn_hangs(watched: Dog) -> None:
    watched.looks(END_SECONDS + 1)
    assert len(watched.ended) == 1


def test_a_loop_that_goes_on_is_live_again(watched: Dog) -> None:
    watched.looks(END_SECONDS - 1)
    watched.dog.beat()
    watched.looks(1)
    assert watched.dog.is_live
    watched.looks(END_SECONDS - 1)
    assert watched.ended == []


def test_a_process_that_was_frozen_is_not_ended_for_it(watched: Dog) -> None:
    watched.looks(3, seconds=3600.0)
    assert watched.dog.is_live
    assert watched.ended == []
