"""The `python -m bench` command."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from bench import health, latency, profiling, throughput
from bench.systems import Stuck
from services.runtime.embedded.errors import EmbeddedError
from services.runtime.settings import PREFIX

DEFAULT = ("throughput", "health")


def main() -> int:
    parser = _parser()
    arguments = parser.parse_args()
    chosen = (arguments.bench,) if arguments.bench else DEFAULT
    events = arguments.events
    if "throughput" in chosen and events is not None and events < throughput.LEAST_EVENTS:
        parser.error(f"{events} events are too few: of fewer than {throughput.LEAST_EVENTS} none is accepted")
    if arguments.json and len(chosen) > 1:
        parser.error(f"--json keeps the figures of one bench; name it: {' or '.join(chosen)}")
    # A setting left in the shell would be measured as if it were shipped.
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]
    command = " ".join(["python -m bench", *sys.argv[1:]])
    try:
        for number, bench in enumerate(chosen):
            print(end="\n\n" if number else "")
            BENCHES[bench](arguments, command)
    except (throughput.Different, Stuck, EmbeddedError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _throughput(told: argparse.Namespace, command: str) -> None:
    samples = told.samples or throughput.SAMPLES
    throughput.run(told.events or throughput.EVENTS, told.accounts, samples, command, told.json)


def _health(told: argparse.Namespace, command: str) -> None:
    health.run(told.events or health.EVENTS, health.SIZES, told.samples or health.SAMPLES, command, told.json)


def _latency(told: argparse.Namespace, command: str) -> None:
    latency.run(told.seconds, command, told.json)


def _profile(told: argparse.Namespace, _command: str) -> None:
    profiling.run(told.events or throughput.EVENTS, told.accounts)


BENCHES: Mapping[str, Callable[[argparse.Namespace, str], None]] = {
    "throughput": _throughput,
    "health": _health,
    "latency": _latency,
    "profile": _profile,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What Steward costs, beside stock Faust.")
    parser.add_argument(
        "bench",
        nargs="?",
        choices=tuple(BENCHES),
        help="throughput or latency on Apache Kafka; the health step, or a profile of the engine with the handoff "
        f"processor, without a broker (default: {', then '.join(DEFAULT)})",
    )
    parser.add_argument(
        "--events", type=_number, help=f"facts in the topic ({throughput.EVENTS}), or for health ({health.EVENTS})"
    )
    parser.add_argument(
        "--accounts", type=_number, default=1_000, help="keys (%(default)s); health has sizes of its own"
    )
    parser.add_argument(
        "--samples",
        type=_number,
        help=f"of each system, in turn ({throughput.SAMPLES}), or of each size of health ({health.SAMPLES})",
    )
    parser.add_argument("--seconds", type=_number, default=latency.SECONDS, help="of load at each rate (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures there, too")
    return parser


def _number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is too few")
    return number


if __name__ == "__main__":
    sys.exit(main())
