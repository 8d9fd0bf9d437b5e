"""How the answers look: widths, words beside every mark, stable names in JSON, nothing that a terminal would obey."""

import json
from collections.abc import Sequence
from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from rich.cells import cell_len

from schemas.envelope import Event
from services.board import screen
from services.board.attention import Freshness, attention
from services.board.decide import seen
from services.board.model import Account, Alert, Deal, Handoff
from services.core.instants import SECOND
from tests.board import alerted, changed, folded, sent, taken_back, verdict, won
from tests.builders import accepted, minute, opened

NOW = minute(250)
FRESH = Freshness(NOW, NOW, SECOND // 5, (), simulated=False, warnings=())
NASTY = ["[red]Bracket[/red] GmbH", "Escape \x1b[2J Ltd.", "株式会社" * 12, "W" * 500, "Ünïcode\nin two lines", ""]


def account(*events: Event, id: str = "acme", name: str | None = "Acme", arr: str = "12000.00") -> Account:
    fields = folded(events)
    facts = [fact for event in events if (fact := seen(event)) is not None]
    return Account(
        id,
        name,
        {"deal:crm:deal:1": Deal(0, won=True, order=(0, 0, "", ""), amount=arr, currency="EUR")},
        {field.partition(":")[2]: one for field, one in fields.items() if isinstance(one, Handoff)},
        {field.partition(":")[2]: one for field, one in fields.items() if isinstance(one, Alert)},
        tuple(reversed(facts)),
    )


FULL = account(
    opened(0),
    changed("open"),
    verdict("at_risk"),
    verdict("breached"),
    taken_back("at_risk"),
    alerted("raised"),
    sent("d-1", 3),
    won("1"),
    accepted(70, "deal-2"),
)


def listed(*accounts: Account, limit: int | None = None, fresh: Freshness = FRESH) -> str:
    return screen.attention_text(attention(accounts, NOW), fresh, UTC, limit, None)


@pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
def test_whatever_an_account_is_called_the_screen_stays_in_its_columns(name: str) -> None:
    named = account(changed(owner="o" * 200), id="x" * 200, name=name)
    for text in (listed(named), screen.account_text(named, FRESH, UTC)):
        assert max(cell_len(line) for line in text.splitlines()) <= screen.WIDTH
        assert "\x1b" not in text


def test_a_name_in_brackets_is_shown_as_it_is() -> None:
    assert "[b]GmbH" in listed(account(changed(), name="[b]GmbH"))


def test_the_list_says_in_words_when_who_and_how_much() -> None:
    text = " ".join(listed(account(changed(due=300), id="later"), FULL).split())
    assert text.startswith("As of 13:10:00 UTC, 0.2 s behind the clock 1 breached, 1 due today, 0 others")
    assert "BREACHED Acme Deal handoff deal-1 to ada today 10:00 EUR 12,000" in text
    assert "due today Acme Deal handoff deal-1 to ada today 14:00" in text


def test_a_limit_says_how_many_more_there_are() -> None:
    text = listed(*(account(changed(), id=id) for id in "abcde"), limit=2)
    assert "3 more; see them with --limit 5" in text
    assert "5 due today" in text


def test_several_currencies_are_said_to_be_compared_apart() -> None:
    other = account(changed(), id="usd")
    other.deals["deal:2"] = Deal(0, won=True, order=(0, 0, "", ""), amount="5.5", currency="USD")
    text = listed(other)
    assert "ARR is compared within a currency only: EUR, then USD." in text
    assert "USD 5.50" in text


@pytest.mark.parametrize(
    ("fresh", "words"),
    [
        pytest.param(FRESH, "As of 14:10:00 CET, 0.2 s behind the clock", id="live"),
        pytest.param(
            Freshness(NOW, NOW, 0, ("helpdesk", "crm"), simulated=False, warnings=()),
            "silent sources: helpdesk, crm",
            id="silent",
        ),
        pytest.param(
            Freshness(NOW, NOW, 0, (), simulated=True, warnings=()),
            "As of 2026-03-02 14:10:00 CET, 0.0 s behind the clock · simulated time",
            id="simulated",
        ),
        pytest.param(
            Freshness(NOW, NOW, 300 * SECOND, (), simulated=False, warnings=("Out of date.",)),
            "As of 2026-03-02 14:10:00 CET, 5 min behind the clock\nWARNING: Out of date.",
            id="stale",
        ),
    ],
)
def test_the_first_line_says_how_fresh_the_answer_is(fresh: Freshness, words: str) -> None:
    found = attention([], NOW)
    assert words in screen.attention_text(found, fresh, ZoneInfo("Europe/Berlin"), None, "Nothing.")


def test_an_account_shows_handoffs_clocks_alerts_deliveries_and_facts() -> None:
    text = " ".join(screen.account_text(FULL, FRESH, UTC).split())
    for words in (
        "Acme (acme) ARR EUR 12,000",
        "deal-1 open ada accept today 10:00 breached 2026-03-02",
        "at risk taken back: it was",
        "raised breached ada, eve delivered to ada at webhook, 3",
        "handoff.opened crm handoff deal-1 opened for ada",
        "contract.won crm deal crm:deal:1 won",
    ):
        assert words in text


def test_an_account_of_which_little_is_known_says_so() -> None:
    text = screen.account_text(Account("acme"), FRESH, UTC)
    assert text.splitlines()[:2] == ["acme", "ARR none known"]
    assert [line for line in text.splitlines() if line.startswith("No ")] == ["No handoffs.", "No alerts.", "No facts."]


def test_of_very_many_handoffs_and_facts_the_first_are_shown_and_the_rest_is_counted() -> None:
    events = [changed(handoff=f"deal-{number}") for number in range(30)]
    many = account(*events, *(opened(number, f"deal-{number}") for number in range(25)))
    text = screen.account_text(many, FRESH, UTC)
    assert "10 older ones; see them with --json" in text
    assert "5 older ones; see them with --json" in text
    assert len(screen.account_json(many, FRESH)["handoffs"]) == 30


def names(value: Any) -> Any:
    """Only the names of an answer: lists by their first entry."""
    match value:
        case dict():
            return {name: names(one) for name, one in value.items()}
        case [first, *_]:
            return [names(first)]
        case _:
            return None


FRESHNESS = dict.fromkeys(["as_of", "clock", "behind_seconds", "silent", "simulated", "warnings"])


def test_the_names_in_the_json_of_the_list_are_stable() -> None:
    answer = screen.attention_json(attention([FULL], NOW), FRESH, None, None)
    row = ["account", "name", "group", "why", "owner", "due", "arr", "handoff", "kind", "leg", "state", "more"]
    assert names(answer) == {
        "freshness": FRESHNESS,
        "counts": dict.fromkeys(["breached", "due_today", "others"]),
        "currencies": [None],
        "why_empty": None,
        "rows": [dict.fromkeys(row) | {"arr": [dict.fromkeys(["currency", "amount"])]}],
    }
    assert answer["rows"][0]["due"] == "2026-03-02T10:00:00+00:00"
    assert json.loads(json.dumps(answer)) == answer


def test_the_names_in_the_json_of_an_account_are_stable() -> None:
    answer = screen.account_json(FULL, FRESH)
    assert names(answer) == {
        "freshness": FRESHNESS,
        "account": None,
        "name": None,
        "arr": [dict.fromkeys(["currency", "amount"])],
        "deals": [dict.fromkeys(["deal", "won", "amount", "currency"])],
        "handoffs": [
            dict.fromkeys(["handoff", "kind", "state", "owner", "sender", "opened", "accepted", "policy"])
            | {
                "clocks": [
                    dict.fromkeys(["leg", "due", "calendar"])
                    | {
                        "reached": [dict.fromkeys(["stage", "at", "due", "n", "correction"])],
                        "retracted": [dict.fromkeys(["stage", "at", "n", "reason"])],
                    }
                ]
            }
        ],
        "alerts": [
            dict.fromkeys(["alert", "handoff", "kind", "leg", "state", "stage", "resolved"])
            | {
                "stages": [dict.fromkeys(["stage", "state", "at", "due", "owner", "reason"]) | {"recipients": [None]}],
                "deliveries": [
                    dict.fromkeys(
                        [
                            "delivery",
                            "outcome",
                            "at",
                            "notice",
                            "recipient",
                            "endpoint",
                            "attempts",
                            "status",
                            "reason",
                        ]
                    )
                ],
            }
        ],
        "facts": [dict.fromkeys(["time", "type", "source", "id", "text"])],
    }
    assert json.loads(json.dumps(answer)) == answer


def test_a_limit_leaves_rows_out_and_counts_all() -> None:
    accounts: Sequence[Account] = [account(changed(), id=id) for id in "abc"]
    answer = screen.attention_json(attention(accounts, NOW), FRESH, 1, None)
    assert ([row["account"] for row in answer["rows"]], answer["counts"]["due_today"]) == (["a"], 3)
