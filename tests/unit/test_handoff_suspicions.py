"""Stories of legs whose time has passed while somebody who may tell of an acceptance is not heard."""

import pytest

from schemas import handoffs as out
from schemas.envelope import Event
from services.core.instants import DAY, HOUR, MINUTE, Instant
from services.handoff import decide
from tests.builders import accepted, cancelled, fact, minute, opened, paused, policies, policy
from tests.timeline import Timeline, stage_of

LEG = ("deal-1", "accept")
BREACH = "accept/breached"
Clocks = dict[str, dict[str, Instant]]


def heard(until: float) -> Clocks:
    return {"promises": {"crm": minute(until)}}


def silent(since: float) -> Clocks:
    """Silent for less than four hours: its promise still restrains clocks."""
    return {"promises": {"crm": minute(since - 1)}, "silent": {"crm": minute(since)}}


def lapsed(since: float) -> Clocks:
    return {"silent": {"crm": minute(since)}}


def stalled(through: float, run: str = "crm:1") -> Clocks:
    return {"promises": {run: minute(through)}, "stalled": {run: 0}}


def told(*facts: Event) -> Timeline:
    story = Timeline()
    story.take(*(fact(event, arrived=minute(9_000) if event.run else None) for event in facts))
    return story


def suspicions(story: Timeline) -> list[tuple[str, int, int]]:
    found = [event for event in story.published if isinstance(event, out.SlaSuspected | out.SlaCleared)]
    return [(stage_of(event), event.data.n, event.data.correction) for event in found]


# -- a silent source -----------------------------------------------------------------------------------------------


def test_what_a_silent_source_may_know_better_is_suspected_and_no_breach() -> None:
    story = told(opened(0))
    story.until(minute(59), **silent(30))
    assert story.suspected == {}
    (suspicion,) = story.until(minute(60), **silent(30))
    assert isinstance(suspicion, out.SlaSuspected)
    assert suspicion.data.unheard == ("crm",)
    assert suspicion.time == suspicion.data.due
    assert story.stages() == []


def test_a_silence_that_is_noticed_after_the_due_time_makes_it_suspected_at_once() -> None:
    story = told(opened(0))
    story.until(minute(70), **heard(50))
    assert story.suspected == {}, "it may only be slow"
    story.until(minute(71), **silent(51))
    assert story.suspected.keys() == {LEG}


def test_a_source_that_had_told_up_to_the_due_time_before_it_fell_silent_raises_no_doubt() -> None:
    story = told(opened(0))
    story.until(minute(90), **silent(61))
    assert story.suspected == {}
    assert BREACH in story.stages()


def test_another_source_that_is_only_slow_is_still_waited_for() -> None:
    story = told(opened(0), opened(1, id="other").model_copy(update={"source": "erp"}))
    slow = {"promises": {"crm": minute(29), "erp": minute(59)}, "silent": {"crm": minute(30)}}
    story.until(minute(90), **slow)
    assert story.suspected == {}
    slow["promises"]["erp"] = minute(60)
    story.until(minute(90), **slow)
    assert story.suspected.keys() == {LEG}
    assert BREACH not in story.stages()


def test_a_suspicion_is_confirmed_with_the_breach_when_the_source_is_heard_again() -> None:
    story = told(opened(0))
    story.until(minute(100), **silent(30))
    said = story.until(minute(120), **heard(118))
    assert [stage_of(event) for event in said] == ["at_risk", "breached", "cleared"]
    assert story.ended == [(*LEG, "confirmed")]
    assert BREACH in story.stages()


def test_a_source_heard_again_that_has_not_yet_told_up_to_the_due_time_leaves_it_suspected() -> None:
    story = told(opened(0))
    story.until(minute(61), **silent(30))
    story.until(minute(62), **heard(59))
    assert story.suspected.keys() == {LEG}
    story.until(minute(63), **heard(60))
    assert (story.suspected, story.ended) == ({}, [(*LEG, "confirmed")])


