"""What each fact adds to what is known of an account, in whatever order and however often it comes."""

from collections.abc import Callable, Iterable
from itertools import permutations
from typing import Any

import pytest

from schemas.envelope import Event
from schemas.policies import Policy
from services.core import sums
from services.core.instants import DAY, Instant, instant
from services.health import facts
from services.health.facts import Taken, kept, take
from services.health.model import Known, Tenure, Ticket, Total, What
from services.health.policy import Rules, compile_health
from services.health.signals import ownership
from tests.health_timeline import (
    assigned,
    at,
    call,
    handoff,
    purchase,
    removed,
    reopened,
    retracted,
    rules,
    sla,
    solved,
    taken,
    ticket,
    updated,
    upserted,
    won,
)

TODAY = at() // DAY


def compiled(policy: Policy) -> Rules:
    found = compile_health(policy)
    assert found is not None
    return found


RULES = compiled(rules())


def told(
    *events: Event, before: Known | None = None, late: int = 0, applied: Instant | None = None, by: Rules = RULES
) -> list[Taken]:
    """What is known after each fact; they arrive `late` microseconds after they happened."""
    found, known = [], before or Known()
    for event in events:
        arrived = instant(event.time) + late
        taken = take(known, event, arrived, arrived if applied is None else applied, by)
        found.append(taken)
        known = taken.known
    return found


def known_of(*events: Event, **more: Any) -> Known:
    return told(*events, **more)[-1].known


def fates(taken: Iterable[Taken]) -> list[str | None]:
    return [None if one.fate is None else one.fate.reason.value for one in taken]


def worth(total: Total, half_life: int, when: Instant) -> float:
    return sums.read(sums.unpack(total.mantissa, total.exponent), when, half_life)


# ---------------------------------------------------------------- in words


def days(known: Known) -> list[int]:
    """Active days, counted from the day of START."""
    bits = int.from_bytes(known.days, "little")
    return [known.first_day + place - TODAY for place in range(bits.bit_length()) if bits >> place & 1]


def shown(ticket: Ticket) -> str:
    return f"{'open' if ticket.is_open else 'solved'} {ticket.severity}"


def tenure(one: Tenure) -> str:
    return f"{What(one.mention.what).name.lower()} {one.owner}"


def in_words(known: Known) -> dict[str, Any]:
    """What is known, short; what is empty is left out. `adds`: how many facts at START stand in the sums."""
    words = {
        "days": days(known),
        "latest": [mention.id for mention in known.latest],
        "talked": known.is_talked_to,
        "spoken": known.spoken and known.spoken.id,
        "contacts": {name: mention.id for name, mention in known.contacts.items()},
        "tickets": {name: shown(one) for name, one in known.tickets.items()},
        "tenures": [tenure(one) for one in known.tenures],
        "handoffs": {name: (one.is_open, sorted(one.stages)) for name, one in known.handoffs.items()},
        "adds": round(worth(known.short, RULES.short, at()), 9),
        "sources": {area: list(sources) for area, sources in known.sources.items()},
    }
    return {name: value for name, value in words.items() if value}


