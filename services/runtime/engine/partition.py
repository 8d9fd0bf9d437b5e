"""One partition of a processor, without IO: takes records and marks in, keeps the state, gives what to write."""

import json
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from types import MappingProxyType
from typing import Generic

from schemas import codec
from schemas.clock import ClockAdvanced, Mark
from schemas.topics import CLOCK, Topic, dead_letters
from services.core.decoding import decoder
from services.core.instants import SECOND, Instant, instant, moment
from services.core.moulds import encode
from services.core.outcome import DeadLetter, Drop
from services.core.policy import Policies, PolicyMissing
from services.core.processor import NEVER, Context, Decision, Due, Effect, Fact, Processor, S, Wait
from services.runtime import clock
from services.runtime.engine.admission import admit, letter, misplaced
from services.runtime.engine.raw import Raw
from services.runtime.engine.rounds import Rounds
from services.runtime.engine.store import Store, pack
from services.runtime.engine.tables import Tables
from services.runtime.engine.timers import Timers
from services.runtime.kafka import Record, partition_of
from services.runtime.metrics import Metrics, Timer

META = b"\x00meta"
DUES = "due"  # the header beside a state
META_VERSION = 2  # the first had no ids of topics
FIRE_LIMIT = 5_000  # keys woken per flush: a mass due must not starve the events
FIRED_AT_ONCE = 10
FIRE_SECONDS = 0.1  # a turn of the loop: events, heartbeats and other partitions wait for it
ASK_LIMIT = 20_000  # keys asked in one turn of the loop whether they are outdated
MARKS_KEPT = 600
MARKS_PER_FETCH = 20  # after an outage thousands of marks arrive at once, and the newest covers them


Place = tuple[str, int]  # topic and partition
# What states rest on: versions of processor and policy, who is silent, which runs have stalled, how many are over.
Basis = list[int | list[str]]
NO_ENDS: Mapping[str, int] = MappingProxyType({})
NO_DUES: Mapping[bytes, bytes] = MappingProxyType({})


@dataclass(slots=True)
class Meta:
    """What a partition knows of itself; the first record of each flush.

    The clock in effect is part of it: a restarted partition that had forgotten the time would take verdicts back.
    """

    positions: dict[str, int] = field(default_factory=dict)
    flush: int = 0
    at: Instant = NEVER
    safe: Instant = NEVER
    promises: dict[str, Instant] = field(default_factory=dict)
    closed: dict[str, Instant] = field(default_factory=dict)
    silent: dict[str, Instant] = field(default_factory=dict)
    stalled: list[str] = field(default_factory=list)
    topics: dict[str, str] = field(default_factory=dict)  # ids of the inputs and of the changelog; "" where unknown
    asked: Basis = field(default_factory=list)  # what every state rests on; empty: not known
    transactional: bool = True  # the first version knew nothing else
    version: int = META_VERSION

    def copy(self) -> "Meta":
        """A copy that the partition's further life does not change."""
        return replace(self, positions=dict(self.positions), closed=dict(self.closed))

    def context(self, policies: Policies) -> Context:
        return Context(self.at, self.safe, self.promises, self.closed, policies, self.silent, frozenset(self.stalled))

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, raw: bytes) -> "Meta":
        """What any version up to this one wrote. Raises ValueError for a newer one, that or TypeError for no meta."""
        told = json.loads(raw)
        if not isinstance(told, dict):
            raise TypeError("its meta is no object of JSON")
        if told.get("version", 1) > META_VERSION:
            raise ValueError(
                f"its meta has version {told['version']}, and this Steward reads up to {META_VERSION}: "
                "run the newer Steward that wrote it, or a newer one still"
            )
        return cls(**{**told, "version": META_VERSION})


@dataclass(slots=True)
class Cut:
    """What one flush writes, and what is true once it is committed."""

    meta: Meta
    changelog: list[Record]
    outputs: dict[Place, list[Record]]
    effects: list[Effect]
    oldest: int | None = None  # when the oldest record reduced in it was written, in milliseconds


