"""What the fields of the view say after records, and which facts stand in the timeline."""

from collections.abc import Callable
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from schemas import interactions
from schemas.envelope import Data, Event
from schemas.topics import BUILT
from services.board.attention import worth
from services.board.decide import Read, encoded, fold, place_of
from services.board.model import Account, Alert, AsOf, Course, Deal, Field, Handoff, Heard, Name, Owner
from services.board.timeline import seen
from services.board.view import TOPICS
from tests.board import (
    alerted,
    assigned,
    called,
    changed,
    cleared,
    closed,
    contacted,
    envelope,
    folded,
    removed,
    scored,
    sent,
    suspected,
    taken_back,
    valued,
    verdict,
    went,
    won,
)
from tests.builders import accepted, cancelled, minute, opened, paused, resumed


def handoff(*events: Event) -> Handoff:
    found = folded(events)["handoff:deal-1"]
    assert isinstance(found, Handoff)
    return found


def alert(*events: Event) -> Alert:
    found = folded(events)["alert:alert-deal-1"]
    assert isinstance(found, Alert)
    return found


def standing(*events: Event) -> dict[str, list[str]]:
    found = handoff(*events)
    return {"reached": sorted(found.reached.get("accept", {})), "retracted": sorted(found.retracted.get("accept", {}))}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([verdict("at_risk")], {"reached": ["at_risk"], "retracted": []}, id="a stage reached"),
        pytest.param(
            [verdict("at_risk"), verdict("breached"), taken_back("breached")],
            {"reached": ["at_risk"], "retracted": ["breached"]},
            id="one taken back, another stands",
        ),
        pytest.param(
            [verdict("breached"), taken_back("breached"), verdict("breached", n=2)],
            {"reached": ["breached"], "retracted": []},
            id="raised again",
        ),
        pytest.param(
            [verdict("breached"), taken_back("breached"), verdict("breached"), taken_back("breached")],
            {"reached": [], "retracted": ["breached"]},
            id="the same records once more",
        ),
        pytest.param([changed()], {"reached": [], "retracted": []}, id="none"),
    ],
)
def test_of_the_stages_of_a_clock_those_stand_that_were_not_taken_back(
    events: list[Event], expected: dict[str, list[str]]
) -> None:
    assert standing(changed(), *events) == expected


def test_a_correction_replaces_the_due_time_of_its_verdict() -> None:
    found = handoff(changed(), verdict("breached", due=60), verdict("breached", due=90, correction=1))
    breach = found.reached["accept"]["breached"]
    assert (breach.due, breach.correction) == (minute(90), 1)


def test_the_last_state_of_a_handoff_counts_and_its_verdicts_stay() -> None:
    found = handoff(changed("open"), verdict("breached"), changed("accepted", owner="eve"))
    assert (found.state, found.owner, list(found.reached["accept"])) == ("accepted", "eve", ["breached"])
    assert not found.is_open


def test_a_verdict_whose_handoff_was_never_read_keeps_no_account_in_the_list() -> None:
    found = handoff(verdict("breached"))
    assert (found.kind, found.state, found.is_open) == ("deal", "", False)


@pytest.mark.parametrize(
    ("events", "state", "stage"),
    [
        pytest.param([alerted("raised")], "raised", "breached", id="raised"),
        pytest.param([alerted("raised"), alerted("corrected")], "raised", "breached", id="corrected"),
        pytest.param([alerted("held")], "held", "breached", id="held"),
        pytest.param([alerted("raised"), alerted("resolved", over=True)], "resolved", "breached", id="resolved"),
        pytest.param([alerted("raised"), alerted("retracted")], "retracted", "breached", id="retracted"),
        pytest.param(
            [alerted("raised", "at_risk"), alerted("raised"), alerted("retracted")],
            "raised",
            "at_risk",
            id="a later stage taken back",
        ),
        pytest.param(
            [alerted("raised"), alerted("resolved", over=True), alerted("retracted", over=True)],
            "retracted",
            "breached",
            id="taken back after its end",
        ),
        pytest.param(
            [alerted("raised"), alerted("resolved", over=True), alerted("raised", "passed_125")],
            "raised",
            "passed_125",
            id="raised after its end",
        ),
        pytest.param([sent("d")], "held", None, id="only a delivery was read"),
    ],
)
def test_an_alert_is_open_while_somebody_was_told_of_what_still_stands(
    events: list[Event], state: str, stage: str | None
) -> None:
    found = alert(*events)
    assert (found.state, found.stage, found.is_open) == (state, stage, state == "raised")


