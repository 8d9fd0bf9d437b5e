"""Purchase timing tells later silence apart better than recency or count alone: on real purchases, in memory and
through the real processes, whose values must be the same to the last bit.
"""

import asyncio
import csv
import gzip
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import mean

import pytest

from schemas.health import HealthScored
from schemas.interactions import PurchaseMade
from schemas.policies import Policy
from services.core.instants import Instant, instant
from services.core.policy import Policies
from services.core.processor import Context, Fact
from services.health.processor import HealthProcessor
from services.ingest.clock import Time, write
from services.ingest.mapping import TOPICS, MapFile, RowFacts, fit
from services.runtime.documents import load
from services.runtime.embedded.server import Server
from services.runtime.settings import Settings
from tests.outputs import events_of
from tests.pipeline import PARTITIONS, ROOT, Pipeline, running, wait_until

pytestmark = [pytest.mark.data, pytest.mark.slow]

MAP_PATH = ROOT / "deploy/mapping/purchases.yaml"
POLICY_PATH = ROOT / "deploy/policy/steward.yaml"
MAP = load(MAP_PATH, MapFile)
HEADER = ("customer", "date", "amount")
EVERY = 40  # through the processes go the customers whose number it divides: a day of each is closed 184 times
STEP = timedelta(days=31)  # of the clock between two cuts
LEAST = 0.695  # mean AUC on CDNOW

Row = tuple[str, str, str]  # as HEADER names them
Values = Mapping[date, Mapping[str, float]]  # of the signal, by cut and customer


@dataclass(frozen=True, slots=True)
class Customer:
    """One who bought within 180 days before a cut. `is_silent`: and bought nothing in the horizon after it."""

    number: str
    recency: float  # days
    count: int  # purchases before the cut
    is_silent: bool


Truth = Mapping[date, Sequence[Customer]]


# ---------------------------------------------------------------- the data


@pytest.fixture(scope="module")
def log(shared_data: Path) -> list[Row]:
    """CDNOW: columns aligned by spaces, days without times, in order of customer and day."""
    text = gzip.decompress((shared_data / "transactions/CDNOW_master.txt.gz").read_bytes()).decode()
    return [(customer, day, amount) for customer, day, _, amount in map(str.split, text.splitlines()[1:])]


