"""Runs of many seeds on brokers that they share where the fault is not the broker's."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

from tests.fault import brokers, nemesis, scenario
from tests.fault.brokers import Broker, Ground
from tests.fault.controls import CONTROLS, FOUND
from tests.fault.nemesis import Setting
from tests.fault.scenario import Outcome

SPARE = 1000  # a seed whose faults met no flush is replaced by the one so much further on
TRIES = 3


@dataclass(slots=True)
class Campaign:
    """Seeds and controls, `at_once` of them at a time; logs of failed ones stay below the folder."""

    folder: Path
    at_once: int
    outcomes: list[Outcome] = field(default_factory=list)
    _run: str = field(default_factory=lambda: token_hex(3))
    _free: list[int] = field(default_factory=list)
    _broker: Broker | None = None

    async def run(self, seeds: Sequence[int], controls: Sequence[str] = ()) -> list[str]:
        """Run all; answers a sentence for each that went wrong."""
        slots, alone = asyncio.Semaphore(self.at_once), asyncio.Lock()
        self._free = list(range(self.at_once))
        with brokers.running(self.folder / "kafka", self.at_once) as self._broker:
            said = await asyncio.gather(
                *(self._seed(seed, slots, alone) for seed in seeds),
                *(self._control(name, slots, alone) for name in controls),
                return_exceptions=True,
            )
        return [f"a run broke: {one!r}" if isinstance(one, BaseException) else one for one in said if one]

    async def _seed(self, seed: int, slots: asyncio.Semaphore, alone: asyncio.Lock) -> str | None:
        for number in range(seed, seed + TRIES * SPARE, SPARE):
            setting = nemesis.setting(number, scenario.LOAD_SECONDS)
            outcome = await self._one(number, setting, f"seed-{number}", slots, alone)
            self.outcomes.append(outcome)
            print(outcome, flush=True)
            if outcome.problems:
                return _failure(outcome)
            if outcome.met_a_flush:
                return None
            print(
                f"seed {number} does not count: no fault met a flush; seed {number + SPARE} takes its place", flush=True
            )
        return f"seed {seed} and those in its place met no flush"

    async def _control(self, name: str, slots: asyncio.Semaphore, alone: asyncio.Lock) -> str | None:
        setting = CONTROLS[name]
        for number in range(TRIES):
            outcome = await self._one(number, setting, f"control-{name}-{number}", slots, alone, without=name)
            print(f"control {name}: {outcome}", flush=True)
            found = [problem for problem in outcome.problems if FOUND[name] in problem]
            if found:
                print(f"control {name}: {len(found)} found, as it must be: {found[0]}", flush=True)
                return None
        return f"control {name}: without this protection the oracle never said '{FOUND[name]}'; it would not see it go"

    async def _one(
        self,
        seed: int,
        setting: Setting,
        name: str,
        slots: asyncio.Semaphore,
        alone: asyncio.Lock,
        without: str | None = None,
    ) -> Outcome:
        folder, prefix = self.folder / name, f"f-{self._run}-{name}-"
        async with AsyncExitStack() as open_now:
            if setting.kind == "cluster":  # three nodes at a time are enough for two cores
                await open_now.enter_async_context(alone)
            await open_now.enter_async_context(slots)
            ground = await open_now.enter_async_context(self._ground(setting, folder / "kafka"))
            return await scenario.run(seed, setting, ground, folder, prefix, without=without)

    @asynccontextmanager
    async def _ground(self, setting: Setting, folder: Path) -> AsyncIterator[Ground]:
        if setting.kind == "shared":
            with self._shared() as ground:
                yield ground
            return
        # Starting a broker takes seconds, in which the other runs go on.
        with ExitStack() as open_now:
            own = brokers.clustered(folder) if setting.kind == "cluster" else brokers.own(folder)
            ground = await asyncio.to_thread(open_now.enter_context, own)
            try:
                yield ground
            finally:
                await asyncio.to_thread(open_now.close)

    @contextmanager
    def _shared(self) -> Iterator[Ground]:
        assert self._broker is not None
        way = self._free.pop()
        with ExitStack() as after:
            after.callback(self._free.append, way)
            yield brokers.shared(self._broker, way)


def _failure(outcome: Outcome) -> str:
    shown = "\n  ".join(outcome.problems[:12])
    return (
        f"seed {outcome.seed} FAILED with {len(outcome.problems)} problems; replay it: "
        f"python -m tests.fault --only {outcome.seed}; logs in {outcome.folder}\n  {shown}"
    )
