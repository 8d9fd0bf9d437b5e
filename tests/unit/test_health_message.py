"""The sentences of scores and changes."""

from typing import Any

from tests.health_timeline import Story, assigned, call, removed, ticket, upserted, versions, whole

CAPS: dict[str, Any] = {
    "sev1_open": {"limit": 60, "after_hours": 24},
    "no_owner": {"limit": 70, "after_working_hours": 8},
    "weak_link": {"limit": 74, "weight": 15, "trust": 0.5, "below": 40},
    "thin_data": {"limit": 74, "coverage": 0.95},
    "narrow": {"limit": 50},
}
NARROW = {"whole": {"groups": {"engagement": 40, "support": 30, "ownership": 30}, "narrow": True}}


def test_each_cap_says_its_rule_with_the_numbers_of_the_policy() -> None:
    story = Story(versions(whole(caps=CAPS, profiles=NARROW)))
    story.hears(upserted(days=-20), removed(days=-7), ticket("t9", 1, days=-2), ticket("t8", 2, days=-3))
    assert {cap.code: cap.reason for cap in story.score.caps} == {
        "SEV1_OPEN": "ticket t9 of severity 1 has been open for more than 24 hours",
        "NO_OWNER": "nobody has owned the account for 8 working hours",
        "WEAK_LINK": "support alone scores below 40",
        "THIN_DATA": "there is evidence for less than 95% of what counts",
        "NARROW": "the profile whole looks at too little",
    }


def test_a_change_names_the_three_signals_that_moved_most_and_lists_all() -> None:
    story = Story(versions(whole()))
    story.hears(upserted(days=-20), assigned(days=-20), call("c1", days=-21))
    story.until(days=1)
    story.hears(*(ticket(f"t{number}", 1, days=1) for number in range(3)), removed(hours=1))
    assert (story.change.before, story.change.after) == ("yellow", "red")
    moved = story.change.deltas
    assert {delta.signal for delta in moved} == {"open_load", "owner", "two_way_contact", "activity"}
    named = ", ".join(f"{delta.signal} {delta.points / 1_000:+.1f}" for delta in moved[:3])
    assert story.change.reason == f"facts came: {named}"


def test_the_causes_of_a_change_are_told_youngest_first_and_at_most_eight() -> None:
    story = Story(versions(whole()))
    story.hears(upserted(days=-20), *(call(id=str(number), hours=-number) for number in range(12)))
    assert [fact.id for fact in story.change.evidence] == [str(number) for number in range(8)]
