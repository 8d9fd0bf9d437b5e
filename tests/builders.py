"""Short ways to write facts and policies in tests."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypedDict

from schemas import ownership
from schemas.envelope import Event
from schemas.policies import CalendarRule, KindRule, LegRule, Policy
from schemas.renewals import ContractWon, Won
from schemas.topics import OWNERSHIP, RENEWALS
from services.core.instants import Instant, instant
from services.core.policy import Policies
from services.core.processor import Context, Fact

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ACCOUNT = "acme"


def minute(number: float) -> Instant:
    """An instant so many minutes after START."""
    return instant(START + timedelta(minutes=number))


def policy(
    version: int = 1,
    calendar: str = "always",
    hours: Mapping[str, float] | None = None,
    kinds: Sequence[str] = ("deal",),
) -> Policy:
    """Each kind with a leg per name in `hours`; calendars `always` and `office` (Berlin, nine to five)."""
    return Policy(
        version=version,
        owner="A test",
        calendar=calendar,
        calendars={
            "always": CalendarRule(zone="UTC", week={"mon-sun": (("00:00", "24:00"),)}),
            "office": CalendarRule(zone="Europe/Berlin", week={"mon-fri": (("09:00", "17:00"),)}),
        },
        handoffs={
            kind: KindRule(legs={name: LegRule(hours=value) for name, value in (hours or {"accept": 1.0}).items()})
            for kind in kinds
        },
    )


def policies(*versions: Policy) -> Policies:
    """Published and in force for all time."""
    known = versions or (policy(),)
    return Policies(
        {one.version: one for one in known}, tuple((number, one.version) for number, one in enumerate(known))
    )


def context(
    safe: Instant,
    *,
    known: Policies | None = None,
    promises: Mapping[str, Instant] | None = None,
    closed: Mapping[str, Instant] | None = None,
    silent: Mapping[str, Instant] | None = None,
    stalled: Iterable[str] = (),
) -> Context:
    return Context(safe, safe, promises or {}, closed or {}, known or policies(), silent or {}, frozenset(stalled))


def fact(event: Event, arrived: Instant | None = None) -> Fact:
    topic = RENEWALS if isinstance(event, ContractWon) else OWNERSHIP
    return Fact(topic, event, instant(event.time) if arrived is None else arrived)


DEAL = "crm:deal:77"


def won(at: float, *, id: str | None = None, owner: str | None = None, seller: str | None = "bob") -> Event:
    data = Won(home=DEAL, owner=owner, seller=seller)
    return ContractWon(**_envelope("won", at, DEAL, id, None), data=data)


def opened(
    at: float,
    name: str = "deal-1",
    *,
    id: str | None = None,
    run: str | None = None,
    kind: str = "deal",
    owner: str | None = "ada",
) -> Event:
    data = ownership.Opening(handoff=name, kind=kind, owner=owner, sender="bob")
    return ownership.HandoffOpened(**_envelope("opened", at, name, id, run), data=data)


def accepted(at: float, name: str = "deal-1", *, id: str | None = None, run: str | None = None) -> Event:
    data = ownership.Acceptance(handoff=name, owner="ada")
    return ownership.HandoffAccepted(**_envelope("accepted", at, name, id, run), data=data)


def paused(at: float, name: str = "deal-1", *, id: str | None = None, run: str | None = None) -> Event:
    data = ownership.Pause(handoff=name, reason="waiting_customer")
    return ownership.HandoffPaused(**_envelope("paused", at, name, id, run), data=data)


def resumed(at: float, name: str = "deal-1", *, id: str | None = None, run: str | None = None) -> Event:
    return ownership.HandoffResumed(**_envelope("resumed", at, name, id, run), data=ownership.Step(handoff=name))


def cancelled(at: float, name: str = "deal-1", *, id: str | None = None, run: str | None = None) -> Event:
    return ownership.HandoffCancelled(**_envelope("cancelled", at, name, id, run), data=ownership.Step(handoff=name))


class _Envelope(TypedDict):
    id: str
    source: str
    subject: str
    partitionkey: str
    time: datetime
    run: str | None


def _envelope(what: str, at: float, name: str, id: str | None, run: str | None) -> _Envelope:
    return {
        "id": id or f"{what}:{name}:{at}",
        "source": "crm",
        "subject": ACCOUNT,
        "partitionkey": ACCOUNT,
        "time": START + timedelta(minutes=at),
        "run": run,
    }
