"""Stories of alerts on simulated time, from verdict to delivered message and back."""

from itertools import pairwise

import pytest

from schemas import alerts, notices
from services.alerting.desk import WAITING_LIMIT
from services.alerting.model import Attempt, Outcome
from services.core.instants import DAY, HOUR, MINUTE, SECOND
from tests.alerting_timeline import BROKEN, BUSY, GONE, OK, SILENT, Office, changed, retracted, verdict
from tests.builders import minute


def notice_ids(office: Office) -> list[str]:
    return [event.id for event in office.noticed]


@pytest.mark.parametrize(
    ("stage", "owner", "told", "said"),
    [
        pytest.param("noticed", "ada", [], [], id="half the time says nothing"),
        pytest.param("met", "ada", [], [], id="in time says nothing"),
        pytest.param("at_risk", "ada", ["ada"], ["raised at_risk: accountable"], id="at risk: the owner"),
        pytest.param(
            "breached", "ada", ["ada", "max"], ["raised breached: accountable and manager"], id="breach: manager too"
        ),
        pytest.param("breached", "loner", ["loner"], ["raised breached: accountable"], id="breach: no manager"),
        pytest.param("breached", "stranger", ["stranger"], ["raised breached: accountable"], id="breach: not listed"),
        pytest.param(
            "breached", None, ["revenue-operations"], ["raised breached: nobody accountable"], id="breach: nobody's"
        ),
        pytest.param("passed_125", "ada", ["max"], ["raised passed_125: manager"], id="125 %: the manager"),
        pytest.param("passed_200", "ada", ["mia"], ["raised passed_200: manager"], id="200 %: the manager's manager"),
        pytest.param("passed_125", "mia", [], ["held passed_125: nobody above"], id="125 %: nobody above"),
        pytest.param("passed_200", "max", [], ["held passed_200: nobody above"], id="200 %: nobody above that"),
    ],
)
def test_each_stage_is_told_to_whom_it_concerns(
    stage: str, owner: str | None, told: list[str], said: list[str]
) -> None:
    office = Office()
    office.hears(verdict(stage, owner=owner))
    office.settles()
    assert (office.told(), office.said()) == ([f"raised {stage} to {person}" for person in told], said)


def test_the_same_verdict_twice_says_nothing_new() -> None:
    office = Office()
    office.hears(verdict())
    office.settles()
    before = office.told(), office.said()
    office.hears(verdict())
    office.settles()
    assert (office.told(), office.said()) == before
    assert office.fates == [("deal-1/accept/breached/1.0", "duplicate")]


def test_the_same_notice_twice_is_delivered_once() -> None:
    office = Office()
    office.hears(verdict("at_risk"))
    office.settles()
    office._post(office.noticed[0])
    office.settles()
    assert len(office.sent) == 1


def test_history_is_recorded_and_told_to_nobody() -> None:
    office = Office()
    office.hears(verdict(run="crm:1"), changed("accepted", 90, run="crm:1"))
    office.settles()
    assert office.said() == ["held breached: history", "resolved breached: was told"]
    assert office.noticed == []
    assert {event.run for event in office.published} == {"crm:1"}


def test_a_correction_goes_to_everyone_who_was_told_and_keeps_its_alert() -> None:
    office = Office()
    office.hears(verdict())
    office.hears(verdict(at=50, due=50, correction=1))
    office.settles()
    assert office.told("max") == ["raised breached", "corrected breached"]
    assert office.said()[-1] == "corrected breached: was told"
    assert len({event.data.alert for event in office.published if isinstance(event.data, alerts.Alert)}) == 1


def test_an_acceptance_after_a_breach_ends_it_once_for_those_who_heard_of_it() -> None:
    office = Office()
    office.hears(verdict("at_risk", 45, owner="loner"), verdict())
    office.settles()
    office.hears(changed("accepted", 90))
    office.hears(changed("accepted", 90))
    office.settles()
    assert office.told("ada") == ["raised breached", "resolved breached"]
    assert office.told("max") == ["raised breached", "resolved breached"]
    assert office.told("loner") == ["raised at_risk"]
    assert office.said().count("resolved breached: was told") == 1


