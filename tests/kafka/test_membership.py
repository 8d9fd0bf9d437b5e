"""Members of one group come, go, are killed and are stopped under load: nothing is lost, doubled or taken back."""

import asyncio
import random
import secrets
import signal
import time
from collections.abc import Iterable

import pytest

from tests.kafka.members import (
    CHANGELOG,
    Load,
    await_counted,
    await_shared,
    counted,
    ends,
    flushes_of,
    member,
    owned,
)
from tests.pipeline import Pipeline, Process, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SESSION = 6  # seconds, see tests/pipeline.py


def settle(pipeline: Pipeline, *processes: Process) -> None:
    """All of them share the partitions, and every partition goes on."""
    await_shared(pipeline, *processes)
    await_more(pipeline, range(pipeline.partitions))


def await_more(pipeline: Pipeline, numbers: Iterable[int]) -> None:
    """Wait until further flushes of each of these are committed."""
    before = asyncio.run(ends(pipeline, CHANGELOG))

    def go_on() -> bool:
        now = asyncio.run(ends(pipeline, CHANGELOG))
        return all(now[number] > before[number] for number in numbers)

    wait_until(go_on, f"partitions {sorted(numbers)} go on", 60, pause=0.3)


def last_flush(pipeline: Pipeline, number: int) -> int:
    return max(flushes_of(pipeline).get(number, [0]))


def restored(process: Process) -> list[int]:
    return [said["partition"] for said in process.said("restored")]


def kept(process: Process) -> list[int]:
    return [said["partition"] for said in process.said("kept")]


def flushed_last(process: Process, number: int) -> int:
    """The flush from which a process went on the last time it was given this partition."""
    taken = [said for said in process.said("restored") + process.said("kept") if said["partition"] == number]
    return max(int(said["flush"]) for said in taken)


def test_three_members_come_and_go_under_load(pipeline: Pipeline) -> None:
    pipeline.partitions = 6
    first = member(pipeline)
    await_shared(pipeline, first)
    with Load(pipeline) as load:
        settle(pipeline, first)
        second = member(pipeline)
        settle(pipeline, first, second)
        stayed = owned(first)
        assert stayed < set(range(6))
        assert set(kept(first)) == stayed, "what stayed with the first member was read again"
        given = set(range(6)) - stayed

        third = member(pipeline)
        settle(pipeline, first, second, third)
        assert third.stop() == 0
        settle(pipeline, first, second)
        assert second.stop() == 0
        settle(pipeline, first)
        # The others went on with these meanwhile: what the first one knew of them is worth nothing now.
        assert given <= {number for number in range(6) if restored(first).count(number) > 1}
    await_counted(pipeline, load.sent, process=first)
    assert first.stop() == 0


def test_a_rebalance_comes_while_every_flush_is_in_flight(pipeline: Pipeline) -> None:
    """The first member's flushes take a second between their last acknowledgement and their commit."""
    pipeline.partitions = 6  # the assignor gives each member at most the third, rounded up: of 4 one gets none
    first = member(pipeline, slow_step="written", slow_seconds=1.0)
    await_shared(pipeline, first)
    with Load(pipeline) as load:
        wait_until(lambda: counted(pipeline), "the first flush is out", 30, first)
        second = member(pipeline)
        settle(pipeline, first, second)
        third = member(pipeline, slow_step="written", slow_seconds=1.0)
        settle(pipeline, first, second, third)
        assert first.stop() == 0
        settle(pipeline, second, third)
    await_counted(pipeline, load.sent, process=second)


def test_a_flush_too_slow_for_the_last_one_is_left_to_the_successor(pipeline: Pipeline) -> None:
    """It takes longer than a member waits on revoke: the successor aborts it and reads its facts again."""
    first = member(pipeline, slow_step="written", slow_seconds=8.0, slow_times=4)
    await_shared(pipeline, first)
    with Load(pipeline) as load:
        wait_until(lambda: first.said("slow"), "a flush is held up", 30, first)
        second = member(pipeline)
        settle(pipeline, first, second)
    await_counted(pipeline, load.sent, process=second)
    assert first.popen.poll() is None


def test_a_zombie_is_fenced_and_its_successor_loses_nothing(pipeline: Pipeline) -> None:
    first, second = member(pipeline), member(pipeline)
    await_shared(pipeline, first, second)
    with Load(pipeline) as load:
        settle(pipeline, first, second)
        taken = owned(first)
        first.signal(signal.SIGSTOP)
        wait_until(lambda: owned(second) == set(range(4)), "the successor has everything", 40, second)
        before = {number: last_flush(pipeline, number) for number in taken}
        await_more(pipeline, taken)
        first.signal(signal.SIGCONT)
        wait_until(
            lambda: first.popen.poll() is not None or (len(first.said("serving")) > 1 and owned(first)),
            "the zombie has ended or come back",
            60,
        )
        if first.popen.poll() is None:
            settle(pipeline, first, second)
            for number in owned(first) & taken:
                assert flushed_last(first, number) > before[number], "it went on from a state that had been overtaken"
        else:
            assert first.popen.returncode != 0
            settle(pipeline, second)
    await_counted(pipeline, load.sent, process=second)
    assert second.popen.poll() is None


def test_a_zombie_stopped_in_the_middle_of_its_flush_is_fenced(pipeline: Pipeline) -> None:
    """It wakes with every record acknowledged and only the commit to do, when its successor has gone on."""
    first, second = member(pipeline, slow_step="written", slow_seconds=0.5), member(pipeline)
    await_shared(pipeline, first, second)
    with Load(pipeline) as load:
        settle(pipeline, first, second)
        slept = len(first.said("slow"))
        wait_until(lambda: len(first.said("slow")) > slept, "a flush is in flight", 20, first, pause=0.01)
        first.signal(signal.SIGSTOP)
        taken = owned(first)
        wait_until(lambda: owned(second) == set(range(4)), "the successor has everything", 40, second)
        await_more(pipeline, taken)
        first.signal(signal.SIGCONT)
        time.sleep(2 * SESSION)
    await_counted(pipeline, load.sent, process=second)
    assert first.said("flush failed") or first.popen.poll()


def test_one_of_two_is_killed_under_load(pipeline: Pipeline) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    first, second = member(pipeline), member(pipeline)
    await_shared(pipeline, first, second)
    with Load(pipeline) as load:
        settle(pipeline, first, second)
        time.sleep(random.Random(seed).random())
        doomed = owned(first)
        killed = time.monotonic()
        first.kill()
        await_more(pipeline, doomed)
        print(f"first new outputs of {len(doomed)} partitions {time.monotonic() - killed:.1f} s after kill -9")
        third = member(pipeline)
        settle(pipeline, second, third)
    await_counted(pipeline, load.sent, process=second)