ACTIVE = {"days": [0], "latest": ["id"], "adds": 1}
SPOKEN = {"talked": True, "spoken": "id"}
TALK = {"sources": {"engagement": ["crm"]}}
HELP = {"sources": {"support": ["crm"]}}
BOTH = {"sources": {"engagement": ["crm"], "support": ["crm"]}}
OWNS = {"sources": {"ownership": ["crm"]}}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(call(id="id"), ACTIVE | SPOKEN | TALK, id="a call"),
        pytest.param(
            call("c1", "inbound", id="id"), ACTIVE | SPOKEN | TALK | {"contacts": {"c1": "id"}}, id="a call by somebody"
        ),
        pytest.param(call("c1", "outbound", id="id"), {"talked": True} | TALK, id="only we spoke: no sign of life"),
        pytest.param(purchase(id="id"), ACTIVE | TALK, id="a purchase"),
        pytest.param(ticket("t1", 2, id="id"), ACTIVE | BOTH | {"tickets": {"t1": "open 2"}}, id="a ticket"),
        pytest.param(
            ticket("t1", 4, "c1", id="id"),
            ACTIVE | BOTH | {"tickets": {"t1": "open 4"}, "contacts": {"c1": "id"}},
            id="a ticket of somebody",
        ),
        pytest.param(updated("t1", 1), HELP | {"tickets": {"t1": "open 1"}}, id="only the change of a ticket"),
        pytest.param(updated("t1"), HELP | {"tickets": {"t1": "open 3"}}, id="a change that says no severity"),
        pytest.param(solved("t1"), HELP | {"tickets": {"t1": "solved 3"}}, id="only a solution"),
        pytest.param(reopened("t1", 2), HELP | {"tickets": {"t1": "open 2"}}, id="a ticket reopened"),
        pytest.param(won(), OWNS | {"tenures": ["won None"]}, id="a contract without an owner"),
        pytest.param(won("ada"), OWNS | {"tenures": ["named ada"]}, id="a contract with an owner"),
        pytest.param(assigned("ada"), OWNS | {"tenures": ["named ada"]}, id="an owner"),
        pytest.param(assigned("ada", "seller"), {}, id="somebody else is assigned"),
        pytest.param(removed("ada"), OWNS | {"tenures": ["removed ada"]}, id="an owner removed"),
        pytest.param(removed(), OWNS | {"tenures": ["removed None"]}, id="whoever it was removed"),
        pytest.param(removed("ada", "seller"), {}, id="somebody else is removed"),
        pytest.param(taken("ada"), OWNS | {"tenures": ["named ada"]}, id="a handoff accepted"),
        pytest.param(taken(None), {}, id="a handoff accepted by nobody named"),
        pytest.param(upserted(), {}, id="an account"),
    ],
)
def test_each_fact_says_its_own(event: Event, expected: dict[str, Any]) -> None:
    known = known_of(event)
    assert in_words(known) == expected
    assert known.oldest == at()


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([handoff()], (True, []), id="opened"),
        pytest.param([handoff(), handoff("paused")], (True, []), id="paused: still under way"),
        pytest.param([handoff(), sla("noticed"), sla("met")], (True, []), id="half the time, or in time, says nothing"),
        pytest.param([handoff(), sla("at_risk")], (True, ["accept/at_risk"]), id="at risk"),
        pytest.param(
            [handoff(), sla("at_risk"), sla("breached")], (True, ["accept/at_risk", "accept/breached"]), id="breached"
        ),
        pytest.param([handoff(), sla(), retracted()], (True, []), id="retracted"),
        pytest.param([handoff(), sla(), retracted(leg="other")], (True, ["accept/breached"]), id="of another leg"),
        pytest.param([handoff(), sla(), handoff("paused")], (True, ["accept/breached"]), id="paused after a breach"),
        pytest.param([handoff(), sla(), handoff("accepted")], (False, ["accept/breached"]), id="accepted too late"),
        pytest.param([handoff(), sla(), handoff("cancelled")], (False, ["accept/breached"]), id="cancelled"),
    ],
)
def test_the_last_word_on_a_handoff_counts(events: list[Event], expected: tuple[bool, list[str]]) -> None:
    known = known_of(*events)
    assert in_words(known) == {"handoffs": {"h1": expected}}
    assert known.oldest is None  # it is no fact of the CRM


def test_a_verdict_on_a_forgotten_handoff_says_nothing() -> None:
    assert known_of(sla()) == Known()


def test_what_is_meaningful_stands_in_the_policy() -> None:
    by = compiled(rules(meaningful=["ticket.reopened"]))
    events = (call("c1", hours=1), purchase(hours=1), ticket(hours=1), reopened(id="id"))
    assert in_words(known_of(*events, by=by)) == {
        "days": [0],
        "latest": ["id"],
        "adds": 1,
        "talked": True,
        "spoken": events[0].id,
        "contacts": {"c1": events[0].id},
        "tickets": {"t1": "open 3"},
        "sources": {"engagement": ["crm"], "support": ["crm"]},
    }


def test_the_role_that_owns_accounts_stands_in_the_policy() -> None:
    by = compiled(rules(owner_role="success"))
    events = (assigned("ada"), assigned("bob", "success", hours=1), removed("bob", hours=2))
    assert [tenure(one) for one in known_of(*events, by=by).tenures] == ["named bob"]


# ---------------------------------------------------------------- in any order


