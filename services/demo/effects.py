"""What must come of the story, worked out from the agreement alone, and whether the receiver's log says it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from services.core.instants import SECOND, Instant, instant
from services.demo.company import CURRENCY, PEOPLE, Agreement, history
from services.demo.receiver import Entry
from services.demo.story import Live, ends, live

GRACE = 60 * SECOND  # for so long silence is not believed yet

SEVERE = ("breached", "passed_125", "passed_200")


@dataclass(frozen=True, slots=True)
class Told:
    """One message to one person; `handoff` and the rest say which."""

    what: str
    stage: str
    handoff: str
    recipient: str


@dataclass(frozen=True, slots=True)
class Effect:
    """A message that must arrive. `cause` is the simulated instant that brings it about: of a request, or of the clock.

    `due` and `worth` (a year) are what it must say besides.
    """

    name: str
    sentence: str
    cause: Instant
    told: Told
    account: str
    due: Instant
    worth: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether an effect was seen, and how many seconds after its cause; without a cause of its own, None."""

    name: str
    sentence: str
    seen: bool
    seconds: float | None = None


def expected(agreed: Agreement) -> list[Effect]:
    """Every message of the live days, in order of their causes."""
    sold: Counter[int] = Counter()
    for sale in history(agreed):
        sold[sale.company.number] += sale.amount
    found = [
        _effect(agreed, one, told, cause, sold[one.sale.company.number] + one.worth)
        for one in live(agreed)
        for told, cause in _messages(agreed, one)
    ]
    return sorted(found, key=lambda effect: effect.cause)


def _messages(agreed: Agreement, one: Live) -> Iterator[tuple[Told, Instant]]:
    """Who is told what of a sale, and when the cause is there."""
    sale, calendar = one.sale, agreed.calendar
    heard = ends(agreed) if one.heard is None else one.heard
    told: dict[str, str] = {}
    for stage, worked in agreed.stages.items():
        believed = calendar.add(sale.won, worked) + GRACE
        if believed >= min(heard, ends(agreed)):
            break
        for person in recipients(stage, sale.owner):
            yield Told("raised", stage, sale.handoff, person), believed
            if stage in SEVERE:
                told[person] = stage
    if one.heard is None or sale.accepted is None:
        return
    what = "resolved" if sale.accepted > calendar.add(sale.won, agreed.target) else "retracted"
    for person, stage in told.items():
        yield Told(what, stage, sale.handoff, person), one.heard


def recipients(stage: str, owner: str) -> list[str]:
    """Whom a stage is told to, by the people of the demo."""
    manager = PEOPLE[owner].manager
    director = None if manager is None else PEOPLE[manager].manager
    told: list[str | None]
    match stage:
        case "at_risk":
            told = [owner]
        case "breached":
            told = [owner, manager]
        case "passed_125":
            told = [manager]
        case "passed_200":
            told = [director]
        case _:
            told = []
    return [person for person in told if person is not None]


def _effect(agreed: Agreement, one: Live, told: Told, cause: Instant, worth: int) -> Effect:
    sale = one.sale
    word = told.stage if told.what == "raised" else told.what
    name = "-".join([sale.company.name.lower().replace(" ", "-"), word.replace("_", "-"), told.recipient])
    sentence = f"{_sentence(told, sale.company.name)} {told.recipient}"
    if told.recipient != sale.owner:
        sentence += f", {'manager' if told.recipient == PEOPLE[sale.owner].manager else 'director'} of {sale.owner}"
    if one.linked is not None:
        sentence += ", counted from the sale although its company came later"
    due = agreed.calendar.add(sale.won, agreed.target)
    return Effect(name, sentence, cause, told, sale.company.name, due, worth)


def _sentence(told: Told, account: str) -> str:
    match told.what, told.stage:
        case "retracted", _:
            return f"alert of {account} taken back at"
        case "resolved", _:
            return f"end of the breach of {account} told to"
        case _, "at_risk":
            return f"at-risk alert of {account} reached"
        case _, "breached":
            return f"breach alert of {account} reached"
        case _, stage:
            return f"{stage.removeprefix('passed_')} % alert of {account} reached"


def judged(effects: Sequence[Effect], entries: Sequence[Entry], caused: Mapping[Instant, Instant]) -> list[Outcome]:
    """Each effect by what stands in the receiver's log; `caused`: cause → wall time at which it was brought about."""
    arrived = first(entries)
    return [_outcome(effect, arrived.get(effect.told), caused.get(effect.cause)) for effect in effects]


def first(entries: Sequence[Entry]) -> dict[Told, Entry]:
    """The first authentic message of each kind."""
    found: dict[Told, Entry] = {}
    for entry in entries:
        if entry.is_authentic:
            found.setdefault(told_by(entry), entry)
    return found


def _outcome(effect: Effect, entry: Entry | None, caused: Instant | None) -> Outcome:
    if entry is None:
        return Outcome(effect.name, effect.sentence, seen=False)
    took = seconds(caused, entry)
    if wrong := _wrong(effect, entry.data):
        return Outcome(effect.name, f"{effect.sentence}; it came, but {wrong}", seen=False, seconds=took)
    return Outcome(effect.name, effect.sentence, seen=True, seconds=took)


def seconds(caused: Instant | None, entry: Entry) -> float | None:
    """From a cause to a message, by the wall clock; None where the cause is not known."""
    return None if caused is None else (entry.at - caused) / SECOND


def _wrong(effect: Effect, data: Mapping[str, Any]) -> str:
    """What the message says otherwise than it should; nothing when it is right."""
    for field, right, is_right in (
        ("account_name", effect.account, data.get("account_name") == effect.account),
        ("due", effect.due, instant_in(data, "due") == effect.due),
        ("amount", effect.worth, _amount(data.get("amount")) == effect.worth),
        ("currency", CURRENCY, data.get("currency") == CURRENCY),
    ):
        if not is_right:
            return f"its {field} was {data.get(field)!r} instead of {right}"
    return ""


def surplus(effects: Sequence[Effect], entries: Sequence[Entry]) -> list[str]:
    """What stands in the log and should not: false alerts, repeats, requests that are not authentic."""
    wanted = {effect.told for effect in effects}
    found = [f"a request that is not authentic: {entry.why}" for entry in entries if not entry.is_authentic]
    authentic = [entry for entry in entries if entry.is_authentic]
    said = Counter(told_by(entry) for entry in authentic)
    keys = Counter(entry.key for entry in authentic)
    found += [f"{_shown(told)}, which nobody expected" for told in said if told not in wanted]
    found += [f"{_shown(told)} {count} times" for told, count in said.items() if count > 1]
    return found + [f"delivery {key} {count} times" for key, count in keys.items() if count > 1]


def told_by(entry: Entry) -> Told:
    """What an authentic message says to whom."""
    data = entry.data
    return Told(*(str(data.get(field, "")) for field in ("what", "stage", "handoff", "recipient")))


def _shown(told: Told) -> str:
    return f"'{told.what} {told.stage}' of {told.handoff} at {told.recipient}"


def instant_in(data: Mapping[str, Any], field: str) -> Instant | None:
    """The instant that a field of a message names; None where it names none."""
    try:
        return instant(datetime.fromisoformat(str(data.get(field))))
    except ValueError:
        return None


def _amount(text: object) -> Decimal | None:
    try:
        return Decimal(str(text))
    except InvalidOperation:
        return None
