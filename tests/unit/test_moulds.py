"""Events made without validation: their records are those of others, and a wrong one does not pass unseen."""

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ConfigDict, PrivateAttr, ValidationError

from schemas import codec
from schemas.clock import Mark
from schemas.envelope import Data, Event
from schemas.health import Closing, Evidence, HealthClosed
from schemas.topics import HEALTH_CHANGES
from services.core.moulds import caster, encode, mould
from services.core.processor import Output
from tests.outputs import as_told, events_of, out_of_moulds
from tests.schemas.golden import each_kind
from tests.schemas.strategies import events

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


new_closed, new_closing, new_evidence = mould(HealthClosed), mould(Closing), mould(Evidence)


def closed(**changes: Any) -> HealthClosed:
    return new_closed(**ENVELOPE, time=TIME, data=new_closing(**CLOSING | changes))


def test_what_a_mould_makes_is_written_as_what_is_built() -> None:
    built = HealthClosed(**ENVELOPE, time=TIME, data=Closing(**CLOSING))
    assert encode(closed()) == encode(built) == codec.encode(built)
    assert b'"2026-01-05T10:00:00+01:00"' in encode(closed())


@each_kind
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_event_is_written_the_same_out_of_moulds(kind: type[Event], data: st.DataObject) -> None:
    built = data.draw(events(kind))
    try:
        again = out_of_moulds(built)
    except ValueError as error:
        assert "is made anew" in str(error)  # noqa: PT017  # some kinds only are refused
        return
    assert as_told(encode(again)) == as_told(codec.encode(built))


def test_what_is_made_has_the_fields_of_its_kind_and_cannot_be_changed() -> None:
    assert (closed().type, closed().receivedat, closed().data.score) == (HealthClosed.name(), None, 60_000)
    with pytest.raises(AttributeError, match="immutable"):
        closed().id = "2"  # type: ignore[misc]


def test_a_field_that_is_missing_or_unknown_is_noticed_when_it_is_made() -> None:
    with pytest.raises(TypeError, match="Missing required argument 'at'"):
        new_evidence(source="a", id="b")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Unexpected keyword argument 'where'"):
        new_evidence(source="a", id="b", at=TIME, where="c")  # type: ignore[call-arg]


def test_a_default_that_can_be_changed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Mark\.promises is made anew"):
        mould(Mark)


def test_an_output_that_its_topic_could_not_carry_is_found_by_tests() -> None:
    assert [one.id for one in events_of([Output(HEALTH_CHANGES, closed())])] == ["1"]
    with pytest.raises(codec.SchemaError, match=r"data\.score: input should be less than or equal to 100000"):
        events_of([Output(HEALTH_CHANGES, closed(score=100_001))])


class Secretive(Data):
    _seen: int = PrivateAttr(default=0)


class Open(Data):
    model_config = ConfigDict(extra="allow")


@pytest.mark.parametrize("kind", [Secretive, Open])
@pytest.mark.parametrize("maker", [caster, mould])
def test_kinds_that_keep_more_than_their_fields_are_refused(maker: Callable[..., object], kind: type[Data]) -> None:
    with pytest.raises(TypeError, match=f"{kind.__name__} keeps more than its fields"):
        maker(kind)


def test_what_is_cast_is_as_what_is_built() -> None:
    built = Evidence(source="a", id="b", at=TIME)
    made = caster(Evidence)(dict(built))
    assert made == built
    assert (repr(made), hash(made), made.model_copy()) == (repr(built), hash(built), built)
    with pytest.raises(ValidationError, match="frozen"):
        made.id = "2"  # type: ignore[misc]
