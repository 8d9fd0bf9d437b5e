"""The CRM's export of the demo's half year, and the map that says which row is which fact."""

import csv
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

from schemas.renewals import SALE
from services.core.instants import moment
from services.demo.company import CRM, CURRENCY, HISTORY_DAYS, SELLERS, Agreement, Sale, companies
from services.demo.contacts import Contact, Ticket, talked, tickets

COLUMNS = (
    "record", "company", "at", "name", "deal", "amount", "seller", "owner",
    "channel", "direction", "contact", "ticket", "severity",
)  # fmt: skip
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
  - when: {{record: contact}}
    type: interaction.logged
    time: "{{at}}"
    data: {{channel: "{{channel}}", direction: "{{direction}}", contact: "{{contact}}", person: "{{owner}}"}}
  - when: {{record: ticket opened}}
    type: ticket.opened
    time: "{{at}}"
    data: {{ticket: "{{ticket}}", severity: "{{severity}}", contact: "{{contact}}"}}
  - when: {{record: ticket solved}}
    type: ticket.solved
    time: "{{at}}"
    data: {{ticket: "{{ticket}}"}}
"""  # noqa: E501  # a document

Row = Mapping[str, object]


def write(folder: Path, agreed: Agreement, sales: list[Sale]) -> tuple[Path, Path]:
    """Write the export and its map; answers both paths."""
    export, mapping = folder / "crm-export.csv", folder / "crm-export.yaml"
    mapping.write_text(MAP)
    with export.open("w", newline="") as file:
        rows = csv.DictWriter(file, COLUMNS, restval="")
        rows.writeheader()
        rows.writerows(_companies(agreed))
        for number, sale in enumerate(sales):
            rows.writerows(_sale(sale, SELLERS[number % len(SELLERS)]))
        rows.writerows(map(_contact, talked(agreed)))
        for ticket in tickets(agreed):
            rows.writerows(_ticket(ticket))
    return export, mapping


def _companies(agreed: Agreement) -> Iterator[Row]:
    begin = (moment(agreed.start) - timedelta(days=HISTORY_DAYS)).isoformat()
    for company in companies():
        yield {"record": "company", "company": company.number, "name": company.name, "at": begin}


def _sale(sale: Sale, seller: str) -> Iterator[Row]:
    row = {"company": sale.company.number, "deal": sale.deal, "owner": sale.owner}
    at = moment(sale.won).isoformat()
    yield row | {"record": "won", "amount": sale.amount, "seller": seller, "at": at}
    if sale.accepted is not None:
        yield row | {"record": "accepted", "at": moment(sale.accepted).isoformat()}


def _contact(contact: Contact) -> Row:
    return {
        "record": "contact",
        "company": contact.company.number,
        "at": moment(contact.at).isoformat(),
        "channel": contact.channel,
        "direction": contact.direction,
        "contact": contact.whom,
        "owner": contact.who,
    }


def _ticket(ticket: Ticket) -> Iterator[Row]:
    row = {"company": ticket.company.number, "ticket": ticket.id}
    opened = row | {"severity": ticket.severity, "contact": ticket.whom}
    yield opened | {"record": "ticket opened", "at": moment(ticket.opened).isoformat()}
    if ticket.solved is not None:
        yield row | {"record": "ticket solved", "at": moment(ticket.solved).isoformat()}