@pytest.mark.parametrize(
    "events",
    [
        pytest.param(
            [ticket(severity=3), updated(severity=1, hours=1), solved(hours=1), reopened(severity=2, hours=2)],
            id="the life of a ticket",
        ),
        pytest.param(
            [ticket(severity=4), updated(severity=1), solved(), reopened(severity=2)], id="its life in one instant"
        ),
        pytest.param(
            [solved(source="a"), reopened(source="b"), solved(source="c", sourcerank=5), updated(severity=1)],
            id="two sources about a ticket",
        ),
        pytest.param([won(), removed(), assigned("ada"), removed("ada", hours=1)], id="owners in one instant"),
        pytest.param(
            [call("c1"), call("c1", hours=1), ticket("t1", 3, "c1", source="desk"), call("c2", "outbound", days=1)],
            id="people",
        ),
        pytest.param([call(days=-3), call(days=2), purchase(days=-40), call(days=2, hours=1)], id="active days"),
        pytest.param([call(id="a"), call(id="b"), call(id="c"), call(id="d"), call(id="a")], id="of the same instant"),
    ],
)
def test_facts_may_come_in_any_order(events: list[Event]) -> None:
    by = compiled(rules(meaningful=["interaction.logged", "purchase.made"]))
    first, *others = [known_of(*one, applied=at(days=3), by=by) for one in permutations(events)]
    assert all(other == first for other in others)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([ticket(severity=3), updated(severity=1, hours=-1)], "open 3", id="an older change of severity"),
        pytest.param([ticket(severity=3), updated(severity=1)], "open 1", id="a change in the same instant"),
        pytest.param([ticket(), solved()], "solved 3", id="solved in the same instant"),
        pytest.param([ticket(), solved(hours=-1)], "open 3", id="solved before it was opened"),
        pytest.param([solved(), reopened()], "open 3", id="reopened in the same instant"),
        pytest.param([solved(), updated(severity=1, hours=1)], "solved 1", id="changed after it was solved"),
        pytest.param([ticket(severity=2), reopened(hours=1)], "open 2", id="reopened as bad as before"),
        pytest.param(
            [updated(severity=1, source="b"), updated(severity=2, source="a")], "open 1", id="sources in their order"
        ),
        pytest.param(
            [updated(severity=1, sourcerank=10), updated(severity=2, sourcerank=20)],
            "open 2",
            id="the rank of a source",
        ),
    ],
)
def test_the_last_fact_about_a_ticket_counts(events: list[Event], expected: str) -> None:
    assert in_words(known_of(*events))["tickets"] == {"t1": expected}


def test_a_ticket_is_as_old_as_the_earliest_fact_of_it() -> None:
    known = known_of(ticket(), updated(severity=1, hours=1), solved(hours=-2), reopened(hours=3))
    assert known.tickets["t1"].opened == at(hours=-2)


@pytest.mark.parametrize(
    ("events", "owner", "gap"),
    [
        pytest.param([won()], None, 0, id="won by nobody: a gap"),
        pytest.param([won(), assigned("ada", hours=1)], "ada", None, id="named later"),
        pytest.param([won(), assigned("ada")], "ada", None, id="named in the same instant"),
        pytest.param([assigned("ada"), won(hours=1)], "ada", None, id="a contract more changes no owner"),
        pytest.param([assigned("ada"), won("bob", hours=1)], "bob", None, id="a contract with another owner"),
        pytest.param([assigned("ada"), removed("ada", hours=2)], None, 2, id="removed"),
        pytest.param([assigned("ada"), removed(hours=2)], None, 2, id="whoever it was removed"),
        pytest.param([assigned("ada"), removed("bob", hours=2)], "ada", None, id="somebody else removed"),
        pytest.param([removed("ada", hours=2)], None, 2, id="removed, and never named"),
        pytest.param([removed(hours=2), removed(hours=3)], None, 2, id="removed twice: since the first"),
        pytest.param([won(), removed(hours=2)], None, 0, id="removed in a gap: since its beginning"),
        pytest.param([assigned("ada"), removed("ada"), assigned("bob")], "bob", None, id="removed before named"),
        pytest.param([removed(), taken("eve", hours=1)], "eve", None, id="a handoff accepted"),
        pytest.param(
            [assigned("ada"), assigned("bob", hours=1), removed("ada", hours=2)], "bob", None, id="an old one"
        ),
    ],
)
def test_owners_are_a_fold_over_facts_in_their_order(events: list[Event], owner: str | None, gap: float | None) -> None:
    held = ownership(known_of(*events).tenures)
    assert held is not None
    assert (held.owner, held.gap) == (owner, None if gap is None else at(hours=gap))


def test_without_a_fact_about_owners_nothing_is_known_of_them() -> None:
    assert ownership(known_of(call()).tenures) is None


# ---------------------------------------------------------------- again, and too late


