"""The topic catalogue: names, types, and how long records are kept."""

import re
from collections import Counter

import pytest

from schemas.envelope import Event
from schemas.topics import (
    BUILT,
    CATALOGUE,
    HELD,
    INTERACTIONS,
    OWNERSHIP,
    RENEWALS,
    Compacted,
    Kept,
    Topic,
    dead_letters,
)

TOPIC_NAME = re.compile(r"(crm|cs)\.[a-z]+(-[a-z]+)*")
TYPE_NAME = re.compile(r"steward\.[a-z]+\.[a-z]+(-[a-z0-9]+)*\.v1")
NAMES = [topic.name for topic in CATALOGUE]
KINDS = [kind for topic in CATALOGUE if topic is not HELD for kind in topic.types]

each_topic = pytest.mark.parametrize("topic", CATALOGUE, ids=NAMES)
each_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.name() for kind in KINDS])


@each_topic
def test_a_name_is_dotted_and_has_no_underscore(topic: Topic) -> None:
    assert TOPIC_NAME.fullmatch(topic.name)


def test_no_name_stands_twice() -> None:
    assert [name for name, count in Counter(NAMES).items() if count > 1] == []


def test_every_event_type_stands_in_exactly_one_topic_besides_the_held_facts() -> None:
    places = Counter(KINDS)
    defined = {kind for kind in Event.__subclasses__() if kind.__module__.startswith("schemas.")}
    assert {kind.name(): places[kind] for kind in defined} == {kind.name(): 1 for kind in defined}
    assert set(places) == defined


def test_every_fact_of_an_account_may_be_held_but_the_account_itself() -> None:
    assert set(HELD.types) == {*RENEWALS.types, *OWNERSHIP.types, *INTERACTIONS.types}
    assert len(HELD.types) == len(set(HELD.types))


def test_no_two_classes_have_the_same_type() -> None:
    assert [name for name, count in Counter(kind.name() for kind in KINDS).items() if count > 1] == []


@each_kind
def test_a_type_is_a_noun_a_past_participle_and_a_version(kind: type[Event]) -> None:
    assert TYPE_NAME.fullmatch(kind.name())


@each_kind
def test_a_class_is_called_like_its_type(kind: type[Event]) -> None:
    _, noun, verb, _ = kind.name().split(".")
    assert kind.__name__.lower() == f"{noun}{verb}".replace("-", "")


@each_kind
def test_a_type_says_in_one_docstring_what_it_means(kind: type[Event]) -> None:
    assert kind.__doc__
    assert kind.__doc__ != Event.__doc__
    assert kind.__doc__.endswith(".")


@each_topic
def test_the_broker_stamps_records_when_it_takes_them_in(topic: Topic) -> None:
    assert topic.config["message.timestamp.type"] == "LogAppendTime"


@each_topic
def test_only_topics_that_are_not_compacted_have_a_retention(topic: Topic) -> None:
    config = topic.config
    match topic.retention:
        case Compacted():
            assert config["cleanup.policy"] == "compact"
            assert [name for name in config if name.startswith("retention.")] == []
        case Kept():
            assert config["cleanup.policy"] == "delete"
            assert "retention.ms" in config


@pytest.mark.parametrize(
    ("days", "milliseconds"),
    [
        pytest.param(None, "-1", id="for ever"),
        pytest.param(1, "86400000", id="a day"),
        pytest.param(800, "69120000000", id="800 days"),
    ],
)
def test_days_are_milliseconds_to_the_broker(days: int | None, milliseconds: str) -> None:
    topic = Topic("cs.some", "account", (), Kept(days), (), ())
    assert topic.config["retention.ms"] == milliseconds


@each_topic
def test_a_topic_has_writers_and_readers(topic: Topic) -> None:
    assert topic.producers
    assert topic.consumers


def test_planned_topics_are_not_built() -> None:
    assert {topic.name for topic in CATALOGUE if topic not in BUILT} == {
        topic.name for topic in CATALOGUE if not topic.types
    }


@each_topic
def test_a_topic_reads_as_its_name(topic: Topic) -> None:
    assert str(topic) == topic.name


def test_dead_letters_of_a_service_are_kept_for_30_days() -> None:
    topic = dead_letters("handoff")
    assert (topic.name, topic.retention, topic.consumers) == ("dlq.handoff", Kept(30), ("people",))
