"""The log that the demo imports: a few hundred handoffs of a company that sells, the same in every run."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from schemas.policies import Policy
from services.core.instants import HOUR, MINUTE, Instant, moment
from services.handoff.policy import LegPolicy, compile_kinds

SOURCE = "crm"
HANDOFFS = 360
FIRST_SALE: Instant = 1_780_300_800 * 1_000_000  # Monday, 1 June 2026, 08:00 UTC
BETWEEN_SALES = 3 * HOUR + 7 * MINUTE
ACCEPTED = 0.9  # of the handoffs; the others are never taken
HURRIED = 0.75  # of the accepted ones are taken within the agreed time or nearly so
COLUMNS = ("deal", "kind", "customer", "step", "person", "at")

MAP = f"""\
source: {SOURCE}
format: csv
account: {{home: "{SOURCE}:company:{{customer}}", create: true}}
id: "{{file}}:{{row}}"
facts:
  - when: {{step: opened}}
    type: handoff.opened
    time: "{{at}}"
    data: {{handoff: "{{deal}}", kind: "{{kind}}", owner: "{{person}}"}}
  - when: {{step: accepted}}
    type: handoff.accepted
    time: "{{at}}"
    data: {{handoff: "{{deal}}", owner: "{{person}}"}}
"""

CUSTOMERS = ("Northwind", "Acme", "Globex", "Initech", "Umbra", "Stark", "Wonka", "Tyrell", "Hooli", "Vandelay")
PEOPLE = ("Ada", "Grace", "Linus", "Edsger", "Barbara", "Donald", "Radia", "Alan")


@dataclass(frozen=True, slots=True)
class Deal:
    """A handoff of the story; `accepted` is None where nobody ever takes it."""

    name: str
    kind: str
    customer: str
    person: str
    opened: Instant
    accepted: Instant | None


def deals(policy: Policy) -> list[Deal]:
    """The story under a policy: most handoffs are taken in time, some late, some never."""
    kinds = compile_kinds(policy)
    return [_deal(number, kinds["sale_to_onboarding"][0], "sale_to_onboarding") for number in range(HANDOFFS)]


def breaches(policy: Policy, story: list[Deal]) -> dict[tuple[str, str], Instant]:
    """What must come out: the due time of every (deal, leg) that was not taken in time."""
    kinds = compile_kinds(policy)
    due = {
        (deal.name, leg.name): leg.calendar.add(deal.opened, leg.target) for deal in story for leg in kinds[deal.kind]
    }
    taken = {deal.name: deal.accepted for deal in story}
    return {(name, leg): at for (name, leg), at in due.items() if (accepted := taken[name]) is None or accepted > at}


def write(folder: Path, story: list[Deal]) -> tuple[Path, Path]:
    """Write the log and its map; answers both paths. The log is not in order of time, as real ones are not."""
    log, mapping = folder / "crm-export.csv", folder / "crm.yaml"
    mapping.write_text(MAP)
    with log.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for deal in story:
            rows.writerows(_rows(deal))
    return log, mapping


def _rows(deal: Deal) -> Iterator[tuple[str, ...]]:
    for step, at in (("opened", deal.opened), ("accepted", deal.accepted)):
        if at is not None:
            yield deal.name, deal.kind, deal.customer, step, deal.person, moment(at).isoformat()


def _deal(number: int, leg: LegPolicy, kind: str) -> Deal:
    name = f"deal-{number + 1:03}"
    opened = FIRST_SALE + number * BETWEEN_SALES
    accepted = None
    if _share(name, "accepted") < ACCEPTED:
        hurried = _share(name, "hurried") < HURRIED
        worked = round(leg.target * _share(name, "worked") * (1.05 if hurried else 4))
        accepted = leg.calendar.add(opened, worked)
    customer = CUSTOMERS[int(_share(name, "customer") * len(CUSTOMERS))]
    person = PEOPLE[int(_share(name, "person") * len(PEOPLE))]
    return Deal(name, kind, f"{customer} {number % 13 + 1}", person, opened, accepted)


def _share(name: str, what: str) -> float:
    """A number in [0, 1) that depends on nothing but the names."""
    return int.from_bytes(blake2b(f"{name} {what}".encode(), digest_size=4).digest()) / (1 << 32)
