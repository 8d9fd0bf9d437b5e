"""Stories of deliveries on simulated time: digests, attempts that fail, endpoints that are gone, limits."""

from itertools import pairwise

import msgspec
import pytest

from schemas import notices
from services.alerting.desk import WAITING_LIMIT
from services.alerting.model import Attempt, Outcome
from services.core.instants import HOUR, MINUTE, SECOND, moment
from tests.alerting_timeline import BROKEN, BUSY, GONE, OK, SILENT, Office, changed, retracted, verdict
from tests.builders import minute


def test_the_same_notice_twice_is_delivered_once() -> None:
    office = Office()
    office.hears(verdict("at_risk"))
    office.settles()
    office._post(office.noticed[0])
    office.settles()
    assert len(office.sent) == 1


def test_what_follows_a_word_that_was_given_up_still_goes_out() -> None:
    office = Office(answer=lambda attempt: BROKEN if attempt.notices[0].what == "raised" else OK).until(60)
    office.hears(verdict(owner="loner"))
    office.settles()
    office.hears(changed("accepted", 90))
    office.until(60 + 40 * 60)
    assert office.failed() == [("loner", 8, "gave_up")]
    assert office.told("loner") == ["resolved breached"]


def test_a_retraction_follows_also_a_word_that_was_given_up_because_it_may_have_arrived() -> None:
    office = Office(answer=lambda attempt: SILENT if attempt.notices[0].what == "raised" else OK).until(60)
    office.hears(verdict(owner="loner"))
    office.until(60 + 40 * 60)
    office.hears(retracted(owner="loner"))
    office.settles()
    assert office.told("loner") == ["retracted breached"]


def test_what_an_outage_aged_out_comes_in_one_digest_a_minute_after_the_first() -> None:
    office = Office().until(60 + 25 * 60)
    office.hears(*(verdict(owner="loner", name=f"deal-{number}") for number in range(7)))
    office.settles()
    assert office.sent == []
    assert office.said() == ["held breached: in the digest"] * 7
    office.until(60 + 25 * 60 + 1)
    assert [(attempt.is_digest, len(attempt.notices)) for attempt in office.sent] == [(True, 7)]
    assert office.told("loner") == ["raised breached"] * 7


def test_a_retraction_takes_its_alert_out_of_the_digest() -> None:
    office = Office().until(60 + 25 * 60)
    office.hears(verdict(owner="loner"), verdict(owner="loner", name="deal-2"))
    office.settles()
    office.hears(retracted(owner="loner"))
    office.until(60 + 25 * 60 + 1)
    assert [[notice.handoff for notice in attempt.notices] for attempt in office.sent] == [["deal-2"]]


def test_a_retraction_takes_its_alert_out_of_a_digest_that_waits_its_turn() -> None:
    office = Office().until(50)
    office.hears(verdict("at_risk", 45, owner="loner"))
    office.desk_reads("loner")  # and the courier takes its time
    office.at = minute(60 + 25 * 60)
    office.hears(verdict(owner="loner"), verdict(owner="loner", name="deal-2"))
    office.desk_reads("loner")
    office.at = minute(60 + 25 * 60 + 1)
    office._fire()
    office.hears(retracted(owner="loner"))
    office.settles()
    told = [[(notice.stage, notice.handoff) for notice in attempt.notices] for attempt in office.sent]
    assert told == [[("at_risk", "deal-1")], [("breached", "deal-2")]]


def test_a_retraction_after_the_digest_is_told_singly() -> None:
    office = Office().until(60 + 25 * 60)
    office.hears(verdict(owner="loner"))
    office.until(60 + 25 * 60 + 1)
    office.hears(retracted(owner="loner"))
    office.settles()
    assert office.told("loner") == ["raised breached", "retracted breached"]
    assert [attempt.is_digest for attempt in office.sent] == [True, False]


def test_what_follows_of_an_alert_in_the_digest_is_told_there_after_it() -> None:
    office = Office().until(60 + 25 * 60)
    office.hears(verdict(owner="loner"))
    office.settles()
    office.hears(verdict(owner="loner", at=120, due=120, correction=1))
    office.until(60 + 25 * 60 + 1)
    assert [[notice.what for notice in attempt.notices] for attempt in office.sent] == [["raised", "corrected"]]


def test_without_a_clock_nothing_is_too_old() -> None:
    office = Office()
    office.hears(verdict(at=-100 * 24 * 60, due=-100 * 24 * 60))
    office.settles()
    assert office.told("ada") == ["raised breached"]


