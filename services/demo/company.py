"""The company of the demo: its people, customers and half a year of sales, the same in every run."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from itertools import product
from pathlib import Path
from zoneinfo import ZoneInfo

from schemas.policies import PersonRule, Policy
from schemas.renewals import SALE, handoff_of
from services.core.errors import OperatorError
from services.core.instants import DAY, HOUR, Instant, instant, moment
from services.core.worktime import Calendar, StageOffsets, calendar_hours, stage_offsets

CRM, BILLING = "hubspot", "billing"  # the sources; the CRM is the system of record
CURRENCY = "EUR"

HISTORY_DAYS = 180
SALES = 300  # in the history
QUIET_DAYS = 4  # before the live days: whatever history breached is then long over
IN_TIME = 0.88
FORGOTTEN = (171, 236)  # sales that nobody ever took over: the list of those that need somebody is never empty

PEOPLE: dict[str, PersonRule] = {
    "ada": PersonRule(name="Ada Brandt", manager="grace"),
    "ben": PersonRule(name="Ben Ortega", manager="grace"),
    "chloe": PersonRule(name="Chloe Novak", manager="hugo"),
    "dev": PersonRule(name="Dev Patel", manager="hugo"),
    "grace": PersonRule(name="Grace Okafor", manager="ines"),
    "hugo": PersonRule(name="Hugo Lang", manager="ines"),
    "ines": PersonRule(name="Ines Moreau"),
}
OWNERS = ("ada", "ben", "chloe", "dev")
SELLERS = ("sven", "tara", "uma")
CAST = ("Northwind", "Acme", "Initech", "Tyrell", "Globex", "Umbra", "Hooli", "Vandelay", "Stark", "Wonka")
STEMS = (
    "Alder", "Birch", "Cobalt", "Delta", "Ember", "Fjord", "Granite", "Haven", "Iris", "Juniper",
    "Kestrel", "Lumen", "Meridian", "Nimbus", "Orchard", "Pioneer", "Quarry", "Ridge", "Summit",
)  # fmt: skip
TRADES = ("Foods", "Freight", "Health", "Labs", "Legal", "Media", "Motors", "Paper", "Retail", "Tools")

FIRST_COMPANY, FIRST_DEAL = 40_001, 7_000_001
MONDAY = datetime(2025, 6, 2)  # noqa: DTZ001  # a local date; the calendar's zone makes it an instant

COLUMNS = ("record", "company", "name", "deal", "amount", "seller", "owner", "at")
MAP = f"""\
source: {CRM}
format: csv
account: {{home: "{CRM}:company:{{company}}", create: true}}
id: "{{file}}:{{row}}"
facts:
  - when: {{record: company}}
    type: account.upserted
    time: "{{at}}"
    data: {{name: "{{name}}"}}
  - when: {{record: won}}
    type: contract.won
    time: "{{at}}"
    data: {{home: "{CRM}:deal:{{deal}}", amount: "{{amount}}", currency: {CURRENCY}, seller: "{{seller}}", owner: "{{owner}}"}}
  - when: {{record: accepted}}
    type: handoff.accepted
    time: "{{at}}"
    data: {{handoff: "{CRM}:deal:{{deal}}/{SALE}", owner: "{{owner}}"}}
