"""Imports of history: the facts of a file, sent in order of time as one run that tells how far it has come."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from schemas import codec
from schemas.accounts import AccountRecord, AccountUpserted
from schemas.clock import ClockAdvanced, Mark
from schemas.envelope import Data, Event
from schemas.identity import IdentityMapped
from schemas.identity import Mapping as HomeMapping
from schemas.sources import Progress, RunAdvanced, RunFinished, RunStarted
from schemas.topics import ACCOUNTS, CLOCK, IDENTITY, OWNERSHIP, SOURCES, Topic
from services.core.instants import Instant, moment
from services.ingest import files, sources
from services.ingest.files import History, Homed
from services.ingest.mapping import TOPICS, MapFile
from services.ingest.model import account_of
from services.ingest.runs import ImportRefused, RunEvent, patience, runs, tell, unless_finished
from services.runtime import clock, documents, kafka
from services.runtime.settings import Settings

CHUNK = 1_000  # facts per acknowledgement; a chunk ends where the time changes, so that it can be promised
LARGEST_CHUNK = 10_000  # also within one instant: days without times put thousands of facts at midnight
TELL_SECONDS = 0.25
MARK_SECONDS = 30.0
PATIENCE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Step:
    """What an import is doing, which part of that is done (0 to 1), and the same in words."""

    stage: Literal["reading", "waiting", "sending"]
    part: float
    sentence: str


@dataclass(frozen=True, slots=True)
class Summary:
    """`sent` of the `facts` of the run have been acknowledged, by this attempt or one before.

    `accounts` were created now; `rejected` rows stand in the file `rejects`.
    """

    outcome: Literal["finished", "stopped"]
    sentence: str
    run: str | None = None
    rows: int = 0
    facts: int = 0
    sent: int = 0
    accounts: int = 0
    rejected: int = 0
    rejects: Path | None = None


class _Interrupted(Exception):
    """A person has stopped the import while the file was being read."""


async def import_file(
    settings: Settings,
    path: Path,
    map_path: Path,
    *,
    stop_after: int | None = None,
    rejects: Path | None = None,
    report: Callable[[Step], None],
    stopping: asyncio.Event,
) -> Summary:
    """Send the facts of a file, or go on where an earlier attempt stopped; safe to kill at any moment.

    `stop_after` counts from the run's first fact. `stopping` ends the import after the chunk under way.
    Raises OperatorError: DocumentError, FileError, ImportRefused, BrokerAway, TopicMismatch.
    """
    mapping = documents.load(map_path, MapFile)
    try:
        history = await _read(path, mapping, report, stopping)
    except _Interrupted:
        return Summary("stopped", "stopped while reading; nothing was sent, and the same command begins again")
    with history:
        topics = (SOURCES, IDENTITY, ACCOUNTS, OWNERSHIP, *mapping.topics, CLOCK)
        await kafka.ensure_topics(settings, {topic.name: topic.config for topic in topics})
        rank = await _rank(settings, mapping.source)
        accounts = await _accounts(settings)
        if not mapping.account.create:
            history.keep(accounts)
        begun, resumed = await _begun(settings, mapping, history)
        refused = history.write_rejects(rejects)
        if not history.facts:
            where = f", and {refused} says why" if refused else ""
            raise ImportRefused(f"{path}: none of its {history.rows:,} rows gives a fact{where}; nothing was sent")
        async with kafka.Publisher(settings) as publisher:
            run = _Run(publisher, rank, begun, accounts, resumed=resumed)
            await _carry_out(settings, run, history, stop_after, report, stopping)
        return _summary(run, history, refused)


async def _read(path: Path, mapping: MapFile, report: Callable[[Step], None], stopping: asyncio.Event) -> History:
    loop = asyncio.get_running_loop()

    def progress(rows: int, part: float) -> None:
        if stopping.is_set():
            raise _Interrupted
        loop.call_soon_threadsafe(report, Step("reading", part, f"{rows:,} rows read"))

    return await asyncio.to_thread(files.read, path, mapping, clock.now(), progress)


async def _rank(settings: Settings, source: str) -> int:
    registration = (await sources.registered(settings)).get(source)
    if registration is None:
        raise ImportRefused(f"source '{source}' is not registered; run `steward source register {source}`")
    return registration.rank


async def _accounts(settings: Settings) -> dict[str, str]:
    """The account of each home that is mapped now."""
    accounts: dict[str, str] = {}
    for record in await kafka.read_all(settings, IDENTITY):
        home = (record.key or b"").decode(errors="replace")
        accounts.pop(home, None)
        try:
            event = codec.decode(IDENTITY, record.value) if record.value else None
        except codec.SchemaError:  # a newer writer's
            continue
        if isinstance(event, IdentityMapped):
            accounts[home] = event.data.account
    return accounts


async def _begun(settings: Settings, mapping: MapFile, history: History) -> tuple[Progress, bool]:
    """Where the run of this file stands, and whether an earlier attempt brought it there."""
    known = {state.progress.run: state for state in await runs(settings)}
    name = f"{mapping.source}:{history.sha256[:12]}"
    run, state = unless_finished(known, name, history.path)
    if state is None:
        content = {"file": history.path.name, "sha256": history.sha256, "facts": history.facts}
        return Progress.model_validate({"source": mapping.source, "run": run, "sent": 0, **content}), False
    if files.stem(state.progress.file) != files.stem(history.path.name):
        raise ImportRefused(
            f"run {run} was begun with the name {state.progress.file}, which may be part of its ids, "
            f"and now {history.path} has the same content; give it that name again"
        )
    if state.progress.facts != history.facts:
        raise ImportRefused(
            f"run {run} was begun with {state.progress.facts:,} facts, and now {history.path} gives {history.facts:,}: "
            f"its map or the known homes have changed; undo that, or run `steward ingest abandon {run}` and import anew"
        )
    return state.progress, True


@dataclass(frozen=True, slots=True)
class Chunk:
    """Facts that are acknowledged together; `whole`: the next fact's time is later than that of the last here."""

    facts: list[Homed]
    whole: bool

    def through(self, before: datetime | None) -> datetime | None:
        """Up to when every fact is acknowledged with this chunk, if it was up to `before` without it."""
        last = self.facts[-1].draft.at
        if self.whole:
            return moment(last)
        earlier = [fact.draft.at for fact in self.facts if fact.draft.at < last]
        return moment(earlier[-1]) if earlier else before


