"""Stories of handoffs on simulated time, from opening to verdict and back."""

from datetime import UTC, datetime, timedelta

import pytest

from schemas import handoffs as out
from schemas.envelope import Event
from services.core.instants import DAY, instant, moment
from services.handoff import decide, machine
from tests.builders import (
    START,
    accepted,
    cancelled,
    fact,
    minute,
    opened,
    paused,
    policies,
    policy,
    resumed,
)
from tests.timeline import Timeline, stage_of


def kinds(events: list[Event]) -> list[str]:
    return [stage_of(event) for event in events if isinstance(event.data, out.Verdict)]


def test_a_clock_goes_through_its_stages_each_once() -> None:
    story = Timeline(policies(policy(hours={"accept": 4})))
    story.take(fact(opened(0)))
    said = [(number, kinds(story.until(minute(number * 60)))) for number in range(12)]
    assert [(hour, stages) for hour, stages in said if stages] == [
        (2, ["noticed"]),
        (3, ["at_risk"]),
        (4, ["breached"]),
        (6, ["passed_125"]),
        (8, ["passed_200"]),
    ]


def test_working_hours_move_the_stages_over_a_weekend() -> None:
    friday = (datetime(2026, 3, 6, 16, 0, tzinfo=UTC) - START) / timedelta(minutes=1)  # 17:00 in Berlin: closing time
    story = Timeline(policies(policy(calendar="office", hours={"accept": 4})))
    story.take(fact(opened(friday)))
    story.until(instant(datetime(2026, 3, 9, 11, 59, tzinfo=UTC)))
    assert story.stages() == ["accept/at_risk", "accept/noticed"]
    story.until(instant(datetime(2026, 3, 9, 12, 0, tzinfo=UTC)))
    assert story.net["deal-1", "accept", "breached"] == datetime(2026, 3, 9, 12, 0, tzinfo=UTC)


def test_an_acceptance_at_exactly_due_is_in_time() -> None:
    story = Timeline()
    story.take(fact(opened(0)), fact(accepted(60)))
    story.until(minute(10_000))
    assert "accept/met" in story.stages()
    assert "accept/breached" not in story.stages()


def test_an_acceptance_a_moment_after_due_is_a_breach_even_if_it_arrived_before_the_clock_did() -> None:
    story = Timeline()
    story.take(fact(opened(0)), fact(accepted(60.001)))
    assert story.stages() == []
    story.until(minute(60))
    assert "accept/breached" in story.stages()
    assert "accept/met" not in story.stages()


def test_a_late_fact_takes_back_what_it_disproves_and_a_later_one_raises_it_again() -> None:
    story = Timeline()
    story.take(fact(opened(0)))
    story.until(minute(61))
    first = next(event for event in story.published if isinstance(event, out.SlaBreached))

    said = story.take(fact(accepted(59, id="late"), arrived=minute(70)))
    retraction = next(event for event in said if isinstance(event, out.SlaRetracted) and event.data.stage == "breached")
    assert retraction.data.transition == first.data.transition
    assert retraction.data.alert == first.data.alert
    assert "in time" in retraction.data.reason

    # An earlier opening makes the same acceptance late after all.
    said = story.take(fact(opened(-30, id="earlier"), arrived=minute(80)))
    again = next(event for event in said if isinstance(event, out.SlaBreached))
    assert (again.data.n, again.data.alert) == (2, first.data.alert)
    assert again.data.transition != first.data.transition
    assert again.data.due == START + timedelta(minutes=30)


def test_a_changed_due_corrects_the_breach_under_its_own_transition() -> None:
    story = Timeline()
    story.take(fact(opened(0)))
    story.until(minute(120))
    before = next(event for event in story.published if isinstance(event, out.SlaBreached))
    said = story.take(fact(opened(-10, id="earlier"), arrived=minute(120)))
    corrected = next(event for event in said if isinstance(event, out.SlaBreached))
    assert corrected.data.transition == before.data.transition
    assert (corrected.data.correction, corrected.data.due) == (1, START + timedelta(minutes=50))
    assert corrected.id != before.id


def test_a_pause_stops_the_clock_and_a_resume_gives_the_rest() -> None:
    story = Timeline()
    story.take(fact(opened(0)), fact(paused(20)))
    changed = [event for event in story.published if isinstance(event, out.HandoffChanged)][-1]
    assert changed.data.state == "paused"
    assert changed.data.legs[0].due is None
    story.until(minute(300))
    assert "accept/breached" not in story.stages()
    story.take(fact(resumed(280)))
    story.until(minute(319))
    assert "accept/breached" not in story.stages()
    story.until(minute(320))
    assert story.net["deal-1", "accept", "breached"] == START + timedelta(minutes=320)


def test_a_pause_ends_by_itself_after_ten_business_days() -> None:
    story = Timeline()
    story.take(fact(opened(0)), fact(paused(0)))
    story.until(minute(80 * 60 + 59))
    assert "accept/breached" not in story.stages()
    story.until(minute(80 * 60 + 60))
    assert "accept/breached" in story.stages()


def test_a_state_has_the_same_id_and_content_in_whatever_batches_its_facts_came() -> None:
    facts = [fact(opened(0)), fact(paused(10)), fact(resumed(20)), fact(accepted(30))]
    at_once, one_by_one = Timeline(), Timeline()
    at_once.take(*facts)
    for one in facts:
        one_by_one.take(one)
    changes = [
        [event for event in story.published if isinstance(event, out.HandoffChanged)] for story in (at_once, one_by_one)
    ]
    assert [len(events) for events in changes] == [1, 4]
    assert changes[0][-1] == changes[1][-1]
    assert len({event.id for event in changes[1]}) == 4


