"""`python -m tests.kafka.child '{"poison": "fact-7"}'`: a real worker that counts, with something wrong in it."""

import asyncio
import os
import sys

import msgspec

from services.runtime import log
from services.runtime.engine import worker
from services.runtime.engine.steps import Step
from services.runtime.settings import load
from tests.kafka.counting import Counting, Trouble

DIED = 86


def main() -> None:
    settings, trouble = load(), msgspec.json.decode(sys.argv[1], type=Trouble)
    log.configure("counting", settings.log_level)
    processor = Counting(trouble)
    times = 0

    async def passed(step: Step, number: int) -> None:
        nonlocal times
        if step == trouble.slow_step and times < trouble.slow_times:
            times += 1
            log.get().info("slow", step=step, partition=number)
            await asyncio.sleep(trouble.slow_seconds)
        if step == trouble.die_at and (not trouble.die_for or trouble.die_for in processor.seen):
            log.get().info("dies", step=step, partition=number)
            sys.stdout.flush()
            os._exit(DIED)

    worker.run(settings, processor, passed=passed)


if __name__ == "__main__":
    main()
