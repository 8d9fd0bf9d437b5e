"""Runs of imports on `cs.sources`: told as they go, read back, given up.

ImportRefused    the import cannot begin or go on; nothing that was acknowledged is lost
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Literal

from schemas import codec
from schemas.sources import Progress, RunAbandoned, RunAdvanced, RunFinished, RunStarted
from schemas.topics import SOURCES
from services.core.errors import OperatorError
from services.core.instants import moment
from services.runtime import clock, kafka
from services.runtime.settings import Settings

SOURCE = "steward/ingest"
ACK_SECONDS = 30.0

RunEvent = type[RunStarted] | type[RunAdvanced] | type[RunFinished] | type[RunAbandoned]


class ImportRefused(OperatorError):
    """The import cannot begin or go on; one sentence."""


@dataclass(frozen=True, slots=True)
class RunState:
    """A run as its last record has it."""

    state: Literal["open", "finished", "abandoned"]
    progress: Progress
    told: datetime


async def runs(settings: Settings) -> list[RunState]:
    """The last state of every run, the latest last."""
    await kafka.ensure_topics(settings, {SOURCES.name: SOURCES.config})
    found = (_state(record.value) for record in await kafka.read_all(settings, SOURCES) if record.value)
    last: dict[str, RunState] = {}
    for state in found:
        before = None if state is None else last.get(state.progress.run)
        if state is not None and (before is None or before.state == "open"):  # closed is final
            last[state.progress.run] = state
    return sorted(last.values(), key=lambda state: state.told)


async def abandon(settings: Settings, run: str) -> str:
    """Give an open run up, so that it restrains no clock, and say so. Raises ImportRefused."""
    known = {state.progress.run: state for state in await runs(settings)}
    if run not in known:
        there = f"there are {', '.join(known)}" if known else "there is none yet"
        raise ImportRefused(f"run '{run}' is not known; {there}")
    state = known[run]
    if state.state != "open":
        raise ImportRefused(f"run {run} was {state.state} on {_day(state.told)}; only an open run can be abandoned")
    async with kafka.Publisher(settings) as publisher:
        await tell(publisher, RunAbandoned, state.progress)
    return f"run {run} is abandoned after {state.progress.sent:,} of {state.progress.facts:,} facts"


def unless_finished(known: Mapping[str, RunState], name: str, path: Path) -> tuple[str, RunState | None]:
    """The run of this content that is open, or the first name that is free. Raises ImportRefused when it is done."""
    for run in (name if number == 1 else f"{name}-{number}" for number in count(1)):
        state = known.get(run)
        if state is None or state.state == "open":
            return run, state
        if state.state == "finished":
            raise ImportRefused(
                f"{path}: the same content was imported as run {run}, finished on {_day(state.told)}; nothing was sent"
            )
    raise AssertionError


async def tell(publisher: kafka.Publisher, kind: RunEvent, progress: Progress) -> None:
    """Say how far a run has come, and return when it is acknowledged. Raises ImportRefused, Refused."""
    run, key = progress.run, f"{progress.source}:{progress.run}"
    word = kind.name().split(".")[2]
    event = kind(
        id=f"{run}:{word}:{progress.sent}",
        source=SOURCE,
        subject=run,
        partitionkey=key,
        time=moment(clock.now()),
        data=progress,
    )
    async with patience(progress):
        await publisher.send(SOURCES, key, codec.encode(event))


@asynccontextmanager
async def patience(progress: Progress) -> AsyncIterator[None]:
    """A limit for acknowledgements, which have none of their own. Raises ImportRefused when it is reached."""
    try:
        async with asyncio.timeout(ACK_SECONDS):
            yield
    except TimeoutError:
        raise ImportRefused(
            f"the broker has acknowledged nothing for {ACK_SECONDS:.0f} s after {progress.sent:,} facts "
            f"of run {progress.run}; when it is back, the same command goes on"
        ) from None


def _state(value: bytes) -> RunState | None:
    try:
        event = codec.decode(SOURCES, value)
    except codec.SchemaError:  # a newer writer's; the clock writer logs it
        return None
    match event:
        case RunStarted() | RunAdvanced():
            return RunState("open", event.data, event.time)
        case RunFinished():
            return RunState("finished", event.data, event.time)
        case RunAbandoned():
            return RunState("abandoned", event.data, event.time)
        case _:
            return None


def _day(time: datetime) -> str:
    return time.isoformat(" ", "minutes")
