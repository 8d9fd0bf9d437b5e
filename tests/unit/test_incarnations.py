"""A topic that was deleted and made anew is known by its id."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import pytest

from services.runtime import kafka
from services.runtime.engine import incarnations
from services.runtime.engine.incarnations import recreated
from services.runtime.engine.partition import Meta
from services.runtime.settings import Settings


@pytest.mark.parametrize(
    ("recorded", "found", "told"),
    [
        ({"a": "1", "b": "2"}, {"a": "1", "b": "2"}, []),
        ({"a": "1", "b": "2"}, {"a": "1", "b": "3"}, ["b"]),
        ({"a": "1", "b": "2"}, {"a": "3", "b": "4"}, ["a", "b"]),
        ({"a": ""}, {"a": "1"}, []),  # of a time when the broker gave no ids
        ({"a": "1"}, {"a": ""}, []),  # nobody knows
        ({"a": "1"}, {}, []),
        ({}, {"a": "1"}, []),
    ],
)
def test_only_two_known_ids_that_differ_tell_of_another_topic(
    recorded: Mapping[str, str], found: Mapping[str, str], told: list[str]
) -> None:
    assert recreated(recorded, found) == told


Answers = Callable[[list[Mapping[str, str] | Exception]], None]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Let the broker give these answers, one after the other, and then the last one again and again."""
    monkeypatch.setattr(incarnations, "LOOK_SECONDS", 0.0)

    def give(given: list[Mapping[str, str] | Exception]) -> None:
        async def asked(_: Settings, names: Sequence[str]) -> dict[str, str]:
            answer = given.pop(0) if len(given) > 1 else given[0]
            if isinstance(answer, Exception):
                raise answer
            return dict(answer)

        monkeypatch.setattr(kafka, "topic_ids", asked)

    return give


async def watched(metas: list[Meta]) -> list[str]:
    told = list[str]()
    watching = asyncio.create_task(incarnations.watch(Settings(), ["a"], lambda: metas, told.append))
    await asyncio.wait([watching], timeout=0.2)
    if watching.done():
        watching.result()
    watching.cancel()
    return told


async def test_a_topic_made_anew_under_a_running_engine_is_told_once_with_what_to_do(answers: Answers) -> None:
    answers([{"a": "1"}, {"a": "1"}, {"a": "2"}])
    told = await watched([Meta(), Meta(topics={"a": "1"}), Meta(topics={"a": "1"})])
    sentence = (
        "what this worker holds was written with topic a of id 1, but a has the id 2 now: it was deleted and made "
        "anew. Bring the old topic back, or begin anew with another STEWARD_PREFIX."
    )
    assert told == [sentence]


async def test_a_broker_that_is_away_for_a_while_ends_no_watch(answers: Answers) -> None:
    answers([kafka.BrokerAway("away"), {"a": "1"}, kafka.BrokerAway("away"), {"a": "2"}])
    assert len(await watched([Meta(topics={"a": "1"})])) == 1


async def test_the_same_topics_are_told_of_by_nobody(answers: Answers) -> None:
    answers([{"a": "1"}])
    assert await watched([Meta(topics={"a": "1"})]) == []
