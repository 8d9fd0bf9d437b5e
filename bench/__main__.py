"""The `python -m bench` command."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from bench import due, health, latency, profiling, recovery, step
from bench.systems import Stuck
from services.runtime.embedded.errors import EmbeddedError, Unavailable
from services.runtime.settings import PREFIX

DEFAULT = ("step", "health")


def main() -> int:
    parser = _parser()
    arguments = parser.parse_args()
    chosen = (arguments.bench,) if arguments.bench else DEFAULT
    events = arguments.events
    if "step" in chosen and events is not None and events < step.LEAST_EVENTS:
        parser.error(f"{events} events are too few: of fewer than {step.LEAST_EVENTS} none is accepted")
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
    except (step.Different, Stuck, EmbeddedError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _step(told: argparse.Namespace, command: str) -> None:
    step.run(told.events or step.EVENTS, told.accounts, told.samples or step.SAMPLES, command, told.json)


def _throughput(told: argparse.Namespace, command: str) -> None:
    try:
        from bench import throughput  # noqa: PLC0415  # only this bench needs confluent-kafka
    except ModuleNotFoundError as error:
        raise Unavailable(f"{error.name} is missing; `make bench-throughput` installs it") from error
    events, samples = told.events or throughput.EVENTS, told.samples or throughput.SAMPLES
    throughput.run(throughput.Size(events, told.accounts, samples, told.growth), command, told.json)


def _health(told: argparse.Namespace, command: str) -> None:
    health.run(told.events or health.EVENTS, health.SIZES, told.samples or health.SAMPLES, command, told.json)


def _latency(told: argparse.Namespace, command: str) -> None:
    parts = tuple(told.part or latency.PARTS)
    latency.run(told.seconds, command, told.json, parts=parts, timers=told.timers, mass=told.mass)


def _recovery(told: argparse.Namespace, command: str) -> None:
    sizes = tuple(told.sizes or recovery.SIZES)
    recovery.run(sizes, told.repetitions, command, told.json)


def _profile(told: argparse.Namespace, _command: str) -> None:
    profiling.run(told.events or step.EVENTS, told.accounts, is_small=told.small)


BENCHES: Mapping[str, Callable[[argparse.Namespace, str], None]] = {
    "step": _step,
    "throughput": _throughput,
    "health": _health,
    "latency": _latency,
    "recovery": _recovery,
    "profile": _profile,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What Steward costs, beside stock Faust.")
    parser.add_argument(
        "bench",
        nargs="?",
        choices=tuple(BENCHES),
        help="the handoff step, throughput, latency or recovery on Apache Kafka; the health step, or a profile of the "
        f"engine with the handoff processor, without a broker (default: {', then '.join(DEFAULT)})",
    )
    parser.add_argument(
        "--events", type=_number, help=f"of step ({step.EVENTS}), throughput (400000), health ({health.EVENTS})"
    )
    parser.add_argument(
        "--accounts", type=_number, default=1_000, help="keys (%(default)s); health has sizes of its own"
    )
    parser.add_argument(
        "--samples",
        type=_number,
        help=f"of each system, in turn ({step.SAMPLES}), or of each size of health ({health.SAMPLES})",
    )
    parser.add_argument("--seconds", type=_number, default=latency.SECONDS, help="of load at each rate (%(default)s)")
    parser.add_argument(
        "--part", action="append", choices=latency.PARTS, help="of the latencies; may be repeated (default: all)"
    )
    parser.add_argument("--timers", type=_number, default=due.TIMERS, help="armed while due times pass (%(default)s)")
    parser.add_argument("--mass", type=_number, default=due.MASS, help="handoffs due at one instant (%(default)s)")
    parser.add_argument(
        "--sizes", type=_number, nargs="+", help=f"accounts to restore, each in turn (default: {recovery.SIZES})"
    )
    parser.add_argument(
        "--repetitions", type=_number, default=recovery.REPETITIONS, help="workers to kill (%(default)s)"
    )
    parser.add_argument(
        "--growth", action="store_true", help="throughput also with 100,000 and 1,000,000 accounts; takes long"
    )
    parser.add_argument("--small", action="store_true", help="profile with the small step of throughput")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures there, too")
    return parser


def _number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is too few")
    return number


if __name__ == "__main__":
    sys.exit(main())