@pytest.mark.parametrize(
    "event",
    [
        *(call(id="a call"), call("c1", id="a call by somebody"), call("c1", "outbound", id="only we spoke")),
        *(purchase(), ticket(), updated(severity=1), updated(id="an update that says nothing"), solved(), reopened()),
        *(won(), assigned(), removed(), taken(), upserted(), handoff()),
    ],
    ids=lambda event: event.id,
)
def test_a_fact_that_comes_again_leaves_the_very_same_object(event: Event) -> None:
    once, again = told(event, event)
    assert again.known is once.known
    assert fates([once, again]) == [None, "duplicate" if event.type in RULES.meaningful and days(once.known) else None]


def test_the_same_id_of_another_source_is_another_fact() -> None:
    taken = told(call(id="1", source="a"), call(id="1", source="b"), call(id="1", source="a"))
    assert fates(taken) == [None, None, "duplicate"]
    assert in_words(taken[-1].known)["adds"] == 2


@pytest.mark.parametrize(
    ("late", "run", "fate"),
    [
        pytest.param(8 * DAY, None, None, id="eight days late"),
        pytest.param(8 * DAY + 1, None, "too_late", id="more than that"),
        pytest.param(800 * DAY, "crm:1", None, id="history that a run brings"),
    ],
)
def test_a_live_fact_adds_only_while_its_hash_would_be_kept(late: int, run: str | None, fate: str | None) -> None:
    (taken,) = told(call("c1", id="id", run=run), late=late)
    assert fates([taken]) == [fate]
    words = in_words(taken.known)
    assert words.pop("adds", 0) == (0 if fate else 1)
    # What is a set takes it in all the same.
    assert words == {"days": [0], "latest": ["id"], "contacts": {"c1": "id"}} | SPOKEN | TALK


def test_a_fact_too_late_does_not_add_when_it_comes_again_either() -> None:
    taken = told(call(), call(), late=9 * DAY)
    assert fates(taken) == ["too_late", "too_late"]
    assert taken[1].known is taken[0].known


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        pytest.param([0, 1, 2], [None, None, None], id="in order"),
        pytest.param([0, 1, 1, 0, 2], [None, None, "duplicate", "duplicate", None], id="a run that starts again"),
        pytest.param([5, 9], [None, None], id="with gaps, where lines were refused"),
    ],
)
def test_a_run_adds_each_of_its_places_once(places: list[int], expected: list[str | None]) -> None:
    facts = [call(id=f"line-{place}", run="crm:1", runposition=place) for place in places]
    taken = told(*facts, late=100 * DAY)
    assert fates(taken) == expected
    known = taken[-1].known
    assert (known.positions, known.counted) == ({"crm:1": max(places)}, {})
    assert in_words(known)["adds"] == expected.count(None)


def test_each_run_counts_its_own_places() -> None:
    one, other = (call(id=f"{run}-0", run=run, runposition=0) for run in ("a", "b"))
    assert fates(told(one, other, one)) == [None, None, "duplicate"]


def test_a_run_without_places_is_known_by_hashes() -> None:
    facts = [call(id="1", run="crm:1"), call(id="2", run="crm:1"), call(id="1", run="crm:1")]
    taken = told(*facts)
    assert fates(taken) == [None, None, "duplicate"]
    assert len(taken[-1].known.counted["crm"]) == 2


@pytest.mark.parametrize(
    ("applied", "until"),
    [
        pytest.param({"hours": 1}, {"days": 8}, id="live: for as long as vendors redeliver"),
        pytest.param({"days": 100}, {"days": 101}, id="history: a day, for a run that is sent again"),
    ],
)
def test_a_hash_is_kept_until_the_fact_would_be_too_late(applied: dict[str, float], until: dict[str, float]) -> None:
    known = known_of(call(), applied=at(**applied))
    assert list(known.counted["crm"].values()) == [at(**until)]
    assert kept(known, at(**until) - 1) is known
    assert kept(known, at(**until)).counted == {}


def test_sums_fade_by_half_lives() -> None:
    known = known_of(call(days=-7), call(), call(days=-28))
    assert worth(known.short, RULES.short, at()) == pytest.approx(1 / 2 + 1 + 1 / 16)
    assert worth(known.long, RULES.long, at()) == pytest.approx(2 ** (-1 / 4) + 1 + 1 / 2)


# ---------------------------------------------------------------- bounds


