"""After the demo: what `steward explain` prints, what stands on the topic and what the facts say are the same sums."""

import asyncio
import json
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from schemas import topics
from schemas.topics import POLICY, Topic
from services.board.app import ask_explain
from services.demo import company, contacts
from services.demo.company import Company
from services.demo.story import NEWCOMER
from services.handoff.app import read_policy
from services.ingest.model import account_of
from services.runtime import kafka
from services.runtime.settings import Settings
from tests import health_oracle as oracle
from tests.health_oracle import Told
from tests.pipeline import ROOT
from tests.showing import command, demo, ended, left_behind

pytestmark = pytest.mark.slow

TOPICS = tuple(topic for topic in topics.CATALOGUE if topic.name in oracle.KEPT)
ACCOUNTS = 20
SETTING = re.compile(r"(STEWARD_\w+)=(\S+)")
ROW = re.compile(r"^(?:\w+)? *  (?P<name>[a-z]+(?: [a-z]+)*)(?:  .*)? (?P<points>[+-]?\d+\.\d{3})$")
QUIET_SECONDS, PATIENCE_SECONDS = 2.0, 60.0


@dataclass(frozen=True)
class Shown:
    """A demo whose clock stands still after its story, and all that is on its topics."""

    settings: Settings
    variables: dict[str, str]
    told: dict[str, Told]
    policy: dict[str, Any]

    def record(self, account: str) -> dict[str, Any]:
        """The last score of an account."""
        data: dict[str, Any] = self.told[account].scored[-1]["data"]
        return data


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("demo")
    with demo(folder) as process:
        assert process.stdout is not None
        settings, said = dict[str, str](), list[str]()
        for line in process.stdout:
            said.append(line)
            settings |= dict(SETTING.findall(line))
            if "Ctrl-C ends it" in line:
                break
        assert "STEWARD_KAFKA" in settings, "".join(said)
        # The demo writes the clock itself: while it is stopped, time stands still, and everything else goes on.
        process.send_signal(signal.SIGSTOP)
        try:
            records = _once_quiet(settings)
            published = asyncio.run(_read(settings, (POLICY,)))
            policy = next(json.loads(value) for _, _, value in published if value and b"policy.published" in value)
            yield Shown(_reached(settings), settings, oracle.read(records), policy)
        finally:
            process.send_signal(signal.SIGINT)  # waits, and is the first thing it hears
            process.send_signal(signal.SIGCONT)
        code, rest = ended(process, 60)
    assert code in {0, 2}, rest  # it may have noticed that its clock stood still
    assert left_behind(folder) == []


Record = tuple[str, bytes, bytes | None]


