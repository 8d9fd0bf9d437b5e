"""Who needs somebody now: from accounts and the time on the clock to rows in order, and how fresh that is.

Order: breached and urgent, due today, the rest; within them by ARR, highest first; then by due time; then by account
id. ARR is compared within a currency only. The currency that most of the listed accounts have comes first (of several
equally common ones the first by name); an account with several stands under the first of them; those without ARR come
last.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from enum import StrEnum

from schemas.health import CapCode
from schemas.topics import HANDOFFS, HEALTH, INTERACTIONS, OWNERSHIP, RENEWALS
from services.board.model import FALL_STANDS, Account, Alert, AsOf, Change, Handoff, Health, Heard
from services.board.words import NOBODY, WORDS, short, signed, span, spoken, tenths
from services.core.instants import DAY, HOUR, SECOND, Instant, instant, moment

NEVER = 1 << 62
STALE = 60 * SECOND
AN_HOUR_MORE_OR_LESS = HOUR  # a week in which the clocks were changed
OVERDUE_STAGES = frozenset({"breached", "passed_125", "passed_200"})
URGENT_CAPS: frozenset[CapCode] = frozenset({"SEV1_OPEN", "HANDOFF_BREACH"})
MOVED_SHOWN = 2

Money = Mapping[str, Decimal]  # by currency; never added up across


class Group(StrEnum):
    """What is breached and what is urgent stand first, together; then what is due today; then the others."""

    BREACHED = "breached"
    URGENT = "urgent"
    DUE_TODAY = "due_today"
    OTHERS = "others"


RANKS = {Group.BREACHED: 0, Group.URGENT: 0, Group.DUE_TODAY: 1, Group.OTHERS: 2}


@dataclass(frozen=True, slots=True)
class Item:
    """One thing open: a handoff, an alert whose handoff is not open, or health with its reasons to act."""

    group: Group
    handoff: str | None
    kind: str
    leg: str | None
    state: str
    owner: str
    due: Instant | None
    why: str
    reasons: tuple[str, ...] = ()

    @property
    def order(self) -> tuple[int, Instant, str, str]:
        return RANKS[self.group], NEVER if self.due is None else self.due, self.handoff or "", self.leg or ""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why somebody should look at an account's health."""

    code: str
    state: str
    is_urgent: bool
    words: str


@dataclass(frozen=True, slots=True)
class Row:
    """An account with the most urgent of what it has open, and how many more there are."""

    account: str
    name: str | None
    arr: Money
    item: Item
    more: int
    health: Health | None = None
    week: int | None = None


@dataclass(frozen=True, slots=True)
class Attention:
    """The list, and how it is ordered where that needs words. `elsewhere` counts accounts that the owner hid."""

    rows: tuple[Row, ...]
    counts: Mapping[Group, int]
    currencies: tuple[str, ...]
    elsewhere: int


@dataclass(frozen=True, slots=True)
class Freshness:
    """Up to when everything is in the view, how far that is behind the clock, and what to beware of."""

    as_of: Instant
    clock: Instant
    behind: int
    silent: tuple[str, ...]
    simulated: bool
    warnings: tuple[str, ...]


def attention(accounts: Iterable[Account], at: Instant, zone: tzinfo = UTC, owner: str | None = None) -> Attention:
    """One row per account that has something open, in order; with an owner only what waits for that person.

    `at` is the time on the clock; "today" is its calendar day in `zone`.
    """
    tonight = _tonight(at, zone)
    rows, elsewhere = [], 0
    for account in accounts:
        items = sorted(_items(account, at, tonight), key=lambda item: item.order)
        mine = [item for item in items if owner is None or item.owner == owner]
        elsewhere += bool(items) and not mine
        if mine:
            health, week = account.health, over_week(account)
            rows.append(Row(account.id, account.name, worth(account), mine[0], len(mine) - 1, health, week))
    currencies = _by_use(rows)
    rows.sort(key=lambda row: _order(row, currencies))
    counted = Counter(row.item.group for row in rows)
    return Attention(tuple(rows), {group: counted[group] for group in Group}, currencies, elsewhere)


def worth(account: Account) -> Money:
    """Recurring revenue a year: the sum of the account's won deals, per currency."""
    sums: dict[str, Decimal] = {}
    for deal in account.deals.values():
        if deal.won and deal.amount is not None and deal.currency is not None:
            sums[deal.currency] = sums.get(deal.currency, Decimal(0)) + Decimal(deal.amount)
    return dict(sorted(sums.items()))


