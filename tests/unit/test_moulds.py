"""Events made without validation: nobody can tell them from others, and a wrong one does not pass unseen."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ConfigDict, Field, PrivateAttr, ValidationError

from schemas import codec
from schemas.clock import Mark
from schemas.envelope import Data
from schemas.health import Closing, Evidence, HealthClosed
from schemas.topics import HEALTH_CHANGES
from services.core.moulds import caster, made
from services.core.processor import Output
from tests.outputs import events_of

TIME = datetime(2026, 1, 5, 10, tzinfo=timezone(timedelta(hours=1)))
CLOSING: dict[str, Any] = {
    "day": "2026-01-05",
    "score": 60_000,
    "band": "na",
    "coverage": 0.0,
    "points": {"owner": 1},
    "policy": 1,
}
ENVELOPE: dict[str, Any] = {"id": "1", "source": "steward/health", "subject": "acme", "partitionkey": "acme"}


def closed(**changes: Any) -> HealthClosed:
    return made(HealthClosed, **ENVELOPE, time=TIME, data=made(Closing, **CLOSING | changes))


def test_what_is_made_is_as_what_is_built() -> None:
    built = HealthClosed(**ENVELOPE, time=TIME, data=Closing(**CLOSING))
    assert closed() == built
    assert built == closed()
    assert repr(closed()) == repr(built)
    assert closed().model_fields_set == built.model_fields_set
    assert closed().data.model_fields_set == built.data.model_fields_set
    assert closed().model_copy() == built
    assert codec.encode(closed()) == codec.encode(built)
    assert hash(made(Evidence, source="a", id="b", at=TIME)) == hash(Evidence(source="a", id="b", at=TIME))


def test_what_is_made_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        closed().id = "2"  # type: ignore[misc]


def test_fields_stand_in_the_order_of_their_kind_whatever_the_order_they_are_given_in() -> None:
    built = HealthClosed(**ENVELOPE, time=TIME, data=Closing(**CLOSING))
    turned = made(HealthClosed, time=TIME, data=made(Closing, **dict(reversed(CLOSING.items()))), **ENVELOPE)
    assert codec.encode(turned) == codec.encode(built)


def test_a_default_that_can_be_changed_is_made_anew() -> None:
    first, second = (made(Mark, at=TIME, safe=TIME, ends={}, writer="w") for _ in range(2))
    assert first == Mark(at=TIME, safe=TIME, ends={}, writer="w")
    assert first.promises is not second.promises


def test_an_output_that_its_topic_could_not_carry_is_found_by_tests() -> None:
    assert events_of([Output(HEALTH_CHANGES, closed())]) == [closed()]
    with pytest.raises(codec.SchemaError, match=r"data\.score: input should be less than or equal to 100000"):
        events_of([Output(HEALTH_CHANGES, closed(score=100_001))])


class Secretive(Data):
    _seen: int = PrivateAttr(default=0)


class Open(Data):
    model_config = ConfigDict(extra="allow")


@pytest.mark.parametrize("kind", [Secretive, Open])
def test_kinds_that_keep_more_than_their_fields_are_refused(kind: type[Data]) -> None:
    with pytest.raises(TypeError, match=f"{kind.__name__} keeps more than its fields"):
        caster(kind)


class Listed(Data):
    names: list[str] = Field(default_factory=lambda: ["a"])


def test_a_factory_is_asked_only_where_the_field_is_absent() -> None:
    assert made(Listed) == Listed()
    assert made(Listed, names=["b"]) == Listed(names=["b"])
    assert made(Listed, names=["b"]).model_fields_set == {"names"}


def test_times_are_kept_in_the_zone_they_are_given_in() -> None:
    assert b'"2026-01-05T10:00:00+01:00"' in codec.encode(closed())
    assert made(Evidence, source="a", id="b", at=TIME) == Evidence(source="a", id="b", at=TIME.astimezone(UTC))