@pytest.fixture(scope="module")
def truth(shared_data: Path) -> Truth:
    found = defaultdict[date, list[Customer]](list)
    with gzip.open(shared_data / "truth/churn_truth_cdnow_master.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            customer = Customer(f"{row['cust']:>05}", float(row["recency_d"]), int(row["n"]), row["churned"] == "1")
            found[date.fromisoformat(row["cut"])].append(customer)
    return found


@pytest.fixture(scope="module")
def judged(log: list[Row], truth: Truth) -> Values:
    return in_memory(log, truth)


def start_of(cut: date) -> datetime:
    return datetime(cut.year, cut.month, cut.day, tzinfo=UTC)


# ---------------------------------------------------------------- in memory


def in_memory(log: Sequence[Row], truth: Truth) -> Values:
    """The value of `activity` of each customer of each cut, judged at the cut from the purchases before it."""
    processor, known = HealthProcessor(), in_force(load(POLICY_PATH, Policy))
    unjudged = Context(policies=known)  # before the first mark facts are taken in, and nothing is scored
    purchases, values = by_customer(log), defaultdict[date, dict[str, float]](dict)
    states = dict.fromkeys(purchases, processor.empty())
    for cut in sorted(truth):
        at = instant(start_of(cut))
        then = Context(at=at, safe=at, policies=known)
        for customer in truth[cut]:
            name, left = customer.number, purchases[customer.number]
            taken = [fact for fact in left if instant(fact.event.time) < at]
            purchases[name] = left[len(taken) :]
            state = processor.decide(name, states[name], taken, unjudged).state
            assert state is not None
            states[name] = state
            decision = processor.due(name, state, then)
            (scored,) = (event for event in events_of(decision.outputs) if isinstance(event, HealthScored))
            values[cut][name] = activity(scored)
    return values


def by_customer(log: Sequence[Row]) -> dict[str, list[Fact]]:
    """The purchases of each customer in order of time, as the shipped map reads them."""
    plan, found = fit(MAP, HEADER, "log"), defaultdict[str, list[Fact]](list)
    arrived = instant(datetime(2026, 1, 1, tzinfo=UTC))
    for number, row in enumerate(log, start=1):
        said = plan.read(number, number + 1, row, arrived)
        assert isinstance(said, RowFacts), said
        (draft,) = said.drafts
        event = draft.event(MAP.source, row[0], run="shop:log", position=number)
        found[row[0]].append(Fact(TOPICS[PurchaseMade], event, arrived))
    return found


def in_force(policy: Policy) -> Policies:
    return Policies({policy.version: policy}, ((0, policy.version),))


def activity(scored: HealthScored) -> float:
    (value,) = (line.value for line in scored.data.contributions if line.signal == "activity")
    assert value is not None
    return value


# ---------------------------------------------------------------- how well it tells them apart


def table(truth: Truth, values: Values) -> list[float]:
    """Print how well each of timing, recency, count and the rank sum of both tells silent customers; their means."""
    print(f"\n{'cut':<10} {'customers':>9} {'silent':>6}   AUC of timing recency  count rank sum")
    found = []
    for cut, customers in sorted(truth.items()):
        recency = [customer.recency for customer in customers]
        count = [-customer.count for customer in customers]
        timing = [-values[cut][customer.number] for customer in customers]
        both = [one + other for one, other in zip(ranks(recency), ranks(count), strict=True)]
        found.append([auc(risk, customers) for risk in (timing, recency, count, both)])
        silent = mean(customer.is_silent for customer in customers)
        print(f"{cut} {len(customers):>9,} {silent:>6.1%}  {printed(found[-1])}")
    means = [mean(column) for column in zip(*found, strict=True)]
    print(f"{'mean':<27}  {printed(means)}")
    return means


def printed(figures: Iterable[float]) -> str:
    return " ".join(f"{figure:>{width}.3f}" for figure, width in zip(figures, (13, 7, 6, 8), strict=True))


def auc(risk: Sequence[float], customers: Sequence[Customer]) -> float:
    """The chance that of a silent customer and one who bought the silent one has the greater risk; ties count half."""
    pairs = list(zip(risk, customers, strict=True))
    bought = sorted(one for one, customer in pairs if not customer.is_silent)
    silent = [one for one, customer in pairs if customer.is_silent]
    return sum(place(bought, one) for one in silent) / (len(silent) * len(bought))


def ranks(numbers: Sequence[float]) -> list[float]:
    ordered = sorted(numbers)
    return [place(ordered, number) for number in numbers]


def place(ordered: Sequence[float], number: float) -> float:
    """How many are less, and half of those that are equal."""
    return (bisect_left(ordered, number) + bisect_right(ordered, number)) / 2


# ---------------------------------------------------------------- the tests


def test_purchase_timing_tells_later_silence_better_than_recency_or_count(truth: Truth, judged: Values) -> None:
    timing, recency, count, _ = table(truth, judged)
    assert timing >= LEAST
    assert timing > max(recency, count)


def test_it_does_so_for_a_wholesaler_with_another_season(shared_data: Path) -> None:
    log = wholesale(shared_data / "transactions/online_retail_2009-12_2010-12.csv.gz")
    truth = {cut: followed(log, cut, 90) for cut in (date(2010, 6, 1), date(2010, 9, 1))}
    timing, recency, count, _ = table(truth, in_memory(log, truth))
    assert timing > max(recency, count)


def wholesale(path: Path) -> list[Row]:
    """One purchase for each invoice that names a customer and cancels nothing; its day as a row of a log of purchases.

    Amounts are of no interest here.
    """
    days = dict[tuple[str, str], str]()
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            customer, invoice = line["Customer ID"].removesuffix(".0"), line["Invoice"]
            if customer and not invoice.startswith("C"):
                days.setdefault((customer, invoice), line["InvoiceDate"][:10].replace("-", ""))
    return sorted((customer, day, "0") for (customer, _), day in days.items())


def followed(log: Sequence[Row], cut: date, horizon: int) -> list[Customer]:
    """Whoever bought within 180 days before the cut, and whether anything followed within the horizon, in days."""
    days = defaultdict[str, list[int]](list)
    for customer, day, _ in log:
        days[customer].append((cut - date.fromisoformat(day)).days)  # until the cut: 0 and below from its day on
    return [
        Customer(customer, min(past), len(past), not any(-horizon < ago <= 0 for ago in found))
        for customer, found in days.items()
        if (past := [ago for ago in found if ago > 0]) and min(past) <= 180
    ]


# ---------------------------------------------------------------- through the processes


class Hands:
    """Simulated time: a clock that stands where it was put."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> Instant:
        return instant(self.at)


@contextmanager
def clock_from(pipeline: Pipeline, begin: datetime) -> Iterator[Hands]:
    """A clock writer in a thread of this process, because a simulated one belongs to whoever moves it."""
    settings = Settings(
        kafka=pipeline.bootstrap, prefix=pipeline.prefix, partitions=PARTITIONS, clock_interval_ms=200, http_port=None
    )
    hands, stopping, loop = Hands(begin), asyncio.Event(), asyncio.new_event_loop()
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(loop.run_until_complete, write(settings, stopping, Time(hands.now, simulated=True)))
        try:
            yield hands
        finally:
            loop.call_soon_threadsafe(stopping.set)
            writing.result(30)
            loop.close()


def test_the_processes_give_every_customer_the_same_values(
    noida: Server, prefix: str, tmp_path: Path, log: list[Row], truth: Truth, judged: Values
) -> None:
    mine = [row for row in log if is_in_sample(row[0])]
    sample = {cut: [one for one in customers if is_in_sample(one.number)] for cut, customers in truth.items()}
    policy = tmp_path / "policy.yaml"
    # Days end where the clock stands, so that it finds every score as of that instant.
    shipped = POLICY_PATH.read_text()
    assert "zone: Europe/Berlin" in shipped
    policy.write_text(shipped.replace("zone: Europe/Berlin", "zone: UTC"))
    with running(noida.bootstrap, prefix, tmp_path, steward_policy=str(policy)) as pipeline:
        values = through_processes(pipeline, mine, sorted(truth))
        assert pipeline.records("dlq.health") == []
    table(sample, values)
    for cut, customers in sample.items():
        names = [customer.number for customer in customers]
        assert {name: values[cut][name] for name in names} == {name: judged[cut][name] for name in names}


def is_in_sample(customer: str) -> bool:
    return int(customer) % EVERY == 0


def through_processes(pipeline: Pipeline, log: Sequence[Row], cuts: Sequence[date]) -> Values:
    """The clock stands at each cut in turn, and what happened since the one before is imported there."""
    values = {}
    ends = ["", *(f"{cut:%Y%m%d}" for cut in cuts)]  # what happens on the day of a cut is not part of its history
    with clock_from(pipeline, start_of(cuts[0])) as hands:
        pipeline.serves("health")
        pipeline.done("source", "register", MAP.source)
        for cut, (since, until) in zip(cuts, pairwise(ends), strict=True):
            while hands.at < start_of(cut):
                step(pipeline, hands, min(hands.at + STEP, start_of(cut)))
            part = [row for row in log if since <= row[1] < until]
            await_closed(pipeline, imported(pipeline, pipeline.folder / f"until-{cut}.csv", part))
            values[cut] = judged_now(pipeline, hands)
    return values


def step(pipeline: Pipeline, hands: Hands, to: datetime) -> None:
    """Put the clock forward by some days; months of closings at once would be more than any outage brings."""
    known, told = len(homes(pipeline)), pipeline.ends("cs.health")
    hands.at = to
    wait_until(lambda: pipeline.ends("cs.health") >= told + known, f"every account is judged at {to}", 120, pause=0.5)
    judged_now(pipeline, hands)


def imported(pipeline: Pipeline, path: Path, rows: Iterable[Row]) -> str:
    """Import a part of the log; answers the run."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
    pipeline.done("ingest", "import", str(path), "--map", str(MAP_PATH))
    return str(pipeline.progress("steward.run.started.v1")[-1]["run"])


def await_closed(pipeline: Pipeline, run: str) -> None:
    """Until every partition of the health processor has committed whatever the run brought it."""

    def is_closed() -> bool:
        records = pipeline.records("steward-health-state")
        metas = {record.partition: record.event for record in records if record.key == "\x00meta"}
        return len(metas) == PARTITIONS and all(run in meta["closed"] for meta in metas.values())

    wait_until(is_closed, f"{run} is closed everywhere", 120, pause=1.0)


def judged_now(pipeline: Pipeline, hands: Hands) -> dict[str, float]:
    """The value of `activity` by customer, as soon as the last score of every account is as of the clock's time."""
    found: dict[str, float] = wait_until(
        lambda: scores(pipeline, hands.at), f"the last scores are as of {hands.at}", 60, pause=1.0
    )
    return found


def homes(pipeline: Pipeline) -> dict[str, str]:
    """The customer of each account."""
    mapped = (record.event["data"] for record in pipeline.records("crm.identity"))
    return {data["account"]: data["home"].rpartition(":")[2] for data in mapped}


def scores(pipeline: Pipeline, at: datetime) -> dict[str, float] | None:
    """The value of `activity` by customer, once the last score of every account is that of this instant."""
    last = {record.key: record.event["data"] for record in pipeline.records("cs.health")}
    customers = homes(pipeline)
    if last.keys() != customers.keys() or any(datetime.fromisoformat(one["as_of"]) != at for one in last.values()):
        return None
    return {
        customers[account]: next(line["value"] for line in data["contributions"] if line["signal"] == "activity")
        for account, data in last.items()
    }
