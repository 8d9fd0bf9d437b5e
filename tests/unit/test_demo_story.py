"""The story of the demo: the same in every run, told by what its vendors would send, judged by the agreement alone."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from schemas.policies import Policy
from schemas.renewals import SALE
from services.core.errors import OperatorError
from services.core.instants import DAY, HOUR, MINUTE, SECOND, Instant, moment
from services.demo import company, contacts, effects, export, scores, story, vendors
from services.demo.company import Agreement
from services.demo.story import Post
from services.handoff.app import read_policy
from services.ingest import signature
from services.ingest.providers import hubspot
from services.runtime import clock, documents

ROOT = Path(__file__).parents[2]
URL = "http://127.0.0.1:28080/v1/webhooks/hubspot/hubspot"


@pytest.fixture(scope="module")
def policy() -> Policy:
    return company.with_people(read_policy(ROOT / "deploy/policy/steward.yaml"))


@pytest.fixture(scope="module")
def agreed(policy: Policy) -> Agreement:
    return company.agreement(policy)


def of_crm(agreed: Agreement) -> list[Post]:
    return [post for post in story.posts(agreed) if post.request.source == company.CRM]


def test_two_tellings_are_the_same_to_the_byte(policy: Policy, tmp_path: Path) -> None:
    tellings = []
    for name in ("one", "other"):
        agreed, folder = company.agreement(policy), tmp_path / name
        folder.mkdir()
        rows, mapping = export.write(folder, agreed, company.history(agreed))
        posts = [(post.at, post.news, post.request.body) for post in story.posts(agreed)]
        expected = (effects.expected(agreed), scores.expected(agreed))
        tellings.append((rows.read_bytes(), mapping.read_bytes(), posts, expected))
    assert tellings[0] == tellings[1]


def test_nothing_of_it_depends_on_the_wall_clock(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    agreed = company.agreement(policy)
    before = effects.expected(agreed), scores.expected(agreed), contacts.talked(agreed)
    monkeypatch.setattr(clock, "now", lambda: 0)
    agreed = company.agreement(policy)
    assert (effects.expected(agreed), scores.expected(agreed), contacts.talked(agreed)) == before


def test_every_message_of_the_live_days(agreed: Agreement) -> None:
    said = [
        f"{agreed.local(effect.cause):%a %H:%M} {effect.account}: {effect.told.what} {effect.told.stage} "
        f"to {effect.told.recipient}, due {agreed.local(effect.due):%H:%M}, {effect.worth}"
        for effect in effects.expected(agreed)
    ]
    assert said == [
        "Mon 12:31 Northwind: raised at_risk to ada, due 13:30, 125000",
        "Mon 13:01 Acme: raised at_risk to ben, due 14:00, 84000",
        "Mon 13:31 Northwind: raised breached to ada, due 13:30, 125000",
        "Mon 13:31 Northwind: raised breached to grace, due 13:30, 125000",
        "Mon 13:31 Initech: raised at_risk to chloe, due 14:30, 66000",
        "Mon 14:01 Acme: raised breached to ben, due 14:00, 84000",
        "Mon 14:01 Acme: raised breached to grace, due 14:00, 84000",
        "Mon 14:36 Acme: retracted breached to ben, due 14:00, 84000",
        "Mon 14:36 Acme: retracted breached to grace, due 14:00, 84000",
        "Mon 15:31 Northwind: raised passed_125 to grace, due 13:30, 125000",
        "Tue 09:31 Northwind: raised passed_200 to ines, due 13:30, 125000",
        "Tue 12:19 Tyrell: raised at_risk to chloe, due 13:18, 77500",
        "Tue 13:07 Quantum Forge: raised at_risk to dev, due 14:06, 60000",
        "Tue 13:19 Tyrell: raised breached to chloe, due 13:18, 77500",
        "Tue 13:19 Tyrell: raised breached to hugo, due 13:18, 77500",
        "Tue 13:48 Tyrell: resolved breached to chloe, due 13:18, 77500",
        "Tue 13:48 Tyrell: resolved breached to hugo, due 13:18, 77500",
    ]


def test_every_turn_of_a_score_in_the_live_days(agreed: Agreement) -> None:
    said = [f"{agreed.local(turn.cause):%a %H:%M} {turn.name}, {turn.why}" for turn in scores.expected(agreed)]
    assert said == [
        "Mon 11:54 oceanic-ticket-cap, cap",
        "Mon 13:31 northwind-breach-cap, cap",
        "Mon 14:01 acme-breach-cap, cap",
        "Mon 14:36 acme-breach-cap-ends, cap",
        "Mon 23:31 cyberdyne-falls, decay",
        "Tue 09:54 quantum-forge-provisional, events",
        "Tue 12:06 oceanic-ticket-cap-ends, cap",
        "Tue 13:19 tyrell-breach-cap, cap",
        "Tue 13:48 tyrell-breach-cap-ends, cap",
    ]


def test_names_of_effects_are_unique(agreed: Agreement) -> None:
    names = [effect.name for effect in effects.expected(agreed)] + [turn.name for turn in scores.expected(agreed)]
    assert len(set(names)) == len(names)


def test_history_is_half_a_year_of_two_hundred_accounts_and_long_over_when_the_live_days_begin(
    agreed: Agreement,
) -> None:
    sold = company.history(agreed)
    assert len({sale.company for sale in sold}) == 200
    assert 170 < (agreed.start - sold[0].won) / DAY <= 180
    ended = [agreed.calendar.add(sale.won, agreed.stages.passed_200) for sale in sold]
    assert max(ended) < agreed.eve
    assert max(sale.accepted for sale in sold if sale.accepted) < agreed.eve


def test_customers_and_the_company_were_in_touch_in_many_ways(agreed: Agreement) -> None:
    talked, tickets = contacts.talked(agreed), contacts.tickets(agreed)
    assert 3_000 < len(talked) + len(tickets) < 6_000
    numbers = Counter(contact.company.name for contact in talked)
    assert 5 < 200 - len(numbers) < 25  # nothing was ever noted of them
    assert sum(number > 90 for number in numbers.values()) >= 3  # daily use
    whom = {name: {one.whom for one in talked if one.company.name == name} for name in numbers}
    assert {len(people) for people in whom.values()} == {1, 2, 3}
    assert {one.direction for one in talked} == {"inbound", "outbound", "mutual"}
    assert {ticket.severity for ticket in tickets} == {1, 2, 3, 4}
    assert 2 < sum(ticket.solved is None for ticket in tickets) < 15
    assert [ticket for ticket in tickets if ticket.solved is None and ticket.severity == 1] == []


def test_all_contact_lies_in_the_half_year_that_is_imported(agreed: Agreement) -> None:
    tickets = contacts.tickets(agreed)
    times = [contact.at for contact in contacts.talked(agreed)] + [ticket.opened for ticket in tickets]
    assert agreed.start - company.HISTORY_DAYS * DAY < min(times)
    assert max(times) < agreed.eve
    assert [ticket for ticket in tickets if ticket.solved is not None and not ticket.opened < ticket.solved] == []


def test_no_two_things_happen_at_once_or_so_near_that_their_order_would_not_be_sure(agreed: Agreement) -> None:
    posts = [post.at for post in story.posts(agreed)]
    turns = {turn.cause for turn in scores.expected(agreed)}
    moments = sorted({*posts, *turns, *(effect.cause for effect in effects.expected(agreed))})
    assert len(set(posts)) == len(posts)
    assert min(later - earlier for earlier, later in pairwise(moments)) >= MINUTE


def test_every_effect_comes_of_a_request_or_of_the_clock_after_its_grace(agreed: Agreement) -> None:
    posts = {post.at for post in story.posts(agreed)}
    stages = [agreed.stages.at_risk, agreed.stages.breached, agreed.stages.passed_125, agreed.stages.passed_200]
    due = {agreed.calendar.add(one.sale.won, worked) + effects.GRACE for one in story.live(agreed) for worked in stages}
    assert {effect.cause for effect in effects.expected(agreed)} <= posts | due


def test_the_live_days_lie_in_the_past_of_any_clock_on_a_wall(agreed: Agreement) -> None:
    assert story.ends(agreed) < clock.now()


# -- what the vendors send -----------------------------------------------------------------------------------------


def test_every_change_is_one_that_hubspot_would_send(agreed: Agreement, tmp_path: Path) -> None:
    path = tmp_path / "hubspot.yaml"
    path.write_text(vendors.MAP)
    rules = documents.load(path, hubspot.Rules)
    heard = [hubspot.read(_json(item), rules) for post in of_crm(agreed) for item in post.request.items]
    assert [one.what for one in heard if not one.said] == []


def test_nothing_is_sent_before_it_happened(agreed: Agreement) -> None:
    happened = [(post.at, item["occurredAt"] * 1000) for post in of_crm(agreed) for item in post.request.items]
    assert [sent for sent, occurred in happened if occurred >= sent] == []


def test_only_the_stranger_lacks_the_secret(agreed: Agreement) -> None:
    assert [post.news for post in of_crm(agreed) if not _is_signed(post)] == [
        "Northwind: a stranger says it is accepted; the signature is wrong, and it is refused"
    ]


def test_a_redelivery_says_the_same_in_another_order_with_a_higher_number(agreed: Agreement) -> None:
    first = of_crm(agreed)[0].request
    again = first.again()
    stripped = [{name: value for name, value in item.items() if name != "attemptNumber"} for item in again.items]
    assert stripped == [{n: v for n, v in item.items() if n != "attemptNumber"} for item in reversed(first.items)]
    assert {item["attemptNumber"] for item in again.items} == {1}


def _is_signed(post: Post) -> bool:
    headers = post.request.headers(URL, post.at)
    signed = (headers["X-HubSpot-Signature-v3"], headers["X-HubSpot-Request-Timestamp"])
    return signature.is_hubspot([vendors.CRM_SECRET], *signed, "POST", URL, post.request.body, post.at)


def _json(item: vendors.Item) -> bytes:
    return vendors.Request(company.BILLING, [item]).body


# -- other policies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [2.0, 4.0, 6.0, 16.0])
def test_the_story_follows_the_agreement(policy: Policy, hours: float) -> None:
    leg = policy.handoffs[SALE].legs["accept"].model_copy(update={"hours": hours})
    rule = policy.handoffs[SALE].model_copy(update={"legs": {"accept": leg}})
    agreed = company.agreement(policy.model_copy(update={"handoffs": {**policy.handoffs, SALE: rule}}))
    told = {(effect.account, effect.told.what, effect.told.stage) for effect in effects.expected(agreed)}
    assert {("Northwind", "raised", "breached"), ("Acme", "retracted", "breached")} <= told
    assert _offset(agreed, "Northwind", "breached") == round(hours * HOUR) + effects.GRACE


def _offset(agreed: Agreement, account: str, stage: str) -> Instant:
    effect = next(one for one in effects.expected(agreed) if (one.account, one.told.stage) == (account, stage))
    won = next(one.sale.won for one in story.live(agreed) if one.sale.company.name == account)
    return agreed.calendar.between(won, effect.cause - effects.GRACE) + effects.GRACE


def test_a_policy_whose_sales_have_no_single_clock_is_refused_in_one_sentence(policy: Policy) -> None:
    handoffs = {kind: rule for kind, rule in policy.handoffs.items() if kind != SALE}
    with pytest.raises(OperatorError, match="sale_to_onboarding has 0 legs in this policy"):
        company.agreement(policy.model_copy(update={"handoffs": handoffs}))


def test_a_policy_without_rules_of_health_tells_of_no_score_and_says_so(policy: Policy) -> None:
    agreed = company.agreement(policy.model_copy(update={"health": None}))
    assert scores.expected(agreed) == []
    assert scores.untold(agreed) == "This policy has no rules of health, so nothing is scored."


def test_instants_are_whole_seconds_because_hubspot_counts_milliseconds(agreed: Agreement) -> None:
    told = [post.at for post in story.posts(agreed)]
    assert [moment(at).isoformat() for at in told if at % SECOND] == []