"""  # noqa: E501  # a document


@dataclass(frozen=True, slots=True)
class Agreement:
    """How fast a sale is to be taken over, in whose working time. `start` is the first midnight of the live days."""

    calendar: Calendar
    target: int
    stages: StageOffsets
    start: Instant

    def at(self, quarters: float) -> Instant:
        """The instant after so many quarters of the target have been worked in the live days."""
        return self.calendar.add(self.start, round(self.target * quarters / 4))

    def local(self, at: Instant) -> datetime:
        """As the clock on the wall there shows it."""
        return moment(at).astimezone(ZoneInfo(self.calendar.zone))


@dataclass(frozen=True, slots=True)
class Company:
    """A customer; `number` is its id in the CRM."""

    number: int
    name: str


@dataclass(frozen=True, slots=True)
class Sale:
    """A deal that was won, and when the new owner took the customer over: None where nobody did."""

    deal: int
    company: Company
    owner: str
    amount: int
    won: Instant
    accepted: Instant | None

    @property
    def home(self) -> str:
        return f"{CRM}:deal:{self.deal}"

    @property
    def handoff(self) -> str:
        return handoff_of(self.home)


def with_people(policy: Policy) -> Policy:
    """The policy with the people of the demo and nobody else."""
    return policy.model_copy(update={"people": PEOPLE})


def agreement(policy: Policy) -> Agreement:
    """What the policy says of sales. Raises OperatorError for a policy whose sales have not exactly one clock."""
    legs = policy.handoffs[SALE].legs if SALE in policy.handoffs else {}
    if len(legs) != 1:
        raise OperatorError(
            f"the demo tells of one clock, and {SALE} has {len(legs)} legs in this policy; "
            "run it with STEWARD_POLICY=deploy/policy/steward.yaml"
        )
    (leg,) = legs.values()
    name = leg.calendar or policy.calendar
    rule = policy.calendars[name]
    calendar = calendar_hours(rule.zone, rule.week, rule.holidays, name=name, version=policy.version)
    target = round(leg.hours * HOUR)
    return Agreement(calendar, target, stage_offsets(target), instant(MONDAY.replace(tzinfo=ZoneInfo(rule.zone))))


def companies() -> list[Company]:
    """Every customer of the history; the cast of the live days comes first."""
    names = [*CAST, *(f"{stem} {trade}" for trade, stem in product(TRADES, STEMS))]
    return [Company(FIRST_COMPANY + number, name) for number, name in enumerate(names)]


def history(agreed: Agreement) -> list[Sale]:
    """The sales before the live days, in order of time; most were taken over in time, some late, two never."""
    known = companies()
    begin = agreed.start - HISTORY_DAYS * DAY
    between = (HISTORY_DAYS - QUIET_DAYS) * DAY // SALES
    return [_sale(agreed, number, known[number % len(known)], begin + number * between) for number in range(SALES)]


def _sale(agreed: Agreement, number: int, company: Company, earliest: Instant) -> Sale:
    name = f"sale {number}"
    won = agreed.calendar.add(earliest, 1 + round(_share(name, "won") * HOUR))
    amount = 3_000 + 500 * round(_share(name, "amount") * 90)
    owner = OWNERS[round(_share(name, "owner") * 1_000) % len(OWNERS)]
    if number in FORGOTTEN:
        return Sale(FIRST_DEAL + number, company, owner, amount, won, None)
    is_in_time = _share(name, "in time") < IN_TIME
    worked = _share(name, "worked") * 0.9 + 0.05 if is_in_time else 1.1 + _share(name, "worked")
    return Sale(
        FIRST_DEAL + number, company, owner, amount, won, agreed.calendar.add(won, round(agreed.target * worked))
    )


def breaches(agreed: Agreement, sales: list[Sale]) -> int:
    """How many of these were not taken over in time."""
    return sum(sale.accepted is None or sale.accepted > agreed.calendar.add(sale.won, agreed.target) for sale in sales)


def write(folder: Path, agreed: Agreement, sales: list[Sale]) -> tuple[Path, Path]:
    """Write the CRM's export of the history and its map; answers both paths."""
    export, mapping = folder / "crm-export.csv", folder / "crm-export.yaml"
    mapping.write_text(MAP)
    with export.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        begin = moment(agreed.start) - timedelta(days=HISTORY_DAYS)
        for company in companies():
            rows.writerow(("company", company.number, company.name, "", "", "", "", begin.isoformat()))
        for number, sale in enumerate(sales):
            rows.writerows(_rows(sale, SELLERS[number % len(SELLERS)]))
    return export, mapping


def _rows(sale: Sale, seller: str) -> Iterator[tuple[object, ...]]:
    company, owner = sale.company, sale.owner
    won = moment(sale.won).isoformat()
    yield "won", company.number, company.name, sale.deal, sale.amount, seller, owner, won
    if sale.accepted is not None:
        yield "accepted", company.number, company.name, sale.deal, "", "", owner, moment(sale.accepted).isoformat()


def _share(name: str, what: str) -> float:
    """A number in [0, 1) that depends on nothing but the names."""
    return int.from_bytes(blake2b(f"{name} {what}".encode(), digest_size=4).digest()) / (1 << 32)
