"""Handoffs that a won contract opens, and clocks that wait for the heartbeats of sources."""

from collections.abc import Sequence
from itertools import permutations

import pytest

from schemas.envelope import Event
from schemas.renewals import SALE, handoff_of
from services.core.instants import DAY, Instant
from tests.builders import DEAL, accepted, fact, minute, opened, policies, policy, won
from tests.timeline import Timeline

NAME = handoff_of(DEAL)


def story(events: Sequence[Event] = (), arrived: Instant | None = None) -> Timeline:
    told = Timeline(policies(policy(kinds=("deal", SALE))))
    for event in events:
        told.take(fact(event, arrived))
    return told


def test_a_won_contract_opens_the_handoff_of_its_deal() -> None:
    told = story([won(0, owner="ada")])
    assert told.published[-1].data.model_dump(include={"handoff", "kind", "owner", "sender", "state"}) == {
        "handoff": "crm:deal:77/sale_to_onboarding",
        "kind": SALE,
        "owner": "ada",
        "sender": "bob",
        "state": "open",
    }
    told.until(minute(60))
    assert f"{NAME} accept/breached" in [f"{NAME} {stage}" for stage in told.stages(NAME)]


def test_an_acceptance_that_names_the_deals_handoff_stops_its_clock_whatever_comes_first() -> None:
    for events in permutations([won(0), accepted(59, NAME)]):
        told = story(events)
        told.until(minute(120))
        assert {"accept/met"} == {*told.stages(NAME)} - {"accept/noticed", "accept/at_risk"}


def test_an_opening_of_the_same_deal_joins_and_names_the_owner() -> None:
    for events in permutations([won(0), opened(5, NAME, kind=SALE, owner="grace")]):
        told = story(events)
        told.until(minute(61))
        breach = next(event for event in told.published if event.type == "steward.sla.breached.v1")
        assert breach.data.model_dump()["owner"] == "grace"
        assert breach.time.timestamp() == minute(60) / 1_000_000  # the contract's clock, not the opening's


def test_a_contract_won_long_ago_and_heard_of_now_opens_nothing() -> None:
    told = story([won(0)], arrived=minute(0) + 401 * DAY)
    assert told.fates == [(f"won:{DEAL}:0", "too_late")]
    assert told.published == []


def test_a_company_whose_policy_hands_nothing_over_may_sell() -> None:
    told = Timeline(policies(policy()))
    told.take(fact(won(0)))
    assert told.fates == [(f"won:{DEAL}:0", "not_concerned")]


@pytest.mark.parametrize(
    ("promise", "breached"),
    [
        pytest.param(None, True, id="no heartbeat restrains nothing"),
        pytest.param(59, False, id="not complete up to the due time"),
        pytest.param(60, True, id="complete up to the due time"),
    ],
)
def test_silence_is_believed_as_far_as_the_accounts_sources_are_complete(promise: int | None, breached: bool) -> None:
    told = story([won(0)])
    promises = {} if promise is None else {"crm": minute(promise)}
    told.until(minute(90), promises={**promises, "billing": minute(1)})
    assert ("accept/breached" in told.stages(NAME)) is breached


def test_a_source_that_spoke_of_the_account_once_restrains_its_later_handoffs_too_also_after_a_restart() -> None:
    told = story([opened(0), accepted(1)])
    told.restart()
    told.take(fact(won(2)))
    told.until(minute(90), promises={"crm": minute(30)})
    assert told.stages(NAME) == []