def test_the_contacts_last_seen_are_kept() -> None:
    events = [call(f"c{number}", minutes=number) for number in range(facts.CONTACTS_KEPT + 2)]
    for order in (events, events[::-1]):
        assert set(known_of(*order).contacts) == {f"c{number}" for number in range(2, facts.CONTACTS_KEPT + 2)}


def test_who_was_heard_of_longer_ago_than_those_changes_nothing() -> None:
    known = known_of(*(call(f"c{number}", minutes=number) for number in range(facts.CONTACTS_KEPT)))
    old = call("old", minutes=-1)
    once, again = told(old, old, before=known)
    assert once.known.contacts == known.contacts
    assert again.known is once.known


def test_the_facts_about_owners_that_came_last_in_time_are_kept() -> None:
    events = [assigned(f"p{number}", minutes=number) for number in range(facts.TENURES_KEPT + 2)]
    for order in (events, events[::-1]):
        tenures = known_of(*order).tenures
        assert (len(tenures), tenures[0].owner) == (facts.TENURES_KEPT, "p2")


@pytest.mark.parametrize(
    ("events", "left"),
    [
        pytest.param(
            [ticket("a", hours=1), ticket("b"), ticket("c", hours=2)], {"a", "c"}, id="the older open one goes"
        ),
        pytest.param(
            [ticket("a"), solved("a", hours=9), ticket("b"), ticket("c")], {"b", "c"}, id="solved ones go first"
        ),
        pytest.param(
            [solved("a", hours=2), solved("b", hours=1), ticket("c")], {"a", "c"}, id="the one solved longer ago goes"
        ),
    ],
)
def test_tickets_are_bounded(events: list[Event], left: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "TICKETS_KEPT", 2)
    assert set(known_of(*events).tickets) == left


def test_handoffs_are_bounded_and_those_under_way_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "HANDOFFS_KEPT", 2)
    events = [handoff("open", "a"), handoff("accepted", "b", hours=1), handoff("open", "c", hours=2)]
    assert set(known_of(*events).handoffs) == {"a", "c"}
    assert set(known_of(*events, handoff("open", "d", hours=3)).handoffs) == {"c", "d"}


def test_hashes_are_bounded_by_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "COUNTED_KEPT", 2)
    known = known_of(call(id="1"), call(id="2", hours=1), call(id="3", hours=2), call(id="4", source="other"))
    assert {source: len(hashes) for source, hashes in known.counted.items()} == {"crm": 2, "other": 1}
    assert fates(told(call(id="3", hours=2), before=known)) == ["duplicate"]


def test_runs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "POSITIONS_KEPT", 2)
    known = known_of(*(call(id=run, run=run, runposition=3) for run in "abc"))
    assert known.positions == {"b": 3, "c": 3}


def test_sources_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "SOURCES_KEPT", 2)
    assert known_of(*(call(source=source) for source in "cab")).sources == {"engagement": ("a", "b")}


def test_the_last_three_facts_that_showed_activity_are_kept() -> None:
    events = [call(id=str(number), hours=number) for number in range(5)]
    for order in (events, events[::-1]):
        assert [mention.id for mention in known_of(*order).latest] == ["4", "3", "2"]


# ---------------------------------------------------------------- forgetting


@pytest.mark.parametrize(
    ("events", "what"),
    [
        pytest.param([ticket(), solved()], lambda known: known.tickets, id="a ticket solved"),
        pytest.param([handoff("accepted")], lambda known: known.handoffs, id="a handoff accepted"),
        pytest.param([handoff("cancelled")], lambda known: known.handoffs, id="a handoff cancelled"),
    ],
)
def test_what_is_over_is_forgotten_after_sixty_days(events: list[Event], what: Callable[[Known], Any]) -> None:
    known = known_of(*events)
    assert what(kept(known, at(days=60) - 1))
    assert not what(kept(known, at(days=60)))


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([ticket("t1", 1)], id="an open ticket"),
        pytest.param([updated("t1")], id="a ticket of which only a change is known"),
        pytest.param([ticket(), solved(), reopened(seconds=1)], id="a ticket reopened"),
        pytest.param([handoff("paused"), sla()], id="a handoff under way"),
        pytest.param([assigned(), call("c1")], id="who owns it, and whom we talked to"),
    ],
)
def test_what_goes_on_is_never_forgotten(events: list[Event]) -> None:
    known = known_of(*events)
    without = kept(known, at(days=5_000))
    assert (without.tickets, without.handoffs, without.tenures) == (known.tickets, known.handoffs, known.tenures)
    assert (without.days, without.contacts, without.long) == (known.days, known.contacts, known.long)