def test_of_each_delivery_the_last_word_is_kept() -> None:
    found = alert(alerted("raised"), sent("d-1", 3, failed=True), sent("d-2"), sent("d-1", 4))
    told = {name: (one.outcome, one.attempts, one.status) for name, one in found.deliveries.items()}
    assert told == {"d-1": ("delivered", 4, 200), "d-2": ("delivered", 1, 200)}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([won("1", "1200")], {"EUR": Decimal(1200)}, id="won with an amount"),
        pytest.param([valued("1", "1200")], {}, id="not won"),
        pytest.param([valued("1", "1200", time=1), won("1", time=2)], {"EUR": Decimal(1200)}, id="valued before"),
        pytest.param([won("1", "1200", time=1), valued("1", "0", time=2)], {"EUR": Decimal(0)}, id="last word zero"),
        pytest.param(
            [won("1", "1200", time=2), valued("1", "900", time=1)], {"EUR": Decimal(1200)}, id="an earlier word late"
        ),
        pytest.param([won("1", "1200.10"), won("2", "0.25")], {"EUR": Decimal("1200.35")}, id="two deals"),
        pytest.param(
            [won("1", "1200"), won("2", "5", "USD")], {"EUR": Decimal(1200), "USD": Decimal(5)}, id="two currencies"
        ),
        pytest.param(
            [won("1", "1200", time=1), valued("1", "5", "USD", time=2)], {"USD": Decimal(5)}, id="another currency"
        ),
        pytest.param(
            [valued("1", "7", rank=50), won("1"), valued("1", "8", rank=100)], {"EUR": Decimal(8)}, id="by rank"
        ),
    ],
)
def test_arr_is_the_last_word_on_each_won_deal_in_whatever_order_it_comes(
    events: list[Event], expected: dict[str, Decimal]
) -> None:
    for order in permutations(events):
        deals = {name: deal for name, deal in folded(order).items() if isinstance(deal, Deal)}
        assert worth(Account("acme", deals=deals)) == expected


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([called("Acme")], "Acme", id="once"),
        pytest.param([called("Acme", 1), called("Acme GmbH", 2)], "Acme GmbH", id="renamed"),
        pytest.param([called("Acme", 1), called(None, 2)], "Acme", id="a record without a name"),
        pytest.param([called(None)], None, id="never named"),
    ],
)
def test_an_account_has_the_last_name_it_was_given(events: list[Event], expected: str | None) -> None:
    for order in permutations(events):
        name = folded(order)["name"]
        assert isinstance(name, Name)
        assert name.name == expected


def test_a_record_that_a_field_has_seen_changes_nothing() -> None:
    reads = [Read(event, offset, place_of(event)) for offset, event in enumerate([changed(), verdict("breached")])]
    known = fold(reads, {})
    assert fold(reads, known) == {}


@pytest.mark.parametrize(
    "field",
    [
        Name(3),
        Deal(3),
        Handoff(3, "deal"),
        Alert(3),
        Owner(3),
        Course(3),
        Heard(3, 1),
        AsOf(3, 1),
    ],
    ids=lambda field: type(field).__name__,
)
def test_the_offset_comes_first_in_the_json_where_the_script_looks_for_it(field: Field) -> None:
    assert encoded(field).startswith(b'{"offset":3,') or encoded(field) == b'{"offset":3}'


def bought(order: str | None, amount: str | None) -> Event:
    worth = {"amount": amount, "currency": "EUR"} if amount else {}
    return interactions.PurchaseMade(**envelope("bought", 0), data=interactions.Purchase(order=order, **worth))


TICKETS: dict[str, tuple[Callable[..., Event], Callable[..., Data]]] = {
    "opened": (interactions.TicketOpened, interactions.Ticket),
    "updated": (interactions.TicketUpdated, interactions.TicketUpdate),
    "reopened": (interactions.TicketReopened, interactions.TicketUpdate),
    "solved": (interactions.TicketSolved, interactions.Solution),
}