@pytest.mark.parametrize(
    ("event", "reason"),
    [(accepted(60), "accepted at 2026-03-02T10:00"), (cancelled(10), "cancelled at 2026-03-02T09:10")],
    ids=["accepted at exactly due", "cancelled"],
)
def test_a_fact_that_disproves_a_suspicion_ends_it_as_unfounded(event: Event, reason: str) -> None:
    story = told(opened(0))
    story.until(minute(100), **silent(30))
    said = story.take(fact(event, arrived=minute(100)))
    (cleared,) = [one for one in said if isinstance(one, out.SlaCleared)]
    assert (cleared.data.outcome, story.suspected) == ("unfounded", {})
    assert reason in cleared.data.reason
    story.until(minute(120), **heard(118))
    assert BREACH not in story.stages()
    assert suspicions(story) == [("suspected", 1, 0), ("cleared", 1, 0)]


def test_an_acceptance_after_the_due_time_leaves_the_suspicion_as_an_earlier_one_may_still_come() -> None:
    story = told(opened(0))
    story.until(minute(100), **silent(30))
    story.take(fact(accepted(70), arrived=minute(100)))
    assert story.suspected.keys() == {LEG}
    story.take(fact(accepted(50, id="late"), arrived=minute(101)))
    assert story.ended == [(*LEG, "unfounded")]


def test_a_due_time_that_moves_is_corrected_or_waited_for_again() -> None:
    story = told(opened(0))
    story.until(minute(100), **silent(20))
    story.take(fact(opened(-10, id="earlier"), arrived=minute(100)))
    assert suspicions(story) == [("suspected", 1, 0), ("suspected", 1, 1)]
    story.take(fact(paused(-5), arrived=minute(100)))
    assert story.ended == [(*LEG, "unfounded")]
    story.until(minute(90 * 60), **silent(20))
    assert suspicions(story)[-1] == ("suspected", 2, 0)


# -- for longer than anybody waits ---------------------------------------------------------------------------------


def test_a_source_silent_for_too_long_lets_the_breach_out_and_leaves_it_unconfirmed() -> None:
    story = told(opened(0))
    story.until(minute(100), **silent(30))
    story.until(minute(300), **lapsed(30))
    assert BREACH in story.stages()
    assert story.suspected.keys() == {LEG}
    story.until(minute(400), **heard(399))
    assert story.ended == [(*LEG, "confirmed")]
    assert BREACH in story.stages()


def test_an_unconfirmed_breach_is_taken_back_with_its_suspicion_by_what_the_source_then_tells() -> None:
    story = told(opened(0))
    story.until(minute(300), **lapsed(30))
    said = story.take(fact(accepted(50), arrived=minute(400)))
    assert {"cleared", "retracted"} <= {stage_of(event) for event in said}
    assert (story.ended, story.suspected) == ([(*LEG, "unfounded")], {})
    assert BREACH not in story.stages()


def test_a_breach_whose_source_has_long_been_silent_is_unconfirmed_from_the_first() -> None:
    story = told(opened(0))
    said = story.until(minute(60), **lapsed(-500))
    assert [stage_of(event) for event in said][-2:] == ["breached", "suspected"]


def test_a_source_back_after_too_long_confirms_only_once_it_has_told_up_to_the_due_time() -> None:
    story = told(opened(0))
    story.until(minute(60), **lapsed(-500))
    story.until(minute(61), **heard(59))
    assert story.suspected.keys() == {LEG}
    story.until(minute(62), **heard(60))
    assert story.ended == [(*LEG, "confirmed")]


def test_a_breach_published_while_everybody_was_heard_is_never_doubted_again() -> None:
    story = told(opened(0))
    story.until(minute(100), **heard(99))
    story.take(fact(opened(5, id="again").model_copy(update={"source": "erp"}), arrived=minute(100)))
    story.until(minute(101), promises={"crm": minute(100)}, silent={"erp": minute(-9)})
    assert story.suspected == {}


def test_a_new_source_that_is_silent_makes_the_other_handoffs_of_the_account_wait_suspected() -> None:
    story = told(opened(0))
    story.until(minute(60), promises={"crm": minute(59)}, silent={"erp": minute(9)})
    assert story.suspected == {}
    erp = opened(55, "deal-2").model_copy(update={"source": "erp"})
    story.take(fact(erp, arrived=minute(60)))
    assert story.suspected == {}, "crm may still tell"
    story.until(minute(60), promises={"crm": minute(60)}, silent={"erp": minute(9)})
    assert story.suspected.keys() == {LEG}


