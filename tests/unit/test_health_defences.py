"""What one sender, an outage or an odd policy must not do: stop a partition, or bring back what is long over."""

import pytest

from services.core.worktime import CalendarError
from services.health.policy import compile_health
from tests.health_timeline import (
    Story,
    assigned,
    at,
    call,
    plain,
    removed,
    reopened,
    rules,
    solved,
    ticket,
    updated,
    upserted,
    versions,
    whole,
)

LONG_AGO = upserted(days=-300, id="long ago")


@pytest.mark.parametrize("owners", [(None, "ada"), ("ada", None)], ids=["nobody first", "somebody first"])
def test_two_removals_under_one_id_are_taken_in_any_order(owners: tuple[str | None, str | None]) -> None:
    story, alike = Story(versions(whole())), Story(versions(whole()))
    story.hears(LONG_AGO, *(removed(owner, id="r1") for owner in owners))
    alike.hears(LONG_AGO, *(removed(owner, id="r1") for owner in reversed(owners)))
    assert story.state is not None
    assert alike.state is not None
    assert story.state.known.tenures == alike.state.known.tenures


def test_an_outage_of_many_sources_is_told_of_an_account_only_by_its_own() -> None:
    story = Story(versions(whole()))
    story.hears(LONG_AGO, assigned(), call("c1"))
    story.silent = {f"tenant-{number:03d}-with-a-long-name": at() for number in range(40)}
    story.falls_silent("crm", hours=0)
    story.until(days=2)
    assert (story.score.band, story.change.cause, story.change.reason) == ("na", "data", "silent: crm")


def test_a_calendar_too_sparse_for_the_cap_of_ownerless_accounts_is_refused_at_once() -> None:
    policy = rules(caps={"no_owner": {"limit": 70, "after_working_hours": 2000}})
    sparse = policy.calendars[policy.calendar].model_copy(update={"week": {"mon": (("09:00", "09:01"),)}})
    with pytest.raises(CalendarError, match="2000 working hours"):
        compile_health(policy.model_copy(update={"calendars": {**policy.calendars, policy.calendar: sparse}}))


@pytest.mark.parametrize(
    "late",
    [
        pytest.param(updated("t1", 1, days=1), id="an update"),
        pytest.param(ticket("t1", 1, id="again", days=-200), id="its opening once more"),
        pytest.param(reopened("t1", days=-199.5), id="a reopening from before its solution"),
    ],
)
def test_a_ticket_solved_long_ago_stays_solved(late: object) -> None:
    story = Story(versions(whole()))
    story.hears(LONG_AGO, ticket("t1", 1, days=-200), solved("t1", days=-199))
    story.until(days=1)  # a day has ended: it is forgotten but for its hash
    assert story.state is not None
    assert story.state.known.tickets == {}
    story.hears(late)  # type: ignore[arg-type]  # a fact
    assert story.caps == []
    assert next(one for one in story.score.contributions if one.signal == "open_load").value == 0


def test_a_ticket_solved_long_ago_opens_again_when_it_is_reopened() -> None:
    story = Story(versions(whole()))
    story.hears(LONG_AGO, ticket("t1", 1, days=-200), solved("t1", days=-199))
    story.until(days=1)
    story.hears(reopened("t1", 2, days=1))
    assert next(one for one in story.score.contributions if one.signal == "open_load").value == 4


def test_more_tickets_than_are_kept_leave_none_open_in_whatever_order_they_come() -> None:
    facts = [fact for number in range(210) for fact in (ticket(f"t{number}", 2, days=-9), solved(f"t{number}"))]
    story = Story(versions(whole()))
    story.hears(LONG_AGO, *reversed(facts))
    assert next(one for one in story.score.contributions if one.signal == "open_load").value == 0


def test_the_48_hours_of_a_reopened_ticket_begin_with_its_reopening() -> None:
    story = Story(versions(whole()))
    story.hears(LONG_AGO, ticket("t1", 1, days=-15), solved("t1", days=-14), reopened("t1"))
    story.until(hours=48, seconds=-1)
    assert "SEV1_OPEN" not in story.caps
    story.until(hours=48)
    assert "SEV1_OPEN" in story.caps


def test_the_largest_difference_of_points_can_be_said() -> None:
    flat = {"two_way_contact": [[0, 100]]}
    low = plain(prior=0, curves=flat)
    high = plain(2, prior=100, curves={"two_way_contact": [[0, 0]]})
    story = Story(versions(low, (at(days=1), high)))
    story.hears(LONG_AGO, call())
    story.until(days=1)
    assert story.change.cause == "policy"


def test_a_score_that_rests_at_a_limit_is_not_looked_at_again_and_again() -> None:
    story = Story(versions(plain(curves={"two_way_contact": [[0, 48], [80, 48], [90, 0]]})))
    story.hears(LONG_AGO, call())
    looks = 0
    while story.state is not None and story.state.wake < at(days=1):
        story.at = story.state.wake
        story.state = story.processor.due("acme", story.state, story.context).state
        looks += 1
    assert looks <= 24 * 4 + 10
