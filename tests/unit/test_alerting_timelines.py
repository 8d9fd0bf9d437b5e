"""Stories of alerts on simulated time, from verdict to delivered message and back."""

import pytest

from schemas import alerts, notices
from schemas.policies import PersonRule
from services.core.instants import DAY, MINUTE
from tests.alerting_timeline import BROKEN, DUE, OK, Office, changed, retracted, rules, verdict
from tests.builders import minute, policies


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


def test_managers_in_a_circle_are_told_once() -> None:
    circle = rules(eve=PersonRule(manager="kim"), kim=PersonRule(manager="eve"))
    office = Office(policies(circle))
    office.hears(*(verdict(stage, owner="eve") for stage in ("breached", "passed_125", "passed_200")))
    office.settles()
    assert office.told() == ["raised breached to eve", "raised breached to kim", "raised passed_125 to kim"]
    assert office.said()[-1] == "held passed_200: nobody above"


def test_history_is_recorded_and_told_to_nobody() -> None:
    office = Office()
    office.hears(verdict(run="crm:1"), changed("accepted", 90, run="crm:1"))
    office.settles()
    assert office.said() == ["held breached: history", "resolved breached: was told"]
    assert office.noticed == []
    assert {event.run for event in office.published} == {"crm:1"}


@pytest.mark.parametrize(
    ("closed", "told"),
    [
        pytest.param(DUE - 1, ["raised breached"], id="left open by the import, due after it"),
        pytest.param(DUE, [], id="due when the import ended"),
        pytest.param(None, [], id="the import goes on"),
    ],
)
def test_what_an_import_left_open_breaches_live_like_any_other(closed: float | None, told: list[str]) -> None:
    office = Office(at=minute(DUE), closed={} if closed is None else {"crm:1": minute(closed)})
    office.hears(verdict(run="crm:1"))
    office.settles()
    assert office.told("ada") == told


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


def test_what_is_heard_again_of_an_earlier_raising_touches_no_later_one() -> None:
    office = Office()
    office.hears(verdict(), retracted(), verdict(n=2, due=30, at=30))
    office.settles()
    office.hears(verdict(), verdict(correction=1), retracted())
    office.settles()
    assert office.told("ada") == ["raised breached"]
    assert [reason for _, reason in office.fates if reason != "not_concerned"] == ["duplicate"] * 3


def test_a_stage_that_was_taken_back_is_not_corrected() -> None:
    office = Office()
    office.hears(verdict(), retracted(), verdict(correction=1))
    assert office.settles().told() == []


def test_the_same_retraction_twice_is_told_once() -> None:
    office = Office()
    office.hears(verdict(owner="loner"))
    office.settles()
    office.hears(retracted(owner="loner"))
    office.settles()
    before = office.desks["loner"]
    office._post(office.noticed[-1])
    office.settles()
    assert office.desks["loner"] is before


def test_a_pause_that_comes_to_light_with_the_acceptance_is_told_as_a_retraction_alone() -> None:
    office = Office()
    office.hears(verdict())
    office.settles()
    office.hears(changed("accepted", 65, due=70))
    office.settles()
    office.hears(retracted(at=65, due=70, accepted=65))
    office.settles()
    assert office.told("ada") == ["raised breached", "retracted breached"]


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


def test_a_settled_alert_is_kept_for_sixty_days_after_the_last_late_fact() -> None:
    office = Office().until(100 * 24 * 60)
    office.hears(verdict(), changed("accepted", 90), arrived=100 * 24 * 60)
    office.until(159 * 24 * 60)
    office.hears(retracted(), arrived=159 * 24 * 60)
    assert office.said()[-1] == "retracted breached: was told"


def test_an_account_keeps_a_thousand_alerts_and_lets_settled_ones_go_first() -> None:
    office = Office()
    office.hears(*(verdict(owner="loner", name=f"deal-{number}", at=DAY // MINUTE) for number in range(1_000)))
    office.hears(changed("accepted", DAY // MINUTE + 90, name="deal-500"))
    office.hears(verdict(owner="loner", name="one more", at=DAY // MINUTE))
    assert office.case is not None
    kept = {alert.handoff for alert in office.case.alerts.values()}
    assert (len(kept), "deal-500" in kept, "one more" in kept) == (1_000, False, True)


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