def test_a_cancelled_handoff_breaches_no_more() -> None:
    story = Timeline()
    story.take(fact(opened(0)), fact(cancelled(50)))
    story.until(minute(10_000))
    assert "accept/breached" not in story.stages()
    assert "accept/met" not in story.stages()


def test_an_acceptance_before_any_opening_counts_for_nothing() -> None:
    story = Timeline()
    story.take(fact(accepted(0)))
    assert story.published == []
    story.take(fact(opened(5)))
    story.until(minute(65))
    assert "accept/breached" in story.stages()


def test_what_a_run_opened_waits_for_that_run_alone() -> None:
    story = Timeline()
    story.take(fact(opened(0, run="crm:1"), arrived=minute(9_000)))
    story.until(minute(9_000))
    assert story.stages() == [], "no mark has named the run"
    story.until(minute(9_000), promises={"crm:1": minute(59)})
    assert "accept/breached" not in story.stages()
    story.until(minute(9_000), promises={"crm:1": minute(60)})
    assert "accept/breached" in story.stages()


def test_a_finished_run_restrains_nothing() -> None:
    story = Timeline()
    story.take(fact(opened(0, run="crm:1"), arrived=minute(9_000)))
    story.until(minute(9_000), closed={"crm:1": minute(8_000)})
    assert "accept/breached" in story.stages()


def test_the_policy_in_force_at_the_opening_stays_the_handoffs_own() -> None:
    known = policies(policy(1, hours={"accept": 1}))
    story = Timeline(known)
    story.take(fact(opened(0)))
    later = policies(policy(1, hours={"accept": 1}), policy(2, hours={"accept": 100}))
    story.known = later.__class__(later.versions, ((0, 1), (minute(30), 2)))
    story.take(fact(opened(31, "deal-2")))
    story.until(minute(100))
    assert "accept/breached" in story.stages("deal-1")
    assert story.stages("deal-2") == []


def test_a_settled_handoff_outlives_its_facts_and_then_its_ledger() -> None:
    story = Timeline()
    story.take(fact(opened(0)), fact(accepted(10)))
    story.until(minute(10) + decide.MAX_LATENESS)
    assert story.state is not None
    assert story.state.handoffs["deal-1"].folded
    story.take(fact(accepted(5, id="too late"), arrived=minute(10) + 61 * DAY))
    assert story.fates == [("too late", "too_late")]
    story.until(minute(10) + decide.SUMMARY_KEPT)
    assert story.state is None


def test_facts_that_never_get_an_opening_are_forgotten_in_the_end() -> None:
    story = Timeline()
    story.take(fact(accepted(0)))
    story.until(minute(0) + decide.MAX_LATENESS)
    assert story.state is None


@pytest.mark.parametrize(("run", "fates"), [(None, [("old", "too_late")]), ("crm:1", [])], ids=["live", "within a run"])
def test_an_opening_older_than_400_days_opens_nothing_outside_a_run(
    run: str | None, fates: list[tuple[str, str]]
) -> None:
    story = Timeline()
    story.take(fact(opened(0, id="old", run=run), arrived=minute(0) + 401 * DAY))
    assert story.fates == fates


def test_a_kind_the_policy_does_not_have_is_refused_and_named() -> None:
    story = Timeline()
    story.take(fact(opened(0, kind="romance")))
    assert story.fates == [("opened:deal-1:0", "policy")]


def test_a_handoff_takes_two_hundred_facts_and_no_more() -> None:
    story = Timeline()
    story.take(*(fact(opened(number, id=str(number))) for number in range(201)), fact(opened(7, id="7")))
    assert story.fates == [("200", "too_many_facts"), ("7", "duplicate")]


def test_the_accountable_person_is_in_the_verdict() -> None:
    story = Timeline()
    story.take(fact(opened(0)))
    story.until(minute(60))
    breach = next(event for event in story.published if isinstance(event, out.SlaBreached))
    assert (breach.data.owner, breach.time) == ("ada", moment(minute(60)))


def test_a_clock_once_believed_is_not_doubted_when_an_earlier_opening_brings_another_run() -> None:
    story = Timeline()
    story.take(fact(opened(0)))
    story.until(minute(200))
    before = story.stages()
    story.take(fact(opened(0, id="a", run="crm:1"), arrived=minute(200)))
    assert [event for event in story.published if isinstance(event, out.SlaRetracted)] == []
    assert story.stages() == before


def test_verdicts_of_a_leg_the_handoff_turns_out_not_to_have_are_taken_back() -> None:
    known = policies(policy(1, hours={"accept": 1}))
    story = Timeline(known.__class__(known.versions, ((0, 1),)))
    story.take(fact(opened(0)))
    story.until(minute(90))
    both = policies(policy(1, hours={"accept": 1}), policy(2, hours={"slow": 100}))
    story.known = both.__class__(both.versions, ((0, 2), (minute(-1), 1)))
    story.take(fact(opened(-10, id="earlier"), arrived=minute(90)))
    assert story.stages() == []


def test_what_nobody_ever_takes_leaves_in_the_end() -> None:
    story = Timeline()
    story.take(fact(opened(0)))
    story.until(minute(0) + decide.SUMMARY_KEPT + DAY)
    assert story.state is not None
    assert story.state.handoffs["deal-1"].folded
    story.until(minute(0) + 2 * decide.SUMMARY_KEPT)
    assert story.state is None


def test_every_row_of_the_table_leads_from_a_state_that_can_be_reached() -> None:
    reachable = {machine.State.OPEN, *machine.TRANSITIONS.values()}
    assert {state for state, _ in machine.TRANSITIONS} <= reachable
