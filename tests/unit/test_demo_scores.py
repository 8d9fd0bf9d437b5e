"""How the demo judges scores: by the changes on the topics, with their causes, facts and instants."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas import codec
from schemas.handoffs import SlaBreached
from schemas.health import Change, Closing, Evidence, HealthChanged, HealthClosed
from schemas.topics import HANDOFFS, HEALTH_CHANGES
from services.core.instants import DAY, HOUR, SECOND, Instant, moment
from services.demo import company, scores
from services.demo.scores import Scores, Turn
from services.handoff.app import read_policy
from services.ingest.model import account_of

ROOT = Path(__file__).parents[2]
AGREED = company.agreement(company.with_people(read_policy(ROOT / "deploy/policy/steward.yaml")))
MORNING = AGREED.start + 8 * HOUR
EXPECTED = scores.expected(AGREED)
READ = 1_750_000_000 * SECOND
CAUSED = {turn.cause: READ - SECOND // 2 for turn in EXPECTED}
SAID = "a breach of it"


def change(turn: Turn, **changed: Any) -> Change:
    """The change that a turn asks for."""
    facts = [turn.fact] if turn.fact else [("steward/handoff", SAID)] if turn.handoff else []
    return Change(
        **{
            "n": 2,
            "before": turn.before if turn.after else "yellow",
            "after": turn.after or "yellow",
            "score": 46_648,
            "cause": turn.why or "events",
            "reason": "as a test says",
            "evidence": tuple(Evidence(source=source, id=id, at=moment(turn.cause)) for source, id in facts),
            "cap_effect": 0,
            "caps_began": (turn.began,) if turn.began else (),
            "caps_ended": (turn.ended,) if turn.ended else (),
            "policy": 1,
            **changed,
        }
    )


def taken(turns: list[tuple[Turn, Change]], *, off: int = 0) -> Scores:
    """What the topics say; each change at the instant at which it must have happened, or `off` from it."""
    found = Scores(MORNING)
    for turn in EXPECTED:
        if turn.handoff:
            found.told[turn.handoff] = {("steward/handoff", SAID)}
    for turn, said in turns:
        at = moment((turn.at or turn.cause) + off)
        account = account_of(turn.company.home)
        event = HealthChanged(id="c", source="h", subject=account, partitionkey=account, time=at, data=said)
        found.take(HEALTH_CHANGES.name, codec.encode(event), READ)
    return found


RIGHT = [(turn, change(turn)) for turn in EXPECTED]


def named(name: str) -> Turn:
    return next(turn for turn in EXPECTED if turn.name == name)


def test_when_everything_came_everything_is_seen_with_its_seconds() -> None:
    outcomes = scores.judged(EXPECTED, taken(RIGHT), CAUSED)
    assert {(outcome.seen, outcome.seconds) for outcome in outcomes} == {(True, 0.5)}


@pytest.mark.parametrize("number", range(len(EXPECTED)), ids=[turn.name for turn in EXPECTED])
def test_what_did_not_come_is_named(number: int) -> None:
    outcomes = scores.judged(EXPECTED, taken([*RIGHT[:number], *RIGHT[number + 1 :]]), CAUSED)
    assert [outcome.name for outcome in outcomes if not outcome.seen] == [EXPECTED[number].name]


FACT = Evidence(source="hubspot", id="another", at=moment(MORNING))


@pytest.mark.parametrize(
    ("name", "changed", "off", "said"),
    [
        ("cyberdyne-falls", {"cause": "events"}, 0, "its cause was events instead of decay"),
        ("cyberdyne-falls", {"evidence": (FACT,)}, 0, "it names 1 facts, and there was none"),
        ("cyberdyne-falls", {}, 60 * SECOND, "its time was +60 s off"),
        ("cyberdyne-falls", {}, -3 * SECOND, "its time was -3 s off"),
        ("oceanic-ticket-cap", {"evidence": (FACT,)}, 0, "it does not name the fact desk:40200-9-"),
        ("oceanic-ticket-cap", {"cause": "decay"}, 0, "its cause was decay instead of cap"),
        ("acme-breach-cap-ends", {"evidence": (FACT,)}, 0, "it names nothing that was said of hubspot:deal:7000302"),
        ("acme-breach-cap", {"evidence": ()}, 0, "it names nothing that was said of hubspot:deal:7000302"),
    ],
)
def test_a_change_that_says_something_else_is_not_the_turn(
    name: str, changed: dict[str, Any], off: int, said: str
) -> None:
    turn = named(name)
    (outcome,) = scores.judged([turn], taken([(turn, change(turn, **changed))], off=off), CAUSED)
    assert not outcome.seen
    assert f"it came, but {said}" in outcome.sentence


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("cyberdyne-falls", {"before": "green", "after": "yellow"}),
        ("cyberdyne-falls", {"after": "na"}),
        ("oceanic-ticket-cap", {"caps_began": ("WEAK_LINK",)}),
        ("oceanic-ticket-cap", {"caps_began": (), "caps_ended": ("SEV1_OPEN",)}),
        ("quantum-forge-provisional", {"after": "yellow"}),
    ],
)
def test_another_change_is_not_taken_for_it(name: str, changed: dict[str, Any]) -> None:
    turn = named(name)
    assert taken([(turn, change(turn, **changed))]).first(turn) is None


def test_what_happened_before_the_live_days_counts_for_nothing() -> None:
    turn = named("acme-breach-cap")
    found = taken([(turn, change(turn))], off=-2 * DAY)
    assert found.first(turn) is None
    assert len(found.past) == 1


def test_a_new_customer_that_gets_a_band_after_all_is_not_provisional() -> None:
    turn = named("quantum-forge-provisional")
    found = taken([(turn, change(turn)), (turn, change(turn, before="na", after="yellow"))])
    (outcome,) = scores.judged([turn], found, CAUSED)
    assert outcome.sentence.endswith("it came, but at the end it is yellow")


def test_what_was_said_of_a_handoff_is_remembered_by_its_identity() -> None:
    found = Scores(MORNING)
    verdict = (ROOT / "schemas/examples/steward.sla.breached.v1/full.json").read_bytes()
    event = codec.decode(HANDOFFS, verdict)
    assert isinstance(event, SlaBreached)
    found.take(HANDOFFS.name, verdict, READ)
    assert found.told == {event.data.handoff: {(event.source, event.id)}}


# -- the weekend -----------------------------------------------------------------------------------------------------


def closing(number: int, at: Instant, band: str) -> bytes:
    account = account_of(company.companies()[number].home)
    data = Closing(day="2025-06-01", score=1, band=band, coverage=0.5, points={}, policy=1)  # type: ignore[arg-type]
    event = HealthClosed(id="c", source="h", subject=account, partitionkey=account, time=moment(at), data=data)
    return codec.encode(event)


def test_only_the_end_of_the_last_day_before_counts() -> None:
    found = Scores(MORNING)
    for number, at, band in ((0, -8, "red"), (1, -8, "na"), (2, -32, "na"), (3, 16, "na")):
        found.take(HEALTH_CHANGES.name, closing(number, MORNING + at * HOUR, band), READ)
    assert scores.closed(found, MORNING) == (2, 1)


@pytest.mark.parametrize(
    ("changed", "count"),
    [
        ({}, 1),
        ({"before": "green", "after": "red"}, 1),
        ({"before": "red", "after": "yellow"}, 0),
        ({"before": None}, 0),
        ({"before": "na"}, 0),
        ({"cause": "cap"}, 0),
    ],
    ids=str,
)
def test_falls_by_nothing_but_time_are_counted(changed: dict[str, Any], count: int) -> None:
    turn = named("cyberdyne-falls")
    assert scores.fallen(taken([(turn, change(turn, **changed))]).changes) == count


def test_words_of_a_change() -> None:
    fall, cap = named("cyberdyne-falls"), named("oceanic-ticket-cap")
    assert scores.told(change(fall)) == "yellow -> red, score 46.6; as a test says"
    assert scores.told(change(cap)) == "score 46.6; as a test says"
    assert scores.told(change(replace(fall, before=None))) == "its first score is 46.6, red"
