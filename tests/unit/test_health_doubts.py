"""Stories of accounts of which little is known, of sources that fall silent, of policies, days, and facts again."""

from itertools import pairwise

import pytest

from schemas.health import HealthChanged, HealthClosed, HealthScored
from services.core.instants import DAY, MINUTE, Instant, instant
from services.core.processor import NEVER
from tests.health_timeline import (
    OLD,
    SHIPPED,
    START,
    Story,
    assigned,
    at,
    call,
    handoff,
    healthy,
    judged,
    minute_of,
    plain,
    purchase,
    removed,
    sla,
    solved,
    ticket,
    upserted,
    versions,
    whole,
)

# ---------------------------------------------------------------- doubts


def test_a_new_account_has_no_band_for_14_days_and_then_its_band_at_once() -> None:
    story = Story(versions(whole()))
    story.hears(assigned(), ticket("t0"), solved("t0"), *(call(contact) for contact in ("c1", "c2", "c3")))
    assert (story.score.band, story.score.colour) == ("na", "green")
    assert story.score.unsure == ("the account has been known for 0 days, and a band needs 14",)
    assert story.score.outlook is not None
    assert (story.score.outlook.band, instant(story.score.outlook.at)) == ("green", at(days=14))
    story.until(days=14, seconds=-1)
    assert (story.score.band, story.score.unsure[0]) == ("na", story.score.unsure[0].replace(" 0 days", " 13 days"))
    story.until(days=15)
    assert story.bands == [(at(), "na"), (at(days=14), "green")]
    assert (story.change.cause, instant(story.told(HealthChanged)[-1].time)) == ("decay", at(days=14))


def test_an_older_fact_that_arrives_late_ends_the_doubt_about_a_young_account() -> None:
    story = Story(versions(plain()))
    story.hears(upserted(), call())
    assert story.score.band == "na"
    story.hears(upserted(days=-14))
    assert (story.score.band, story.change.cause) == ("green", "events")


THIN = {"thin_data": {"limit": 74, "coverage": 0.7}}


def test_an_account_whose_source_falls_silent_is_believed_less_until_it_has_no_band() -> None:
    story = healthy(caps=THIN)
    story.until(hours=1)
    # All came from one source: of all weight only the handoffs' 0.15 depends on none.
    story.falls_silent("crm", hours=0.5)
    assert story.score.coverage == pytest.approx(0.15 + 0.85 * (1 - 0.5 / 24))
    thin, na = 0.5 + 24 * 0.3 / 0.85, 0.5 + 24 * 0.5 / 0.85
    assert story.score.outlook is not None
    assert (story.score.outlook.band, minute_of(story.score.outlook.at)) == ("yellow", nearest(thin))
    story.hourly(days=2)
    assert story.bands == [(at(), "green"), (nearest(thin), "yellow"), (nearest(na), "na")]
    assert [change.cause for change in story.changes[1:]] == ["data", "data"]
    assert [change.reason for change in story.changes[1:]] == ["silent: crm", "silent: crm"]
    assert story.score.coverage == 0.15
    lines = [line for line in story.score.contributions if line.signal != "handoff"]
    assert {line.missing for line in lines} == {"silent for more than 24 hours: crm"}
    assert "there is evidence for 15% of what counts, and a band needs 50%" in story.score.unsure


