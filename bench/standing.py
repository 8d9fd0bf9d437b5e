"""What the samples of the small work come to: medians by row, a table, and the figures that are to be reached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.contest import AT_LEAST_ONCE, EXACTLY_ONCE, LOOP, STOCK, STREAMS, STREAMS_EXACTLY_ONCE
from bench.goals import Goal
from bench.report import Spread, spread

ONE_WORKER, TWO_WORKERS = f"{EXACTLY_ONCE.name}, one worker", f"{EXACTLY_ONCE.name}, two workers"
GROWTH = (1_000, 100_000, 1_000_000)  # accounts
RATE, COST, BROKER, CORES = "events_per_second", "cpu_us_per_event", "broker_cpu_us_per_event", "broker_cores"

UNSTEADY = 1.5  # between the fastest and the slowest calibration loop
BUSY = 4.0  # the bench leaves about 2 behind itself

Summary = Mapping[str, Mapping[str, Spread]]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one sample gave: of `events` after the warm-up, as readers of committed records saw them come."""

    row: str
    accounts: int
    calibration_us: float
    load: float
    events: int
    seconds: float
    cpu: float
    broker_cpu: float

    @property
    def rate(self) -> float:
        return self.events / self.seconds

    @property
    def cost(self) -> float:
        """CPU microseconds per event, of the system's processes."""
        return self.cpu / self.events * 1e6

    @property
    def broker_cost(self) -> float:
        """CPU microseconds per event, of the broker."""
        return self.broker_cpu / self.events * 1e6


def grown(accounts: int) -> str:
    """The row of our engine with so many accounts."""
    return f"{EXACTLY_ONCE.name}, {accounts:,} accounts"


def summary(samples: Sequence[Measured]) -> dict[str, dict[str, Spread]]:
    """Median, least and greatest of each figure, by row."""
    rows: dict[str, list[Measured]] = {}
    for sample in samples:
        rows.setdefault(sample.row, []).append(sample)
    return {
        row: {
            RATE: spread([sample.rate for sample in of_row]),
            COST: spread([sample.cost for sample in of_row]),
            BROKER: spread([sample.broker_cost for sample in of_row]),
            CORES: spread([sample.broker_cpu / sample.seconds for sample in of_row], digits=2),
        }
        for row, of_row in rows.items()
    }


def goals(found: Summary) -> list[Goal]:
    """Our rows beside their peers', in percent or times, as the design of the engine asks for them."""

    def ratio(what: str, ours: str, theirs: str) -> float:
        return found[ours][what]["median"] / found[theirs][what]["median"]

    def cost(ours: str, theirs: str, limit: float) -> Goal:
        return Goal(f"CPU per event: {ours} to {theirs}", 100 * ratio(COST, ours, theirs), limit, "%")

    def rate(ours: str, theirs: str, limit: float) -> Goal:
        return Goal(f"rate: {ours} to {theirs}", 100 * ratio(RATE, ours, theirs), limit, "%", at_least=True)

    once, least, streams = EXACTLY_ONCE.name, AT_LEAST_ONCE.name, STREAMS_EXACTLY_ONCE.name
    wanted = [
        cost(once, streams, 50.0),
        rate(once, streams, 100.0),
        cost(least, STREAMS.name, 67.0),
        cost(least, LOOP.name, 50.0),
        Goal(f"rate: {once} to {STOCK.name}", ratio(RATE, once, STOCK.name), 50.0, "times", at_least=True),
        rate(TWO_WORKERS, ONE_WORKER, 170.0),
    ]
    sizes = [grown(accounts) for accounts in GROWTH if grown(accounts) in found]
    return wanted + [rate(size, sizes[0], 80.0) for size in sizes[1:]]


def as_json(sample: Measured) -> dict[str, object]:
    return {
        "row": sample.row,
        "accounts": sample.accounts,
        "calibration_us": round(sample.calibration_us),
        "load_before": round(sample.load, 2),
        "events": sample.events,
        "seconds": round(sample.seconds, 3),
        "cpu_seconds": round(sample.cpu, 3),
        "broker_cpu_seconds": round(sample.broker_cpu, 3),
        RATE: round(sample.rate, 1),
        COST: round(sample.cost, 2),
        BROKER: round(sample.broker_cost, 2),
    }


def line(sample: Measured) -> str:
    """One sample, as it is told while the bench runs."""
    return (
        f"  {sample.row:<42} calibration {sample.calibration_us:>6,.0f} µs  {sample.rate:>9,.0f} events/s  "
        f"{sample.cost:>7,.2f} CPU-µs/event  broker {sample.broker_cost:>7,.2f}  "
        f"({sample.events:,} in {sample.seconds:.2f} s, load {sample.load:.1f})"
    )


def steadiness(samples: Sequence[Measured]) -> dict[str, Spread]:
    """How steady the machine was: the calibration loop and the load before each sample."""
    return {
        "calibration_us": spread([sample.calibration_us for sample in samples]),
        "load_before": spread([sample.load for sample in samples], digits=2),
    }


def doubts(steady: Mapping[str, Spread]) -> list[str]:
    """Why the figures should not be trusted, a sentence each."""
    loop, load = steady["calibration_us"], steady["load_before"]
    found = []
    if loop["max"] > UNSTEADY * loop["min"]:
        found.append(
            f"The calibration loop took from {loop['min']:,.0f} to {loop['max']:,.0f} µs: "
            "somebody else used the machine, so rates and ratios between samples say little."
        )
    if load["median"] > BUSY:
        found.append(f"The load before samples was {load['median']:.1f}: repeat this on a quiet machine.")
    return found


def table(found: Summary) -> str:
    """The summary for people."""
    rows = [
        f"{'':<44}{'events/s, median (min–max)':<34}{'CPU-µs/event, median (min–max)':<34}broker: CPU-µs/event, cores"
    ]
    for row, figures in found.items():
        rate, cost = figures[RATE], figures[COST]
        rates = f"{rate['median']:,.0f} ({rate['min']:,.0f}–{rate['max']:,.0f})"
        costs = f"{cost['median']:,.1f} ({cost['min']:,.1f}–{cost['max']:,.1f})"
        broker = f"{figures[BROKER]['median']:,.1f}, {figures[CORES]['median']:.2f}"
        rows.append(f"{row:<44}{rates:<34}{costs:<34}{broker}")
    return "\n".join(rows)
