"""Our engine with the small reducer, as shipped; `at-least-once` withholds transactions from it.

A start module of the bench's own, because which guarantee holds is no setting: the product asks the broker.
"""

import sys

from bench.small.processor import TallyProcessor
from services.runtime import kafka, log
from services.runtime.engine import worker
from services.runtime.settings import Settings, load


async def _withheld(settings: Settings, patience: float = 0.0) -> bool:  # noqa: ARG001  # the names of what it stands for
    return False


def main() -> None:
    guarantee, label = sys.argv[1:]
    del sys.argv[1:]
    settings = load()
    log.configure(f"tally-{label}", settings.log_level)
    if guarantee == "at-least-once":
        kafka.transactional = _withheld
    worker.run(settings, TallyProcessor(label))


if __name__ == "__main__":
    main()