def nearest(hours: float) -> Instant:
    return (at(hours=hours) + MINUTE // 2) // MINUTE * MINUTE


def test_an_account_whose_source_is_heard_again_has_its_band_at_once() -> None:
    story = healthy(caps=THIN)
    story.until(hours=1)
    story.falls_silent("crm", hours=0)
    story.until(days=2)
    assert story.score.band == "na"
    story.is_heard_again("crm")
    assert (story.score.band, story.change.cause) == ("green", "data")
    assert story.change.reason == "its sources are heard again"


def test_what_a_silent_source_told_stays_as_it_was_when_it_was_last_heard() -> None:
    story = healthy()
    before = {line.place.signal: line.reading for line in judged(story, story.at).sum.lines}
    story.until(hours=1)
    story.falls_silent("crm", hours=0)
    story.until(hours=20)
    lines = judged(story, story.at).sum.lines
    assert {line.place.signal: line.reading for line in lines} == before
    assert [round(line.trust * 24, 6) for line in lines] == [4, 4, 4, 4, 4, 24]


def test_a_source_that_nobody_believes_any_more_is_no_reason_to_look() -> None:
    story = healthy()
    story.until(hours=1)
    story.falls_silent("crm", hours=0)
    assert story.state is not None
    assert story.state.wake <= at(hours=1.25)
    story.until(hours=24)
    assert (story.state.wake, story.score.outlook) == (at(hours=38), None)  # midnight in Berlin


def test_the_silence_of_a_source_that_never_told_of_an_account_changes_nothing() -> None:
    story = healthy()
    before = list(story.published)
    story.falls_silent("erp", hours=-2)
    assert story.published == before


def test_a_cap_that_time_brings_while_a_source_is_silent_is_no_matter_of_data() -> None:
    story = healthy()
    story.hears(handoff(days=-1))
    story.until(hours=1)
    story.falls_silent("crm", hours=0)
    story.until(hours=2)
    story.hears(sla("breached", hours=2))
    assert (story.change.caps_began, story.change.cause) == (("HANDOFF_BREACH",), "cap")


# ---------------------------------------------------------------- policy


def test_a_policy_with_another_cap_is_followed_from_its_instant_on() -> None:
    stricter = whole(2, caps={"thin_data": {"limit": 45, "coverage": 0.9}})
    story = Story(versions(whole(), (at(days=2), stricter)))
    story.hears(OLD, assigned(days=-20), call("c1", days=-1), call("c2", days=-1))
    story.until(days=2, seconds=-1)
    assert (story.score.policy, story.score.band) == (1, "yellow")
    story.until(days=2)
    assert (story.score.policy, story.score.band, story.caps) == (2, "red", ["THIN_DATA"])
    assert (story.change.cause, story.change.policy) == ("policy", 2)
    assert story.change.reason.startswith("policy version 2 is in force")


def test_a_policy_with_other_thresholds_is_followed_after_the_same_dwell() -> None:
    bands = SHIPPED.model_dump(mode="json")["health"]["bands"]
    story = Story(versions(plain(), (at(hours=1), plain(2, bands=bands | {"green": 99}))))
    story.hears(OLD, call(days=-1))
    story.until(hours=1)
    assert (story.score.policy, story.score.colour, story.score.band) == (2, "yellow", "green")
    story.until(days=1)
    assert story.bands == [(at(), "green"), (at(hours=7), "yellow")]
    assert (story.change.cause, story.change.policy) == ("policy", 2)


def test_a_policy_that_asks_for_less_evidence_ends_a_doubt_at_once() -> None:
    story = Story(versions(whole(), (at(hours=1), whole(2, provisional={"coverage": 0.1, "days": 1}))))
    story.hears(upserted(days=-2))
    assert story.score.band == "na"
    story.until(hours=1)
    assert (story.change.before, story.change.after, story.change.cause) == ("na", "yellow", "policy")


# ---------------------------------------------------------------- closings


@pytest.mark.parametrize("is_walking", [False, True], ids=["in one leap", "hour by hour"])
def test_each_local_day_is_closed_once_at_its_end_also_where_clocks_change(is_walking: bool) -> None:
    story = Story(versions(plain()))
    story.hears(OLD, call())
    move = story.hourly if is_walking else story.until
    move(days=30)
    closed = [
        (event.data.day, event.time.strftime("%m-%dT%H:%M"))
        for event in story.published
        if isinstance(event, HealthClosed)
    ]
    assert len(closed) == 30
    assert closed[0] == ("2026-03-02", "03-02T23:00")
    # Summer time begins in Berlin on Sunday, 29 March: that day has 23 hours.
    assert closed[25:29] == [
        ("2026-03-27", "03-27T23:00"),
        ("2026-03-28", "03-28T23:00"),
        ("2026-03-29", "03-29T22:00"),
        ("2026-03-30", "03-30T22:00"),
    ]
    assert [after.score - before.score for before, after in pairwise(story.closings[:10])] == [-5_000] * 9


def test_each_local_day_is_closed_once_where_clocks_go_back() -> None:
    story = Story(versions(plain()))
    story.at = at(days=234)  # 22 October
    story.hears(call(days=220), call(days=234))
    story.until(days=240)
    closed = [
        (event.data.day, f"{event.time:%m-%dT%H:%M}") for event in story.published if isinstance(event, HealthClosed)
    ]
    assert closed == [
        ("2026-10-22", "10-22T22:00"),
        ("2026-10-23", "10-23T22:00"),
        ("2026-10-24", "10-24T22:00"),
        ("2026-10-25", "10-25T23:00"),
        ("2026-10-26", "10-26T23:00"),
        ("2026-10-27", "10-27T23:00"),
    ]


def test_a_closing_says_the_band_and_the_points_of_the_day() -> None:
    story = healthy()
    story.until(days=1)
    closing = story.closings[0]
    assert (closing.day, closing.band, closing.policy) == ("2026-03-02", "green", 1)
    assert closing.score == 60_000 + sum(closing.points.values())
    assert set(closing.points) == {line.signal for line in story.score.contributions}


# ---------------------------------------------------------------- facts again, early, late


def test_a_fact_that_arrives_twice_changes_nothing_and_says_nothing() -> None:
    story = healthy()
    said, known = list(story.published), story.state
    story.hears(call("c1", days=-1), call("c2", days=-2), assigned("ada", days=-20), upserted(days=-20))
    assert (story.published, story.state) == (said, known)
    assert story.fates == [("call:c1:03-01T09:00:00", "duplicate"), ("call:c2:02-28T09:00:00", "duplicate")]


def test_facts_from_before_the_first_mark_are_scored_with_it() -> None:
    story = Story(versions(plain()), at=NEVER)
    assert story.hears(OLD, call()) == []
    assert story.hears(call(days=-1)) == []
    story.until()
    assert (story.score.score, story.score.band, story.change.cause) == (100_000, "green", "events")
    assert story.change.reason == "the first score"


def test_a_batch_says_each_change_and_only_its_last_score() -> None:
    story = Story(versions(plain()))
    story.hears(OLD, call())
    story.at = at(days=6)  # the clock is there; nobody has looked since
    said = story.hears(call(days=6))
    assert [type(event).__name__ for event in said][-1] == "HealthScored"
    assert sum(isinstance(event, HealthScored) for event in said) == 1
    assert story.bands == [(at(), "green"), (at(days=5.65), "yellow")]
    assert story.score.score == 100_000


def test_scores_of_one_instant_that_say_different_things_have_different_ids() -> None:
    story = Story(versions(plain()))
    story.hears(OLD, call(id="first"))
    story.hears(call(id="second"))  # at the same mark, and worth nothing more
    first, second = story.told(HealthScored)
    assert first.time == second.time
    assert first.data.raw == second.data.raw
    assert first.id != second.id


def test_a_story_told_again_gives_the_same_ids() -> None:
    def tell() -> list[str]:
        story = healthy()
        story.hears(ticket("t1", 1), removed(), handoff(hours=-5), sla())
        story.until(days=4)
        story.hears(solved("t1", days=4), handoff("accepted", days=4))
        story.hourly(days=20)
        return [event.id for event in story.published]

    ids = tell()
    assert ids == tell()
    assert len(set(ids)) == len(ids)


def test_a_cap_whose_beginning_only_the_looks_know_keeps_its_beginning() -> None:
    story = Story()
    story.hears(OLD, call("c1", days=-3))
    story.until(days=40)
    story.hears(purchase(days=40))
    weak = next(change for change in story.told(HealthChanged) if "WEAK_LINK" in change.data.caps_began)
    assert weak.data.cause == "cap"
    since = {cap.code: cap.since for cap in story.scores[-2].caps}
    assert since == {"THIN_DATA": START, "NARROW": START, "WEAK_LINK": weak.time}


def test_the_profile_is_said_with_what_a_wider_one_would_need() -> None:
    story = Story()
    story.hears(OLD, call())
    assert story.score.profile == "crm-only"
    assert story.score.profile_reason == "contract needs evidence of support, sentiment, commercial"
    assert story.caps == ["THIN_DATA", "NARROW"]
    assert story.score.contributions[-1].missing == "not measured yet"


def test_days_of_activity_and_sums_are_forgotten_by_nobody() -> None:
    story = Story(versions(plain()))
    story.hears(OLD, *(call(days=-day) for day in range(10)))
    story.until(days=20)
    story.hears(*(call(days=-day) for day in range(10)), arrived=story.at)
    assert {reason for _, reason in story.fates} == {"too_late"}
    assert story.state is not None
    assert DAY * (story.state.known.first_day + 9) == at() // DAY * DAY


def test_an_account_has_no_band_before_the_import_that_tells_of_it_is_over() -> None:
    story = Story(versions(plain()))
    story.promises = {"r": at(days=-300)}
    story.hears(upserted(days=-300, run="r"), call("c1", days=-299, run="r", runposition=1))
    assert (story.score.band, story.score.unsure) == ("na", ("an import that tells of the account is under way",))
    story.hears(call("c2", days=-1, run="r", runposition=2))
    story.until(hours=3)
    assert story.score.band == "na"
    story.ends("r")
    assert story.bands == [(at(), "na"), (at(hours=3), "green")]
    assert (story.change.cause, story.change.evidence[0].id) == ("events", "call:c2:03-01T09:00:00")


def test_an_import_moves_the_band_of_a_living_account_only_by_the_whole_of_what_it_tells() -> None:
    story = Story(versions(whole()))
    story.hears(OLD, assigned(days=-20), call("c1", days=-1), call("c2", days=-1), call("c3", days=-1))
    band = story.score.band
    story.promises = {"r": at(days=-300)}
    story.hears(ticket("t1", 1, days=-300, run="r", runposition=1))
    assert (story.score.band, story.change.n) == (band, 1)
    story.until(minutes=10)
    story.hears(solved("t1", days=-299, run="r", runposition=2))
    story.ends("r")
    story.until(days=1)
    assert [change.after for change in story.changes] == [band]


def test_an_import_that_was_over_long_before_it_is_heard_of_counts_from_its_end() -> None:
    story = Story(versions(plain()))
    story.promises = {"r": at(days=-300)}
    story.hears(upserted(days=-300, run="r"), call("c1", days=-1, run="r", runposition=1))
    story.closed = {"r": at(hours=1)}
    story.until(days=2)
    assert story.bands == [(at(), "na"), (at(hours=1), "green")]
    assert {closing.band for closing in story.closings} == {"green"}


def test_an_import_that_has_stalled_is_not_waited_for() -> None:
    story = Story(versions(plain()))
    story.promises = {"r": at(days=-300)}
    story.hears(upserted(days=-300, run="r"), call("c1", days=-1, run="r", runposition=1))
    story.until(hours=1)
    story.stalled = frozenset({"r"})
    story.until(hours=2)
    assert story.bands == [(at(), "na"), (at(hours=2), "green")]