def chunks(facts: Iterator[Homed], most: int) -> Iterator[Chunk]:
    """The first `most` facts in chunks that end where the time changes, unless they grow too large."""
    taken: list[Homed] = []
    upcoming = next(facts, None)
    while upcoming is not None and most > 0:
        taken.append(upcoming)
        most -= 1
        upcoming = next(facts, None)
        whole = upcoming is None or upcoming.draft.at > taken[-1].draft.at
        if most == 0 or upcoming is None or len(taken) >= (CHUNK if whole else LARGEST_CHUNK):
            yield Chunk(taken, whole)
            taken = []


class _Run:
    """One attempt to carry a run on."""

    def __init__(
        self, publisher: kafka.Publisher, rank: int, begun: Progress, accounts: dict[str, str], *, resumed: bool
    ) -> None:
        self.resumed = resumed
        self.progress = begun
        self.created = 0
        self._accounts = accounts
        self._publisher = publisher
        self._rank = rank
        self._told = 0.0

    async def send(self, chunk: Chunk) -> None:
        """Everything in the chunk is acknowledged when this returns, and now and then told to the clock."""
        first = self.progress.sent
        async with patience(self.progress):
            await self._introduce(chunk.facts)
            await self._acknowledged(self._fact(fact, at) for at, fact in enumerate(chunk.facts, first))
        sent = first + len(chunk.facts)
        through = chunk.through(self.progress.through)
        self.progress = self.progress.model_copy(update={"sent": sent, "through": through})
        if clock.elapsed() - self._told >= TELL_SECONDS:
            await self.tell(RunAdvanced)

    async def tell(self, kind: RunEvent) -> None:
        await tell(self._publisher, kind, self.progress)
        self._told = clock.elapsed()

    async def _introduce(self, facts: Iterable[Homed]) -> None:
        """Create the accounts of homes that nobody has mapped, before the first fact about them."""
        first = {fact.home: fact.draft.at for fact in reversed(list(facts)) if fact.home not in self._accounts}
        new = {home: account_of(home) for home in first}
        # The account first: killed in between, a home that is mapped must not lack its account.
        await self._acknowledged(self._upserted(account, first[home]) for home, account in new.items())
        await self._acknowledged(self._mapped(home, account, first[home]) for home, account in new.items())
        self._accounts.update(new)
        self.created += len(new)

    async def _acknowledged(self, records: Iterable[tuple[Topic, Event]]) -> None:
        put = self._publisher.put
        await asyncio.gather(*[await put(topic, event.partitionkey, codec.encode(event)) for topic, event in records])

    def _fact(self, fact: Homed, position: int) -> tuple[Topic, Event]:
        # Every attempt reads the same facts in the same order: a fact sent twice has the same position twice.
        progress, account = self.progress, self._accounts[fact.home]
        event = fact.draft.event(progress.source, account, self._rank, progress.run, clock.now(), position)
        return TOPICS[type(event)], event

    def _mapped(self, home: str, account: str, at: Instant) -> tuple[Topic, Event]:
        data = HomeMapping(home=home, account=account)
        return IDENTITY, self._event(IdentityMapped, f"{account}:mapped", home, at, data)

    def _upserted(self, account: str, at: Instant) -> tuple[Topic, Event]:
        return ACCOUNTS, self._event(AccountUpserted, f"{account}:upserted", account, at, AccountRecord())

    def _event(self, kind: type[Event], id: str, key: str, at: Instant, data: Data) -> Event:
        # Dated by its first fact: made again after a crash it is the same event.
        return kind(
            id=id,
            source=self.progress.source,
            type=kind.name(),
            subject=key,
            partitionkey=key,
            time=moment(at),
            receivedat=moment(clock.now()),
            run=self.progress.run,
            sourcerank=self._rank,
            data=data,
        )


