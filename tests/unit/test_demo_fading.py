"""The account of the demo that falls by silence: its date follows from the policy, and the product finds the same."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schemas.envelope import Event
from schemas.health import HealthChanged
from schemas.interactions import InteractionLogged, TicketOpened, TicketSolved
from schemas.policies import HealthRules, Policy
from schemas.renewals import ContractWon
from schemas.topics import INTERACTIONS, RENEWALS
from services.core.instants import DAY, HOUR, SECOND, Instant, moment
from services.core.processor import Context, Fact
from services.demo import company, fading, scores
from services.demo.company import Agreement
from services.demo.fading import Tale
from services.handoff.app import read_policy
from services.health.processor import HealthProcessor
from tests.builders import policies
from tests.outputs import events_of

ROOT = Path(__file__).parents[2]
ACCOUNT = "acc_1"


@cache
def shipped() -> Policy:
    return company.with_people(read_policy(ROOT / "deploy/policy/steward.yaml"))


def changed(change: Mapping[str, Any]) -> Policy:
    """The shipped policy with other numbers of health, by the path to each."""
    document = shipped().model_dump(mode="json")
    for path, value in change.items():
        *way, last = path.split(".")
        place = document["health"]
        for name in way:
            place = place[name]
        place[last] = value
    return Policy.model_validate_json(Policy.model_construct(**document).model_dump_json(warnings=False))


def facts(agreed: Agreement, tale: Tale) -> Iterator[Fact]:
    """The account as the export tells it."""
    told = tale.fading
    yield fact(agreed, ContractWon, "won", agreed.start - 170 * DAY, {"home": "hubspot:deal:1", "owner": "ada"})
    for at in told.talks:
        talk = {"channel": "meeting", "direction": "mutual", "contact": "c1"}
        yield fact(agreed, InteractionLogged, f"talk-{at}", at, talk)
    yield fact(agreed, TicketOpened, "opened", told.opened, {"ticket": "t1", "severity": 3, "contact": "c1"})
    yield fact(agreed, TicketSolved, "solved", told.solved, {"ticket": "t1"})


def fact(agreed: Agreement, kind: type[Event], id: str, at: Instant, data: Mapping[str, Any]) -> Fact:
    event = kind.model_validate(
        {"id": id, "source": "hubspot", "subject": ACCOUNT, "partitionkey": ACCOUNT, "time": moment(at), "data": data}
    )
    return Fact(RENEWALS if kind is ContractWon else INTERACTIONS, event, agreed.eve)


def as_the_product_has_it(policy: Policy, agreed: Agreement, tale: Tale) -> list[HealthChanged]:
    """What the processor publishes of the account from the import to the second morning."""
    processor, known = HealthProcessor(), policies(policy)
    imported = Context(at=agreed.eve, safe=agreed.eve, policies=known)
    decision = processor.decide(ACCOUNT, processor.empty(), list(facts(agreed, tale)), imported)
    found = list(decision.outputs)
    for at in (agreed.start + 8 * HOUR, agreed.start + DAY + fading.LATEST):
        assert decision.state is not None
        decision = processor.due(ACCOUNT, decision.state, Context(at=at, safe=at, policies=known))
        found += decision.outputs
    return [event for event in events_of(found) if isinstance(event, HealthChanged)]


def assert_is_told(policy: Policy) -> Tale | None:
    """Where the tale is told, the product must tell it: the same bands at the same second, without a fact."""
    agreed = company.agreement(policy)
    tale = fading.tale(agreed)
    if tale is None:
        return None
    events = as_the_product_has_it(policy, agreed, tale)
    changes = [event for event in events if event.data.before != event.data.after]
    assert [(event.data.before, event.data.after) for event in changes] == [
        (None, tale.fall.before),
        (tale.fall.before, tale.fall.after),
    ]
    fell = changes[1]
    assert abs(fell.time - moment(tale.fall.at)).total_seconds() <= scores.EXACT / SECOND
    assert (fell.data.cause, fell.data.evidence) == ("decay", ())
    return tale


def test_by_the_shipped_policy_the_last_contact_leaves_the_window_and_six_hours_later_the_band_falls() -> None:
    agreed = company.agreement(shipped())
    tale = assert_is_told(shipped())
    assert tale is not None
    told, fall = tale.fading, tale.fall
    assert (fall.before, fall.after, fall.limit) == ("yellow", "red", 48)
    assert fall.below == told.opened + 30 * DAY
    assert fall.at == fall.below + 6 * HOUR
    assert f"{agreed.local(fall.at):%a %H:%M:%S}" == "Mon 23:30:00"
    # The equation by hand, a weight of 15 for each signal of engagement and 10 for each of ownership that is known:
    # nobody spoken to for 90 days (0), one person heard of, then nobody (50, 0), owned (100), handoffs on time (100).
    activity = fading.signals(rules(agreed), told, fall.below)["activity"]
    after = 60 + 0.15 * (activity - 60) + 0.15 * (0 - 60) + 0.15 * (0 - 60) + 2 * 0.10 * (100 - 60)
    assert fading.shown(rules(agreed), told, fall.below) == pytest.approx(after, abs=0.003)
    assert fading.shown(rules(agreed), told, fall.below - 1) == pytest.approx(after + 0.15 * 50, abs=0.003)
    assert after < fall.limit
    assert after + 7.5 > 50 + rules(agreed).bands.up_margin


def rules(agreed: Agreement) -> HealthRules:
    assert agreed.health is not None
    return agreed.health


@pytest.mark.parametrize(
    "change",
    [
        {"breadth_days": 45},
        {"bands.down_hours": 11.5},
        {"bands.yellow": 52, "bands.up_margin": 1},
        {"bands.down_margin": 0.5},
        {"bands.fall": 5},
        {"prior": 57, "bands.up_margin": 1},
        {"silence.days": 45},
        {"profiles.crm-only.groups": {"engagement": 60, "ownership": 30, "renewal": 10}},
        {"caps": {}},
        {"meaningful": ["interaction.logged"]},
    ],
    ids=str,
)
def test_with_other_numbers_the_date_follows(change: Mapping[str, Any]) -> None:
    assert assert_is_told(changed(change)) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"curves.breadth": [[0, 80], [5, 100]], "curves.two_way_contact": [[0, 100]]},
        {"meaningful": ["purchase.made"]},
        {"bands.down_hours": 300},
    ],
    ids=["nothing sinks", "no contact counts", "the band follows too late"],
)
def test_a_policy_that_knows_no_such_fall_is_told_in_a_sentence(change: Mapping[str, Any]) -> None:
    agreed = company.agreement(changed(change))
    assert scores.untold(agreed) == "By this policy no silence takes a band away in one night, so Cyberdyne shows none."
    assert "cyberdyne-falls" not in {turn.name for turn in scores.expected(agreed)}


@settings(deadline=None, max_examples=40)
@given(
    breadth=st.integers(14, 60),
    down=st.floats(0.5, 20),
    margin=st.floats(0, 4),
    prior=st.integers(50, 70),
    yellow=st.floats(44, 60),
    engagement=st.integers(30, 70),
    owned=st.floats(60, 100),
)
def test_whatever_the_numbers_where_the_demo_tells_of_a_fall_the_product_finds_it(
    breadth: int, down: float, margin: float, prior: int, yellow: float, engagement: int, owned: float
) -> None:
    change = {
        "breadth_days": breadth,
        "bands.down_hours": down,
        "bands.down_margin": margin,
        "prior": prior,
        "bands.yellow": yellow,
        "bands.fall": 30,
        "profiles.crm-only.groups": {"engagement": engagement, "ownership": 90 - engagement, "renewal": 10},
        "curves.owner": [[0, owned], [40, 0]],
    }
    assume(assert_is_told(changed(change)) is not None)
