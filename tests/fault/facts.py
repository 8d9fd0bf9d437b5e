"""The facts of one run, drawn from a seed: who sends what, when it happened, and when it is sent."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any, Literal

from tests.fault.oracle import INTERACTIONS, OWNERSHIP, RENEWALS, SALE
from tests.fault.stack import LEG_SECONDS

LIVE, SLOW, RUN = "crm", "slow", "import-1"
LAG = 2.5  # seconds by which everything of the slow source is late, its heartbeat included
HISTORY = timedelta(days=200)
What = Literal["opened", "accepted", "cancelled", "won", "logged"]
TYPES = {
    "won": "steward.contract.won.v1",
    "logged": "steward.interaction.logged.v1",
}


@dataclass(frozen=True, slots=True)
class Sent:
    """What is sent when. `at` and `sent` are seconds after the run's start; `raw` is sent as it is."""

    sent: float
    at: float
    topic: str
    account: str
    id: str
    what: What = "logged"
    source: str = LIVE
    handoff: str | None = None
    run: str | None = None
    ahead: float = 0.0
    raw: bytes | None = None

    def value(self, start: datetime) -> bytes:
        """The record's value for a run that began then; facts of a run of history happened long before."""
        if self.raw is not None:
            return self.raw
        time = start + timedelta(seconds=self.at + self.ahead) - (HISTORY if self.run else timedelta(0))
        event = {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": TYPES.get(self.what, f"steward.handoff.{self.what}.v1"),
            "subject": self.account,
            "partitionkey": self.account,
            "time": time.isoformat(),
            "datacontenttype": "application/json",
            "data": self._data(),
        } | ({"run": self.run} if self.run else {})
        return json.dumps(event).encode()

    def _data(self) -> dict[str, Any]:
        match self.what:
            case "won":
                return {"home": self.handoff, "owner": "ada", "seller": "bob"}
            case "logged":
                return {"channel": "email", "direction": "inbound"}
            case "opened":
                return {"handoff": self.handoff, "kind": "quick", "owner": "ada", "sender": "bob"}
            case "accepted":
                return {"handoff": self.handoff, "owner": "ada"}
            case "cancelled":
                return {"handoff": self.handoff}


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is sent in a run, in the order in which it is: live facts, those of the slow source, history."""

    live: list[Sent] = field(default_factory=list)
    slow: list[Sent] = field(default_factory=list)
    history: list[Sent] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long sending takes."""
        return max((one.sent for one in (*self.live, *self.slow)), default=0.0)


def plan(random: Random, seconds: float, *, has_run: bool = True, rate: float = 6.0) -> Plan:
    """Facts of a run of so many seconds, with `rate` handoffs a second, repeats, late and refused facts."""
    accounts = [f"account-{number}" for number in range(14)]
    slow_accounts = [*(f"slow-{number}" for number in range(4)), *accounts[:2]]
    live: list[Sent] = []
    for number in range(round(seconds * rate)):
        live += _handoff(random, f"deal-{number}", random.choice(accounts), random.uniform(0, seconds))
    for number in range(round(seconds * rate)):
        at = random.uniform(0, seconds)
        live.append(Sent(at, at, INTERACTIONS, random.choice(accounts), f"logged-{number}"))
    live += list(_refused(random, seconds, accounts))
    live += [_again(random, one, seconds) for one in random.sample(live, len(live) // 8)]
    slow: list[Sent] = []
    for number in range(round(seconds)):
        slow += _slow(random, number, random.choice(slow_accounts), random.uniform(0, seconds - LAG))
    history = list(_history(random, accounts)) if has_run else []
    return Plan(sorted(live, key=_when), sorted(slow, key=_when), sorted(history, key=_when))


def _when(one: Sent) -> float:
    return one.sent


def _handoff(random: Random, name: str, account: str, at: float) -> Iterator[Sent]:
    is_sale = random.random() < 0.4
    home, handoff = f"crm:deal:{name}", f"crm:deal:{name}/{SALE}" if is_sale else name
    opening = Sent(at, at, OWNERSHIP, account, f"opened-{name}", "opened", handoff=handoff)
    if is_sale:
        opening = Sent(at, at, RENEWALS, account, f"won-{name}", "won", handoff=home)
    stop: What = "cancelled" if random.random() < 0.15 else "accepted"
    ended = Sent(0, 0, OWNERSHIP, account, f"{stop}-{name}", stop, handoff=handoff)
    yield opening
    match random.choices(("never", "in time", "too late", "told late", "told first"), (4, 4, 2, 2, 1))[0]:
        case "never":
            return
        case "in time":
            yield _moved(ended, at + random.uniform(0.2, LEG_SECONDS - 0.1))
        case "too late":
            yield _moved(ended, at + LEG_SECONDS + random.uniform(0.2, 3))
        case "told late":
            yield _moved(ended, at + random.uniform(0.2, LEG_SECONDS - 0.1), later=random.uniform(3, 7))
        case "told first":
            yield _moved(ended, at + 0.3, later=-0.6)


def _moved(one: Sent, at: float, later: float = 0.0) -> Sent:
    return Sent(max(at + later, 0.0), at, one.topic, one.account, one.id, one.what, one.source, one.handoff, one.run)


def _slow(random: Random, number: int, account: str, at: float) -> Iterator[Sent]:
    name = f"slow-deal-{number}"
    yield Sent(at + LAG, at, OWNERSHIP, account, f"opened-{name}", "opened", SLOW, name)
    if random.random() < 0.7:
        stopped = at + random.uniform(0.5, LEG_SECONDS + 1)
        yield Sent(stopped + LAG, stopped, OWNERSHIP, account, f"accepted-{name}", "accepted", SLOW, name)


def _history(random: Random, accounts: list[str]) -> Iterator[Sent]:
    """In order of time, on accounts of its own and on those that are alive; `sent` is only the order."""
    for number in range(40):
        at = random.uniform(0, 60)
        account, name = random.choice([*accounts[:4], "old-0", "old-1", "old-2"]), f"old-deal-{number}"
        yield Sent(at, at, OWNERSHIP, account, f"opened-{name}", "opened", handoff=name, run=RUN)
        if random.random() < 0.6:
            stopped = at + random.uniform(0.5, 2 * LEG_SECONDS)
            yield Sent(stopped, stopped, OWNERSHIP, account, f"accepted-{name}", "accepted", handoff=name, run=RUN)


def _refused(random: Random, seconds: float, accounts: list[str]) -> Iterator[Sent]:
    for number in range(4):
        at, account = random.uniform(0, seconds), random.choice(accounts)
        name = f"future-{number}"
        yield Sent(at, at, OWNERSHIP, account, f"opened-{name}", "opened", handoff=name, ahead=3600.0)
    for raw in (b"\xff not JSON", b'{"type": "steward.handoff.mislaid.v1"}'):
        at = random.uniform(0, seconds)
        yield Sent(at, at, random.choice((OWNERSHIP, RENEWALS)), random.choice(accounts), "refused", raw=raw)


def _again(random: Random, one: Sent, seconds: float) -> Sent:
    """The same fact once more, at once or much later."""
    sent = min(one.sent + random.choice((0.01, 0.5, 4.0)), seconds + 3)
    return Sent(
        sent, one.at, one.topic, one.account, one.id, one.what, one.source, one.handoff, one.run, one.ahead, one.raw
    )