async def _carry_out(
    settings: Settings,
    run: _Run,
    history: History,
    stop_after: int | None,
    report: Callable[[Step], None],
    stopping: asyncio.Event,
) -> None:
    facts = run.progress.facts
    async with _marks(settings) as marks:
        await run.tell(RunAdvanced if run.resumed else RunStarted)
        if not await _named(run.progress.run, marks, report, stopping):
            return
    most = facts if stop_after is None else min(stop_after, facts)
    for chunk in chunks(history.in_order(run.progress.sent), most - run.progress.sent):
        if stopping.is_set():
            break
        await run.send(chunk)
        sent = run.progress.sent
        report(Step("sending", sent / facts, f"{sent:,} of {facts:,} facts sent"))
    await run.tell(RunAdvanced)
    if run.progress.sent == facts:
        await run.tell(RunFinished)


def _summary(run: _Run, history: History, refused: Path | None) -> Summary:
    progress = run.progress
    so_far = f"{progress.sent:,} of {progress.facts:,} facts of run {progress.run} are sent"
    finished = progress.sent == progress.facts
    return Summary(
        outcome="finished" if finished else "stopped",
        sentence=f"{so_far}; the run is finished" if finished else f"stopped: {so_far}; the same command goes on",
        run=progress.run,
        rows=history.rows,
        facts=progress.facts,
        sent=progress.sent,
        accounts=run.created,
        rejected=history.rejects,
        rejects=refused,
    )


@asynccontextmanager
async def _marks(settings: Settings) -> AsyncIterator[Callable[[], Awaitable[list[Mark]]]]:
    """What answers the marks of partition 0 that came since it was asked last."""
    partition = kafka.partitions(settings, CLOCK)[0]
    async with kafka.reader(settings) as consumer:
        consumer.assign([partition])
        consumer.seek(partition, (await consumer.end_offsets([partition]))[partition])

        async def fresh() -> list[Mark]:
            records = (await consumer.getmany(partition, timeout_ms=200)).get(partition, [])
            events = [codec.decode(CLOCK, record.value) for record in records if record.value]
            return [event.data for event in events if isinstance(event, ClockAdvanced)]

        yield fresh


async def _named(
    run: str,
    marks: Callable[[], Awaitable[list[Mark]]],
    report: Callable[[Step], None],
    stopping: asyncio.Event,
) -> bool:
    """Wait for a mark that names the run: from then on what it opens is judged by its progress alone."""
    begin = clock.elapsed()
    while (waited := clock.elapsed() - begin) < MARK_SECONDS:
        if stopping.is_set():
            return False
        if any(run in mark.promises for mark in await marks()):
            return True
        if waited > PATIENCE_SECONDS:
            report(Step("waiting", 0.0, "waiting for the clock to name the run; is `steward clock` running?"))
    raise ImportRefused(
        f"no clock writer has named run {run} within {MARK_SECONDS:.0f} s; start `steward clock`, "
        "and the same command goes on with this import"
    )
