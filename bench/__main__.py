"""The `python -m bench` command."""

import argparse
import os
import sys
from pathlib import Path

from bench import latency, profiling, throughput
from bench.systems import Stuck
from services.runtime.embedded.errors import EmbeddedError
from services.runtime.settings import PREFIX


def main() -> int:
    arguments = _parser().parse_args()
    # A setting left in the shell would be measured as if it were shipped.
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]
    if arguments.bench == "profile":
        profiling.run(arguments.events, arguments.accounts)
        return 0
    command = " ".join(["python -m bench", *sys.argv[1:]])
    try:
        if arguments.bench == "latency":
            latency.run(arguments.seconds, command, arguments.json)
            return 0
        throughput.run(arguments.events, arguments.accounts, arguments.samples, command, arguments.json)
    except (throughput.Different, Stuck, EmbeddedError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What Steward costs, beside stock Faust.")
    parser.add_argument(
        "bench",
        nargs="?",
        choices=("throughput", "latency", "profile"),
        default="throughput",
        help="throughput (default) or latency on Apache Kafka, or a profile of the engine without a broker",
    )
    parser.add_argument("--events", type=_events, default=throughput.EVENTS, help="facts in the topic (%(default)s)")
    parser.add_argument("--accounts", type=int, default=1_000, help="keys (%(default)s)")
    parser.add_argument("--samples", type=int, default=3, help="of each system, in turn (%(default)s)")
    parser.add_argument("--seconds", type=int, default=latency.SECONDS, help="of load at each rate (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures there, too")
    return parser


def _events(text: str) -> int:
    events = int(text)
    if events < throughput.LEAST_EVENTS:
        raise argparse.ArgumentTypeError(
            f"{events} are too few: of fewer than {throughput.LEAST_EVENTS} none is accepted"
        )
    return events


if __name__ == "__main__":
    sys.exit(main())