def over_week(account: Account) -> int | None:
    """How the score differs from that at the end of a day a week before the last that ended; None where unknown."""
    if account.health is None or account.course is None or not account.course.closings:
        return None
    last = account.course.closings[-1].at
    week = (one.score for one in account.course.closings if abs(last - one.at - 7 * DAY) <= AN_HOUR_MORE_OR_LESS)
    base = next(week, None)
    return None if base is None else account.health.score - base


def _tonight(at: Instant, zone: tzinfo) -> Instant:
    day = moment(at).astimezone(zone).date() + timedelta(days=1)
    return instant(datetime(day.year, day.month, day.day, tzinfo=zone))


def _by_use(rows: Sequence[Row]) -> tuple[str, ...]:
    used = Counter(currency for row in rows for currency in row.arr)
    return tuple(sorted(used, key=lambda currency: (-used[currency], currency)))


def _order(row: Row, currencies: Sequence[str]) -> tuple[int, int, Decimal, Instant, str]:
    place = next((place for place, currency in enumerate(currencies) if currency in row.arr), len(currencies))
    amount = row.arr[currencies[place]] if place < len(currencies) else Decimal(0)
    rank, due, _, _ = row.item.order
    return rank, place, -amount, due, row.account


# ---------------------------------------------------------------- items


def _items(account: Account, at: Instant, tonight: Instant) -> Iterator[Item]:
    for name, handoff in account.handoffs.items():
        if handoff.is_open:
            yield _of_handoff(name, handoff, at, tonight)
    for alert in account.alerts.values():
        known = account.handoffs.get(alert.handoff)
        if alert.is_open and not (known and known.is_open):
            yield _of_alert(alert, known, tonight)
    if reasons := _reasons(account, at):
        yield _of_health(account, reasons)


def _of_handoff(name: str, handoff: Handoff, at: Instant, tonight: Instant) -> Item:
    clocks = [(leg.due, leg.leg) for leg in handoff.legs]
    running = min(((due, leg) for due, leg in clocks if due is not None), default=None)
    late = _late(handoff)
    due, leg = late or running or (None, None)
    owner = handoff.owner or NOBODY
    if late:
        group = Group.BREACHED
    elif due is not None and due < tonight:
        group = Group.DUE_TODAY
    else:
        group = Group.OTHERS
    which = f" ({leg})" if leg is not None and len(clocks) > 1 else ""
    why = f"{_title(name, handoff.kind)} to {owner} {_state(handoff, due, at, is_late=late is not None)}{which}"
    return Item(group, name, handoff.kind, leg, handoff.state, owner, due, why)


def _late(handoff: Handoff) -> tuple[Instant, str] | None:
    """The clock that is late for longest: as published, never concluded from the time here."""
    now_due = {leg.leg: leg.due for leg in handoff.legs}
    found = []
    for leg, stages in handoff.reached.items():
        if (breach := stages.get("breached")) is not None:
            due = now_due.get(leg) or breach.due
            found.append((breach.at if due is None else due, leg))
    return min(found, default=None)


def _state(handoff: Handoff, due: Instant | None, at: Instant, *, is_late: bool) -> str:
    if due is None:
        return "is paused" if handoff.state == "paused" else "is open and has no due time"
    if is_late and handoff.state == "paused":
        return f"is paused; it was due {span(at - due)} ago"
    if is_late:
        return f"is {span(at - due)} late"
    if due <= at:
        return f"was due {span(at - due)} ago; whether it is late is not settled yet"
    return f"is due in {span(due - at)}"


def _of_alert(alert: Alert, known: Handoff | None, tonight: Instant) -> Item:
    step = alert.stages[alert.stage] if alert.stage else None
    due, owner = (step.due, step.owner or NOBODY) if step else (None, NOBODY)
    state = known.state if known is not None else ""
    if state:  # alerting has not said yet that it is over
        group, why = Group.OTHERS, f"which is {state}, is not resolved"
    else:
        is_late = alert.stage in OVERDUE_STAGES
        group = Group.BREACHED if is_late else Group.OTHERS
        group = Group.DUE_TODAY if not is_late and due is not None and due < tonight else group
        why = f"stage {(alert.stage or '').replace('_', ' ')}, is not resolved"
    title = _title(alert.handoff, alert.kind)
    return Item(group, alert.handoff, alert.kind, alert.leg, state or "alert", owner, due, f"Alert on {title}, {why}")


def _title(name: str, kind: str) -> str:
    words = kind.replace("_", " ").replace("-", " ")
    return f"{words[:1].upper()}{words[1:]} handoff {short(name, kind)}".strip()


# ---------------------------------------------------------------- health


