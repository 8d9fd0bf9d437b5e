"""The facts of one account as decoded records, and what they say together; shares no code with the product."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from typing import Any

from tests.oracle_calendar import Calendar

Json = dict[str, Any]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EVIDENCED = ("activity", "two_way_contact", "breadth", "open_load", "owner")  # `handoff` is no evidence of a profile
TICKETS = ("ticket.opened", "ticket.updated", "ticket.solved", "ticket.reopened")
PAST_DUE = {"breached", "passed_125", "passed_200"}
CONTACTS_KEPT, OWNER_FACTS_KEPT, TOO_LATE = 16, 64, timedelta(days=8)


@lru_cache(maxsize=100_000)
def when(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def rules(policy: Json) -> Json:
    """The policy document, out of a policy.published event or as it is."""
    document: Json = policy["data"]["policy"] if "data" in policy else policy
    return document


def kind_of(event: Json) -> str:
    kind: str = event["type"]
    return kind.removeprefix("steward.").removesuffix(".v1")


def once(events: Iterable[Json]) -> list[Json]:
    """Each fact once, by its source and id."""
    found: dict[tuple[str, str], Json] = {}
    for event in events:
        found.setdefault((event["source"], event["id"]), event)
    return list(found.values())


def _ordered(events: Iterable[Json], kinds: Callable[[Json], int]) -> list[Json]:
    return sorted(
        events, key=lambda one: (when(one["time"]), kinds(one), one.get("sourcerank", 100), one["source"], one["id"])
    )


@dataclass(frozen=True)
class Ticket:
    """What the facts of one ticket say together."""

    open_since: datetime
    is_open: bool
    severity: int
    severity_since: datetime | None


@dataclass
class Gap:
    """Who owns the account, or since when nobody does."""

    owner: str | None = None
    since: datetime | None = None


@dataclass(frozen=True)
class Account:
    """The facts of one account under one policy; every question is answered by going through all of them."""

    facts: list[Json]
    handoffs: list[Json]
    policy: Json

    @property
    def health(self) -> Json:
        health: Json = self.policy["health"]
        return health

    @cached_property
    def oldest(self) -> datetime | None:
        return min((when(fact["time"]) for fact in self.facts), default=None)

    def of(self, *kinds: str) -> list[Json]:
        return [fact for fact in self.facts if kind_of(fact) in kinds]

    @cached_property
    def meaningful(self) -> list[Json]:
        found = self.of(*self.health["meaningful"])
        return [fact for fact in found if fact["data"].get("direction") != "outbound"]

    @cached_property
    def in_touch(self) -> list[Json]:
        """Facts that name a person of the customer who did something."""
        found = [fact for fact in self.of("interaction.logged") if fact["data"]["direction"] != "outbound"]
        return [fact for fact in found + self.of("ticket.opened") if fact["data"].get("contact")]

    @cached_property
    def contacts(self) -> list[datetime]:
        """When each person was last seen."""
        seen: dict[str, datetime] = {}
        for fact in self.in_touch:
            at = when(fact["time"])
            seen[fact["data"]["contact"]] = max(at, seen.get(fact["data"]["contact"], at))
        return sorted(seen.values(), reverse=True)[:CONTACTS_KEPT]

    @cached_property
    def days(self) -> list[int]:
        return sorted({(when(fact["time"]) - EPOCH).days for fact in self.meaningful})

    @cached_property
    def spoken(self) -> datetime | None:
        both = [fact for fact in self.of("interaction.logged") if fact["data"]["direction"] != "outbound"]
        return max((when(fact["time"]) for fact in both), default=None)

    @cached_property
    def calendar(self) -> Calendar:
        return Calendar.of(self.policy)

    @cached_property
    def tickets(self) -> dict[str, Ticket]:
        by_ticket: dict[str, list[Json]] = {}
        for fact in _ordered(self.of(*TICKETS), lambda one: TICKETS.index(kind_of(one))):
            by_ticket.setdefault(fact["data"]["ticket"], []).append(fact)
        found = {}
        for name, facts in by_ticket.items():
            said = [fact for fact in facts if kind_of(fact) != "ticket.updated"]
            again = [fact for fact in said[-1:] if kind_of(fact) == "ticket.reopened"]
            stated = [fact for fact in facts if fact["data"].get("severity")]
            found[name] = Ticket(
                open_since=when((again or facts)[0]["time"]),
                is_open=not said or kind_of(said[-1]) != "ticket.solved",
                severity=stated[-1]["data"]["severity"] if stated else 3,
                severity_since=when(stated[-1]["time"]) if stated else None,
            )
        return found

    @cached_property
    def owner_facts(self) -> list[Json]:
        role = self.health["owner_role"]
        found = [fact for fact in self.of("owner.assigned", "owner.removed") if fact["data"]["role"] == role]
        found += [fact for fact in self.of("handoff.accepted") if fact["data"].get("owner")]
        return _ordered(found + self.of("contract.won"), _owner_kind)

    @cached_property
    def gap(self) -> Gap:
        gap = Gap()
        for fact in self.owner_facts[-OWNER_FACTS_KEPT:]:
            named, at = fact["data"].get("owner"), when(fact["time"])
            match _owner_kind(fact):
                case 0 if gap.owner is None and gap.since is None:
                    gap = Gap(None, at)
                # Where nobody owns it already, a removal does not shorten the time without an owner.
                case 1 if gap.since is None and (named is None or gap.owner in {None, named}):
                    gap = Gap(None, at)
                case 2:
                    gap = Gap(named, None)
                case _:
                    pass
        return gap

    @cached_property
    def past_due(self) -> tuple[dict[str, datetime], bool]:
        """Standing breaches of handoffs that still run, with when; and whether any of those is at risk."""
        states: dict[str, str] = {}
        standing: dict[tuple[str, str, str], datetime] = {}
        for event in self.handoffs:
            data, kind = event["data"], kind_of(event)
            if kind == "handoff.changed":
                states[data["handoff"]] = data["state"]
            elif kind == "sla.retracted":
                standing.pop((data["handoff"], data["leg"], data["stage"]), None)
            else:
                stage = kind.removeprefix("sla.").replace("-", "_")
                standing[data["handoff"], data["leg"], stage] = when(event["time"])
        breached: dict[str, datetime] = {}
        is_at_risk = False
        for (handoff, _, stage), at in standing.items():
            if states.get(handoff, "open") in {"open", "paused"}:
                is_at_risk |= stage == "at_risk"
                if stage in PAST_DUE:
                    breached[handoff] = min(at, breached.get(handoff, at))
        return breached, is_at_risk

    @cached_property
    def known(self) -> set[str]:
        """The signals about which there is any fact, and `handoff`."""
        interactions = self.of("interaction.logged")
        facts = {
            "activity": interactions + self.meaningful,
            "two_way_contact": interactions,
            "breadth": self.in_touch,
            "open_load": self.of(*TICKETS),
            "owner": self.owner_facts,
        }
        return {"handoff", *(signal for signal, found in facts.items() if found)}

    @cached_property
    def sources(self) -> dict[str, set[str]]:
        """Who ever told of a signal's area; a signal of no area depends on nobody."""
        engagement = self.of("interaction.logged") + self.meaningful + self.in_touch
        area = {
            "activity": engagement,
            "two_way_contact": engagement,
            "breadth": engagement,
            "open_load": self.of(*TICKETS),
            "owner": self.owner_facts,
        }
        return {signal: {fact["source"] for fact in facts} for signal, facts in area.items()}

    @cached_property
    def profile(self) -> str:
        for rule in self.health["resolve"]:
            groups = [self.health["groups"][group] for group in rule.get("fed", ())]
            if all(any(signal in EVIDENCED and signal in self.known for signal in group) for group in groups):
                found: str = rule["profile"]
                return found
        raise AssertionError


def _owner_kind(fact: Json) -> int:
    if kind_of(fact) == "contract.won" and not fact["data"].get("owner"):
        return 0
    return 1 if kind_of(fact) == "owner.removed" else 2


def came_too_late(fact: Json) -> bool:
    """So late that it is not added to sums; facts of a run never are."""
    received = fact.get("receivedat")
    return not fact.get("run") and received is not None and when(received) - when(fact["time"]) > TOO_LATE
