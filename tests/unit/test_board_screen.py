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
from services.board.model import Account, Deal
from services.core.instants import SECOND
from tests.board import (
    account_of,
    alerted,
    assigned,
    cap,
    changed,
    closed,
    scored,
    sent,
    taken_back,
    verdict,
    went,
    won,
)
from tests.builders import accepted, minute, opened

NOW = minute(250)
FRESH = Freshness(NOW, NOW, SECOND // 5, (), simulated=False, warnings=())
NASTY = ["[red]Bracket[/red] GmbH", "Escape \x1b[2J Ltd.", "株式会社" * 12, "W" * 500, "Ünïcode\nin two lines", ""]


def account(*events: Event, id: str = "acme", name: str | None = "Acme", arr: str = "12000.00") -> Account:
    deals = {"crm:deal:1": Deal(0, won=True, order=(0, 0, "", ""), amount=arr, currency="EUR")}
    return account_of(*events, id=id, name=name, deals=deals)


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
    scored(caps=[cap(limit=57_000)]),
    *(closed(day, 65_210) for day in range(8)),
)


def listed(*accounts: Account, limit: int | None = None, fresh: Freshness = FRESH) -> str:
    return screen.attention_text(attention(accounts, NOW), fresh, UTC, limit, None)


@pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
def test_whatever_an_account_is_called_the_screen_stays_in_its_columns(name: str) -> None:
    named = account(changed(owner="o" * 200), scored("na"), id="x" * 200, name=name)
    for text in (listed(named), screen.account_text(named, FRESH, UTC)):
        assert max(cell_len(line) for line in text.splitlines()) <= screen.WIDTH
        assert "\x1b" not in text


def test_a_name_in_brackets_is_shown_as_it_is() -> None:
    assert "[b]GmbH" in listed(account(changed(), name="[b]GmbH"))


def test_the_list_says_in_words_when_who_and_how_much() -> None:
    text = " ".join(listed(account(changed(due=300), id="later"), FULL).split())
    assert text.startswith("As of 13:10:00 UTC, 0.2 s behind the clock 1 breached, 0 urgent, 1 due today, 0 others")
    assert "BREACHED Acme ▲ Y Yellow ada today 10:00 EUR 12,000 acme 57.0 -8.2 Deal handoff deal-1 to ada is 3" in text
    assert "due today Acme ada today 14:00 EUR 12,000 later Deal handoff deal-1 to ada is due in 50 min" in text


@pytest.mark.parametrize(
    ("events", "words"),
    [
        pytest.param([went("green", "red")], "FELL Acme ada EUR", id="fell, and its score is not known"),
        pytest.param([scored("red"), went("green", "red")], "FELL Acme ■ R Red ada EUR", id="to red"),
        pytest.param([scored(), went("green", "yellow")], "fell Acme ▲ Y Yellow ada EUR", id="to yellow"),
        pytest.param([scored("green", caps=[cap()])], "CAPPED Acme ● G Green ada EUR", id="a cap that is urgent"),
        pytest.param([scored(caps=[cap("NO_OWNER")])], "no owner Acme ▲ Y Yellow ada EUR", id="no owner"),
        pytest.param(
            [scored("na", caps=[cap()])],
            "CAPPED Acme △ (Y) NA ada EUR 12,000 acme provisional 58.8",
            id="hollow, where there is no band",
        ),
    ],
)
def test_a_band_is_shown_by_letter_word_and_shape(events: list[Event], words: str) -> None:
    assert words in " ".join(listed(account(assigned("ada"), *events)).split())


def test_what_is_urgent_stands_beside_what_is_breached_and_apart_from_the_rest() -> None:
    text = listed(account(changed(due=300), id="later"), account(went("green", "red"), id="red"), FULL)
    assert "1 breached, 1 urgent, 1 due today, 0 others" in text
    below = text.splitlines()[5:]
    starts = [line.split()[0] if line else "" for line in below if not line.startswith(" ")]
    assert starts == ["BREACHED", "FELL", "", "due"]


def test_the_json_of_a_row_for_the_sake_of_health_names_its_reasons() -> None:
    [row] = screen.attention_json(attention([account(went("green", "red"))], NOW), FRESH, None, None)["rows"]
    assert (row["group"], row["kind"], row["state"], row["reasons"]) == ("urgent", "health", "fell", ["FELL"])
    assert (row["handoff"], row["leg"], row["due"], row["health"], row["owner"]) == (None, None, None, None, "nobody")


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
        "Health ▲ Y Yellow 57.0, -8.2 in 7 days, coverage 75%; `steward explain acme` says why",
    ):
        assert words in text


def test_an_account_of_which_little_is_known_says_so() -> None:
    text = screen.account_text(Account("acme"), FRESH, UTC)
    assert text.splitlines()[:2] == ["acme", "ARR none known"]
    assert "Health: no score; `steward explain acme` says why" in text
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


HEALTH = dict.fromkeys(["band", "colour", "provisional", "score", "over_7_days"])
FRESHNESS = dict.fromkeys(["as_of", "clock", "behind_seconds", "silent", "simulated", "warnings"])


def test_the_names_in_the_json_of_the_list_are_stable() -> None:
    answer = screen.attention_json(attention([FULL], NOW), FRESH, None, None)
    row = ["account", "name", "group", "why", "reasons", "owner", "due", "handoff", "kind", "leg", "state", "more"]
    assert names(answer) == {
        "freshness": FRESHNESS,
        "counts": dict.fromkeys(["breached", "urgent", "due_today", "others"]),
        "currencies": [None],
        "why_empty": None,
        "rows": [dict.fromkeys(row) | {"arr": [dict.fromkeys(["currency", "amount"])], "health": HEALTH}],
    }
    assert answer["rows"][0]["due"] == "2026-03-02T10:00:00+00:00"
    assert answer["rows"][0]["health"] == {
        "band": "yellow",
        "colour": "yellow",
        "provisional": False,
        "score": 57_000,
        "over_7_days": -8_210,
    }
    assert json.loads(json.dumps(answer)) == answer


def test_the_names_in_the_json_of_an_account_are_stable() -> None:
    answer = screen.account_json(FULL, FRESH)
    assert names(answer) == {
        "freshness": FRESHNESS,
        "account": None,
        "name": None,
        "owner": None,
        "arr": [dict.fromkeys(["currency", "amount"])],
        "health": HEALTH,
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
