"""A worker dies at each step of a partition's life; its successor loses nothing and repeats nothing."""

import pytest

from services.runtime.engine.steps import Step
from tests.kafka.child import DIED
from tests.kafka.members import await_counted, counted, flushes_of, member, owned, partition_of, send
from tests.pipeline import Pipeline, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

FLUSHING = [Step.CUT, Step.BEGUN, Step.WRITTEN, Step.COMMITTED, Step.APPLIED]
TAKING_OVER = [Step.OPENED, Step.RESTORED, Step.SERVING]
GIVING_UP = [Step.REVOKING, Step.REVOKED]
VISIBLE = {Step.COMMITTED, Step.APPLIED}


def facts(name: str, count: int) -> list[tuple[str, str, str]]:
    return [("crm.interactions", f"{name}-{number}", f"account-{number % 12}") for number in range(count)]


@pytest.fixture
def served(pipeline: Pipeline) -> dict[str, str]:
    """Facts that an earlier worker has counted, so that there is something to lose."""
    first = member(pipeline)
    wait_until(lambda: len(owned(first)) == pipeline.partitions, "it serves", 60, first)
    sent = send(pipeline, facts("before", 40))
    await_counted(pipeline, sent, process=first)
    assert first.stop() == 0
    return sent


def test_every_step_is_tried() -> None:
    assert sorted([*FLUSHING, *TAKING_OVER, *GIVING_UP]) == sorted(Step)


@pytest.mark.parametrize("step", FLUSHING)
def test_a_worker_that_dies_in_a_flush_leaves_all_of_it_or_nothing(
    pipeline: Pipeline, served: dict[str, str], step: Step
) -> None:
    doomed = member(pipeline, die_at=step, die_for="doomed-0")
    wait_until(lambda: len(owned(doomed)) == pipeline.partitions, "it serves", 60, doomed)
    before = flushes_of(pipeline)
    sent = served | send(pipeline, facts("doomed", 1))
    assert doomed.popen.wait(60) == DIED
    here = partition_of("account-0", pipeline.partitions)
    is_out = "doomed-0" in {record.event["data"]["fact"] for record in counted(pipeline)}
    assert is_out == (step in VISIBLE)
    assert len(flushes_of(pipeline)[here]) == len(before[here]) + is_out

    heir = member(pipeline)
    sent |= send(pipeline, facts("after", 40))
    await_counted(pipeline, sent, process=heir)


@pytest.mark.parametrize("step", TAKING_OVER)
def test_a_worker_that_dies_while_it_takes_over_has_changed_nothing(
    pipeline: Pipeline, served: dict[str, str], step: Step
) -> None:
    before = flushes_of(pipeline)
    doomed = member(pipeline, die_at=step)
    assert doomed.popen.wait(60) == DIED
    assert flushes_of(pipeline) == before
    sent = served | send(pipeline, facts("after", 40))
    await_counted(pipeline, sent, process=member(pipeline))


@pytest.mark.parametrize("step", GIVING_UP)
def test_a_worker_that_dies_while_it_gives_partitions_up_leaves_them_whole(
    pipeline: Pipeline, served: dict[str, str], step: Step
) -> None:
    doomed = member(pipeline, die_at=step)
    wait_until(lambda: len(owned(doomed)) == pipeline.partitions, "it serves", 60, doomed)
    sent = served | send(pipeline, facts("last", 200))
    heir = member(pipeline)
    assert doomed.popen.wait(60) == DIED
    sent |= send(pipeline, facts("after", 40))
    await_counted(pipeline, sent, process=heir)