def _of_health(account: Account, reasons: Sequence[Reason]) -> Item:
    group = Group.URGENT if any(reason.is_urgent for reason in reasons) else Group.OTHERS
    why = "; ".join(reason.words for reason in reasons)
    owner = account.owner or _receiver(account) or NOBODY
    codes = tuple(reason.code for reason in reasons)
    return Item(group, None, "health", None, reasons[0].state, owner, None, f"{why[:1].upper()}{why[1:]}", codes)


def _receiver(account: Account) -> str | None:
    """Whom the account is being handed to, where nobody owns it yet."""
    to = [(handoff.opened or 0, name, handoff.owner) for name, handoff in account.handoffs.items() if handoff.is_open]
    return next((owner for _, _, owner in sorted(to, key=lambda one: one[:2]) if owner), None)


def _reasons(account: Account, at: Instant) -> list[Reason]:
    """The most important first. A breach that stands in the list as a handoff is no second thing."""
    health, fell = account.health, account.course.fell if account.course else None
    is_listed = any(handoff.is_open and _late(handoff) for handoff in account.handoffs.values())
    caps = [cap for cap in health.pressing if cap.code != "HANDOFF_BREACH" or not is_listed] if health else []
    found = [
        Reason(
            cap.code,
            "no owner" if cap.code == "NO_OWNER" else "capped",
            cap.code in URGENT_CAPS,
            f"{cap.code} holds the score at {tenths(cap.limit)} at most: {_clause(cap.reason)}",
        )
        for cap in caps
    ]
    if fell is not None and at - fell.at <= FALL_STANDS:
        said = {cap.code for cap in caps}
        found.insert(0, Reason("FELL", "fell", fell.after == "red", _fell(fell, at, said)))
    if health and health.ownerless > 0 and not any(cap.code == "NO_OWNER" for cap in caps):
        words = f"nobody has owned it for at least {health.ownerless:.1f} working hours"
        found.append(Reason("OWNER_MISSING", "no owner", is_urgent=False, words=words))
    return found


def _fell(fell: Change, at: Instant, said: set[CapCode]) -> str:
    """How far it fell, when, and why: the signals that moved most, or the reason where that is something else."""
    words = f"fell from {WORDS[fell.before or 'na']} to {WORDS[fell.after]} {span(at - fell.at)} ago"
    most = sorted(fell.deltas, key=lambda delta: -abs(delta.points))[:MOVED_SHOWN]
    moved = ", ".join(f"{spoken(one.signal)} {signed(one.points)}" for one in most)
    match fell.cause:
        case "events":
            return f"{words} as facts came" + (f": {moved}" if moved else "")
        case "decay":
            return f"{words} as time passed" + (f": {moved}" if moved else "")
        case "cap" if said.intersection(fell.caps_began):  # the cap that holds is told with its reason anyway
            return words
        case "cap" | "policy" | "data":
            return f"{words}: {_clause(fell.reason)}"


def _clause(sentence: str) -> str:
    return sentence.rstrip(". ")


# ---------------------------------------------------------------- freshness, emptiness


def freshness(heard: Heard, as_of: AsOf, now: Instant) -> Freshness:
    """How fresh the view is. `now` is the wall clock, which simulated time does not look at."""
    clock = heard.at if heard.simulated else max(now, heard.at)
    behind = max(0, clock - as_of.at)
    warnings = []
    if not heard.simulated and now - heard.at > STALE:
        warnings.append(
            f"The view has heard nothing of the clock for {span(now - heard.at)}, so this may be out of date: "
            "are `steward clock` and `steward view serve` running?"
        )
    elif not heard.simulated and behind > STALE:
        warnings.append(f"The view is {span(behind)} behind the clock and catching up; the list is incomplete.")
    return Freshness(as_of.at, heard.at, behind, heard.silent, heard.simulated, tuple(warnings))


def why_empty(found: Attention, read: Mapping[str, int], owner: str | None) -> str:
    """Why the list has no row, and what to do. `read` says per topic how far the view has come."""
    if owner is not None and found.elsewhere:
        return f"Nothing waits for {owner}; {found.elsewhere} other accounts have something open (`steward attention`)."
    if read.get(HANDOFFS.name, 0) or read.get(HEALTH.name, 0):
        return (
            "No handoff is open, no alert is unresolved, no band has fallen and no cap presses. There is nothing to do."
        )
    if any(read.get(topic.name, 0) for topic in (OWNERSHIP, RENEWALS, INTERACTIONS)):
        return (
            "Facts have come, but neither a handoff nor a score was published: are `steward handoff` and "
            "`steward health` running? `steward check` helps."
        )
    return (
        "Nobody needs anybody: nothing was ever published here. Post events to `steward ingest serve`, "
        "or send a file with `steward ingest import`."
    )