def _once_quiet(settings: dict[str, str]) -> list[Record]:
    """Every record, once nothing more comes."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    before = asyncio.run(_read(settings, TOPICS))
    while time.monotonic() < deadline:
        time.sleep(QUIET_SECONDS)
        after = asyncio.run(_read(settings, TOPICS))
        if len(after) == len(before):
            return after
        before = after
    raise AssertionError(f"after {PATIENCE_SECONDS} s without a clock there are still new records")


def _reached(variables: dict[str, str]) -> Settings:
    given = {name.removeprefix("STEWARD_").lower(): value for name, value in variables.items()}
    return Settings.model_validate({**given, "partitions": int(given["partitions"])})


async def _read(variables: dict[str, str], wanted: tuple[Topic, ...]) -> list[Record]:
    settings = _reached(variables)
    return [
        (topic.name, record.key or b"", record.value)
        for topic in wanted
        for record in await kafka.read_all(settings, topic)
    ]


def looked_at() -> list[Company]:
    """Those of the story, those whose handoff nobody ever took, and others of every habit."""
    known = company.companies()
    agreed = company.agreement(read_policy(ROOT / "deploy/policy/steward.yaml"))
    sales = company.history(agreed)
    habits = [next(one for one in known if contacts.habit(one) is habit) for habit in contacts.HABITS]
    chosen = [
        *known[: len(company.CAST)],
        company.customer(company.FADING),
        company.customer(company.TROUBLED),
        NEWCOMER,
        *(sales[number].company for number in company.FORGOTTEN),
        *habits,
    ]
    return list(dict.fromkeys([*chosen, *known]))[:ACCOUNTS]


@pytest.mark.parametrize("customer", looked_at(), ids=lambda customer: customer.name)
def test_what_explain_prints_is_the_last_record_and_what_the_facts_say(shown: Shown, customer: Company) -> None:
    account = account_of(customer.home)
    told, record = shown.told[account], shown.record(account)
    at = datetime.fromisoformat(record["as_of"])
    verdict = oracle.score(told.facts, told.handoffs, shown.policy, at)
    points = {one["signal"]: one["points"] for one in record["contributions"]}
    tied = {signal for signal, reading in verdict.readings.items() if reading.is_tied}
    assert {name: value for name, value in points.items() if name not in tied} == {
        name: value for name, value in verdict.contributions.items() if name not in tied
    }
    assert abs(record["raw"] - verdict.raw) <= verdict.slack
    assert record["raw"] == record["prior"] + sum(points.values())
    assert record["coverage"] == verdict.coverage
    assert {cap["code"]: cap["limit"] for cap in record["caps"]} == verdict.limits
    assert record["score"] == min([record["raw"], *verdict.limits.values()])
    assert (record["band"] == "na") == verdict.is_na
    assert printed(explained(shown, account)) == {
        "prior": record["prior"],
        **{name.replace("_", " "): value for name, value in points.items() if trusted(record, name)},
        "raw score": record["raw"],
        "effect of caps": record["score"] - record["raw"],
        "score": record["score"],
    }


def explained(shown: Shown, account: str) -> str:
    return asyncio.run(ask_explain(shown.settings, account, zone="UTC", as_json=False))


def trusted(record: dict[str, Any], signal: str) -> bool:
    return any(one["signal"] == signal and one["trust"] > 0 for one in record["contributions"])


def printed(text: str) -> dict[str, int]:
    """Milli-points by line of the sum, which stands under WHY up to the next blank line."""
    found = {}
    for line in text.partition("\nWHY\n")[2].partition("\n\n")[0].splitlines():
        if row := ROW.match(line):
            whole, _, thousandths = row["points"].lstrip("+-").partition(".")
            sign = -1 if row["points"].startswith("-") else 1
            found[row["name"]] = sign * (int(whole) * 1_000 + int(thousandths))
    return found


def test_the_command_prints_the_same(shown: Shown) -> None:
    account = account_of(company.customer("Northwind").home)
    assert command(shown.variables, "explain", account).rstrip() == explained(shown, account).rstrip()


def test_the_accounts_looked_at_are_of_every_sort(shown: Shown) -> None:
    records = {customer.name: shown.record(account_of(customer.home)) for customer in looked_at()}
    assert len(records) == ACCOUNTS
    assert {"yellow", "red", "na"} <= {record["band"] for record in records.values()}
    assert records[NEWCOMER.name]["band"] == "na"
    assert records[company.FADING]["band"] == "red"
    codes = {name: {cap["code"] for cap in record["caps"]} for name, record in records.items()}
    assert "HANDOFF_BREACH" in codes["Northwind"]
    assert [name for name in codes if "WEAK_LINK" in codes[name]] != []
    assert [name for name, record in records.items() if record["score"] < record["raw"]] != []


def test_every_customer_was_scored_and_closed_each_night(shown: Shown) -> None:
    nights = ["2025-05-30", "2025-05-31", "2025-06-01", "2025-06-02"]
    lacking = {
        customer.name: days
        for customer in company.companies()
        if (days := [one["data"]["day"] for one in shown.told[account_of(customer.home)].closings]) != nights
    }
    assert lacking == {}


def test_a_cap_that_began_has_its_causes_among_the_records(shown: Shown) -> None:
    """Whatever a change names as evidence is a fact or a verdict that stands on a topic."""
    for told in shown.told.values():
        known = {(event["source"], event["id"]) for event in (*told.facts, *told.handoffs)}
        named = [(one["source"], one["id"]) for change in told.changes for one in change["data"]["evidence"]]
        assert [one for one in named if one not in known] == []