def test_whoever_heard_of_at_risk_alone_does_not_hear_of_its_end() -> None:
    office = Office()
    office.hears(verdict("at_risk", 45), changed("accepted", 50))
    office.settles()
    assert office.told() == ["raised at_risk to ada"]
    assert office.said()[-1] == "resolved at_risk: was told"


def test_whoever_heard_of_a_later_stage_alone_hears_of_its_end_too() -> None:
    office = Office()
    office.hears(verdict(), verdict("passed_125", 180), verdict("passed_200", 300), changed("accepted", 400))
    office.settles()
    assert office.told("mia") == ["raised passed_200", "resolved passed_200"]
    assert office.told("max") == ["raised breached", "raised passed_125", "resolved breached"]


def test_a_cancelled_handoff_ends_its_alert() -> None:
    office = Office()
    office.hears(verdict(), changed("cancelled", 90))
    office.settles()
    assert office.told("ada") == ["raised breached", "resolved breached"]


@pytest.mark.parametrize("end", ["accepted", "cancelled"])
@pytest.mark.parametrize("cut", [1, 2], ids=["in one batch", "apart"])
def test_a_late_fact_that_was_in_time_is_told_as_a_retraction_and_as_nothing_else(end: str, cut: int) -> None:
    office = Office()
    office.hears(verdict())
    office.settles()
    late = [changed(end, 50), retracted(at=50, accepted=50 if end == "accepted" else None)]
    for start in range(0, 2, 2 // cut):
        office.hears(*late[start : start + 2 // cut])
        office.settles()
    assert office.told("max") == ["raised breached", "retracted breached"]
    assert office.said()[1:] == ["retracted breached: was told"]


def test_a_late_acceptance_disproves_the_breach_and_not_that_it_was_at_risk() -> None:
    office = Office()
    office.hears(verdict("at_risk", 45), verdict())
    office.settles()
    office.hears(changed("accepted", 50), retracted())
    office.settles()
    assert office.told("ada") == ["raised at_risk", "raised breached", "retracted breached"]
    assert office.said()[2:] == ["resolved at_risk: was told", "retracted breached: was told"]


@pytest.mark.parametrize("is_read", [True, False], ids=["the end went out", "the end had not gone out"])
def test_an_end_that_turns_out_to_be_none_is_taken_back_with_its_breach(is_read: bool) -> None:
    office = Office()
    office.hears(verdict())
    office.settles()
    office.hears(changed("accepted", 90))
    if is_read:
        office.settles()
    office.hears(changed("accepted", 59), retracted(at=59, accepted=59))
    office.settles()
    ended = ["resolved breached"] if is_read else []
    assert office.told("ada") == ["raised breached", *ended, "retracted breached"]


def test_a_retraction_before_anything_went_out_is_told_to_nobody() -> None:
    office = Office()
    office.hears(verdict())
    office.hears(changed("accepted", 50), retracted())
    office.settles()
    assert office.told() == []
    assert {fate for _, fate in office.fates} == {"not_concerned"}
    office.hears(verdict())
    assert office.settles().told() == []


def test_a_retraction_waits_until_it_is_known_whether_the_first_word_arrived() -> None:
    office = Office(answer=lambda _attempt: BROKEN).until(60)
    office.hears(verdict("breached", owner="loner"))
    office.settles()
    office.hears(retracted())
    office.settles()
    assert [attempt.notices[0].what for attempt in office.sent] == ["raised"], "an answer of 500 leaves it open"
    office.answer = lambda _attempt: OK
    office.until(61)
    assert office.told("loner") == ["raised breached", "retracted breached"]


def test_what_follows_a_word_that_was_given_up_still_goes_out() -> None:
    office = Office(answer=lambda attempt: BROKEN if attempt.notices[0].what == "raised" else OK).until(60)
    office.hears(verdict(owner="loner"))
    office.settles()
    office.hears(changed("accepted", 90))
    office.until(60 + 40 * 60)
    assert office.failed() == [("loner", 8, "gave_up")]
    assert office.told("loner") == ["resolved breached"]


def test_a_stage_raised_again_after_a_retraction_is_a_new_word() -> None:
    office = Office()
    office.hears(verdict())
    office.settles()
    office.hears(retracted())
    office.settles()
    office.hears(verdict(n=2, due=30, at=30, accepted=50))
    office.settles()
    assert office.told("ada") == ["raised breached", "retracted breached", "raised breached"]
    assert len(set(notice_ids(office))) == len(notice_ids(office))


def test_a_breach_of_what_was_accepted_meanwhile_says_so_and_needs_no_second_word() -> None:
    office = Office()
    office.hears(changed("accepted", 61), verdict("at_risk", 45, accepted=61), verdict(accepted=61))
    office.settles()
    assert office.told("ada") == ["raised breached"]
    assert office.said() == [
        "held at_risk: already over",
        "raised breached: accountable and manager",
        "resolved breached: was told",
    ]


def test_a_breach_of_what_was_cancelled_meanwhile_is_followed_by_its_end() -> None:
    office = Office()
    office.hears(changed("cancelled", 61))
    office.hears(verdict())
    office.settles()
    assert office.told("ada") == ["raised breached", "resolved breached"]


def test_an_outdated_state_that_is_heard_again_opens_nothing() -> None:
    office = Office()
    office.hears(changed("accepted", 95), changed("cancelled", 90), changed("accepted", 95))
    office.hears(verdict())
    office.settles()
    assert office.told("ada") == ["raised breached", "resolved breached"]


def test_each_leg_of_a_handoff_is_an_alert_of_its_own() -> None:
    office = Office()
    office.hears(verdict(owner="loner"), verdict(owner="loner", leg="slow"), verdict(owner="loner", name="deal-2"))
    office.hears(changed("accepted", 90))
    office.settles()
    assert sorted(office.told("loner")) == ["raised breached"] * 3 + ["resolved breached"] * 2


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


def test_an_endpoint_is_never_asked_again_earlier_than_it_wished() -> None:
    answers = [BUSY, OK]
    office = Office(answer=lambda _attempt: answers.pop(0)).until(60)
    office.hears(verdict("at_risk"))
    office.until(74.99)
    assert office.told() == []
    office.until(75)
    assert office.told() == ["raised at_risk to ada"]


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


def test_settled_alerts_are_forgotten_after_sixty_days_and_deliveries_after_thirty() -> None:
    office = Office().until(60)
    office.hears(verdict(), changed("accepted", 90))
    office.settles()
    office.until(60 + 30 * 24 * 60 - 1)
    assert set(office.desks) == {"ada", "max"}
    office.until(60 + 30 * 24 * 60)
    assert office.desks == {}
    office.until(90 + 60 * 24 * 60)
    assert office.case is None


def test_an_account_keeps_a_thousand_alerts_and_lets_settled_ones_go_first() -> None:
    office = Office()
    office.hears(*(verdict(owner="loner", name=f"deal-{number}", at=DAY // MINUTE) for number in range(1_000)))
    office.hears(changed("accepted", DAY // MINUTE + 90, name="deal-500"))
    office.hears(verdict(owner="loner", name="one more", at=DAY // MINUTE))
    assert office.case is not None
    kept = {alert.handoff for alert in office.case.alerts.values()}
    assert (len(kept), "deal-500" in kept, "one more" in kept) == (1_000, False, True)


def test_more_than_a_record_can_hold_is_refused_and_recorded() -> None:
    office = Office(answer=lambda _attempt: BROKEN).until(60)
    office.hears(*(verdict(owner="loner", name=f"deal-{number}") for number in range(WAITING_LIMIT + 1)))
    office.settles()
    assert office.failed() == [("loner", 1, "too_many_waiting")]
    assert len(office.desk_processor.encode(office.desks["loner"])) < 900_000


def test_every_notice_names_itself_by_what_it_says() -> None:
    stories = [[verdict(), changed("accepted", 90)], [changed("accepted", 90), verdict()]]
    found: list[set[str]] = []
    for story in stories:
        office = Office()
        for event in story:
            office.hears(event)
        found.append({event.id for event in office.noticed if event.data.model_dump()["what"] == "raised"})
        assert all(event.id == event.data.notice for event in office.noticed if isinstance(event.data, notices.Notice))
    assert found[0] == found[1]


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
