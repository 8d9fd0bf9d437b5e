"""From the document to rules that can be applied, what is refused, and what a policy without them means."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.policies import MEASURED, Policy
from services.core.instants import DAY, HOUR, instant, moment
from services.core.processor import NEVER
from services.core.worktime import CalendarError
from services.health.app import read_policy
from services.health.facts import take
from services.health.model import Known
from services.health.policy import Place, Rules, compile_health, is_measured
from services.health.score import Judge
from services.runtime.documents import DocumentError
from tests.health_timeline import SHIPPED, Story, assigned, at, call, mute, plain, rules, upserted, versions, whole

DOCUMENT = Path(__file__).parents[2] / "deploy/policy/steward.yaml"


def compiled(policy: Policy) -> Rules:
    found = compile_health(policy)
    assert found is not None
    return found


# ---------------------------------------------------------------- units


def test_thresholds_become_milli_points_and_spans_microseconds() -> None:
    found = compiled(SHIPPED)
    bands = found.bands
    assert (bands.green, bands.yellow) == (75_000, 50_000)
    assert (bands.falls, bands.rises) == ((73_000, 48_000), (78_000, 53_000))
    assert (bands.down, bands.up, bands.fall, bands.window) == (6 * HOUR, 48 * HOUR, 10_000, 24 * HOUR)
    assert (found.short, found.long, found.breadth, found.age) == (7 * DAY, 28 * DAY, 30 * DAY, 14 * DAY)


def test_meaningful_facts_are_known_by_the_names_of_their_types() -> None:
    assert compiled(rules(meaningful=["ticket.reopened"])).meaningful == {"steward.ticket.reopened.v1"}
    assert call().type in compiled(SHIPPED).meaningful


def test_the_calendar_is_the_companys_by_its_name_and_the_policys_version() -> None:
    calendar = compiled(rules(7)).calendar
    assert (calendar.name, calendar.version, calendar.zone) == ("business", 7, "Europe/Berlin")


@pytest.mark.parametrize(
    ("profile", "signal", "weight"),
    [
        pytest.param("contract", "activity", 0.25 / 3, id="a third of 25"),
        pytest.param("contract", "readiness", 0.1, id="alone in its group"),
        pytest.param("crm-only", "activity", 0.15, id="the same signal in another profile"),
        pytest.param("crm-only", "owner", 0.1, id="a third of 30"),
    ],
)
def test_the_signals_of_a_group_share_its_weight(profile: str, signal: str, weight: float) -> None:
    found = next(one.profile for one in compiled(SHIPPED).resolve if one.profile.name == profile)
    places = {place.signal: place for place in found.places}
    assert places[signal].weight == pytest.approx(weight)  # type: ignore[index]
    assert sum(place.weight for place in found.places) == pytest.approx(1)
    assert sum(found.groups.values()) == pytest.approx(100)


def test_profiles_are_asked_in_the_order_of_the_document() -> None:
    first, last = compiled(SHIPPED).resolve
    assert (first.profile.name, first.fed, first.profile.narrow) == (
        "contract",
        ("support", "sentiment", "commercial"),
        False,
    )
    assert (last.profile.name, last.fed, last.profile.narrow) == ("crm-only", (), True)


def test_what_is_measured_is_known() -> None:
    listed = [place.signal for place in compiled(SHIPPED).resolve[0].profile.places]
    assert {signal for signal in listed if is_measured(signal)} == set(MEASURED)


def test_a_signal_that_nothing_weighs_needs_no_curve() -> None:
    found = compiled(plain())  # one signal, one curve
    (place,) = found.resolve[0].profile.places
    assert place == Place("two_way_contact", "contact", 1.0)
    known = Known()
    for event in (call("c1"), assigned(), call("c2", days=-1)):
        known = take(known, event, instant(event.time), at(), found).known
    judge = Judge(known, found, {})
    assert judge.at(at(days=4)).score == 80_000
    assert list(judge.margins(judge.at(at(days=4))))


def test_a_policy_without_health_has_no_rules() -> None:
    assert compile_health(mute()) is None


# ---------------------------------------------------------------- refusals


def with_week(week: dict[str, Any], **more: Any) -> Policy:
    told = SHIPPED.model_dump(mode="json", exclude_none=True)
    told["calendars"]["business"] |= {"week": week, **more}
    return Policy.model_validate_json(json.dumps(told))


@pytest.mark.parametrize(
    ("week", "more", "sentence"),
    [
        pytest.param({"mon-fri": [["17:00", "09:00"]]}, {}, "does not end after its start", id="backwards"),
        pytest.param({"someday": [["09:00", "17:00"]]}, {}, '"someday" is not a day', id="no day"),
        pytest.param({"mon": []}, {}, "has no working hours", id="no hours"),
        pytest.param(
            {"mon": [["09:00", "17:00"]]}, {"zone": "Europe/Berlinn"}, 'such as "Europe/Berlin"', id="no zone"
        ),
        pytest.param({"mon": [["09:00", "17:00"]]}, {"holidays": ["25.12.2026"]}, "is not a date", id="no date"),
    ],
)
def test_a_calendar_that_cannot_be_kept_is_refused(week: dict[str, Any], more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CalendarError, match=sentence):
        compile_health(with_week(week, **more))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        pytest.param(
            {"resolve": [{"profile": "plain", "fed": ["contact"]}]},
            "resolve.0.fed names contact, but the last rule must fit every account",
            id="a last rule that does not fit all",
        ),
        pytest.param({"resolve": [{"profile": "other"}]}, "there is only plain", id="a profile nobody wrote"),
        pytest.param({"curves": {}}, "curves lacks two_way_contact", id="no curve for what is measured"),
        pytest.param(
            {"curves": {"two_way_contact": [[1, 0], [1, 100]]}}, "anchors must rise in x", id="a curve that goes back"
        ),
        pytest.param(
            {"profiles": {"plain": {"groups": {"contact": 99}}}}, "weights that sum to 99; make it 100", id="99 percent"
        ),
    ],
)
def test_rules_that_contradict_themselves_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        plain(**changes)


def test_the_shipped_policy_is_read() -> None:
    assert read_policy(DOCUMENT) == SHIPPED


def test_a_service_of_health_refuses_a_policy_without_any(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(DOCUMENT.read_text().partition("\nhealth:")[0] + "\n")
    with pytest.raises(DocumentError) as refused:
        read_policy(path)
    assert str(refused.value) == f"{path}: it has no `health`, and without rules nothing can be scored"


def test_a_service_of_health_refuses_a_calendar_that_cannot_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(DOCUMENT.read_text().replace("zone: Europe/Berlin", "zone: Europe/Berlinn", 1))
    with pytest.raises(DocumentError) as refused:
        read_policy(path)
    assert str(refused.value).startswith(f'{path}: Calendar "business": the zone "Europe/Berlinn" is not known')


# ---------------------------------------------------------------- without rules


def test_a_policy_without_health_scores_nothing_and_counts_what_it_was_told() -> None:
    story = Story(versions(mute()))
    story.hears(call(days=-1, id="a"), assigned(id="b"))
    assert (story.state, story.published) == (None, [])
    assert story.fates == [("a", "policy"), ("b", "policy")]


@pytest.mark.parametrize("is_walking", [False, True], ids=["in one leap", "hour by hour"])
def test_an_account_is_looked_at_once_a_day_while_no_rules_are_in_force(is_walking: bool) -> None:
    story = Story(versions(whole(), (at(days=1), mute(2))))
    story.hears(upserted(days=-20), call("c1", days=-1))
    (story.hourly if is_walking else story.until)(days=1)
    said = len(story.published)
    (story.hourly if is_walking else story.until)(days=9)
    assert story.state is not None
    assert len(story.published) == said
    assert at(days=9) < story.state.wake <= at(days=10)


def test_an_account_heard_of_while_no_rules_were_in_force_waits_for_them() -> None:
    story = Story(versions(whole(), (at(), mute(2))), at=NEVER)
    story.hears(upserted(days=-20))
    story.until(days=5)
    assert story.published == []
    assert story.state is not None
    assert not story.is_due()


@pytest.mark.parametrize("hours", [4, 30], ids=["over no midnight", "over some"])
def test_rules_that_come_back_score_at_once_and_close_each_day_once_from_then_on(hours: float) -> None:
    story = Story(versions(whole(), (at(hours=1), mute(2)), (at(hours=1 + hours), whole(3))))
    story.hears(upserted(days=-20))  # nothing that fades: only appointments wake it
    story.until(hours=1 + hours)
    assert (story.score.policy, story.score.as_of) == (3, moment(story.at))
    story.until(days=4)
    days = [f"2026-03-0{day}" for day in range(2 if hours == 4 else 3, 6)]
    assert [closing.day for closing in story.closings] == days


def test_facts_count_by_the_rules_in_force_when_they_happened() -> None:
    later = whole(2, meaningful=["purchase.made"])
    story = Story(versions(whole(), (at(), later)))
    story.hears(call(days=-1), call(days=1))
    assert story.state is not None
    assert [mention.id for mention in story.state.known.latest] == ["call:03-01T09:00:00"]


def test_facts_from_before_there_were_rules_are_read_by_the_first_that_came() -> None:
    story = Story(versions(mute(), (at(), whole(2))))
    story.hears(upserted(days=-20), call("c1", days=-1))
    assert story.fates == []
    assert story.score.policy == 2
    assert {one.signal for one in story.score.contributions if one.trust} >= {"activity", "breadth"}


@pytest.mark.parametrize("first", [whole(), mute()], ids=["with health", "without"])
def test_sums_keep_the_half_lives_of_the_first_version_with_health(first: Policy) -> None:
    trend = {"short_days": 14, "long_days": 56, "floor": 0.05, "least": 0.15}
    story = Story(versions(first, (at(days=-9), whole(2)), (at(), whole(3, trend=trend))))
    alike = Story(versions(first, (at(days=-9), whole(2)), (at(), whole(3))))
    for one in (story, alike):
        one.hears(*(call(id=str(number), hours=number - 40) for number in range(80)))
    assert story.score.trend == alike.score.trend
