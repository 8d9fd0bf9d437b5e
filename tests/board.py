"""Short ways to write what the view reads, and a log in memory that a writer of the view can follow."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from schemas import accounts, alerts, codec, handoffs, health, interactions, ownership, renewals
from schemas.clock import ClockAdvanced, Mark
from schemas.envelope import Event
from schemas.topics import CLOCK
from services.board.decide import Read, fold, place_of
from services.board.model import Account, Field
from services.board.query import _account
from services.board.timeline import seen
from services.board.view import MARKS, TOPICS, partition_of
from services.core.instants import DAY, MINUTE, moment
from services.runtime.kafka import Spot
from tests.builders import ACCOUNT, minute

Kind = Callable[..., Event]
STAGES: dict[str, Kind] = {
    "noticed": handoffs.SlaNoticed,
    "at_risk": handoffs.SlaAtRisk,
    "breached": handoffs.SlaBreached,
    "passed_125": handoffs.SlaPassed125,
    "met": handoffs.SlaMet,
}
STEPS: dict[str, Kind] = {
    "raised": alerts.AlertRaised,
    "corrected": alerts.AlertCorrected,
    "held": alerts.AlertHeld,
    "resolved": alerts.AlertResolved,
    "retracted": alerts.AlertRetracted,
}


def at(number: float) -> datetime:
    return moment(minute(number))


def envelope(id: str, time: float, account: str = ACCOUNT, source: str = "crm", rank: int = 100) -> dict[str, Any]:
    return {
        "id": id,
        "source": source,
        "subject": account,
        "partitionkey": account,
        "time": at(time),
        "sourcerank": rank,
    }


def called(name: str | None, time: float = 0, account: str = ACCOUNT, **more: Any) -> Event:
    event = envelope(f"called:{name}:{time}", time, account, **more)
    return accounts.AccountUpserted(**event, data=accounts.AccountRecord(name=name))


def won(
    deal: str,
    amount: str | None = None,
    currency: str = "EUR",
    time: float = 0,
    owner: str | None = None,
    **more: Any,
) -> Event:
    worth = {"amount": amount, "currency": currency} if amount else {}
    event = envelope(f"won:{deal}:{time}", time, **more)
    return renewals.ContractWon(**event, data=renewals.Won(home=f"crm:deal:{deal}", owner=owner, **worth))


def valued(deal: str, amount: str, currency: str = "EUR", time: float = 0, **more: Any) -> Event:
    event = envelope(f"valued:{deal}:{amount}:{time}", time, **more)
    return renewals.ContractValued(
        **event, data=renewals.Value(home=f"crm:deal:{deal}", amount=amount, currency=currency)
    )


def changed(
    state: str = "open", due: float | None = 60, handoff: str = "deal-1", owner: str | None = "ada", **more: Any
) -> Event:
    data = handoffs.Handoff(
        handoff=handoff,
        kind="deal",
        state=state,  # type: ignore[arg-type]  # a test's table holds words
        owner=owner,
        opened=at(0),
        accepted=at(5) if state == "accepted" else None,
        legs=(handoffs.Leg(leg="accept", due=None if due is None else at(due), calendar="office:1"),),
        policy=1,
    )
    return handoffs.HandoffChanged(**envelope(f"{handoff}:{state}:{due}", 0, **more), data=data)


def verdict(
    stage: str, due: float = 60, n: int = 1, correction: int = 0, handoff: str = "deal-1", **more: Any
) -> Event:
    said = _verdict(stage, due, n, correction, handoff)
    return STAGES[stage](**envelope(f"{handoff}:{stage}:{n}.{correction}", due, **more), data=handoffs.Verdict(**said))


def taken_back(stage: str, n: int = 1, handoff: str = "deal-1", **more: Any) -> Event:
    said = _verdict(stage, 60, n, 0, handoff)
    data = handoffs.Retraction(**said, stage=stage, reason="it was accepted in time")  # type: ignore[arg-type]
    return handoffs.SlaRetracted(**envelope(f"{handoff}:{stage}:{n}.retracted", 70, **more), data=data)


def suspected(handoff: str = "deal-1", **more: Any) -> Event:
    data = handoffs.Suspicion(**_verdict("suspected", 60, 1, 0, handoff), unheard=("crm",))
    return handoffs.SlaSuspected(**envelope(f"{handoff}:suspected", 60, **more), data=data)


def cleared(handoff: str = "deal-1", **more: Any) -> Event:
    said = _verdict("suspected", 60, 1, 0, handoff)
    data = handoffs.Clearance(**said, outcome="unfounded", reason="it was accepted in time")
    return handoffs.SlaCleared(**envelope(f"{handoff}:cleared", 70, **more), data=data)


def _verdict(stage: str, due: float, n: int, correction: int, handoff: str) -> dict[str, Any]:
    return {
        "handoff": handoff,
        "kind": "deal",
        "leg": "accept",
        "alert": f"alert-{handoff}",
        "transition": f"{handoff}/{stage}/{n}",
        "n": n,
        "correction": correction,
        "due": at(due),
        "owner": "ada",
        "policy": 1,
    }


def alerted(step: str, stage: str = "breached", handoff: str = "deal-1", *, over: bool = False, **more: Any) -> Event:
    data = alerts.Alert(
        alert=f"alert-{handoff}",
        transition=f"{handoff}/{stage}/1",
        stage=stage,  # type: ignore[arg-type]  # a test's table holds words
        handoff=handoff,
        kind="deal",
        leg="accept",
        due=at(60),
        accepted=at(65) if over else None,
        owner="ada",
        recipients=("ada", "eve"),
        reason="accountable and manager",
        policy=1,
    )
    return STEPS[step](**envelope(f"{handoff}:{stage}:{step}:{over}", 60, **more), data=data)


def sent(delivery: str, attempt: int = 1, handoff: str = "deal-1", *, failed: bool = False, **more: Any) -> Event:
    data = alerts.Delivery(
        alert=f"alert-{handoff}",
        notice="notice-1",
        delivery=delivery,
        recipient="ada",
        endpoint="webhook",
        attempt=attempt,
        status=500 if failed else 200,
        reason="gave up" if failed else "accepted",
    )
    kind = alerts.AlertFailed if failed else alerts.AlertDelivered
    return kind(**envelope(f"{delivery}:{attempt}", 61, **more), data=data)


# ---------------------------------------------------------------- people


def assigned(owner: str, time: float = 0, role: str = "owner", **more: Any) -> Event:
    event = envelope(f"assigned:{owner}:{time}", time, **more)
    return ownership.OwnerAssigned(**event, data=ownership.Assignment(role=role, owner=owner))


def removed(owner: str | None, time: float = 0, role: str = "owner", **more: Any) -> Event:
    event = envelope(f"removed:{owner}:{time}", time, **more)
    return ownership.OwnerRemoved(**event, data=ownership.Removal(role=role, owner=owner))


def taken(owner: str | None, time: float = 0, **more: Any) -> Event:
    event = envelope(f"taken:{owner}:{time}", time, **more)
    return ownership.HandoffAccepted(**event, data=ownership.Acceptance(handoff="deal-1", owner=owner))


def contacted(direction: str = "inbound", time: float = 0, contact: str | None = "c-1", **more: Any) -> Event:
    said = interactions.Interaction(channel="call", direction=direction, contact=contact)  # type: ignore[arg-type]
    return interactions.InteractionLogged(**envelope(f"contact:{direction}:{time}", time, **more), data=said)


# ---------------------------------------------------------------- health


def fact(id: str = "call-1", time: float = -600, source: str = "crm") -> health.Evidence:
    return health.Evidence(source=source, id=id, at=at(time))


def signal(
    name: str = "two_way_contact",
    points: int = -1_250,
    value: float | None = 12.25,
    group: str = "engagement",
    evidence: Sequence[health.Evidence] = (fact(),),
    **more: Any,
) -> health.Contribution:
    said = {"weight": 0.125, "score": 50.0, "trust": 1.0, "at": evidence[0].at if evidence else None} | more
    return health.Contribution(signal=name, group=group, points=points, value=value, evidence=tuple(evidence), **said)


def lacking(name: str = "csat", group: str = "sentiment", why: str = "nothing measures it yet") -> health.Contribution:
    return health.Contribution(signal=name, group=group, weight=0.05, trust=0, points=0, missing=why)


def cap(code: str = "SEV1_OPEN", limit: int = 60_000, reason: str = "ticket T-1 is open", **more: Any) -> health.Cap:
    return health.Cap(code=code, limit=limit, since=at(-60), reason=reason, **more)  # type: ignore[arg-type]


def scored(
    band: str = "yellow",
    contributions: Sequence[health.Contribution] = (signal(),),
    caps: Sequence[health.Cap] = (),
    prior: int = 60_000,
    raw: int | None = None,
    time: float = 0,
    **more: Any,
) -> Event:
    """A score as the processor publishes it: the sum of its parts, and the least of it and the caps."""
    total = prior + sum(one.points for one in contributions) if raw is None else raw
    about = {
        "unsure": (),
        "coverage": 0.75,
        "profile": "contract",
        "profile_reason": "there is evidence of support, sentiment and commercial",
        "since": at(time - 180),
        "outlook": None,
        "trend": None,
        "oldest_input": None,
        "policy": 3,
    }
    said = {name: more.pop(name, value) for name, value in about.items()}
    colour = more.pop("colour", band if band != "na" else "yellow")
    data = health.Scored(
        score=min([total, *(one.limit for one in caps)]),
        raw=total,
        prior=prior,
        band=band,  # type: ignore[arg-type]  # a test's table holds words
        colour=colour,
        contributions=tuple(contributions),
        caps=tuple(caps),
        as_of=at(time),
        **said,
    )
    return health.HealthScored(**envelope(f"scored:{time}", time, source="steward/health", **more), data=data)


def went(
    before: str | None = "green",
    after: str = "yellow",
    time: float = 0,
    n: int = 1,
    cause: str = "decay",
    reason: str = "nothing was heard for 30 days.",
    **more: Any,
) -> Event:
    """The band went from one to another."""
    about = {"evidence": (fact(),), "deltas": (), "caps_began": (), "caps_ended": (), "cap_effect_before": None}
    said = {name: more.pop(name, value) for name, value in about.items()}
    data = health.Change(
        n=n,
        before=before,  # type: ignore[arg-type]  # a test's table holds words
        after=after,  # type: ignore[arg-type]
        score_before=None if before is None else 76_200,
        score=70_040,
        cause=cause,  # type: ignore[arg-type]
        reason=reason,
        cap_effect=more.pop("cap_effect", 0),
        policy=3,
        **said,
    )
    return health.HealthChanged(**envelope(f"change:{n}:{time}", time, source="steward/health", **more), data=data)


def delta(name: str, points: int) -> health.Delta:
    return health.Delta(signal=name, points=points)


def closed(day: int, score: int = 70_000, band: str = "yellow", shift: float = 0, **more: Any) -> Event:
    """The end of a day, counted from the day of START: midnight in UTC, or so many minutes off."""
    time = (day + 1) * DAY / MINUTE - 540 + shift
    data = health.Closing(
        day=at(time - 1).date().isoformat(),
        score=score,
        band=band,  # type: ignore[arg-type]
        coverage=0.75,
        points={"owner": 0},
        policy=3,
    )
    return health.HealthClosed(**envelope(f"closed:{day}", time, source="steward/health", **more), data=data)


# ---------------------------------------------------------------- what the view makes of it


def account_of(*events: Event, id: str = ACCOUNT, **more: Any) -> Account:
    """The account that these events give, with more fields set."""
    facts = [found for event in events if (found := seen(event)) is not None]
    return replace(_account(id, folded(events), tuple(reversed(facts))), **more)


def folded(events: Iterable[Event]) -> dict[str, Field]:
    """The fields that these events give, by name, read one after the other as one partition each would have them."""
    reads = [Read(event, offset, place_of(event)) for offset, event in enumerate(events)]
    return {place.field: value for place, value in fold(reads, {}).items()}


# ---------------------------------------------------------------- a log in memory


@dataclass
class Raw:
    """A record as the broker would deliver it."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    key: bytes | None = None
    timestamp: int = 0


