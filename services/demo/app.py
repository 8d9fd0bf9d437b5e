"""Shows the demo: progress of the import, the breaches as they come, and what is missing in the end."""

import asyncio
import tempfile
from datetime import datetime
from pathlib import Path

from rich.console import Console

from schemas import codec
from schemas import handoffs as out
from schemas.policies import Policy
from schemas.topics import HANDOFFS
from services.core.errors import OperatorError
from services.core.instants import Instant, moment
from services.demo import story
from services.demo.stack import Stack, started
from services.handoff import report
from services.handoff.app import read_policy
from services.ingest import importer, screen, sources
from services.runtime import clock, kafka
from services.runtime.settings import Settings

WAIT_SECONDS = 30.0
SHOWN = 12  # breaches on the screen; the rest is counted
DONE, MISSING, INTERRUPTED = 0, 1, 130

Breaches = dict[tuple[str, str], Instant]


class Demo:
    """One showing. `without` names services that are not started, to see the demo notice."""

    def __init__(
        self, policy: Path, stopping: asyncio.Event, console: Console, *, once: bool, without: frozenset[str]
    ) -> None:
        self._path = policy
        self._stopping = stopping
        self._console = console
        self._once = once
        self._without = without
        self._customers: dict[str, str] = {}
        self._seen: dict[tuple[str, str], datetime | None] = {}

    async def run(self) -> int:
        """The exit code: 0 when every effect was seen, 1 naming what is missing, 130 when a person ended it before."""
        policy = read_policy(self._path)
        told = story.deals(policy)
        with tempfile.TemporaryDirectory(prefix="steward-demo-") as name:
            folder = Path(name)
            self._console.print("Starting broker, Redis, clock and handoff processor …")
            with started(folder, self._path, self._without) as stack:
                self._console.print(f"  Kafka {stack.settings.kafka}   Redis {stack.settings.redis}")
                return await self._shown(stack, policy, told, folder)

    async def _shown(self, stack: Stack, policy: Policy, told: list[story.Deal], folder: Path) -> int:
        expected = story.breaches(policy, told)
        self._customers = {deal.name: deal.customer for deal in told}
        log, mapping = story.write(folder, told)
        watching = asyncio.create_task(self._watch(stack.settings))
        try:
            missing = await self._import(stack, log, mapping) or await self._await_breaches(stack, expected)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        if self._stopping.is_set():
            self._console.print("Stopped; nothing is left behind.")
            return INTERRUPTED
        self._console.print(report.as_text(await report.read(stack.settings)), end="")
        if missing:
            self._console.print(f"[red]Missing:[/] {missing}")
            return MISSING
        self._console.print(
            f"All {len(expected)} breaches of the story were seen on {HANDOFFS}, each with its due time."
        )
        if not self._once:
            await self._linger(stack)
        return DONE

    async def _import(self, stack: Stack, log: Path, mapping: Path) -> str:
        """Import the story; answers what kept it from beginning, or nothing."""
        await sources.register(stack.settings, story.SOURCE, rank=10, role="system of record")
        with screen.progress(self._console) as step:
            try:
                summary = await importer.import_file(stack.settings, log, mapping, report=step, stopping=self._stopping)
            except importer.ImportRefused as error:
                stack.check()
                return str(error)
        self._console.print(summary.sentence)
        return ""

    async def _await_breaches(self, stack: Stack, expected: Breaches) -> str:
        """Wait until the topic holds exactly the expected breaches; answers what is missing or wrong, or nothing."""
        wanted = {key: moment(at) for key, at in expected.items()}
        deadline = clock.elapsed() + WAIT_SECONDS
        while self._seen != wanted and clock.elapsed() < deadline and not self._stopping.is_set():
            stack.check()
            await asyncio.sleep(0.1)
        lacking = sorted(deal for deal, leg in wanted.keys() - self._seen.keys())
        false = sorted(deal for deal, leg in self._seen.keys() - wanted.keys())
        wrong = sorted(deal for (deal, leg), at in wanted.items() if self._seen.get((deal, leg), at) != at)
        said = []
        for what, deals in (("breaches never seen", lacking), ("false breaches", false), ("wrong due times", wrong)):
            if deals:
                said.append(
                    f"{len(deals)} {what} on {HANDOFFS}: {', '.join(deals[:5])}{' …' if len(deals) > 5 else ''}"
                )
        return "; ".join(said)

    async def _watch(self, settings: Settings) -> None:
        """Read `cs.handoffs` as it grows and show the breaches."""
        await kafka.ensure_topics(settings, {HANDOFFS.name: HANDOFFS.config})
        async with kafka.follow(settings, (HANDOFFS,)) as followed:
            while True:
                for record in await followed.fresh():
                    self._note(codec.decode(HANDOFFS, record.value or b""))
                await asyncio.sleep(0.1)

    def _note(self, event: object) -> None:
        match event:
            case out.SlaBreached():
                data = event.data
                self._seen[data.handoff, data.leg] = data.due
                if len(self._seen) <= SHOWN:
                    due = f"{data.due:%a %d %b %H:%M}" if data.due else ""
                    taken = f"taken {data.accepted:%a %d %b %H:%M}" if data.accepted else "not taken yet"
                    self._console.print(
                        f"[red]breach[/]  {data.handoff}  {self._customers[data.handoff]:<11} due {due}  {taken:<22}  "
                        f"next step: {data.owner}",
                        soft_wrap=True,
                    )
                elif len(self._seen) == SHOWN + 1:
                    self._console.print("        … and more")
            case out.SlaRetracted() if event.data.stage == "breached":
                self._seen.pop((event.data.handoff, event.data.leg), None)
            case _:
                pass

    async def _linger(self, stack: Stack) -> None:
        self._console.print(
            f"Everything still runs. Look around in another terminal with "
            f"STEWARD_KAFKA={stack.settings.kafka} STEWARD_PARTITIONS={stack.settings.partitions} "
            "(for example `steward handoffs report`); Ctrl-C ends it."
        )
        while not self._stopping.is_set():
            stack.check()
            await asyncio.sleep(0.2)


def missing_services(names: str) -> frozenset[str]:
    """Names of services to withhold, from a comma-separated list. Raises OperatorError for an unknown one."""
    wanted = frozenset(name for name in names.split(",") if name)
    if unknown := wanted - {"clock", "handoff"}:
        raise OperatorError(f"'{', '.join(sorted(unknown))}' is no service of the demo; there are clock and handoff")
    return wanted
