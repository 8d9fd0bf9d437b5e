"""The topic catalogue: one object per topic. Creation, documentation and codec are fed from here."""

from dataclasses import dataclass
from typing import Literal

from schemas import (
    accounts,
    alerts,
    clock,
    findings,
    handoffs,
    health,
    identity,
    interactions,
    notices,
    ownership,
    policies,
    renewals,
    sources,
)
from schemas.envelope import Event

Service = Literal[
    "ingest",
    "identity",
    "clock",
    "health",
    "handoff",
    "portfolio",
    "alerting-case",
    "alerting-desk",
    "board",
    "lab",
    "people",
]
DAY_MS = 86_400_000
FOR_EVER = None


@dataclass(frozen=True, slots=True)
class Compacted:
    """The last record of each key is kept."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Every record is kept for `days`, or for ever."""

    days: int | None


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic: its key in words, what may stand in it, how long it is kept, who writes and reads it.

    `types` lists the event types that exist so far; a topic without any is planned and not created.
    `whole` marks a table that every worker reads to its end instead of by partition.
    """

    name: str
    key: str
    types: tuple[type[Event], ...]
    retention: Compacted | Kept
    producers: tuple[Service, ...]
    consumers: tuple[Service, ...]
    whole: bool = False

    @property
    def config(self) -> dict[str, str]:
        """Settings of the topic. Append time, because event time in records would let retention eat history."""
        match self.retention:
            case Compacted():
                kept = {
                    "cleanup.policy": "compact",
                    "segment.bytes": str(64 << 20),
                    "min.cleanable.dirty.ratio": "0.1",
                }
            case Kept(days):
                ms = -1 if days is None else days * DAY_MS
                kept = {"cleanup.policy": "delete", "retention.ms": str(ms)}
        return {"message.timestamp.type": "LogAppendTime", **kept}

    def __str__(self) -> str:
        return self.name

    def __hash__(self) -> int:
        return hash(self.name)  # of all fields it costs more than reading an event


PROCESSORS: tuple[Service, ...] = (
    "identity",
    "health",
    "handoff",
    "portfolio",
    "alerting-case",
    "alerting-desk",
)

SOURCES = Topic(
    "cs.sources",
    "source, source:seen, or source:run",
    (
        sources.SourceRegistered,
        sources.SourceSeen,
        sources.RunStarted,
        sources.RunAdvanced,
        sources.RunFinished,
        sources.RunAbandoned,
    ),
    Compacted(),
    ("ingest",),
    ("clock", "ingest", "board"),
)
INTERACTIONS = Topic(
    "crm.interactions",
    "account",
    (
        interactions.InteractionLogged,
        interactions.PurchaseMade,
        interactions.TicketOpened,
        interactions.TicketUpdated,
        interactions.TicketSolved,
        interactions.TicketReopened,
    ),
    Kept(800),
    ("ingest", "identity"),
    ("health", "handoff", "board"),
)
RENEWALS = Topic(
    "crm.renewals",
    "account",
    (renewals.ContractWon, renewals.ContractValued),
    Kept(FOR_EVER),
    ("ingest", "identity"),
    ("health", "handoff", "alerting-case", "board"),
)
OWNERSHIP = Topic(
    "crm.ownership",
    "account",
    (
        ownership.HandoffOpened,
        ownership.HandoffAccepted,
        ownership.HandoffPaused,
        ownership.HandoffResumed,
        ownership.HandoffCancelled,
        ownership.OwnerAssigned,
        ownership.OwnerRemoved,
    ),
    Kept(FOR_EVER),
    ("ingest", "identity", "handoff", "health"),
    ("handoff", "health", "board"),
)
ACCOUNTS = Topic(
    "crm.accounts",
    "account",
    (accounts.AccountUpserted,),
    Kept(FOR_EVER),
    ("ingest", "identity"),
    ("health", "handoff", "portfolio", "alerting-case", "board"),
)
IDENTITY = Topic("crm.identity", "home", (identity.IdentityMapped,), Compacted(), ("ingest",), ("identity", "ingest"))
HELD = Topic(
    "crm.held",
    "home",
    (*RENEWALS.types, *OWNERSHIP.types, *INTERACTIONS.types),
    Kept(400),
    ("ingest",),
    ("identity",),
)
PEOPLE = Topic(
    "crm.people", "person", (), Kept(FOR_EVER), ("ingest",), ("handoff", "alerting-desk", "board"), whole=True
)
CONTACTS = Topic("crm.contacts", "contact reference", (), Compacted(), ("ingest",), ("board",))
CLOCK = Topic("cs.clock", "partition", (clock.ClockAdvanced,), Kept(7), ("clock",), (*PROCESSORS, "ingest", "board"))
POLICY = Topic(
    "cs.policy",
    "published:version, activated:version",
    (policies.PolicyPublished, policies.PolicyActivated),
    Kept(FOR_EVER),
    ("handoff", "health"),
    PROCESSORS,
    whole=True,
)
REFERENCE = Topic("cs.reference", "table:as-of", (), Kept(FOR_EVER), ("lab",), PROCESSORS, whole=True)
HEALTH = Topic("cs.health", "account", (health.HealthScored,), Compacted(), ("health",), ("portfolio", "board"))
HEALTH_CHANGES = Topic(
    "cs.health-changes",
    "account",
    (health.HealthChanged, health.HealthClosed),
    Kept(800),
    ("health",),
    ("alerting-case", "board", "lab"),
)
HANDOFFS = Topic(
    "cs.handoffs",
    "account",
    (
        handoffs.HandoffChanged,
        handoffs.SlaNoticed,
        handoffs.SlaAtRisk,
        handoffs.SlaBreached,
        handoffs.SlaPassed125,
        handoffs.SlaPassed200,
        handoffs.SlaSuspected,
        handoffs.SlaCleared,
        handoffs.SlaMet,
        handoffs.SlaRetracted,
    ),
    Kept(800),
    ("handoff",),
    ("health", "alerting-case", "board"),
)
ALERTS = Topic(
    "cs.alerts",
    "account",
    (
        alerts.AlertRaised,
        alerts.AlertCorrected,
        alerts.AlertHeld,
        alerts.AlertResolved,
        alerts.AlertRetracted,
        alerts.AlertDelivered,
        alerts.AlertFailed,
    ),
    Kept(800),
    ("alerting-case", "alerting-desk"),
    ("board",),
)
NOTICES = Topic(
    "cs.notices",
    "recipient",
    (notices.NoticeDue, notices.NoticeCancelled, notices.NoticeDelivered, notices.NoticeFailed),
    Kept(30),
    ("alerting-case", "alerting-desk"),
    ("alerting-desk",),
)
COMMANDS = Topic(
    "cs.commands",
    "account",
    (),
    Kept(30),
    ("board",),
    ("handoff", "health", "alerting-case", "alerting-desk"),
)
PARTS = Topic(
    "cs.parts",
    "account (head)",
    (),
    Kept(FOR_EVER),
    ("health", "handoff", "alerting-case"),
    ("health", "handoff", "alerting-case"),
)
FINDINGS = Topic(
    "cs.findings",
    "account; for sources and homes their own name",
    (findings.FindingOpened, findings.FindingClosed),
    Kept(800),
    ("ingest", "identity", "health", "handoff"),
    ("board", "health"),
)

CATALOGUE: tuple[Topic, ...] = (
    SOURCES, INTERACTIONS, RENEWALS, OWNERSHIP, ACCOUNTS, IDENTITY, HELD, PEOPLE, CONTACTS, CLOCK, POLICY, REFERENCE,
    HEALTH, HEALTH_CHANGES, HANDOFFS, ALERTS, NOTICES, COMMANDS, PARTS, FINDINGS,
)  # fmt: skip
BUILT: tuple[Topic, ...] = tuple(topic for topic in CATALOGUE if topic.types)


def dead_letters(service: str) -> Topic:
    """Where a service puts records it refuses: key, value and headers unchanged, the reason in `dlq.*` headers."""
    return Topic(f"dlq.{service}", "as the original", (), Kept(30), (), ("people",))
