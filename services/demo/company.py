"""The company of the demo: its people, customers and half a year of sales, the same in every run."""

from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from itertools import product
from zoneinfo import ZoneInfo

from schemas.policies import HealthRules, PersonRule, Policy
from schemas.renewals import SALE, handoff_of
from services.core.errors import OperatorError
from services.core.instants import DAY, HOUR, Instant, instant, moment
from services.core.worktime import Calendar, StageOffsets, calendar_hours, stage_offsets

CRM, BILLING, DESK = "hubspot", "billing", "desk"  # the sources; the CRM is the system of record
CURRENCY = "EUR"

HISTORY_DAYS = 180
SALES = 300  # in the history
QUIET_DAYS = 4  # before the live days: whatever history breached is then long over
EVE = 54 * HOUR  # before the live days: on Friday evening the history ends and is imported, and a weekend passes
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
FADING, TROUBLED = "Cyberdyne", "Oceanic"  # nobody talks to it; it has a ticket
STEMS = (
    "Alder", "Birch", "Cobalt", "Delta", "Ember", "Fjord", "Granite", "Haven", "Iris", "Juniper",
    "Kestrel", "Lumen", "Meridian", "Nimbus", "Orchard", "Pioneer", "Quarry", "Ridge", "Summit",
)  # fmt: skip
TRADES = ("Foods", "Freight", "Health", "Labs", "Legal", "Media", "Motors", "Paper", "Retail", "Tools")

FIRST_COMPANY, FIRST_DEAL = 40_001, 7_000_001
MONDAY = datetime(2025, 6, 2)  # noqa: DTZ001  # a local date; the calendar's zone makes it an instant


@dataclass(frozen=True, slots=True)
class Agreement:
    """How fast a sale is to be taken over, in whose working time, and how health is scored, if it is.

    `start` is the first midnight of the live days.
    """

    calendar: Calendar
    target: int
    stages: StageOffsets
    start: Instant
    health: HealthRules | None

    @property
    def eve(self) -> Instant:
        """When the history ends."""
        return self.start - EVE

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

    @property
    def home(self) -> str:
        return f"{CRM}:company:{self.number}"


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
    start = instant(MONDAY.replace(tzinfo=ZoneInfo(rule.zone)))
    return Agreement(calendar, target, stage_offsets(target), start, policy.health)


def companies() -> list[Company]:
    """Every customer of the history; those who buy in the live days come first, two others of whom they tell last."""
    others = [f"{stem} {trade}" for trade, stem in product(TRADES, STEMS)]
    names = [*CAST, *others[:-2], FADING, TROUBLED]
    return [Company(FIRST_COMPANY + number, name) for number, name in enumerate(names)]


def customer(name: str) -> Company:
    """The customer of the history with this name."""
    return next(company for company in companies() if company.name == name)


def history(agreed: Agreement) -> list[Sale]:
    """The sales before the live days, in order of time; most were taken over in time, some late, two never."""
    known = companies()
    begin = agreed.start - HISTORY_DAYS * DAY
    between = (HISTORY_DAYS - QUIET_DAYS) * DAY // SALES
    return [_sale(agreed, number, known[number % len(known)], begin + number * between) for number in range(SALES)]


def _sale(agreed: Agreement, number: int, company: Company, earliest: Instant) -> Sale:
    name = f"sale {number}"
    won = agreed.calendar.add(earliest, 1 + round(share(name, "won") * HOUR))
    amount = 3_000 + 500 * round(share(name, "amount") * 90)
    owner = OWNERS[round(share(name, "owner") * 1_000) % len(OWNERS)]
    if number in FORGOTTEN:
        return Sale(FIRST_DEAL + number, company, owner, amount, won, None)
    is_in_time = share(name, "in time") < IN_TIME
    worked = share(name, "worked") * 0.9 + 0.05 if is_in_time else 1.1 + share(name, "worked")
    return Sale(
        FIRST_DEAL + number, company, owner, amount, won, agreed.calendar.add(won, round(agreed.target * worked))
    )


def breaches(agreed: Agreement, sales: list[Sale]) -> int:
    """How many of these were not taken over in time."""
    return sum(sale.accepted is None or sale.accepted > agreed.calendar.add(sale.won, agreed.target) for sale in sales)


def share(name: str, what: str) -> float:
    """A number in [0, 1) that depends on nothing but the names."""
    return int.from_bytes(blake2b(f"{name} {what}".encode(), digest_size=4).digest()) / (1 << 32)
