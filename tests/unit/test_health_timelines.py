"""Stories of accounts on simulated time: what time, tickets, handoffs and owners make of score, band and caps."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from schemas.envelope import Event
from schemas.health import HealthChanged, HealthScored
from services.core.instants import HOUR, SECOND, instant
from tests.health_timeline import (
    OLD,
    Story,
    assigned,
    at,
    call,
    handoff,
    healthy,
    judged,
    plain,
    removed,
    retracted,
    rules,
    sla,
    solved,
    ticket,
    updated,
    upserted,
    versions,
    whole,
    won,
)

# ---------------------------------------------------------------- time alone


def test_a_quiet_customer_falls_from_green_to_yellow_to_red_six_hours_after_each_threshold() -> None:
    story = Story(versions(plain()))
    story.hears(OLD, call())
    story.until(days=30)
    # Five points a day: below 73 after 5.4 days, below 48 after 10.4.
    assert story.bands == [(at(), "green"), (at(days=5.65), "yellow"), (at(days=10.65), "red")]
    assert [change.cause for change in story.changes] == ["events", "decay", "decay"]
    assert [change.evidence for change in story.changes[1:]] == [(), ()]
    assert story.changes[1].reason == "time passed without a fact: two_way_contact -28.3"


def test_a_customer_quiet_for_weeks_falls_from_yellow_to_red_at_the_exact_instant() -> None:
    story = Story()
    story.hears(OLD, assigned(days=-20), call("c1", days=-3), call("c2", days=-2))
    story.until(days=60)
    assert [band for _, band in story.bands] == ["yellow", "red"]
    fall = story.told(HealthChanged)[-1]
    assert (fall.data.cause, fall.data.evidence) == ("decay", ())
    below = instant(fall.time) - 6 * HOUR
    assert judged(story, below).score < 48_000 <= judged(story, below - SECOND).score


@pytest.mark.parametrize("policy", [plain(), whole(), rules()], ids=["plain", "whole", "shipped"])
def test_a_leap_of_the_clock_says_the_same_as_small_steps(policy: Any) -> None:
    facts = [OLD, won(days=-2), call("c1", days=-1), ticket("t1", 1, days=-1), handoff(days=-2), sla(days=-1)]
    leaping, walking = Story(versions(policy)), Story(versions(policy))
    for story in (leaping, walking):
        story.hears(*facts)
    leaping.until(days=40)
    walking.hourly(days=40)
    assert leaping.bands == walking.bands
    assert leaping.closings == walking.closings
    caps = [(change.caps_began, change.caps_ended, change.cause) for change in leaping.changes]
    assert caps == [(change.caps_began, change.caps_ended, change.cause) for change in walking.changes]


@pytest.mark.parametrize("policy", [plain(), whole(), rules()], ids=["plain", "whole", "shipped"])
def test_the_outlook_says_each_change_of_band_before_it_comes(policy: Any) -> None:
    story = Story(versions(policy))
    story.hears(upserted(days=-8), assigned(days=-8), call("c1", days=-3), call("c2", days=-2))
    story.hourly(days=60)
    falls = [event for event in story.told(HealthChanged) if event.data.before not in {None, event.data.after}]
    assert falls
    for event in story.told(HealthScored):
        coming = next((fall for fall in falls if fall.time > event.time), None)
        outlook = event.data.outlook
        if coming is None or coming.time > event.time + timedelta(days=14):
            assert outlook is None
        else:
            assert outlook is not None
            assert outlook.band == coming.data.after
            assert abs(outlook.at - coming.time) <= timedelta(seconds=2)


def test_a_score_that_time_moves_is_told_once_a_day_at_least() -> None:
    story = Story(versions(plain()))
    story.hears(OLD, call())
    story.hourly(days=12)
    for before, after in pairwise(story.told(HealthScored)):
        assert after.time - before.time <= timedelta(days=1)
    assert abs(story.score.raw - judged(story, story.at).sum.raw) <= 5_000  # a day's worth


# ---------------------------------------------------------------- the way up, and falls


def test_green_comes_only_after_48_hours_three_points_above() -> None:
    story = Story(versions(plain()))
    story.hears(OLD, call(days=-6))
    story.hears(call())
    story.until(days=3)
    assert story.bands == [(at(), "yellow"), (at(hours=48), "green")]
    assert story.change.cause == "events"  # the call with which the score rose
    assert story.change.evidence[0].id == "call:03-02T09:00:00"


@pytest.mark.parametrize(
    ("calls", "green"),
    [
        pytest.param([0], None, id="below 78 before 48 hours are over"),
        pytest.param([0, 1], 2, id="never below 78"),
        pytest.param([0, 1.9, 3], 3.9, id="below 78 for a moment, and again from the start"),
    ],
)
def test_the_48_hours_begin_again_when_the_score_was_below(calls: list[float], green: float | None) -> None:
    # An eighth of the way a day: from a call on it takes 1.76 days to fall below 78.
    story = Story(versions(plain(curves={"two_way_contact": [[0, 100], [8, 0]]})))
    story.hears(OLD, call(days=-3))
    for day in calls:
        story.until(days=day)
        story.hears(call(days=day))
    story.until(days=green or 4)
    turns = [] if green is None else [(at(days=green), "green")]
    assert story.bands == [(at(), "yellow"), *turns]


def pair() -> Story:
    """Half of the score is contact, at 60 and falling; half is support, at 100: together 80."""
    story = Story(
        versions(
            plain(
                groups={"contact": ["two_way_contact"], "support": ["open_load"]},
                profiles={"plain": {"groups": {"contact": 50, "support": 50}}},
                curves={
                    "two_way_contact": [[0, 100], [20, 0]],
                    "open_load": [[0, 100], [2, 85], [5, 65], [10, 35], [20, 0]],
                },
            )
        )
    )
    story.hears(OLD, call(days=-8), ticket("t0", days=-8), solved("t0", days=-7))
    assert (story.score.score, story.score.band) == (80_000, "green")
    return story


@pytest.mark.parametrize(
    ("severity", "score", "turn", "cause"),
    [
        pytest.param(4, 76_250, None, None, id="above the margin: green"),
        pytest.param(3, 72_500, 6, "events", id="7.5 points: after six hours"),
        pytest.param(2, 65_833, 0, "events", id="14 points: at once"),
    ],
)
def test_green_turns_yellow_at_once_only_after_a_fall_of_ten_points(
    severity: int, score: int, turn: float | None, cause: str | None
) -> None:
    story = pair()
    story.hears(ticket("t1", severity))
    assert story.score.score == score
    story.until(hours=12)
    turns = [] if turn is None else [(at(hours=turn), "yellow")]
    assert story.bands == [(at(), "green"), *turns]
    assert cause is None or story.change.cause == cause


@pytest.mark.parametrize(
    ("hour", "turn"),
    [
        pytest.param(24, 24, id="within a day: at once"),
        pytest.param(24.1, 30.1, id="in more than a day: after six hours"),
    ],
)
def test_a_fall_counts_from_the_highest_score_of_24_hours(hour: float, turn: float) -> None:
    story = pair()
    story.hears(ticket("t1", 4))
    story.until(hours=hour)
    story.hears(ticket("t2", 3, hours=hour))
    story.until(days=2)
    assert story.bands == [(at(), "green"), (at(hours=turn), "yellow")]


def test_who_falls_through_both_thresholds_does_not_stop_in_between() -> None:
    story = pair()
    story.hears(*(ticket(f"t{number}", 1) for number in (1, 2, 3)))
    assert story.score.score == 30_000
    assert (story.change.before, story.change.after, story.change.cause) == ("green", "red", "events")


def test_who_rises_through_both_thresholds_does_not_stop_in_between() -> None:
    story = Story(versions(plain()))
    story.hears(OLD, call(days=-12))
    story.hears(call())
    story.until(days=3)
    assert story.bands == [(at(), "red"), (at(hours=48), "green")]


# ---------------------------------------------------------------- tickets


def test_a_ticket_of_three_days_that_becomes_urgent_caps_at_once_until_it_is_solved() -> None:
    story = healthy()
    story.hears(ticket("t1", 3, days=-3))
    story.until(hours=1)
    assert story.caps == []
    story.hears(updated("t1", 1, hours=1, id="worse"))
    cap = story.score.caps[0]
    assert (cap.code, instant(cap.since), [fact.id for fact in cap.evidence]) == ("SEV1_OPEN", at(hours=1), ["worse"])
    assert cap.reason == "ticket t1 of severity 1 has been open for more than 48 hours"
    assert (story.score.score, story.score.band) == (60_000, "yellow")
    assert (story.change.cause, [fact.id for fact in story.change.evidence]) == ("cap", ["worse"])
    assert story.change.caps_began == ("SEV1_OPEN",)
    story.until(hours=5)
    story.hears(solved("t1", hours=5, id="done"))
    assert (story.change.cause, [fact.id for fact in story.change.evidence]) == ("cap", ["done"])
    assert (story.change.caps_ended, story.change.reason) == (("SEV1_OPEN",), "SEV1_OPEN ended")
    assert story.signal("open_load") == 100
    story.until(days=3)
    # The 48 hours of the way up begin when the cap ends.
    assert story.bands == [(at(), "green"), (at(hours=1), "yellow"), (at(hours=53), "green")]


def test_a_ticket_opened_as_urgent_caps_after_exactly_48_hours_without_any_fact() -> None:
    story = healthy()
    story.hears(ticket("t1", 1, id="urgent"))
    story.until(hours=47, minutes=59, seconds=59)
    assert story.caps == []
    story.until(hours=72)
    cap, change = story.score.caps[0], story.told(HealthChanged)[-1]
    assert (cap.code, instant(cap.since)) == ("SEV1_OPEN", at(hours=48))
    assert (instant(change.time), change.data.cause) == (at(hours=48), "cap")
    assert [fact.id for fact in change.data.evidence] == ["urgent"]


@pytest.mark.parametrize(
    "late",
    [
        pytest.param(solved("t1", hours=1), id="solved"),
        pytest.param(updated("t1", 2, hours=1), id="less severe"),
    ],
)
def test_a_late_fact_from_before_ends_a_cap_that_was_never_due(late: Event) -> None:
    story = healthy()
    story.hears(ticket("t1", 1))
    story.until(hours=50)
    assert story.caps == ["SEV1_OPEN"]
    story.hears(late, arrived=at(hours=50))
    assert story.caps == []
    assert (story.change.cause, story.change.caps_ended) == ("cap", ("SEV1_OPEN",))


def test_the_cap_of_one_ticket_lasts_until_the_other_is_solved_as_well() -> None:
    story = healthy()
    story.hears(ticket("t1", 1, days=-3), ticket("t2", 1, days=-4))
    assert story.score.caps[0].reason.startswith("ticket t2 ")
    story.hears(solved("t2", minutes=-1))
    assert story.score.caps[0].reason.startswith("ticket t1 ")
    story.hears(solved("t1", minutes=-1))
    assert story.caps == []


# ---------------------------------------------------------------- handoffs


def breached() -> Story:
    story = healthy()
    story.hears(handoff(days=-1))
    story.hears(sla("at_risk", hours=-2))
    assert (story.signal("handoff"), story.caps, story.score.band) == (60, [], "green")
    story.hears(sla("breached", hours=-1))
    return story


def test_a_breach_caps_and_moves_the_signal_of_ownership() -> None:
    story = breached()
    assert (story.signal("handoff"), story.caps, story.score.band) == (20, ["HANDOFF_BREACH"], "yellow")
    assert story.score.score == 65_000
    cap = story.score.caps[0]
    assert (instant(cap.since), cap.reason) == (at(hours=-1), "a handoff has breached its agreed time")
    assert [(fact.source, fact.id) for fact in cap.evidence] == [("steward/handoff", "h1/accept/breached")]
    line = next(line for line in story.score.contributions if line.signal == "handoff")
    assert [fact.id for fact in line.evidence] == ["h1/accept/breached", "h1/accept/at_risk"]
    assert (story.change.cause, story.change.caps_began) == ("cap", ("HANDOFF_BREACH",))


@pytest.mark.parametrize(
    ("events", "signal"),
    [
        pytest.param([retracted("breached")], 60, id="retracted, still at risk"),
        pytest.param([retracted("breached"), retracted("at_risk")], 100, id="retracted altogether"),
        pytest.param([handoff("accepted")], 100, id="accepted"),
        pytest.param([handoff("cancelled")], 100, id="cancelled"),
    ],
)
def test_the_end_of_a_breach_lifts_the_cap_and_the_signal(events: list[Event], signal: float) -> None:
    story = breached()
    story.hears(*events)
    assert (story.signal("handoff"), story.caps) == (signal, [])
    assert (story.change.cause, story.change.caps_ended) == ("cap", ("HANDOFF_BREACH",))
    story.until(days=3)
    assert story.bands == [(at(), "green"), (at(), "yellow"), (at(hours=48), "green")]


@pytest.mark.parametrize(
    ("event", "signal", "caps"),
    [
        pytest.param(handoff("paused"), 20, ["HANDOFF_BREACH"], id="a pause changes nothing"),
        pytest.param(retracted("breached", leg="other"), 20, ["HANDOFF_BREACH"], id="another leg"),
        pytest.param(retracted("breached", name="h2"), 20, ["HANDOFF_BREACH"], id="another handoff"),
        pytest.param(sla("passed_200"), 20, ["HANDOFF_BREACH"], id="a later stage"),
    ],
)
def test_other_news_of_handoffs_leave_a_breach_as_it_is(event: Event, signal: float, caps: list[str]) -> None:
    story = breached()
    story.hears(event)
    assert (story.signal("handoff"), [cap.code for cap in judged(story, story.at).caps]) == (signal, caps)


def test_a_handoff_heard_of_before_its_account_is_not_forgotten() -> None:
    story = Story(versions(whole()))
    story.hears(handoff(hours=-8))
    story.hears(sla("noticed", hours=-4))
    story.hears(sla("breached"))
    story.hears(OLD, assigned(days=-20), call("c1", days=-1), call("c2", days=-1))
    assert story.caps == ["HANDOFF_BREACH"]
    assert story.score.band == "yellow"


# ---------------------------------------------------------------- owners


@pytest.mark.parametrize(
    ("gone", "half", "capped"),
    [
        # Eight hours a day in Berlin, where it is ten at START, a Monday.
        pytest.param({"hours": 0}, {"days": 1}, {"days": 2}, id="Monday 10:00: Wednesday 10:00"),
        pytest.param({"hours": 12}, {"hours": 31}, {"hours": 55}, id="Monday night: Wednesday 17:00"),
        pytest.param({"days": 4, "hours": 5}, {"days": 7, "hours": 5}, {"days": 8, "hours": 5}, id="over a weekend"),
    ],
)
def test_an_account_without_owner_falls_with_working_hours_alone_and_is_capped_after_sixteen(
    gone: dict[str, Any], half: dict[str, Any], capped: dict[str, Any]
) -> None:
    story = healthy()
    for day in range(10):  # it is well otherwise
        story.until(days=day)
        story.hears(*(call(contact, days=day) for contact in ("c1", "c2", "c3")))
        if at(days=day) <= at(**gone) < at(days=day + 1):
            story.until(**gone)
            story.hears(removed("ada", **gone, id="gone"))
            assert story.signal("owner") == 100
        if at(days=day) <= at(**half) < at(days=day + 1):
            story.until(**half)
            owner = judged(story, story.at).sum.lines[4]
            assert (owner.place.signal, owner.reading) == ("owner", (8, 70))
    changes = [event for event in story.told(HealthChanged) if "NO_OWNER" in event.data.caps_began]
    assert [(instant(one.time), one.data.cause) for one in changes] == [(at(**capped), "cap")]
    assert [fact.id for fact in changes[0].data.evidence] == ["gone"]
    cap = story.score.caps[0]
    assert (instant(cap.since), cap.reason) == (at(**capped), "nobody has owned the account for 16 working hours")
    assert (story.score.score, story.score.band) == (70_000, "yellow")


def test_the_score_of_an_account_without_owner_stands_still_at_night() -> None:
    story = healthy()
    story.hears(removed())
    evening, morning = (judged(story, at(hours=hour)).sum.lines[4] for hour in (7, 23))
    assert evening.reading == morning.reading == (7, 73.75)


def test_a_new_owner_ends_the_cap_and_the_fall() -> None:
    story = healthy()
    story.hears(removed())
    story.until(days=3)
    assert story.caps == ["NO_OWNER"]
    story.hears(assigned("bob", days=3, id="new"))
    assert (story.caps, story.signal("owner")) == ([], 100)
    assert (story.change.cause, story.change.caps_ended) == ("cap", ("NO_OWNER",))
    assert [fact.id for fact in story.change.evidence] == ["new"]
