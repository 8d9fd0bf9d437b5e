"""Map files: what is wrong with one, whether it fits a header, and what a row gives."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.codec import sentences
from schemas.identity import IdentityMapped
from schemas.interactions import TicketOpened
from schemas.ownership import HandoffAccepted, HandoffOpened
from schemas.renewals import ContractWon
from schemas.topics import ACCOUNTS, BUILT, INTERACTIONS, OWNERSHIP, RENEWALS
from services.core.instants import DAY, MINUTE, SECOND, Instant, instant, moment
from services.ingest.mapping import TOPICS, Draft, MapError, MapFile, Plan, Reject, RowFacts, fit
from services.runtime.documents import load

ROOT = Path(__file__).parents[2]
NOW: Instant = 1_790_000_000 * SECOND
HEADER = ["ticket", "event:name", "agent", "at", "customer"]
OPENED = {
    "when": {"event": "assigned"},
    "type": "handoff.opened",
    "time": "{at}",
    "data": {"handoff": "{ticket}", "kind": "ticket", "owner": "{agent}"},
}
TAKEN = {
    "when": {"event": "taken"},
    "type": "handoff.accepted",
    "time": "{at}",
    "data": {"handoff": "{ticket}", "owner": "{agent}"},
}
WON = {
    "when": {"event": "closedwon"},
    "type": "contract.won",
    "time": "{at}",
    "data": {"home": "desk:deal:{ticket}", "amount": "{agent}", "currency": "EUR"},
}


def document(**changes: Any) -> dict[str, Any]:
    return {
        "source": "desk",
        "columns": {"event": "event:name"},
        "account": {"home": "desk:customer:{customer}", "create": True},
        "facts": (OPENED, TAKEN),
    } | changes


def mapping(**changes: Any) -> MapFile:
    return MapFile.model_validate(document(**changes))


def plan(**changes: Any) -> Plan:
    return fit(mapping(**changes), HEADER, "log")


def cells(
    ticket: str = "T1",
    event: str = "assigned",
    agent: str = "ann",
    at: str = "2026-02-06T16:00:00+01:00",
    customer: str = "c9",
) -> list[str]:
    return [ticket, event, agent, at, customer]


def given(fitted: Plan, row: list[str]) -> RowFacts:
    said = fitted.read(7, 8, row, NOW)
    assert isinstance(said, RowFacts)
    return said


def reason(fitted: Plan, row: list[str]) -> str:
    said = fitted.read(7, 8, row, NOW)
    assert isinstance(said, Reject)
    assert said.line == 8
    return said.reason


# ---------------------------------------------------------------- the document

TYPES = (
    "interaction.logged, purchase.made, ticket.opened, ticket.updated, ticket.solved, ticket.reopened, "
    "contract.won, contract.valued, handoff.opened, handoff.accepted, handoff.paused, handoff.resumed, "
    "handoff.cancelled, owner.assigned, owner.removed, account.upserted"
)
PLAIN = "must hold plain column names in braces; give others an alias in columns"
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a key it does not know": ({"sourc": "desk"}, "sourc: extra inputs are not permitted (found 'desk')"),
    "another format": ({"format": "xlsx"}, "format: input should be 'csv' (found 'xlsx')"),
    "another order": ({"sort": "row"}, "sort: input should be 'time' (found 'row')"),
    "no facts": (
        {"facts": ()},
        "facts: a map without facts imports nothing; name at least one",
    ),
    "an unknown encoding": ({"encoding": "utf-9"}, "encoding: 'utf-9' is no encoding; write one like utf-8 or cp1252"),
    "an alias with a colon": (
        {"columns": {"event:name": "event:name"}},
        "columns.event:name.[key]: 'event:name' is no alias; take a word of letters, digits and _, but not file or row",
    ),
    "an alias that means something else": (
        {"columns": {"row": "event:name"}},
        "columns.row.[key]: 'row' is no alias; take a word of letters, digits and _, but not file or row",
    ),
    "an unknown zone": (
        {"times": {"zone": "Europe/Bonn"}},
        "times.zone: 'Europe/Bonn' is no time zone; write one like Europe/Berlin",
    ),
    "a format of times for people": (
        {"times": {"format": "DD.MM.YYYY"}},
        "times.format: 'DD.MM.YYYY' is neither iso nor a format with year, month and day like %d.%m.%Y %H:%M",
    ),
    "a format of times without a year": (
        {"times": {"format": "%d.%m. %H:%M"}},
        "times.format: '%d.%m. %H:%M' is neither iso nor a format with year, month and day like %d.%m.%Y %H:%M",
    ),
    "a single brace": (
        {"account": {"home": "desk:customer:{customer"}},
        "account.home: 'desk:customer:{customer' has a brace without its partner; double a brace that is text",
    ),
    "an attribute in braces": (
        {"account": {"home": "desk:customer:{customer.name}"}},
        "account.home: 'desk:customer:{customer.name}' " + PLAIN,
    ),
    "an index in braces": (
        {"account": {"home": "desk:customer:{customer[0]}"}},
        "account.home: 'desk:customer:{customer[0]}' " + PLAIN,
    ),
    "a format in braces": (
        {"account": {"home": "desk:customer:{customer:>9}"}},
        "account.home: 'desk:customer:{customer:>9}' " + PLAIN,
    ),
    "a conversion in braces": (
        {"account": {"home": "desk:customer:{customer!r}"}},
        "account.home: 'desk:customer:{customer!r}' " + PLAIN,
    ),
    "one id for all rows": (
        {"id": "{file}:1"},
        "id: '{file}:1' is the same for every row; add {row} or a column with the vendor's own id",
    ),
    "an unknown type": (
        {"facts": (OPENED | {"type": "handoff.open"},)},
        f"facts.0.type: 'handoff.open' is no fact that a file can give; those are {TYPES}",
    ),
    "a type that processors decide": (
        {"facts": (OPENED | {"type": "sla.breached"},)},
        f"facts.0.type: 'sla.breached' is no fact that a file can give; those are {TYPES}",
    ),
    "data the type does not have": (
        {"facts": (OPENED, TAKEN | {"data": {"handoff": "{ticket}", "ownr": "{agent}"}})},
        "facts.1: handoff.accepted has no data 'ownr'; it has handoff, owner",
    ),
    "a won deal without its home": (
        {"facts": (WON | {"data": {"amount": "{agent}", "currency": "EUR"}},)},
        "facts.0: contract.won needs data home",
    ),
    "data the type needs": (
        {"facts": (OPENED | {"data": {"owner": "{agent}"}},)},
        "facts.0: handoff.opened needs data handoff and kind",
    ),
}


@pytest.mark.parametrize(("changes", "expected"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_map_is_said(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError) as caught:
        mapping(**changes)
    assert sentences(caught.value) == [expected]


SHIPPED = {"helpdesk": (OWNERSHIP,), "purchases": (INTERACTIONS,)}


def test_the_maps_in_the_repository_are_good() -> None:
    maps = {path.stem: path for path in (ROOT / "deploy/mapping").glob("*.yaml") if path.stem != "hubspot"}
    assert {name: load(path, MapFile).topics for name, path in maps.items()} == SHIPPED


def test_a_file_gives_only_facts_that_ingest_writes_under_an_account() -> None:
    assert set(TOPICS.values()) == {INTERACTIONS, RENEWALS, OWNERSHIP, ACCOUNTS}
    assert not {IdentityMapped} & TOPICS.keys()
    assert set(TOPICS.values()) <= set(BUILT)


@pytest.mark.parametrize("name", ["handoff.opened", "steward.handoff.opened.v1"])
def test_a_type_may_be_short(name: str) -> None:
    assert mapping(facts=(OPENED | {"type": name},)).facts[0].type == "steward.handoff.opened.v1"


# ---------------------------------------------------------------- the header

THERE = "there are ticket, agent, at, customer, event"
ALIASED = ", and under an alias org:resource, 2nd"
UNFIT: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "an alias of a column that is not there": (
        {},
        ["ticket", "event", "agent", "at", "customer"],
        [
            "columns.event: the column 'event:name' is not there; there are ticket, event, agent, at, customer",
        ],
    ),
    "an alias of a column that stands there twice": (
        {},
        [*HEADER, "event:name"],
        [
            "columns.event: the column 'event:name' stands there twice; there are "
            + ", ".join([*HEADER, "event:name"]),
        ],
    ),
    "a home of an unknown column": (
        {"account": {"home": "desk:customer:{client}"}},
        HEADER,
        [f"account.home: 'desk:customer:{{client}}' names the column 'client', which is not there; {THERE}"],
    ),
    "a first_of of an unknown column": (
        {"account": {"home": "desk:customer:{customer}", "first_of": "{case}"}},
        HEADER,
        [f"account.first_of: '{{case}}' names the column 'case', which is not there; {THERE}"],
    ),
    "an id of an unknown column": (
        {"id": "{number}"},
        HEADER,
        [f"id: '{{number}}' names the column 'number', which is not there; {THERE}, row, file"],
    ),
    "a time of an unknown column": (
        {"facts": (OPENED | {"time": "{when}"},)},
        HEADER,
        [f"facts.0.time: '{{when}}' names the column 'when', which is not there; {THERE}"],
    ),
    "the row number outside of the id": (
        {"facts": (OPENED | {"data": {"handoff": "{row}", "kind": "ticket"}},)},
        HEADER,
        [f"facts.0.data.handoff: '{{row}}' names the column 'row', which is not there; {THERE}"],
    ),
    "a condition on an unknown column": (
        {"facts": (OPENED, TAKEN | {"when": {"activity": "taken"}})},
        HEADER,
        [f"facts.1.when: 'activity' names the column 'activity', which is not there; {THERE}"],
    ),
    "columns that need an alias": (
        {"facts": (OPENED | {"when": {"kind": "x"}},)},
        [*HEADER, "org:resource", "2nd"],
        [
            f"facts.0.when: 'kind' names the column 'kind', which is not there; {THERE}" + ALIASED,
        ],
    ),
    "several mistakes at once": (
        {"id": "{number}", "facts": (OPENED | {"time": "{when}"},)},
        HEADER,
        [
            f"id: '{{number}}' names the column 'number', which is not there; {THERE}, row, file",
            f"facts.0.time: '{{when}}' names the column 'when', which is not there; {THERE}",
        ],
    ),
}


@pytest.mark.parametrize(("changes", "header", "expected"), UNFIT.values(), ids=UNFIT)
def test_what_a_map_misses_in_a_file_is_said(changes: dict[str, Any], header: list[str], expected: list[str]) -> None:
    with pytest.raises(MapError) as caught:
        fit(mapping(**changes), header, "log")
    assert str(caught.value).splitlines() == expected


# ---------------------------------------------------------------- rows


def test_a_row_gives_the_fact_of_the_rule_it_meets() -> None:
    at = instant(moment(0).fromisoformat("2026-02-06T15:00:00+00:00"))
    data = {"handoff": "T1", "kind": "ticket", "owner": "ann"}
    draft = Draft(0, "log:7.0", "steward.handoff.opened.v1", at, data)
    assert given(plan(), cells()) == RowFacts((draft,), "desk:customer:c9")


def test_a_row_may_give_several_facts_told_apart_by_their_rule() -> None:
    both = plan(facts=(OPENED | {"when": {}}, TAKEN | {"when": {}}))
    assert [(draft.part, draft.id) for draft in given(both, cells()).drafts] == [(0, "log:7.0"), (1, "log:7.1")]


def test_a_row_that_meets_no_rule_says_nothing_and_is_not_looked_at() -> None:
    assert plan().read(7, 8, cells(event="closed", at="never", customer=""), NOW) is None


def test_every_row_of_a_group_tells_its_home_and_its_time() -> None:
    grouped = plan(account={"home": "desk:customer:{customer}", "first_of": "{ticket}"})
    said = given(grouped, cells(event="closed"))
    assert (said.drafts, said.home, said.group) == ((), "desk:customer:c9", "T1")
    assert said.at == given(plan(), cells()).drafts[0].at


def test_in_a_group_a_row_without_home_leaves_it_to_the_others() -> None:
    grouped = plan(account={"home": "desk:customer:{customer}", "first_of": "{ticket}"})
    assert given(grouped, cells(customer="")).home is None
    assert grouped.read(7, 8, cells(event="closed", customer=""), NOW) is None


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_cell_in_optional_data_is_absent(empty: str) -> None:
    assert given(plan(), cells(agent=empty)).drafts[0].data == {"handoff": "T1", "kind": "ticket"}


def test_text_around_an_empty_cell_does_not_make_it_a_value() -> None:
    spoken = OPENED | {"data": {"handoff": "{ticket}", "kind": "ticket", "owner": "agent-{agent}"}}
    assert given(plan(facts=(spoken,)), cells(agent="")).drafts[0].data == {"handoff": "T1", "kind": "ticket"}


def test_doubled_braces_are_text() -> None:
    braced = plan(id="{{{ticket}}}")
    assert given(braced, cells()).drafts[0].id == "{T1}.0"


TIMES = {
    "an offset": ({}, "2026-02-06T16:00:00+01:00", "2026-02-06T15:00:00+00:00"),
    "zulu": ({}, "2026-02-06T15:00:00Z", "2026-02-06T15:00:00+00:00"),
    "microseconds": ({}, "2026-02-06 15:00:00.000001+00:00", "2026-02-06T15:00:00.000001+00:00"),
    "blanks around it": ({}, " 2026-02-06T15:00:00Z ", "2026-02-06T15:00:00+00:00"),
    "a zone for naive times": ({"zone": "Europe/Berlin"}, "2026-07-06T15:00:00", "2026-07-06T13:00:00+00:00"),
    "a zone does not overrule an offset": (
        {"zone": "Europe/Berlin"},
        "2026-07-06T15:00:00+00:00",
        "2026-07-06T15:00:00+00:00",
    ),
    "the hour that occurs twice is the first": (
        {"zone": "Europe/Berlin"},
        "2026-10-25T02:30:00",
        "2026-10-25T00:30:00+00:00",
    ),
    "days": ({"zone": "UTC"}, "2026-02-06", "2026-02-06T00:00:00+00:00"),
    "a format": (
        {"format": "%d.%m.%Y %H:%M", "zone": "Europe/Berlin"},
        "06.02.2026 16:00",
        "2026-02-06T15:00:00+00:00",
    ),
    "a format with an offset": ({"format": "%d/%m/%Y %H:%M%z"}, "06/02/2026 16:00+0100", "2026-02-06T15:00:00+00:00"),
}
BEYOND = NOW + 400 * DAY


@pytest.mark.parametrize(("times", "text", "expected"), TIMES.values(), ids=TIMES)
def test_a_time_is_read_as_the_map_says(times: dict[str, str], text: str, expected: str) -> None:
    said = plan(times=times).read(7, 8, cells(at=text), BEYOND)
    assert isinstance(said, RowFacts)
    assert moment(said.drafts[0].at).isoformat() == expected


REJECTS: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "too few fields": ({}, ["T1", "assigned"], "the row has 2 fields, the header 5"),
    "too many fields": ({}, [*cells(), ""], "the row has 6 fields, the header 5"),
    "no time": ({}, cells(at=""), "facts.0.time needs '{at}', and a cell that it names is empty"),
    "no ISO time": ({}, cells(at="06.02.2026 16:00"), "the time '06.02.2026 16:00' is not in ISO 8601"),
    "a time of another form": (
        {"times": {"format": "%d.%m.%Y", "zone": "UTC"}},
        cells(at="2026-02-06"),
        "the time '2026-02-06' is not of the form %d.%m.%Y",
    ),
    "a day that is none": ({}, cells(at="2026-02-30T00:00:00Z"), "the time '2026-02-30T00:00:00Z' is not in ISO 8601"),
    "a naive time": (
        {},
        cells(at="2026-02-06T16:00:00"),
        "the time '2026-02-06T16:00:00' has no zone; name one under times.zone",
    ),
    "before 1990": ({}, cells(at="1989-12-31T23:59:59Z"), "the time '1989-12-31T23:59:59Z' lies before 1990"),
    "the first year": (
        {},
        cells(at="0001-01-01T00:00:00+14:00"),
        "the time '0001-01-01T00:00:00+14:00' lies before 1990",
    ),
    "the future": (
        {},
        cells(at="9999-12-31T23:59:59-14:00"),
        "the time '9999-12-31T23:59:59-14:00' lies in the future",
    ),
    "no home": (
        {},
        cells(customer=" "),
        "account.home needs 'desk:customer:{customer}', and a cell that it names is empty",
    ),
    "a home of the wrong form": (
        {"account": {"home": "{customer}"}},
        cells(),
        "'c9' is no home; it must read source:kind:id, with 200 characters at most",
    ),
    "no handoff": ({}, cells(ticket=""), "facts.0.data.handoff needs '{ticket}', and a cell that it names is empty"),
    "no id": ({"id": "{agent}"}, cells(agent=""), "id needs '{agent}', and a cell that it names is empty"),
    "a kind that is no name": (
        {"facts": (OPENED | {"data": {"handoff": "{ticket}", "kind": "{agent}"}},)},
        cells(agent="Ann B."),
        "data.kind: string should match pattern '^[a-z0-9][a-z0-9_-]{0,63}$' (found 'Ann B.')",
    ),
    "a deal that is no home": (
        {"facts": (WON | {"data": {"home": "{ticket}"}},)},
        cells(event="closedwon"),
        r"data.home: string should match pattern '^[a-z0-9][a-z0-9_-]*:[a-z0-9_-]+:[^\x00-\x1f]+$' (found 'T1')",
    ),
    "an amount that is no decimal": (
        {"facts": (WON,)},
        cells(event="closedwon", agent="12,50"),
        r"data.amount: string should match pattern '^[0-9]{1,12}(\.[0-9]{1,4})?$' (found '12,50')",
    ),
    "a currency without its amount": (
        {"facts": (WON,)},
        cells(event="closedwon", agent=""),
        "data: amount and currency belong together; give both or neither",
    ),
    "an id that is too long": (
        {"id": "{ticket}"},
        cells(ticket="T" * 199),
        "id: string should have at most 200 characters (found '" + "T" * 58 + "…)",
    ),
}


@pytest.mark.parametrize(("changes", "row", "expected"), REJECTS.values(), ids=REJECTS)
def test_a_row_that_is_refused_says_why(changes: dict[str, Any], row: list[str], expected: str) -> None:
    assert reason(plan(**changes), row) == expected


@pytest.mark.parametrize(
    ("ahead", "taken"), [(5 * MINUTE, True), (5 * MINUTE + 1, False)], ids=["five minutes", "a microsecond more"]
)
def test_a_fact_may_be_five_minutes_ahead_of_its_arrival(ahead: int, taken: bool) -> None:
    said = plan().read(7, 8, cells(at=moment(NOW + ahead).isoformat()), NOW)
    assert isinstance(said, RowFacts) is taken


def test_a_row_may_say_that_a_deal_was_won() -> None:
    fitted = plan(facts=(WON,))
    event = given(fitted, cells(event="closedwon", agent="48000.50")).drafts[0].event("desk", "acc_1")
    assert isinstance(event, ContractWon)
    assert (event.data.home, event.data.amount, event.data.currency) == ("desk:deal:T1", "48000.50", "EUR")
    assert TOPICS[ContractWon] is RENEWALS


ASKED = {
    "type": "ticket.opened",
    "time": "{at}",
    "data": {"ticket": "desk:ticket:{ticket}", "severity": "{agent}"},
}


def test_a_row_may_say_how_bad_a_ticket_is() -> None:
    event = given(plan(facts=(ASKED,)), cells(agent="2")).drafts[0].event("desk", "acc_1")
    assert isinstance(event, TicketOpened)
    assert (event.data.ticket, event.data.severity) == ("desk:ticket:T1", 2)
    said = "data.severity: input should be a valid integer (found 'high')"
    assert reason(plan(facts=(ASKED,)), cells(agent="high")) == said


def test_a_fact_becomes_the_event_that_is_sent() -> None:
    draft = given(plan(), cells(event="taken")).drafts[0]
    event = draft.event("desk", "acc_1", 50, "desk:abc", NOW, 41)
    assert isinstance(event, HandoffAccepted)
    assert (event.id, event.source, event.run, event.sourcerank) == ("log:7.1", "desk", "desk:abc", 50)
    assert event.runposition == 41
    assert (event.subject, event.partitionkey) == ("acc_1", "acc_1")
    assert (event.time, event.receivedat) == (moment(draft.at), moment(NOW))
    assert (event.data.handoff, event.data.owner) == ("T1", "ann")
    assert TOPICS[HandoffOpened] is OWNERSHIP