class Partition(Generic[S]):
    """State, positions, marks and due times of one partition."""

    def __init__(
        self,
        number: int,
        count: int,
        processor: Processor[S],
        tables: Tables,
        metrics: Metrics,
        *,
        acts: bool = True,
    ) -> None:
        """`acts`: does somebody do what states want done?"""
        self.number = number
        self._acts = acts
        self.processor = processor.name
        self.meta = Meta()
        self.overdue = False
        self.pending = 0
        self._count = count
        self._processor = processor
        self._tables = tables
        self._metrics = metrics
        self._state = Store(processor)
        self._timers = Timers()
        self._rounds = Rounds()
        self._basis: Basis = []
        self._woken = 0
        self.appended: dict[str, int] = {}  # when the last record taken of each topic was written, in milliseconds
        self._oldest: int | None = None
        self._fired = {kind: metrics.fired.labels(processor.name, kind) for kind in Timer}
        self._marks: deque[Mark] = deque()
        self._context = self.meta.context(tables.policies)
        self._dirty: dict[str, Sequence[Due]] = {}  # keys to be written, with the dues of their states
        self._outputs: dict[Place, list[Record]] = {}
        self._resumed = False
        self._behind: Mapping[str, int] = NO_ENDS
        self._asking: dict[str, None] = {}
        self._committed = dict(self.meta.positions)
        self._closed_changed = False
        self._dead_letters = dead_letters(processor.name).name

    # -- restore -------------------------------------------------------------------------------------------------

    def restore(
        self,
        states: Mapping[bytes, bytes],
        meta: Meta,
        ends: Mapping[str, int] = NO_ENDS,
        dues: Mapping[bytes, bytes] = NO_DUES,
    ) -> None:
        """Begin with what the changelog holds: states, `dues` that stood beside them, and the last meta.

        `ends` of the inputs at this time: whatever came of earlier effects stands before them.
        """
        self._state.load(states)
        self._timers.load(self._state.dues(dues))
        self.meta = meta.copy()
        self._basis = meta.asked
        self._context = self.meta.context(self._tables.policies)
        self._committed = dict(meta.positions)
        self.again(ends)

    def again(self, ends: Mapping[str, int]) -> None:
        """Go on with the state that is there, after a while in which another process may have done its effects."""
        self._resumed = False
        self._behind = {topic.name: ends[topic.name] for topic in self._processor.inputs if topic.name in ends}

    # -- what comes in -------------------------------------------------------------------------------------------

    def take(self, topic: Topic, records: Sequence[Raw], position: int) -> None:
        """Records of one topic in order of offset; `position` is where the next fetch will begin."""
        before = self.meta.positions[topic.name]
        fresh = records if not records or records[0].offset >= before else [r for r in records if r.offset >= before]
        if fresh:
            self.appended[topic.name] = fresh[-1].timestamp
        if topic is CLOCK:
            self._hear(fresh)
        elif fresh:
            written = fresh[0].timestamp
            self._oldest = written if self._oldest is None else min(self._oldest, written)
            self._reduce(topic, fresh)
        self.meta.positions[topic.name] = max(before, position)
        self._advance()

    def _reduce(self, topic: Topic, records: Sequence[Raw]) -> None:
        by_key: dict[str, tuple[list[Fact], list[Raw]]] = {}
        decode = decoder(topic)
        for record in records:
            admitted = admit(topic, record, decode)
            if isinstance(admitted, Fact):
                key = admitted.event.partitionkey
                if key not in by_key:
                    by_key[key] = [], []
                facts, raws = by_key[key]
                facts.append(admitted)
                raws.append(record)
            else:
                self._settle(topic, record, admitted)
        processor, context = self._processor, self._context
        for key, (facts, raws) in by_key.items():
            state = known = self._state.find(key)
            if state is None:
                if stray := misplaced(key, self.number, self._count):
                    for record in raws:
                        self._settle(topic, record, stray)
                    continue
                state = processor.empty()
            decision = processor.decide(key, state, facts, context)
            self._apply(key, known, decision)
            if decision.fates:
                places = {id(fact): record for fact, record in zip(facts, raws, strict=True)}
                for fact, fate in decision.fates:
                    self._settle(topic, places[id(fact)], fate)
        self.pending += len(records)
        counted = self._metrics.records.labels(processor.name, topic.name, "read")
        counted.inc(len(records))

    def _settle(self, topic: Topic, record: Raw, fate: Drop | DeadLetter) -> None:
        processor = self._processor
        self._metrics.records.labels(processor.name, topic.name, fate.reason.value).inc()
        if isinstance(fate, DeadLetter):
            self._metrics.dead_letters.labels(processor.name, topic.name, fate.reason.value).inc()
            kept = letter(topic, self.number, record, fate, processor.name, processor.version)
            self._outputs.setdefault((self._dead_letters, self.number), []).append(kept)

    def _apply(self, key: str, known: S | None, decision: Decision[S]) -> None:
        """`known`: the state that the decision began with; None for a key that is not known."""
        state = decision.state
        if state is None:
            if known is not None:
                del self._state[key]
                self._dirty[key] = ()
            self._timers.arm(key, ())
        elif state is not known:
            self._state[key] = state
            self._dirty[key] = dues = self._processor.dues(state)
            self._timers.arm(key, dues)
        for output in decision.outputs:
            event = output.event
            to = event.partitionkey.encode()
            # What stays under its key stays in its partition, also where an older producer put the key.
            number = self.number if event.partitionkey == key else partition_of(to, self._count)
            self._outputs.setdefault((output.topic.name, number), []).append((to, encode(event), []))

    # -- time ----------------------------------------------------------------------------------------------------

    def _hear(self, records: Sequence[Raw]) -> None:
        step = max(1, len(records) // MARKS_PER_FETCH)
        for record in (*records[:-1:step], *records[-1:]):
            mark = _mark(record)
            if mark is None:
                self._metrics.ignored_marks.labels(self._processor.name).inc()
            else:
                self._marks.append(mark)
        if len(self._marks) > MARKS_KEPT:  # any subset with the newest will do
            self._marks = deque([*islice(self._marks, 0, len(self._marks) - 1, 2), self._marks[-1]])

    def _advance(self) -> None:
        """Let the newest mark take effect whose `ends` this partition has read in all its inputs."""
        newest = None
        while self._marks and self._covers(self._marks[0]):
            newest = self._marks.popleft()
        if newest is None:
            return
        meta, closed = self.meta, {run: instant(at) for run, at in newest.closed.items()}
        if not closed.items() <= meta.closed.items():
            meta.closed.update(closed)
            self._closed_changed = True
        if instant(newest.at) < meta.at:  # of a writer that had not seen the last marks of its predecessor
            return
        meta.at, meta.safe = instant(newest.at), instant(newest.safe)
        meta.promises = {run: instant(until) for run, until in newest.promises.items()}
        meta.silent = {source: instant(last) for source, last in newest.heard.items()}
        meta.stalled = list(newest.stalled)
        self._context = meta.context(self._tables.policies)
        self._compare()
        if not self.overdue:  # else the turn after the next flush is told of this mark, and events come between
            self.fire()
        self._resume()

    def _compare(self) -> None:
        """Begin a round of questions where a policy, a silence or a run has changed what states rest on."""
        context = self._context
        try:
            # In force by what the tables say now: a policy may be activated after the mark that covers its instant.
            version = context.policies.in_force(context.at).version
        except PolicyMissing:
            return
        silent, stalled = sorted(context.silent), sorted(context.stalled)
        basis: Basis = [self._processor.version, version, silent, stalled, len(context.closed)]
        if basis != self._basis:
            self._basis, self.meta.asked = basis, []
            self._rounds.begin(self._state)

    def _resume(self) -> None:
        """With the first mark after the inputs' old ends every result of earlier effects is read: ask for the rest."""
        if not self._resumed and all(self.meta.positions[name] >= end for name, end in self._behind.items()):
            self._resumed = True
            self._asking = dict.fromkeys(self._state) if self._acts else {}

    def _covers(self, mark: Mark) -> bool:
        positions = self.meta.positions
        return self._tables.covers(mark.tables) and all(
            positions[topic.name] >= mark.ends.get(topic.name, 0) for topic in self._processor.inputs
        )

    def fire(self) -> None:
        """Wake keys whose due time has been reached or that are outdated: a bounded number until the next cut.

        `overdue` afterwards: there may be more.
        """
        until = clock.elapsed() + FIRE_SECONDS
        is_cut_short = self._fire_timers(until) or self._ask(until)
        self.overdue = is_cut_short or self._rounds.left > 0
        if not self._rounds.left:
            self.meta.asked = self._basis
        if not self.changed:  # nothing for a flush to carry
            self._woken = 0

    def _fire_timers(self, until: float) -> bool:
        """Wake what is due; True where a bound was met before all of it."""
        while self._woken < FIRE_LIMIT:
            wanted = min(FIRED_AT_ONCE, FIRE_LIMIT - self._woken)
            keys = self._timers.pop(self._context.reached, wanted)
            for key in keys:
                self._wake(key)
            self._count_fired()
            if len(keys) < wanted:
                return False
            if clock.elapsed() > until:
                return True
        return True

    def _count_fired(self) -> None:
        counted = Counter[Timer]()
        for wait, late in self._timers.taken:
            kind = _kind(wait)
            counted[kind] += 1
            if kind is not Timer.RUN:  # a run tells of years ago, and its progress moves its clock in leaps
                self._metrics.lateness.observe(late / SECOND)
        for kind, number in counted.items():
            self._fired[kind].inc(number)

    def _ask(self, until: float) -> bool:
        for key in self._rounds.next(ASK_LIMIT):
            state = self._state.peek(key)
            if state is not None and self._processor.outdated(state, self._context):
                self._wake(key)
                if self._woken >= FIRE_LIMIT or clock.elapsed() > until:
                    return True
        return False

    def _wake(self, key: str) -> None:
        self._woken += 1
        state = self._state[key]
        decision = self._processor.due(key, state, self._context)
        self._apply(key, state, decision)
        if decision.state is state:  # else it is armed already
            self._timers.arm(key, self._processor.dues(state))

    # -- what goes out -------------------------------------------------------------------------------------------

    @property
    def changed(self) -> bool:
        """Is there anything that may not wait: state, outputs, effects to ask for, a run that closed?"""
        return bool(self._dirty or self._outputs or self._asking or self._closed_changed)

    @property
    def moved(self) -> bool:
        """Have positions moved past what is committed?"""
        return self.meta.positions != self._committed

    def cut(self) -> Cut:
        """Everything since the last cut, ready to be written; the partition goes on from here."""
        self.meta.flush += 1
        meta = self.meta.copy()
        effects, states = self._wanted(), self._state.encode(self._dirty)
        changed: list[Record] = [
            (key.encode(), raw, [] if raw is None else [(DUES, pack(dues))])
            for (key, dues), raw in zip(self._dirty.items(), states, strict=True)
        ]
        cut = Cut(meta, [(META, meta.encode(), []), *changed], self._outputs, effects, self._oldest)
        self._oldest = None
        self._dirty, self._outputs, self._asking, self._closed_changed = {}, {}, {}, False
        self.pending, self._woken = 0, 0
        return cut

    def _wanted(self) -> list[Effect]:
        """What the states of this cut want done; nothing before the partition has caught up once."""
        if not (self._resumed and self._acts):
            return []
        states = ((key, self._state.peek(key)) for key in {**self._asking, **self._dirty})
        return [effect for key, one in states if one is not None for effect in self._processor.wanted(key, one)]

    @property
    def saved(self) -> Mapping[str, int]:
        """The positions from which a restart would go on."""
        return self._committed

    def committed(self, cut: Cut) -> None:
        """The cut is on the broker."""
        self._committed = dict(cut.meta.positions)

    def observe(self) -> None:
        """Publish the gauges."""
        labels = (self._processor.name, str(self.number))
        for topic, position in self._committed.items():
            self._metrics.committed.labels(labels[0], topic, labels[1]).set(position)
        self._metrics.state_bytes.labels(*labels).set(self._state.bytes)
        self._metrics.overdue.labels(*labels).set(self._timers.overdue(self._context.reached) / SECOND)
        self._metrics.armed.labels(*labels).set(len(self._timers))
        self._metrics.accounts.labels(*labels).set(len(self._state))
        if self._context.at > NEVER:
            self._metrics.clock_time.labels(*labels).set(self._context.at / SECOND)


def _kind(wait: Wait) -> Timer:
    if wait is None:
        return Timer.CLOCK
    return Timer.RUN if isinstance(wait, str) else Timer.LIVE


def _mark(record: Raw) -> Mark | None:
    """The mark in a record of `cs.clock`; None for what is none, or runs ahead of the time it was written."""
    try:
        event = codec.decode(CLOCK, record.value or b"")
    except codec.SchemaError:
        return None
    if not isinstance(event, ClockAdvanced):
        return None
    return None if event.data.runs_ahead(moment(record.timestamp * 1000)) else event.data
