"""One partition of the engine without Kafka, through any interleaving of what can happen to it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import codec
from schemas.clock import ClockAdvanced, Mark
from schemas.envelope import Event
from schemas.handoffs import SlaRetracted
from schemas.topics import CLOCK, HANDOFFS, OWNERSHIP, Topic
from services.core.instants import MINUTE, moment
from services.core.policy import Policies
from services.core.processor import NEVER
from services.handoff.model import Account
from services.handoff.processor import HandoffProcessor
from services.runtime.engine import partition as partition_module
from services.runtime.engine.partition import META, Cut, Meta, Partition
from services.runtime.engine.tables import Tables
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings
from tests.builders import ACCOUNT, minute, opened, policies, policy
from tests.mirror import Mirror
from tests.property.test_handoff import HOURS, Told, oracle, stories
from tests.timeline import Timeline

END = 2_000
END_OF_STORIES = 400


@dataclass
class Raw:
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = minute(END_OF_STORIES) // 1000
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass
class World:
    """The broker: two input topics, the changelog, and what is committed of the output."""

    ownership: list[Raw] = field(default_factory=list)
    clock: list[Raw] = field(default_factory=list)
    changelog: dict[bytes, bytes] = field(default_factory=dict)
    committed: list[bytes] = field(default_factory=list)
    told: dict[bytes, tuple[Told, str]] = field(default_factory=dict)
    believed: int = NEVER
    now: int = 0

    def __post_init__(self) -> None:
        self.partition = self._opened()

    def _opened(self) -> Partition[Account]:
        tables = Tables(Settings(partitions=1))
        tables.policies = policies(policy(hours=HOURS))
        partition = Partition(0, 1, HandoffProcessor(), tables, Metrics())
        states = dict(self.changelog)
        raw = states.pop(META, None)
        meta = Meta.decode(raw) if raw else Meta()
        for topic in (*HandoffProcessor.inputs, CLOCK):
            meta.positions.setdefault(topic.name, 0)
        partition.restore(states, meta)
        return partition

    def publish(self, told: Told, name: str) -> None:
        value = codec.encode(told.event(name))
        self.told[value] = told, name
        self.ownership.append(Raw(len(self.ownership), ACCOUNT.encode(), value))

    def tick(self, minutes: int) -> None:
        self.now += minutes
        at = moment(minute(self.now))
        mark = Mark(at=at, safe=at, ends={OWNERSHIP.name: len(self.ownership)}, writer="test", simulated=True)
        event = ClockAdvanced(
            id=str(len(self.clock)), source="clock", subject="0", partitionkey="0", time=at, data=mark
        )
        self.clock.append(Raw(len(self.clock), b"0", codec.encode(event)))

    def deliver(self, topic: object, most: int) -> None:
        log = self.clock if topic is CLOCK else self.ownership
        position = self.partition.meta.positions[str(topic)]
        records = log[position : position + most]
        before = len(self.partition._outputs.get((HANDOFFS.name, 0), []))
        self.partition.take(CLOCK if topic is CLOCK else OWNERSHIP, records, position + len(records))
        for _, value, _ in self.partition._outputs.get((HANDOFFS.name, 0), [])[before:]:
            self._check(codec.decode(HANDOFFS, value or b""))
        self.believed = self.partition.meta.safe  # after the check: facts are judged before a mark they complete

    def _check(self, said: Event) -> None:
        """A retraction needs a fact that disproves the stage; time alone, forgotten or turned back, is none."""
        if isinstance(said, SlaRetracted):
            read = self.ownership[: self.partition.meta.positions[OWNERSHIP.name]]
            facts = {self.told[raw.value or b""] for raw in read}
            story = [told for told, name in facts if name == said.data.handoff]
            verdicts = oracle(said.data.handoff, story, (self.believed - minute(0)) / MINUTE)
            stage = said.data.leg, said.data.stage
            assert (said.data.handoff, *stage) not in verdicts, f"{stage} was taken back although it is true"

    def flush(self, *, crash: str | None = None) -> None:
        """One transaction; a crash before its commit loses it whole, one after it loses the memory only."""
        if self.partition.changed or self.partition.moved:
            cut = self.partition.cut()
            if crash != "before commit":
                self._commit(cut)
                self.partition.committed(cut)
        if crash is not None:
            self.partition = self._opened()
            self.believed = self.partition.meta.safe  # marks that were not committed have never been heard

    def _commit(self, cut: Cut) -> None:
        for key, value, _ in cut.changelog:
            if key is not None and value is not None:
                self.changelog[key] = value
            elif key is not None:
                self.changelog.pop(key, None)
        self.committed += [value for _, value, _ in cut.outputs.get((HANDOFFS.name, 0), []) if value is not None]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_it_agrees_with_the_oracle_whatever_happens_when(data: st.DataObject) -> None:
    named = {name: data.draw(stories, label=name) for name in ("deal-1", "deal-2")}
    waiting = data.draw(st.permutations([(told, name) for name, story in named.items() for told in story]))
    world = World()
    while waiting:
        action = data.draw(st.sampled_from(["publish", "again", "tick", "facts", "marks", "flush", "crash"]))
        match action:
            case "publish":
                world.publish(*waiting.pop())
            case "again" if world.ownership:
                copy = data.draw(st.sampled_from(world.ownership))
                world.ownership.append(Raw(len(world.ownership), copy.key, copy.value))
            case "tick":
                world.tick(data.draw(st.integers(0, 120)))
            case "facts":
                world.deliver(OWNERSHIP, data.draw(st.integers(1, 3)))
            case "marks":
                world.deliver(CLOCK, data.draw(st.integers(1, 5)))
            case "flush":
                world.flush()
            case "crash":
                world.flush(crash=data.draw(st.sampled_from(["before commit", "after commit"])))
            case _:
                pass
    world.tick(END - world.now if world.now < END else 0)
    world.deliver(CLOCK, 1_000)
    world.deliver(OWNERSHIP, 1_000)
    world.flush()

    published = [codec.decode(HANDOFFS, value) for value in world.committed]
    story = Timeline()
    story._keep(published)
    until = max(END, world.now)
    assert story.net == oracle("deal-1", named["deal-1"], until) | oracle("deal-2", named["deal-2"], until)
    ids = [event.id for event in published]
    assert len(ids) == len(set(ids))


# -- what states rest on -------------------------------------------------------------------------------------------

FIRE_LIMIT, ASK_LIMIT = 2, 3
KEYS = [f"key-{number}" for number in range(7)]
SOURCES = ["crm", "helpdesk"]


@dataclass
class Mirrors:
    """The broker and a partition of mirrors, which are woken and asked a few at a time."""

    known: Policies = field(default_factory=Policies)
    facts: list[Raw] = field(default_factory=list)
    clock: list[Raw] = field(default_factory=list)
    changelog: dict[bytes, bytes] = field(default_factory=dict)
    now: int = 0

    def __post_init__(self) -> None:
        self.tables = Tables(Settings(partitions=1))
        self.tables.policies = self.known
        self.restart()

    def restart(self) -> None:
        self.mirror = Mirror(has_looks=True)
        self.partition = Partition(0, 1, self.mirror, self.tables, Metrics())
        states = dict(self.changelog)
        raw = states.pop(META, None)
        self.partition.restore(states, Meta.decode(raw) if raw else Meta({OWNERSHIP.name: 0, CLOCK.name: 0}))

    def publish(self, key: str) -> None:
        value = codec.encode(opened(0).model_copy(update={"partitionkey": key}))
        self.facts.append(Raw(len(self.facts), key.encode(), value))

    def activate(self, since: int) -> None:
        known = self.tables.policies
        version = len(known.versions) + 1
        activations = tuple(sorted((*known.activations, (minute(since), version))))
        self.tables.policies = Policies({**known.versions, version: policy(version)}, activations)

    def tick(self, minutes: int, silent: Iterable[str]) -> None:
        self.now += minutes
        at, heard = moment(minute(self.now)), {source: moment(minute(0)) for source in silent}
        ends = {OWNERSHIP.name: len(self.facts)}
        mark = Mark(at=at, safe=at, heard=heard, ends=ends, writer="test", simulated=True)
        event = ClockAdvanced(id="1", source="clock", subject="0", partitionkey="0", time=at, data=mark)
        self.clock.append(Raw(len(self.clock), b"0", codec.encode(event)))

    def deliver(self, topic: Topic, most: int) -> None:
        log, position = self.clock if topic is CLOCK else self.facts, self.partition.meta.positions[topic.name]
        records = log[position : position + most]
        self.partition.take(topic, records, position + len(records))

    def flush(self, crash: str | None = None) -> None:
        """One transaction, and what the lane does after it."""
        cut = self.partition.cut()
        assert len(self.mirror.woken) <= FIRE_LIMIT, "more keys were woken than one flush may carry"
        self.mirror.woken.clear()
        if crash != "before commit":
            self.changelog |= {key: value for key, value, _ in cut.changelog if key is not None and value is not None}
            self.partition.committed(cut)
        if crash is not None:
            self.restart()
        elif self.partition.overdue:
            self.partition.fire()

    def settle(self) -> None:
        """Everything is read, and the lane goes on until nothing is left to do."""
        self.deliver(OWNERSHIP, 1_000)
        self.deliver(CLOCK, 1_000)
        while self.partition.overdue or self.partition.changed:
            self.flush()


@mock.patch.object(partition_module, "FIRE_LIMIT", FIRE_LIMIT)
@mock.patch.object(partition_module, "ASK_LIMIT", ASK_LIMIT)
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_key_is_left_with_an_old_policy_or_an_old_silence(data: st.DataObject) -> None:
    world = Mirrors(data.draw(st.sampled_from([Policies(), policies()]), label="policies"))
    silences = st.sets(st.sampled_from(SOURCES))
    actions = ["publish", "facts", "activate", "tick", "marks", "marks", "flush", "flush", "crash"]
    for action in data.draw(st.lists(st.sampled_from(actions), min_size=5, max_size=60), label="actions"):
        match action:
            case "publish":
                for key in data.draw(st.sets(st.sampled_from(KEYS), min_size=1)):
                    world.publish(key)
            case "facts":
                world.deliver(OWNERSHIP, data.draw(st.integers(1, 9)))
            case "activate":
                world.activate(world.now + data.draw(st.integers(-60, 60)))
            case "tick":
                world.tick(data.draw(st.integers(0, 60)), data.draw(silences))
            case "marks":
                world.deliver(CLOCK, data.draw(st.integers(1, 3)))
            case "flush":
                world.flush()
            case "crash":
                world.flush(data.draw(st.sampled_from(["before commit", "after commit"])))
            case _:
                pass
    world.activate(world.now)
    last = data.draw(silences, label="silent at the end")
    world.tick(1, last)
    world.settle()

    version = world.tables.policies.in_force(minute(world.now)).version
    states = {key: world.mirror.decode(raw[1:], raw[0]) for key, raw in world.changelog.items() if key != META}
    assert set(states) == {fact.key for fact in world.facts}
    assert {(state.version, state.silent) for state in states.values()} <= {(version, frozenset(last))}
    asked = len(world.mirror.asked)
    world.tick(0, last)
    world.settle()
    assert len(world.mirror.asked) == asked, "keys were asked although nothing had changed"
