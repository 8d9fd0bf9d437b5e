"""Runs a real processor, or the clock writer, in this process; tests start it as `python -m tests.fault.child`."""

import argparse
import asyncio
import faulthandler
import signal
import sys
from functools import partial
from pathlib import Path

from schemas.policies import Policy
from services.core.errors import OperatorError
from services.core.instants import SECOND
from services.handoff.app import read_policy
from services.handoff.processor import HandoffProcessor
from services.ingest.clock import Time, write
from services.runtime import clock, log, service
from services.runtime.engine import names, worker
from services.runtime.first_policy import publish_first
from services.runtime.settings import Settings, load
from tests.fault.failpoint import Trigger
from tests.fault.ledger import Ledger
from tests.fault.protections import TAKEN_OFF

REFUSED = 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fault.child")
    parser.add_argument("role", choices=("handoff", "ledger", "clock"))
    parser.add_argument("--failpoint", type=Path, default=Path("unarmed"), help="the file through which it is armed")
    parser.add_argument("--without", choices=sorted(TAKEN_OFF), help="the protection to take off")
    parser.add_argument("--ahead", type=int, default=0, help="seconds by which the clock writer's clock is wrong")
    told = parser.parse_args()
    log.configure(told.role)
    signal.signal(signal.SIGUSR1, _tell)
    try:
        settings = load()
        if told.role == "clock":
            service.run(lambda stopping: write(settings, stopping, Time(partial(_ahead, told.ahead))))
        else:
            _process(settings, told.role, told.failpoint, told.without)
    except OperatorError as error:
        print(error, file=sys.stderr, flush=True)
        return REFUSED
    return 0


def _tell(*_: object) -> None:
    """Say where every thread and every task of every loop stands: for a process that seems to hang."""
    faulthandler.dump_traceback(all_threads=True)
    for task in list(getattr(asyncio.tasks, "_all_tasks", ())):
        if not task.done():
            task.print_stack(limit=4)


def _ahead(seconds: int) -> int:
    return clock.now() + seconds * SECOND


def _process(settings: Settings, role: str, failpoint: Path, without: str | None) -> None:
    if without is not None:
        TAKEN_OFF[without]()
    trigger = Trigger(failpoint)
    if role == "ledger":
        worker.run(settings, Ledger(counts_repeats=without == "deduplication"), passed=trigger)
        return
    processor, policy = HandoffProcessor(), _policy(settings)
    asyncio.run(publish_first(settings, policy, names.topics_of(processor)))
    worker.run(settings, processor, passed=trigger)


def _policy(settings: Settings) -> Policy:
    return read_policy(settings.policy)


if __name__ == "__main__":
    sys.exit(main())