def test_failed_attempts_are_repeated_by_the_plan_under_one_key() -> None:
    office = Office(answer=lambda _attempt: SILENT).until(60)
    times = []

    def answer(_attempt: Attempt) -> Outcome:
        times.append(office.at)
        return SILENT

    office.answer = answer
    office.hears(verdict("at_risk"))
    office.settles()
    office.until(60 + 30 * 60)
    pauses = [after - before for before, after in pairwise(times)]
    plan = [5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR]
    assert all(max(SECOND, most // 10) <= pause <= most for pause, most in zip(pauses, plan, strict=True))
    assert office.failed() == [("ada", 8, "gave_up")]
    assert len({attempt.delivery for attempt in office.sent}) == 1
    assert [attempt.number for attempt in office.sent] == list(range(1, 9))


def test_a_failure_told_twice_costs_one_attempt() -> None:
    office = Office(answer=lambda _attempt: BROKEN).until(60)
    office.hears(verdict("at_risk"))
    office.desk_reads("ada")
    office.courier_works()
    failed = office.inbox["ada"][0]
    office.desk_reads("ada")
    office.at = minute(61)
    office._fire()  # the second attempt is under way
    before = office.desks["ada"]
    office._post(failed.event)
    office.desk_reads("ada")
    assert office.desks["ada"] is before
    office.settles()
    assert [attempt.number for attempt in office.sent] == [1, 2]


def test_an_endpoint_is_never_asked_again_earlier_than_it_wished() -> None:
    answers = [BUSY, OK]
    office = Office(answer=lambda _attempt: answers.pop(0)).until(60)
    office.hears(verdict("at_risk"))
    office.until(74.99)
    assert office.told() == []
    office.until(75)
    assert office.told() == ["raised at_risk to ada"]


@pytest.mark.parametrize(
    ("simulated", "wall", "clock"),
    [
        pytest.param(False, 60, 61, id="live: from the later of the clock in effect and the result"),
        pytest.param(False, 62, 62, id="live: the clock in effect is behind"),
        pytest.param(True, 9_000, 61, id="simulated: from the clock alone"),
    ],
)
def test_a_pause_begins_on_the_clock_that_ends_it(simulated: bool, wall: float, clock: float) -> None:
    office = Office(answer=lambda _attempt: BUSY, simulated=simulated).until(61)
    office.hears(verdict("at_risk"))
    office.desk_reads("ada")
    office.courier_works()
    failed = office.inbox["ada"][0]
    late = failed.event.model_copy(update={"time": moment(minute(wall))})
    office.inbox["ada"] = [msgspec.structs.replace(failed, event=late)]
    office.desk_reads("ada")
    assert [due.at for due in office.desk_processor.dues(office.desks["ada"])] == [minute(clock) + 900 * SECOND]


def test_an_endpoint_that_is_gone_is_not_asked_again_until_a_day_has_passed() -> None:
    office = Office(answer=lambda _attempt: GONE).until(60)
    office.hears(verdict("at_risk"))
    office.settles()
    office.hears(verdict("at_risk", name="deal-2"))
    office.settles()
    assert office.failed() == [("ada", 1, "endpoint_gone")] * 2
    assert len(office.sent) == 1
    office.answer = lambda _attempt: OK
    office.until(60 + 24 * 60)
    office.hears(verdict("at_risk", at=60 + 24 * 60, due=60 + 24 * 60, name="deal-3"))
    office.settles()
    assert office.told("ada") == ["raised at_risk"]


def test_a_success_shows_that_an_endpoint_is_not_gone() -> None:
    answers = {"deal-1": GONE, "deal-2": OK, "deal-3": OK}
    office = Office(answer=lambda attempt: answers[attempt.notices[0].handoff]).until(60)
    office.hears(verdict("at_risk"), verdict("at_risk", name="deal-2"))
    office.settles()
    office.hears(verdict("at_risk", name="deal-3"))
    office.settles()
    assert office.told("ada") == ["raised at_risk", "raised at_risk"]


def test_one_endpoint_that_fails_does_not_keep_another_waiting() -> None:
    office = Office(
        endpoints=("log", "webhook"), answer=lambda attempt: OK if attempt.endpoint == "log" else BROKEN
    ).until(60)
    office.hears(verdict("at_risk"), changed("accepted", 59))
    office.hears(verdict(), verdict("at_risk", name="deal-2"))
    office.settles()
    assert [attempt.endpoint for attempt in office.sent].count("log") == 3 + 1
    assert sorted(office.told("ada")) == ["raised at_risk", "raised at_risk", "raised breached"]


def test_an_attempt_under_way_when_the_desk_stops_is_repeated_with_the_same_key() -> None:
    office = Office().until(60)
    office.hears(verdict("at_risk"))
    office.desk_reads("ada")
    office.courier_works()
    office.inbox["ada"].clear()  # the process ended between the endpoint's answer and the broker's
    office.restart()
    office.settles()
    assert [(attempt.delivery, attempt.number) for attempt in office.sent] == [
        (office.sent[0].delivery, 1),
        (office.sent[0].delivery, 1),
    ]
    assert office.told("ada") == ["raised at_risk"]


def test_more_than_a_record_can_hold_is_refused_and_recorded() -> None:
    office = Office(answer=lambda _attempt: BROKEN).until(60)
    office.hears(*(verdict(owner="loner", name=f"deal-{number}") for number in range(WAITING_LIMIT + 1)))
    office.settles()
    assert office.failed() == [("loner", 1, "too_many_waiting")]
    assert len(office.desk_processor.encode(office.desks["loner"])) < 900_000


def test_the_result_of_a_delivery_that_has_ended_changes_nothing() -> None:
    office = Office().until(60)
    office.hears(verdict("at_risk"))
    office.settles()
    before, attempt = office.desks["ada"], office.sent[0]
    data = notices.Result(
        delivery=attempt.delivery, notice=attempt.name, endpoint="webhook", attempt=1, status=500, message="late"
    )
    time = office.noticed[0].time
    office._post(
        notices.NoticeFailed(id="late", source="test", subject="ada", partitionkey="ada", time=time, data=data)
    )
    office.settles()
    assert office.desks["ada"] is before
