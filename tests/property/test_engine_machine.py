"""A partition from hand to hand, with a crash between any two steps, and a broker that keeps what was committed."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from schemas import codec
from schemas.clock import ClockAdvanced, Mark
from schemas.topics import CLOCK, HANDOFFS, OWNERSHIP, Topic
from services.core.instants import moment
from services.core.processor import Wait
from services.handoff.model import Account
from services.handoff.processor import HandoffProcessor
from services.runtime.engine import partition as partition_module
from services.runtime.engine.partition import META, Cut, Meta, Partition
from services.runtime.engine.tables import Tables
from services.runtime.engine.timers import Timers
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings
from tests.builders import minute, policies, policy
from tests.property.test_handoff import HOURS, RANK, Told, oracle
from tests.property.test_partition import Raw
from tests.timeline import Net, Timeline

END = 2_000
ACCOUNTS = {"deal-1": "acme", "deal-2": "acme", "deal-3": "globex"}
WORKERS = st.sampled_from(["one", "other"])
LAPSE = 240


@dataclass
class Broker:
    """Inputs, the changelog and what of the output is committed; `flushed` is the number of the last flush."""

    facts: list[Raw] = field(default_factory=list)
    clock: list[Raw] = field(default_factory=list)
    changelog: dict[bytes, bytes] = field(default_factory=dict)
    dues: dict[bytes, bytes] = field(default_factory=dict)
    published: list[bytes] = field(default_factory=list)
    flushed: int = 0

    def log(self, topic: Topic) -> list[Raw]:
        return {OWNERSHIP.name: self.facts, CLOCK.name: self.clock}.get(topic.name, [])

    @property
    def ends(self) -> dict[str, int]:
        return {topic.name: len(self.log(topic)) for topic in (*HandoffProcessor.inputs, CLOCK)}

    def commit(self, cut: Cut) -> None:
        before = Meta.decode(self.changelog[META]).positions if self.changelog else {}
        assert cut.meta.flush == self.flushed + 1, "a flush follows on another one than the last that is committed"
        assert all(position >= before.get(topic, 0) for topic, position in cut.meta.positions.items())
        for key, value, headers in cut.changelog:
            assert key is not None
            for _, packed in headers:
                self.dues[key] = packed
            if value is None:
                self.changelog.pop(key, None)
            else:
                self.changelog[key] = value
        self.published += [value for _, value, _ in cut.outputs.get((HANDOFFS.name, 0), []) if value is not None]
        self.flushed = cut.meta.flush

    def opened(self) -> Partition[Account]:
        """Restored by a process that holds nothing of it."""
        tables = Tables(Settings(partitions=1))
        tables.policies = policies(policy(hours=HOURS))
        partition = Partition(0, 1, HandoffProcessor(), tables, Metrics())
        states = dict(self.changelog)
        raw = states.pop(META, None)
        meta = Meta.decode(raw) if raw else Meta()
        for name in self.ends:
            meta.positions.setdefault(name, 0)
        partition.restore(states, meta, self.ends, self.dues)
        return partition


class Life(RuleBasedStateMachine):
    """One partition, two workers. `flight`: the cut that is being written, and whether it is committed by now."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = Broker()
        self.told: dict[str, dict[str, Told]] = {name: {} for name in ACCOUNTS}
        self.now = self.heard = 0
        self.owner = "one"
        self.here: Partition[Account] | None = self.broker.opened()
        self.flight: tuple[Cut, bool] | None = None
        self.kept: dict[str, Partition[Account]] = {}

    # -- what comes --------------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from([*ACCOUNTS]), what=st.sampled_from(["opened", *RANK]), at=st.integers(0, 400))
    def tell(self, name: str, what: str, at: int) -> None:
        one = Told(at, what, f"{len(self.broker.facts):04}")
        event = one.event(name).model_copy(update={"partitionkey": ACCOUNTS[name], "subject": ACCOUNTS[name]})
        self.told[name][one.id] = one
        self._append(ACCOUNTS[name].encode(), codec.encode(event))

    @precondition(lambda self: self.broker.facts)
    @rule(data=st.data())
    def tell_again(self, data: st.DataObject) -> None:
        copy = data.draw(st.sampled_from(self.broker.facts))
        self._append(copy.key, copy.value)

    @rule(minutes=st.integers(0, 150), late=st.none() | st.integers(0, 4))
    def tick(self, minutes: int, late: int | None) -> None:
        """Time passes, with a heartbeat of the source or without."""
        self.now += minutes
        if late is not None:
            self.heard = max(self.heard, self.now - late)
        is_silent, is_waited_for = self.now - self.heard > 3, self.now - self.heard <= LAPSE
        self._mark(
            {"crm": self.heard - 1} if is_waited_for else {},
            {"crm": self.heard} if is_silent else {},
        )

    # -- what is done with it ----------------------------------------------------------------------------------------

    @precondition(lambda self: self.here)
    @rule(topic=st.sampled_from([OWNERSHIP, CLOCK]), most=st.integers(1, 5))
    def read(self, topic: Topic, most: int) -> None:
        assert self.here is not None
        position = self.here.meta.positions[topic.name]
        records = self.broker.log(topic)[position : position + most]
        self.here.take(topic, records, position + len(records))

    @precondition(lambda self: self.here and not self.flight and (self.here.changed or self.here.moved))
    @rule()
    def cut(self) -> None:
        assert self.here is not None
        self.flight = self.here.cut(), False

    @precondition(lambda self: self.flight and not self.flight[1])
    @rule()
    def commit(self) -> None:
        assert self.flight is not None
        self.broker.commit(self.flight[0])
        self.flight = self.flight[0], True

    @precondition(lambda self: self.flight and self.flight[1])
    @rule()
    def apply(self) -> None:
        assert self.flight is not None
        assert self.here is not None
        self.here.committed(self.flight[0])
        self.flight = None
        if self.here.overdue:
            self.here.fire()

    # -- who has it --------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.here)
    @rule()
    def crash(self) -> None:
        """Between any two steps; what is written and not committed is aborted."""
        self.here = self.flight = None
        self.kept.pop(self.owner, None)

    @precondition(lambda self: self.here)
    @rule(is_flushed=st.booleans())
    def revoke(self, *, is_flushed: bool) -> None:
        """With a last flush, or without where it takes too long."""
        if is_flushed:
            self._settle(1)
        self._let_go()

    @rule(worker=WORKERS)
    def assign(self, worker: str) -> None:
        """Also to one while the other still believes it is the owner: from here on that one is fenced."""
        if self.here is not None:
            self._let_go()
        self.owner = worker
        kept = self.kept.pop(worker, None)
        if kept is not None and kept.meta.flush == self.broker.flushed and self.broker.changelog:
            self.here = kept
            kept.again(self.broker.ends)
        else:
            self.here = self.broker.opened()

    @invariant()
    def what_is_published_is_published_once(self) -> None:
        ids = [codec.decode(HANDOFFS, value).id for value in self.broker.published]
        assert len(ids) == len(set(ids))

    def teardown(self) -> None:
        if self.here is None:
            self.assign(self.owner)
        self.now = max(END, self.now)
        self._mark({"crm": self.now}, {})
        self.read(OWNERSHIP, 1_000)
        self.read(CLOCK, 1_000)
        self._settle(1_000)
        story = Timeline()
        story._keep(codec.decode(HANDOFFS, value) for value in self.broker.published)
        expected: Net = {}
        for name, known in self.told.items():
            expected |= oracle(name, list(known.values()), self.now)
        assert story.net == expected
        assert story.suspected == {}
        self._assert_restorable()
        self.what_is_published_is_published_once()

    # -- how ---------------------------------------------------------------------------------------------------------

    def _append(self, key: bytes | None, value: bytes | None) -> None:
        self.broker.facts.append(Raw(len(self.broker.facts), key, value))

    def _mark(self, promises: dict[str, int], silent: dict[str, int]) -> None:
        at = moment(minute(self.now))
        said = Mark(
            at=at,
            safe=at,
            promises={name: moment(minute(until)) for name, until in promises.items()},
            heard={name: moment(minute(last)) for name, last in silent.items()},
            ends={OWNERSHIP.name: len(self.broker.facts)},
            writer="test",
            simulated=True,
        )
        event = ClockAdvanced(id="1", source="clock", subject="0", partitionkey="0", time=at, data=said)
        self.broker.clock.append(Raw(len(self.broker.clock), b"0", codec.encode(event)))

    def _settle(self, most: int) -> None:
        """What the lane does, so many times or until nothing is left."""
        assert self.here is not None
        for _ in range(most):
            if self.flight is None and not (self.here.changed or self.here.moved or self.here.overdue):
                return
            if self.flight is None:
                self.cut()
            assert self.flight is not None
            if not self.flight[1]:
                self.commit()
            self.apply()

    def _let_go(self) -> None:
        assert self.here is not None
        if self.flight is None and not self.here.changed:
            self.kept[self.owner] = self.here
        else:
            self.kept.pop(self.owner, None)
        self.here = self.flight = None

    def _assert_restorable(self) -> None:
        """Whoever restores it now has the same states, the same time and the same timers.

        That all states were asked is told with the next flush: whoever does not know asks again.
        """
        assert self.here is not None
        restored = self.broker.opened()
        assert restored._state == self.here._state
        assert replace(restored.meta, asked=[]) == replace(self.here.meta, asked=[])
        assert armed(restored._timers) == armed(self.here._timers)


def armed(timers: Timers) -> set[tuple[str, int, Wait]]:
    entries: Iterable[tuple[int, str, int]] = [*timers._one.values(), *sum(timers._several.values(), ())]
    return {(key, at, timers._numbered[number].wait) for at, key, number in entries}


class Lives(Life):
    """One due key at a time, so that a mass of them outlives flushes, crashes and owners."""

    def __init__(self) -> None:
        self.bounded = mock.patch.multiple(partition_module, FIRE_LIMIT=1, FIRED_AT_ONCE=1, ASK_LIMIT=1)
        self.bounded.start()
        super().__init__()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self.bounded.stop()


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=40, stateful_step_count=50, deadline=None)
