"""Invented lives of accounts: facts as decoded records, and a health processor that lives through them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, TypeVar

from hypothesis import strategies as st

from schemas import codec, topics
from schemas.envelope import Event
from schemas.health import HealthChanged, HealthClosed, HealthScored
from schemas.policies import Policy
from schemas.topics import Topic
from services.core.instants import Instant, instant
from services.core.policy import Policies
from services.core.processor import Context, Decision, Fact
from services.health.model import Account
from services.health.processor import HealthProcessor
from tests.oracle_account import Json, kind_of, when
from tests.outputs import events_of

ACCOUNT = "acme"
START = datetime(2026, 3, 2, 9, tzinfo=UTC)
CRM = (topics.INTERACTIONS, topics.OWNERSHIP, topics.RENEWALS, topics.ACCOUNTS, topics.HANDOFFS)
TOPIC_OF: dict[str, Topic] = {kind.name(): topic for topic in CRM for kind in topic.types}
T = TypeVar("T", bound=Event)


# ---------------------------------------------------------------- policies

FULL_GROUPS = {
    "engagement": ["activity", "two_way_contact", "breadth"],
    "support": ["open_load"],
    "ownership": ["owner", "handoff"],
}


def document(version: int = 1, **changes: Any) -> Json:
    """A policy under which every band can be reached with what is measured; `changes` replace parts of `health`.

    Falls take no band down here but under SUDDEN, which remembers all scores: a fall counts from those at the looks of
    some hours, and the oracle knows the score at every instant.
    """
    health: Json = {
        "prior": 60,
        "meaningful": ["interaction.logged", "purchase.made", "ticket.opened"],
        "owner_role": "owner",
        "silence": {"days": 30, "r": 0.243, "alpha": 30.9, "a": 0.793, "b": 2.426},
        "trend": {"short_days": 7, "long_days": 28, "floor": 0.05, "least": 0.15},
        "breadth_days": 30,
        "severity_weights": [8, 4, 2, 1],
        "handoff_scores": [100, 60, 20],
        "curves": {
            "activity": [[0, 0], [1, 100]],
            "two_way_contact": [[0, 100], [7, 95], [14, 85], [30, 60], [60, 25], [90, 0]],
            "breadth": [[0, 0], [1, 50], [2, 70], [3, 85], [5, 100]],
            "open_load": [[0, 100], [2, 85], [5, 65], [10, 35], [20, 0]],
            "owner": [[0, 100], [8, 70], [16, 40], [40, 0]],
        },
        "groups": FULL_GROUPS,
        "profiles": {
            "whole": {"groups": {"engagement": 50, "support": 15, "ownership": 35}},
            "thin": {"groups": {"engagement": 60, "ownership": 40}, "narrow": True},
        },
        "resolve": [{"profile": "whole", "fed": ["engagement"]}, {"profile": "thin"}],
        "bands": {
            "green": 75, "yellow": 50, "down_margin": 2, "down_hours": 6,
            "fall": 100, "fall_hours": 24, "up_margin": 3, "up_hours": 48,
        },
        "provisional": {"coverage": 0.5, "days": 14},
        "caps": {
            "sev1_open": {"limit": 60, "after_hours": 48},
            "no_owner": {"limit": 70, "after_working_hours": 16},
            "handoff_breach": {"limit": 65},
            "weak_link": {"limit": 74, "weight": 15, "trust": 0.5, "below": 40},
            "thin_data": {"limit": 74, "coverage": 0.7},
            "narrow": {"limit": 74},
        },
    }  # fmt: skip
    return {
        "version": version,
        "owner": "A test",
        "calendar": "office",
        "calendars": {
            "office": {
                "zone": "Europe/Berlin",
                "week": {"mon-fri": [["09:00", "12:30"], ["13:00", "17:00"]], "sat": [["10:00", "12:00"]]},
                "holidays": ["2026-04-03", "2026-04-06"],
            }
        },
        "handoffs": {"deal": {"legs": {"accept": {"hours": 4}}}},
        "health": health | changes,
    }


CURVES = document()["health"]["curves"]
BANDS = document()["health"]["bands"]

# What shows other parts of the rules: scores that move fast, bands that follow soon, little that counts, a zone with
# work around midnight and a change of clocks within the lives told here, a score that moves by facts alone.
STEEP = document(
    curves=CURVES | {"two_way_contact": [[0, 100], [0.5, 90], [3, 10]], "owner": [[0, 100], [8, 0]]},
    profiles={"whole": {"groups": {"engagement": 70, "support": 10, "ownership": 20}}},
    resolve=[{"profile": "whole"}],
    provisional={"coverage": 0.2, "days": 2},
    caps={},
)
LIVELY = document(
    prior=75,
    curves=CURVES | {"two_way_contact": [[0, 100], [10, 20]], "owner": [[0, 100], [20, 0]]},
    bands=BANDS | {"up_hours": 12, "up_margin": 1, "down_margin": 1},
    provisional={"coverage": 0.4, "days": 1},
)
SPARSE = document(
    meaningful=["purchase.made", "ticket.reopened"],
    breadth_days=5,
    groups=FULL_GROUPS | {"support": ["open_load", "reopened"], "renewal": ["readiness"]},
    profiles={
        "whole": {"groups": {"engagement": 30, "support": 30, "ownership": 30, "renewal": 10}},
        "thin": {"groups": {"engagement": 60, "ownership": 40}, "narrow": True},
    },
    resolve=[{"profile": "whole", "fed": ["support", "ownership"]}, {"profile": "thin"}],
    provisional={"coverage": 0.5, "days": 3},
)
SUDDEN = document(
    groups={"support": ["open_load"]},
    profiles={"whole": {"groups": {"support": 100}}},
    resolve=[{"profile": "whole"}],
    bands=BANDS | {"fall": 10, "fall_hours": 2000, "up_hours": 12},
    provisional={"coverage": 0.5, "days": 0},
)
ABROAD = LIVELY | {
    "calendars": {"office": {"zone": "America/New_York", "week": {"sun-thu": [["22:00", "24:00"], ["00:00", "03:30"]]}}}
}
DOCUMENTS = {
    "plain": document(),
    "steep": STEEP,
    "lively": LIVELY,
    "sparse": SPARSE,
    "sudden": SUDDEN,
    "abroad": ABROAD,
}


def policies(first: Json, *later: tuple[datetime, Json]) -> Policies:
    """Versions in force: the first for all time, each later one from an instant on."""
    told = [(0, first), *((instant(at), one) for at, one in later)]
    return Policies(
        {one["version"]: Policy.model_validate_json(json.dumps(one)) for _, one in told},
        tuple((at, one["version"]) for at, one in told),
    )


# ---------------------------------------------------------------- facts

RANKS = {"crm": 100, "desk": 50, "mail": 100}
RUNS = ("run-1", "run-2")
Content = tuple[str, Json]


def minute(number: float) -> datetime:
    return START + timedelta(minutes=number)


class Record(dict[str, Any]):
    """A decoded record that a failing example shows in one line."""

    def __repr__(self) -> str:
        at = (when(self["time"]) - START) / timedelta(minutes=1)
        more = {name: self[name] for name in ("receivedat", "run", "runposition") if name in self}
        return f"<{kind_of(self)} {self['source']}:{self['id']} at {at:g} {self['data']} {more or ''}>"


def record(kind: str, id: str, at: datetime, data: Json, source: str = "crm", **more: Any) -> Json:
    """A record as it stands in its topic."""
    told = {
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": f"steward.{kind}.v1",
        "subject": ACCOUNT,
        "time": at.isoformat(),
        "datacontenttype": "application/json",
        "partitionkey": ACCOUNT,
        "sourcerank": RANKS.get(source, 100),
        "data": {name: value for name, value in data.items() if value is not None},
    }
    return Record(told | more)


def _of(kind: str, **fields: st.SearchStrategy[Any] | str) -> st.SearchStrategy[Content]:
    drawn = {name: st.just(value) if isinstance(value, str) else value for name, value in fields.items()}
    return st.fixed_dictionaries(drawn).map(lambda data: (kind, data))


people = st.sampled_from(["ada", "bob", "eve"])
roles = st.sampled_from(["owner", "owner", "owner", "seller"])
contacts = st.none() | st.sampled_from(["c1", "c2", "c3"])
tickets = st.sampled_from(["t1", "t2", "t3"])
severities = st.integers(1, 4)
interactions = _of(
    "interaction.logged",
    channel="call",
    direction=st.sampled_from(["inbound", "mutual", "outbound", "mutual"]),
    contact=contacts,
)
contents = st.one_of(
    interactions,
    interactions,
    _of("purchase.made"),
    _of("ticket.opened", ticket=tickets, severity=severities, contact=contacts),
    _of("ticket.updated", ticket=tickets, severity=st.none() | severities),
    _of("ticket.solved", ticket=tickets),
    _of("ticket.reopened", ticket=tickets, severity=st.none() | severities),
    _of("owner.assigned", role=roles, owner=people),
    _of("owner.removed", role=roles, owner=st.none() | people),
    _of("handoff.accepted", handoff="h1", owner=st.none() | people),
    _of("contract.won", home="crm:deal:7", owner=st.none() | people),
    _of("account.upserted", name="Acme"),
)
delays = st.sampled_from([0, 0, 0, 0, 1, 600, 9 * 1440, 20 * 1440])


@st.composite
def facts(draw: st.DrawFn, span: tuple[int, int], most: int = 12) -> list[Json]:
    """Facts of the CRM with event times within a span of minutes after START; some came late, some in a run."""
    found = []
    for number in range(draw(st.integers(1, most))):
        kind, data = draw(contents)
        at = minute(draw(st.integers(*span)))
        source = draw(st.sampled_from(sorted(RANKS)))
        id = f"{draw(st.sampled_from('abc'))}{number}"
        late = draw(delays)
        more: Json = {"receivedat": (at + timedelta(minutes=late)).isoformat()} if late else {}
        if draw(st.integers(0, 5)) == 0:
            more |= {"run": draw(st.sampled_from(RUNS))}
            if draw(st.booleans()):
                more["runposition"] = number
        found.append(record(kind, id, at, data, source, **more))
    return found


@st.composite
def handoffs(draw: st.DrawFn, span: tuple[int, int]) -> list[list[Json]]:
    """What `cs.handoffs` says of up to two handoffs, each in its order."""
    return [draw(_handoff(name, span)) for name in draw(st.sampled_from([[], ["h1"], ["h1", "h2"]]))]


@st.composite
def _handoff(draw: st.DrawFn, name: str, span: tuple[int, int]) -> list[Json]:
    steps = ["open", "paused", "accepted", "cancelled", "noticed", "at-risk", "breached", "passed-125", "met", "back"]
    drawn = ["open", *draw(st.lists(st.sampled_from(steps), max_size=8))]
    times = sorted(draw(st.lists(st.integers(*span), min_size=len(drawn), max_size=len(drawn))))
    found, raised = [], list[tuple[str, str]]()
    for number, (step, at) in enumerate(zip(drawn, times, strict=True)):
        leg = draw(st.sampled_from(["accept", "greet"]))
        if step in {"open", "paused", "accepted", "cancelled"}:
            data: Json = {"state": step, "opened": minute(times[0]).isoformat(), "legs": []}
            kind = "handoff.changed"
        elif step == "back":
            if not raised:
                continue
            leg, stage = raised.pop()
            kind, data = "sla.retracted", _verdict(name, leg) | {"stage": stage, "reason": "a test"}
        else:
            raised.append((leg, step.replace("-", "_")))
            kind, data = f"sla.{step}", _verdict(name, leg)
        whole = data | {"handoff": name, "kind": "deal", "policy": 1}
        found.append(record(kind, f"{name}:{number}", minute(at), whole, "steward/handoff"))
    return found


def _verdict(name: str, leg: str) -> Json:
    return {"leg": leg, "alert": f"{name}/{leg}", "transition": f"{name}/{leg}", "n": 1, "correction": 0}


def streams(told: Iterable[Json], *ordered: list[Json]) -> list[list[Json]]:
    """What must stay in its order: positions of a run, the events of a handoff. All else may come anyhow."""
    runs: dict[str, list[Json]] = {}
    free: list[list[Json]] = []
    for one in told:
        if "runposition" in one:
            runs.setdefault(one["run"], []).append(one)
        else:
            free.append([one])
    return [*free, *runs.values(), *(one for one in ordered if one)]


@st.composite
def interleaved(draw: st.DrawFn, told: Sequence[Sequence[Json]], most_twice: int = 4) -> list[Json]:
    """One order of all that is told; some facts come again, as vendors and restarted runs send them."""
    turns = draw(st.permutations([number for number, stream in enumerate(told) for _ in stream]))
    left = [list(stream) for stream in told]
    found = [left[turn].pop(0) for turn in turns]
    facts = [one for one in found if one["source"] in RANKS]
    for again in draw(st.lists(st.sampled_from(facts), max_size=most_twice)) if facts else []:
        found.insert(draw(st.integers(found.index(again) + 1, len(found))), again)
    return found


@st.composite
def batches(draw: st.DrawFn, told: Sequence[Json]) -> list[list[Json]]:
    """The same in pieces."""
    cuts = sorted(draw(st.lists(st.integers(1, max(1, len(told) - 1)), max_size=4, unique=True)))
    found = [list(told[start:end]) for start, end in pairwise([0, *cuts, len(told)])]
    return [batch for batch in found if batch]


# ---------------------------------------------------------------- a life


def fact_of(told: Json) -> Fact:
    topic = TOPIC_OF[told["type"]]
    return Fact(
        topic, codec.decode(topic, json.dumps(told).encode()), instant(when(told.get("receivedat", told["time"])))
    )


@dataclass
class Life:
    """A health processor and one account's state, driven as the engine drives it; keeps what was published.

    `open_runs` are the imports that go on.
    """

    known: Policies
    at: datetime
    silent: Mapping[str, datetime] = field(default_factory=dict)
    open_runs: frozenset[str] = frozenset()
    processor: HealthProcessor = field(default_factory=HealthProcessor)
    state: Account | None = None
    published: list[Event] = field(default_factory=list)

    @property
    def context(self) -> Context:
        now, silent = instant(self.at), {source: instant(heard) for source, heard in self.silent.items()}
        closed = {run: now for run in RUNS if run not in self.open_runs}
        return Context(now, now, dict.fromkeys(self.open_runs, now), closed, self.known, silent)

    def take(self, *told: Json) -> list[Event]:
        """Facts come in one batch."""
        state = self.processor.empty() if self.state is None else self.state
        return self._apply(self.processor.decide(ACCOUNT, state, [fact_of(one) for one in told], self.context))

    def until(self, at: datetime) -> list[Event]:
        """The clock moves, in one step."""
        assert at >= self.at
        self.at = at
        return self.catch_up()

    def catch_up(self) -> list[Event]:
        """Everything that is due is done, and what rests on other rules or sources is brought up to date."""
        found: list[Event] = []
        while self.state is not None and self._is_due():
            found += self._apply(self.processor.due(ACCOUNT, self.state, self.context))
        return found

    def _is_due(self) -> bool:
        assert self.state is not None
        reached = any(due.at <= self.context.reached(due.wait) for due in self.processor.dues(self.state))
        return reached or self.is_outdated()

    def is_outdated(self) -> bool:
        return self.state is not None and self.processor.outdated(self.state, self.context)

    @property
    def next_due(self) -> Instant:
        assert self.state is not None
        return min(due.at for due in self.processor.dues(self.state))

    def restart(self) -> None:
        """Crash and restore: only what the changelog holds survives."""
        if self.state is not None:
            raw = self.processor.encode(self.state)
            self.processor = HealthProcessor()
            self.state = self.processor.decode(raw, self.processor.version)

    def _apply(self, decision: Decision[Account]) -> list[Event]:
        self.state = decision.state
        events = events_of(decision.outputs)
        self.published += events
        return events

    def told(self, kind: type[T]) -> list[T]:
        return [event for event in self.published if isinstance(event, kind)]

    @property
    def scored(self) -> HealthScored:
        return self.told(HealthScored)[-1]

    @property
    def bands(self) -> list[tuple[datetime, str]]:
        """When the band became what."""
        changes = self.told(HealthChanged)
        return [(one.time, one.data.after) for one in changes if one.data.before != one.data.after]

    @property
    def caps(self) -> list[tuple[datetime, frozenset[str]]]:
        """When which caps held."""
        holding = frozenset[str]()
        found = []
        for change in self.told(HealthChanged):
            after = holding - set(change.data.caps_ended) | set(change.data.caps_began)
            if after != holding:
                found.append((change.time, after))
            holding = after
        return found

    @property
    def closings(self) -> list[HealthClosed]:
        return self.told(HealthClosed)


def settled(told: Iterable[tuple[datetime, Any]], within: timedelta) -> list[tuple[datetime, Any]]:
    """Changes so close to one another are one: the last of them, unless it is no change any more."""
    found: list[tuple[datetime, Any]] = []
    for at, what in told:
        if found and at - found[-1][0] <= within:
            found[-1] = (found[-1][0], what)
        else:
            found.append((at, what))
        if len(found) > 1 and found[-1][1] == found[-2][1]:
            found.pop()
    return found