def ticket(what: str, severity: int | None = 3, contact: str | None = None) -> Event:
    kind, data = TICKETS[what]
    return kind(**envelope(f"ticket:{what}", 0), data=data(ticket="T-1", severity=severity, contact=contact))


@pytest.mark.parametrize(
    ("event", "text"),
    [
        pytest.param(called("Acme"), "account is called Acme", id="named"),
        pytest.param(called(None), "account recorded", id="unnamed"),
        pytest.param(won("7", "1200"), "deal crm:deal:7 won, EUR 1200 a year", id="won"),
        pytest.param(won("7"), "deal crm:deal:7 won", id="won for an unknown sum"),
        pytest.param(valued("7", "1200"), "deal crm:deal:7 valued, EUR 1200 a year", id="valued"),
        pytest.param(opened(0), "handoff deal-1 opened for ada", id="opened"),
        pytest.param(accepted(0), "handoff deal-1 accepted by ada", id="accepted"),
        pytest.param(paused(0), "handoff deal-1 paused: waiting customer", id="paused"),
        pytest.param(resumed(0), "handoff deal-1 resumed", id="resumed"),
        pytest.param(cancelled(0), "handoff deal-1 cancelled", id="cancelled"),
        pytest.param(assigned("ada"), "ada assigned as owner", id="assigned"),
        pytest.param(assigned("ada", role="sponsor"), "ada assigned as sponsor", id="of another role"),
        pytest.param(removed("ada"), "ada removed as owner", id="removed"),
        pytest.param(removed(None), "whoever it was removed as owner", id="removed, whoever it was"),
        pytest.param(contacted(), "call, inbound, c-1", id="contact"),
        pytest.param(contacted("outbound", contact=None), "call, outbound", id="contact with nobody named"),
        pytest.param(bought("o-1", "19.90"), "order o-1, EUR 19.90", id="bought"),
        pytest.param(bought(None, None), "something bought", id="bought, no more known"),
        pytest.param(ticket("opened", 2, "c-1"), "ticket T-1 opened by c-1, severity 2", id="ticket opened"),
        pytest.param(ticket("updated", 1), "ticket T-1 updated, severity 1", id="ticket updated"),
        pytest.param(ticket("reopened", None), "ticket T-1 reopened", id="ticket reopened"),
        pytest.param(ticket("solved"), "ticket T-1 solved", id="ticket solved"),
    ],
)
def test_a_fact_is_one_line_of_the_timeline(event: Event, text: str) -> None:
    fact = seen(event)
    assert fact is not None
    assert (fact.at, fact.type, fact.source, fact.id, fact.text) == (
        minute(0),
        event.type,
        "crm",
        event.id,
        text,
    )


@pytest.mark.parametrize(
    "event",
    [changed(), verdict("met"), alerted("raised"), sent("d"), scored(), went(), closed(0)],
    ids=lambda event: event.type,
)
def test_what_steward_concluded_is_no_fact(event: Event) -> None:
    assert seen(event) is None


def test_every_type_of_the_topics_read_is_shown_somewhere() -> None:
    samples: list[Any] = [called("Acme"), won("1"), valued("1", "1"), opened(0), accepted(0), paused(0), resumed(0)]
    samples += [suspected(), cleared(), cancelled(0), changed(), taken_back("met"), sent("d"), sent("d", failed=True)]
    samples += [assigned("ada"), removed("ada"), contacted(), bought("o-1", "1"), scored(), went(), closed(0)]
    samples += [ticket(what) for what in ("opened", "updated", "solved", "reopened")]
    samples += [verdict(stage) for stage in ("noticed", "at_risk", "breached", "passed_125", "met")]
    samples += [alerted(step) for step in ("raised", "corrected", "held", "resolved", "retracted")]
    shown = {type(event) for event in samples if place_of(event) or seen(event)}
    wanted = {kind for topic in TOPICS for kind in topic.types}
    assert {kind.__name__ for kind in wanted - shown} == {"SlaPassed200"}  # as the other stages


def test_the_catalogue_says_of_every_topic_read_that_the_board_reads_it() -> None:
    named = {topic.name for topic in BUILT if "board" in topic.consumers}
    assert {topic.name for topic in TOPICS} <= named
