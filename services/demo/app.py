"""The demo from beginning to end: everything started, half a year imported, two days lived, each effect judged."""

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from schemas.renewals import SALE
from schemas.sources import SYSTEM_OF_RECORD
from services.core.errors import OperatorError
from services.core.instants import DAY, HOUR, MINUTE, Instant
from services.demo import company, effects, export, listed, receiver, scores, story
from services.demo.driver import Awaited, Driver, SimulatedTime
from services.demo.effects import Effect, Outcome
from services.demo.scores import Scores
from services.demo.screen import WIDTH, Arrival, Screen
from services.demo.stack import PROCESSES, Stack, started
from services.handoff import report
from services.handoff.app import read_policy
from services.ingest import clock as marks
from services.ingest import importer, sources
from services.ingest.model import account_of
from services.runtime import clock, kafka, log

READY_SECONDS, WITHHELD_READY_SECONDS = 45.0, 15.0
WAIT_SECONDS, WITHHELD_WAIT_SECONDS = 10.0, 5.0  # for an effect
LOOK_SECONDS, ARRIVALS_SECONDS, LINGER_SECONDS = 0.25, 0.05, 1.0
CLOSE_SECONDS = 5.0
BEFORE = 30 * MINUTE  # before the first morning's work the live days begin
WEEKEND_STEP = 12 * HOUR
DONE, MISSING, REFUSED, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the person who starts the demo wants. `log`: where the receiver writes; `without`: what is withheld."""

    once: bool = False
    as_json: bool = False
    log: Path | None = None
    without: frozenset[str] = frozenset()


def withheld(names: str) -> frozenset[str]:
    """Names of services, from a comma-separated list. Raises OperatorError for an unknown one."""
    wanted = frozenset(name.strip() for name in names.split(",") if name.strip())
    if unknown := wanted - PROCESSES.keys():
        raise OperatorError(
            f"'{', '.join(sorted(unknown))}' is no service of the demo; those are {', '.join(PROCESSES)}"
        )
    return wanted


async def show(policy: Path, wishes: Wishes, stopping: asyncio.Event) -> int:
    """Show the demo; the exit code. With `as_json` one object goes to standard output, and nothing else.

    Raises OperatorError when something could not be started, or ended by itself.
    """
    stream = sys.stderr if wishes.as_json else sys.stdout
    console = Console(file=stream, width=None if stream.isatty() else WIDTH)
    try:
        code, outcomes = await Demo(policy, wishes, stopping, console).run()
    except OperatorError:
        if wishes.as_json:
            sys.stdout.write(_as_json(REFUSED, []))
        raise
    if wishes.as_json:
        sys.stdout.write(_as_json(code, outcomes))
    return code


def _as_json(code: int, outcomes: Sequence[Outcome]) -> str:
    told = [
        {"name": one.name, "seen": one.seen, "seconds": None if one.seconds is None else round(one.seconds, 3)}
        for one in outcomes
    ]
    return json.dumps({"effects": told, "exit": code}, indent=2) + "\n"


class Demo:
    """One showing."""

    def __init__(self, policy: Path, wishes: Wishes, stopping: asyncio.Event, console: Console) -> None:
        self._wishes = wishes
        self._stopping = stopping
        self._patience = WITHHELD_WAIT_SECONDS if wishes.without else WAIT_SECONDS
        self._policy = company.with_people(read_policy(policy))
        self._agreed = company.agreement(self._policy)
        self._posts = story.posts(self._agreed)
        self._effects = effects.expected(self._agreed)
        self._turns = scores.expected(self._agreed)
        self._morning = self._agreed.calendar.add(self._agreed.start, 1) - BEFORE
        self._scores = Scores(self._morning)
        self._time = SimulatedTime(self._agreed.eve)
        self._screen = Screen(console, self._agreed, lambda: self._time.at, len(self._effects))
        # Without rules it would refuse to start.
        self._without = wishes.without if self._agreed.health else wishes.without | {"health"}

    async def run(self) -> tuple[int, list[Outcome]]:
        """The exit code and what was seen: 0 when every effect was, 1 when not, 130 when a person ended it before."""
        log.configure("demo", "error")  # the clock writer lives in this process; its news would tear the picture
        with tempfile.TemporaryDirectory(prefix="steward-demo-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            policy = folder / "policy.yaml"
            policy.write_text(self._policy.model_dump_json(exclude_none=True))
            arrivals = self._wishes.log or folder / "receiver.jsonl"
            async with receiver.receiving(arrivals) as url:
                self._screen.say("Starting broker, Redis and services ...")
                with started(folder, policy, url, self._without) as stack:
                    async with self._ticking(stack):
                        return await self._shown(stack, folder, arrivals)

    @asynccontextmanager
    async def _ticking(self, stack: Stack) -> AsyncIterator[None]:
        """Marks of the simulated time are written while the block runs, unless the clock is withheld."""
        if "clock" in self._wishes.without:
            yield
            return
        ended = asyncio.Event()
        time = marks.Time(now=self._time.now, simulated=True)
        stack.tasks["clock"] = ticking = asyncio.create_task(marks.write(stack.settings, ended, time))
        try:
            yield
        finally:
            ended.set()
            await _closed(ticking)

    async def _shown(self, stack: Stack, folder: Path, arrivals: Path) -> tuple[int, list[Outcome]]:
        lacking = partial(self._lacking, arrivals)
        driver = Driver(self._agreed, self._time, self._screen.news, stack, lacking, self._patience, self._stopping)
        async with self._watching(stack, driver, arrivals):
            outcomes = [await self._past(stack, folder)]
            if not self._stopping.is_set() and "clock" not in self._wishes.without:
                outcomes += await self._weekend(stack, driver)
                with self._screen.shown():
                    await driver.tell(self._posts, [*self._effects, *self._turns], story.ends(self._agreed))
            if self._stopping.is_set():
                self._screen.say("Stopped; nothing is left behind.")
                return INTERRUPTED, []
            outcomes += await self._judged(stack, driver, arrivals)
            self._screen.attention()
            self._screen.outcomes(outcomes)
            missing = [outcome for outcome in outcomes if not outcome.seen]
            if missing:
                self._screen.say(f"Missing: {len(missing)} of {len(outcomes)} effects, named above.")
                return MISSING, outcomes
            slowest = max(outcome.seconds or 0.0 for outcome in outcomes)
            self._screen.say(f"All {len(outcomes)} effects were seen, the slowest {slowest:.2f} s after its cause.")
            if not self._wishes.once:
                await self._linger(stack, driver)
        return DONE, outcomes

    def _lacking(self, arrivals: Path, wanted: Sequence[Awaited]) -> list[Awaited]:
        """Those that have not come yet."""
        arrived = effects.first(receiver.entries(arrivals))
        return [
            one
            for one in wanted
            if (one.told not in arrived if isinstance(one, Effect) else self._scores.first(one) is None)
        ]

    # -- the past ------------------------------------------------------------------------------------------------

    async def _past(self, stack: Stack, folder: Path) -> Outcome:
        """Import half a year while the services start; what came of it."""
        sold = company.history(self._agreed)
        count = company.breaches(self._agreed, sold)
        sentence = f"{company.HISTORY_DAYS} days of history brought {count} breaches, and no alert"
        nothing = Outcome("history", sentence, seen=False)
        await sources.register(stack.settings, company.CRM, 10, SYSTEM_OF_RECORD)
        await sources.register(stack.settings, company.BILLING, 50)
        await sources.register(stack.settings, company.DESK, 50)
        if "clock" in self._wishes.without:
            self._screen.say("Without a clock no run is named and nothing becomes due: there is nothing to show.")
            return nothing
        patience = WITHHELD_READY_SECONDS if self._wishes.without else READY_SECONDS
        importing = asyncio.create_task(self._imported(stack, folder, sold))
        try:
            late = await stack.ready(patience, self._stopping)
            self._screen.say(await importing)
        finally:
            importing.cancel()
            await asyncio.wait([importing], timeout=CLOSE_SECONDS)
        if late:
            self._screen.say(f"Not ready within {patience:.0f} s: {', '.join(late)}.")
        deadline = clock.elapsed() + self._patience
        while not self._stopping.is_set() and clock.elapsed() < deadline:
            stack.check()
            rows = (await report.read(stack.settings)).items()
            if sum(len(row.breached) for (kind, _), row in rows if kind == SALE) == count:
                return Outcome("history", sentence, seen=True)
            await asyncio.sleep(LOOK_SECONDS)
        return nothing

    async def _imported(self, stack: Stack, folder: Path, sold: list[company.Sale]) -> str:
        """Import the history; what became of it, in words."""
        file, mapping = export.write(folder, self._agreed, sold)
        try:
            summary = await importer.import_file(
                stack.settings, file, mapping, report=lambda _: None, stopping=self._stopping
            )
        except OperatorError as error:
            return f"The history could not be imported: {error}"
        return f"Imported {company.HISTORY_DAYS} days of {summary.accounts} accounts: {summary.sentence}."

    async def _weekend(self, stack: Stack, driver: Driver) -> list[Outcome]:
        """Let the clock pass to the first morning; whether everybody was scored at the end of its last day."""
        if untold := scores.untold(self._agreed):
            self._screen.say(untold)
        whole, found, unsure = len(company.companies()), 0, 0
        # Each night by itself: whoever hears of the import's end only on Monday would doubt everybody until then.
        for night in (self._morning - 2 * DAY, self._morning - DAY, self._morning):
            await driver.advance(night, WEEKEND_STEP)
            if self._agreed.health is not None:
                found, unsure = await self._closed(stack, night, whole)
        if self._agreed.health is None:
            return []
        fallen = scores.fallen(self._scores.past)
        self._screen.say(f"A weekend passes: {fallen} customers fall a band because nobody is in touch.")
        sentence = f"each of the {whole} customers has a score, {unsure} of them a provisional one"
        return [Outcome("scores", sentence, seen=found == whole)]

    async def _closed(self, stack: Stack, morning: Instant, whole: int) -> tuple[int, int]:
        """How many customers were scored at the end of the day before, as soon as all are; how many provisionally."""
        deadline = clock.elapsed() + self._patience
        while True:
            found, unsure = scores.closed(self._scores, morning)
            if found == whole or clock.elapsed() > deadline or self._stopping.is_set():
                return found, unsure
            stack.check()
            await asyncio.sleep(LOOK_SECONDS)

    # -- the present ---------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _watching(self, stack: Stack, driver: Driver, arrivals: Path) -> AsyncIterator[None]:
        """The screen follows the receiver's log and the attention list while the block runs."""
        over = asyncio.Event()
        tasks = [
            asyncio.create_task(self._alerts(driver, arrivals, over)),
            asyncio.create_task(self._attention(stack, over)),
            asyncio.create_task(self._turned(stack, over)),
        ]
        try:
            yield
        finally:
            over.set()  # a cancellation may be swallowed on its way
            for task in tasks:
                await _closed(task)

    async def _alerts(self, driver: Driver, arrivals: Path, over: asyncio.Event) -> None:
        causes = {effect.told: effect.cause for effect in self._effects}
        shown = 0
        while not over.is_set():
            for entry in receiver.entries(arrivals)[shown:]:
                shown += 1
                # The clock was held there until it came; by now it may have gone on.
                at = causes.get(effects.told_by(entry), self._time.at)
                self._screen.alert(Arrival(at, entry, effects.seconds(driver.caused.get(at), entry)))
            await asyncio.sleep(ARRIVALS_SECONDS)

    async def _attention(self, stack: Stack, over: asyncio.Event) -> None:
        while not over.is_set():
            try:
                found = await listed.needs(stack.settings, self._agreed)
                self._screen.needs, self._screen.trouble = found, ""
            except OperatorError as error:
                self._screen.trouble = str(error)
            await asyncio.sleep(LOOK_SECONDS)

    async def _turned(self, stack: Stack, over: asyncio.Event) -> None:
        """Follow what becomes of scores."""
        names = {account_of(one.home): one.name for one in (*company.companies(), story.NEWCOMER)}
        await kafka.ensure_topics(stack.settings, {topic.name: topic.config for topic in scores.TOPICS})
        shown = 0
        async with kafka.follow(stack.settings, scores.TOPICS) as topics:
            while not over.is_set():
                records, read = await topics.fresh(), clock.now()
                for record in records:
                    self._scores.take(record.topic, record.value or b"", read)
                for turned in self._scores.changes[shown:]:
                    shown += 1
                    self._screen.turned(
                        turned.at, names.get(turned.account, turned.account), scores.told(turned.change)
                    )
                await asyncio.sleep(ARRIVALS_SECONDS)

    # -- the end -------------------------------------------------------------------------------------------------

    async def _judged(self, stack: Stack, driver: Driver, arrivals: Path) -> list[Outcome]:
        wanted = len(self._posts)
        posted = f"all {wanted} requests were answered as they should be, the forged one with 401"
        shown = await self._listed(stack)
        entries = receiver.entries(arrivals)
        extra = effects.surplus(self._effects, entries)
        nothing_else = f"nothing else arrived{': ' if extra else ''}{'; '.join(extra)}"
        told = [
            *effects.judged(self._effects, entries, driver.caused),
            *scores.judged(self._turns, self._scores, driver.caused),
        ]
        return [
            Outcome("requests", posted, seen=len(driver.answered) == wanted),
            *told,
            *shown,
            Outcome("nothing-else", nothing_else, seen=not extra),
        ]

    async def _listed(self, stack: Stack) -> list[Outcome]:
        """Whether the attention list shows as breached what nobody accepted and nothing else, and why a band fell."""
        right = story.open_ones(self._agreed)
        falling = {turn.company.name for turn in self._turns if turn.at is not None}
        breached, fell, deadline = set[str](), dict[str, str](), clock.elapsed() + self._patience
        while True:
            with suppress(OperatorError):
                found = await listed.needs(stack.settings, self._agreed)
                breached, fell = listed.breached(found), listed.fell(found)
            if (breached == right and falling <= fell.keys()) or clock.elapsed() > deadline or self._stopping.is_set():
                break
            stack.check()
            await asyncio.sleep(LOOK_SECONDS)
        sentence = f"the attention list shows as breached exactly {', '.join(sorted(right))}"
        shown = {name: f" ({fell[name].partition(': ')[0].lower()})" if name in fell else "" for name in falling}
        return [
            Outcome("attention", sentence, seen=breached == right),
            *(
                Outcome(f"{name.lower()}-listed", f"the attention list shows {name} and why{why}", seen=bool(why))
                for name, why in shown.items()
            ),
        ]

    async def _linger(self, stack: Stack, driver: Driver) -> None:
        settings = stack.settings
        self._screen.say(
            "Everything still runs, one simulated step a second. Look around in another terminal, for example with\n"
            f"  export STEWARD_KAFKA={settings.kafka} STEWARD_REDIS={settings.redis} "
            f"STEWARD_PARTITIONS={settings.partitions}\n"
            "  steward attention; steward handoffs report; steward ingest runs\n"
            f"Webhooks are received at {stack.ingest_url}, alerts at {settings.alert_url}.\n"
            "Ctrl-C ends it."
        )
        with self._screen.shown():
            while not self._stopping.is_set():
                await driver.step()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), LINGER_SECONDS)


async def _closed(task: "asyncio.Task[None]") -> None:
    """Wait until a task that was told to end has, but not for ever. An error of the clock's was told by `check`."""
    done, _ = await asyncio.wait([task], timeout=CLOSE_SECONDS)
    if not done:
        task.cancel()
    elif not task.cancelled():
        task.exception()