@pytest.mark.parametrize("event", [None, accepted(70)], ids=["never taken", "taken late"])
def test_a_source_that_never_comes_back_leaves_no_suspicion_for_ever(event: Event | None) -> None:
    story = told(opened(0))
    story.until(minute(300), **lapsed(30))
    if event is not None:
        story.take(fact(event, arrived=minute(300)))
    story.until(minute(300) + decide.SUMMARY_KEPT + DAY, **lapsed(30))
    assert (story.suspected, story.ended) == ({}, [(*LEG, "confirmed")])


# -- a stalled run -------------------------------------------------------------------------------------------------


def test_legs_of_a_stalled_run_are_suspected_and_never_breached() -> None:
    story = told(opened(0, run="crm:1"))
    story.until(minute(9_000), promises={"crm:1": minute(10)})
    assert story.suspected == {}, "it goes on"
    story.until(minute(9_000) + 20 * MINUTE, **stalled(10))
    assert story.suspected.keys() == {LEG}
    story.until(minute(9_000) + 400 * DAY, **stalled(10))
    assert story.stages() == []


def test_a_run_that_goes_on_confirms_what_it_has_passed_and_no_more() -> None:
    story = told(opened(0, run="crm:1"), opened(100, "deal-2", run="crm:1"))
    story.until(minute(9_000), **stalled(10))
    assert story.suspected.keys() == {LEG, ("deal-2", "accept")}
    story.until(minute(9_001), promises={"crm:1": minute(60)})
    assert story.ended == [(*LEG, "confirmed")]
    story.take(fact(accepted(150, "deal-2", run="crm:1"), arrived=minute(9_001)))
    assert story.ended[1:] == [("deal-2", "accept", "unfounded")]
    assert story.stages("deal-2") == ["accept/met"]


def test_a_run_that_is_over_confirms_what_it_left_suspected() -> None:
    story = told(opened(0, run="crm:1"))
    story.until(minute(9_000), **stalled(10))
    story.until(minute(9_001), closed={"crm:1": minute(9_001)})
    assert story.ended == [(*LEG, "confirmed")]
    assert BREACH in story.stages()


def test_what_becomes_due_while_the_run_is_stalled_is_suspected_when_it_is_due() -> None:
    story = told(opened(0, run="crm:1"))
    story.until(minute(30), **stalled(10))
    assert story.suspected == {}
    story.until(minute(60) - 1, **stalled(10))
    assert story.suspected == {}
    story.until(minute(60), **stalled(10))
    assert story.suspected.keys() == {LEG}


def test_a_stalled_run_says_nothing_of_what_others_opened() -> None:
    story = told(opened(0))
    story.until(minute(100), **stalled(10))
    assert story.suspected == {}
    assert BREACH in story.stages()


# -- both ----------------------------------------------------------------------------------------------------------


def test_a_suspicion_outlives_a_restart_and_is_told_once() -> None:
    story = told(opened(0))
    story.until(minute(100), **silent(30))
    story.restart()
    assert story.until(minute(101), **silent(30)) == []
    story.until(minute(102), **heard(101))
    assert suspicions(story) == [("suspected", 1, 0), ("cleared", 1, 0)]


def test_a_leg_the_handoff_turns_out_not_to_have_is_not_suspected_any_more() -> None:
    known = policies(policy(1, hours={"accept": 1}))
    story = Timeline(known.__class__(known.versions, ((0, 1),)))
    story.take(fact(opened(0)))
    story.until(minute(90), **silent(10))
    both = policies(policy(1, hours={"accept": 1}), policy(2, hours={"slow": 100}))
    story.known = both.__class__(both.versions, ((0, 2), (minute(-1), 1)))
    story.take(fact(opened(-10, id="earlier"), arrived=minute(90)))
    assert story.ended == [(*LEG, "unfounded")]


def test_who_is_silent_costs_accounts_without_open_clocks_nothing() -> None:
    story = told(opened(0), accepted(10))
    story.until(minute(100), **heard(99))
    state = story.state
    story.until(minute(100) + HOUR, **silent(101))
    assert story.state is state