@dataclass
class Log:
    """The topics of the view. Offsets have gaps, as the markers of transactions leave them."""

    partitions: int = 2
    records: dict[Spot, list[Raw]] = field(default_factory=dict)
    ends: dict[Spot, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for spot in [MARKS, *((topic.name, number) for topic in TOPICS for number in range(self.partitions))]:
            self.records[spot], self.ends[spot] = [], 0

    def publish(self, event: Event, spot: Spot | None = None) -> None:
        topic = next(topic for topic in (*TOPICS, CLOCK) if type(event) in topic.types)
        spot = spot or (topic.name, partition_of(event.partitionkey, self.partitions))
        self.put(spot, codec.encode(event))

    def put(self, spot: Spot, value: bytes | None) -> None:
        self.records[spot].append(Raw(*spot, self.ends[spot], value))
        self.ends[spot] += 1

    def mark(self, time: float, silent: Sequence[str] = (), *, simulated: bool = False) -> None:
        data = Mark(at=at(time), safe=at(time), ends={}, writer="test", silent=tuple(silent), simulated=simulated)
        event = envelope(f"mark:{time}", time, "0", "steward/clock")
        self.publish(ClockAdvanced(**event, data=data), MARKS)

    def commit(self, spot: Spot) -> None:
        """The marker of a transaction: an offset without a record."""
        self.ends[spot] += 1

    def remake(self, spot: Spot) -> None:
        """The topic is deleted and made anew."""
        self.records[spot], self.ends[spot] = [], 0


@dataclass
class Follower:
    """Reads a log as `services.runtime.kafka.Tail` reads a broker, in batches of whatever size a test wants."""

    log: Log
    sizes: Iterable[int] = ()
    positions: dict[Spot, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._sizes = iter(self.sizes)

    def seek(self, positions: Mapping[Spot, int]) -> None:
        self.positions = dict(positions)

    async def bounds(self, spots: Iterable[Spot]) -> dict[Spot, tuple[int, int]]:
        return {spot: (0, self.log.ends[spot]) for spot in spots}

    async def fresh(self, most: int, timeout_ms: int) -> tuple[list[tuple[Spot, Raw]], dict[Spot, int]]:
        found: list[tuple[Spot, Raw]] = []
        left = next(self._sizes, most)
        for spot in sorted(self.positions, key=lambda spot: spot != MARKS):
            if self.positions[spot] > self.log.ends[spot]:  # reset to the earliest, as the client does
                self.positions[spot] = 0
            waiting = [raw for raw in self.log.records[spot] if raw.offset >= self.positions[spot]]
            found += [(spot, raw) for raw in waiting[:left]]
            is_done = left >= len(waiting)
            self.positions[spot] = self.log.ends[spot] if is_done else waiting[left].offset
            left -= min(left, len(waiting))
        return found, dict(self.positions)
