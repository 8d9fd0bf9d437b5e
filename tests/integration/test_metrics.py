"""What `/metrics` answers after real traffic is true: it is held against what stands on the broker."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.request import urlopen

import pytest

from services.runtime import kafka, metrics
from services.runtime.embedded.ports import pick_port
from services.runtime.embedded.server import Server
from services.runtime.settings import Settings
from tests.integration.test_handoff import POLICY, opened
from tests.metrics import Scrape, scrape
from tests.pipeline import PARTITIONS, Pipeline, Process, running, status_of, wait_until

SOURCE = "billing"  # it sends no facts of handoffs: one that does would hold their clocks, silent as it is
GRACE = 60
TOPICS = ("crm.ownership", "crm.renewals", "cs.clock")
EACH = {str(number) for number in range(PARTITIONS)}


@dataclass
class Traffic:
    pipeline: Pipeline
    processor: Process
    port: int
    clock_port: int

    def seen(self) -> Scrape:
        return scrape(self.port)

    def state_bytes(self) -> int:
        """What the states weigh that a restore would find."""
        named = Settings(kafka=self.pipeline.bootstrap, prefix=self.pipeline.prefix, partitions=PARTITIONS)
        last = {record.key: record.value for record in asyncio.run(kafka.read_all(named, "steward-handoff-state"))}
        return sum(len(value or b"") for key, value in last.items() if key != b"\x00meta")


@pytest.fixture(scope="module")
def traffic(broker: Server, prefixes: Iterator[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traffic]:
    """Handoffs that breach after seconds, records that are no facts, a source with a heartbeat; all of it read."""
    folder = tmp_path_factory.mktemp("metrics")
    policy = folder / "policy.yaml"
    policy.write_text(POLICY)
    port, clock_port = pick_port(), pick_port()
    asked = {"steward_policy": str(policy), "steward_grace_seconds": "0"}
    with running(broker.bootstrap, next(prefixes), folder, **asked) as pipeline:
        pipeline.settings["STEWARD_HTTP_PORT"] = str(clock_port)
        clock = pipeline.start("clock")
        wait_until(lambda: clock.said("clock runs"), "the clock runs", 60, clock)
        pipeline.settings["STEWARD_HTTP_PORT"] = str(port)
        processor = pipeline.serves("handoff")
        pipeline.done("source", "register", SOURCE, "--heartbeat", "5")
        pipeline.publish("cs.sources", [(SOURCE, heartbeat(), None)])
        pipeline.publish("crm.ownership", [opened(number, datetime.now(UTC)) for number in (1, 2)])
        pipeline.publish("crm.ownership", [("acme", b"no JSON", None)] * 3)
        wait_until(lambda: len(pipeline.verdicts()) == 2, "both handoffs breach", 60, processor)
        wait_until(lambda: all_committed(pipeline, port), "everything is committed", 60, processor)
        yield Traffic(pipeline, processor, port, clock_port)


def heartbeat() -> bytes:
    event = {
        "specversion": "1.0", "id": "seen-1", "source": SOURCE, "type": "steward.source.seen.v1", "subject": SOURCE,
        "partitionkey": SOURCE, "time": datetime.now(UTC).isoformat(), "data": {"source": SOURCE},
    }  # fmt: skip
    return json.dumps(event).encode()


def all_committed(pipeline: Pipeline, port: int) -> bool:
    return scrape(port).sum("committed_offset", topic="crm.ownership") == pipeline.ends("crm.ownership")


def test_positions_lags_and_what_is_committed(traffic: Traffic) -> None:
    seen = traffic.seen()
    for topic in TOPICS:
        assert set(seen.by("consumer_lag_records", "partition", topic=topic)) == EACH
    assert seen.sum("consumer_lag_records", topic="crm.ownership") == 0
    assert seen.sum("committed_offset", topic="crm.ownership") == traffic.pipeline.ends("crm.ownership")
    wait_until(lambda: traffic.seen().values("caught_up") == [1] * PARTITIONS, "all is caught up", 30)
    assert set(seen.by("lag_seconds", "partition")) == EACH


def test_records_batches_and_flushes(traffic: Traffic) -> None:
    seen = traffic.seen()
    assert seen.by("records_total", "outcome", topic="crm.ownership")["read"] == 5
    assert seen.one("batch_records_sum") >= 5
    assert seen.one("batch_records_count") >= 1
    phases = seen.by("flush_seconds_count", "phase")
    assert set(phases) == {"begin", "write", "commit"}
    assert 0 < phases["commit"] <= phases["write"] <= phases["begin"]
    assert 1 <= seen.one("event_to_output_seconds_count") <= phases["commit"]
    assert 0 < seen.one("event_to_output_seconds_sum") < 60
    assert seen.one("loop_lag_seconds_count") > 0
    assert seen.values("zombie_writes_total") == []


def test_states_weigh_what_stands_in_the_changelog(traffic: Traffic) -> None:
    wait_until(lambda: traffic.seen().sum("state_bytes") == traffic.state_bytes() > 0, "they weigh the same", 30)
    seen = traffic.seen()
    assert seen.sum("state_accounts") == 1
    assert seen.by("restore_remaining_records", "partition") == dict.fromkeys(EACH, 0)


def test_due_times_and_the_clock(traffic: Traffic) -> None:
    seen = traffic.seen()
    fired = seen.by("timers_fired_total", "kind")
    assert set(fired) == {kind.value for kind in metrics.Timer}
    assert fired["live"] >= 2
    assert fired["run"] == 0
    assert seen.one("timer_lateness_seconds_count") == fired["live"] + fired["clock"]
    assert seen.by("timer_oldest_overdue_seconds", "partition") == dict.fromkeys(EACH, 0)
    ages = seen.by("clock_age_seconds", "partition")
    assert set(ages) == EACH
    assert all(0 <= age < 60 for age in ages.values())


def test_the_clock_writer_says_up_to_when_a_source_is_complete(traffic: Traffic) -> None:
    until = wait_until(lambda: scrape(traffic.clock_port).values("promise_timestamp_seconds"), "it promises", 30)
    (told,) = [record for record in traffic.pipeline.records("cs.sources") if record.event["id"] == "seen-1"]
    assert until == [pytest.approx(datetime.fromisoformat(told.event["time"]).timestamp() - GRACE)]
    assert set(scrape(traffic.clock_port).by("promise_timestamp_seconds", "source")) == {SOURCE}


def test_dead_letters_are_counted_when_written_and_where_they_stand(traffic: Traffic) -> None:
    topic = "dlq.handoff"
    wait_until(lambda: traffic.seen().one("dlq_records") == traffic.pipeline.ends(topic), "they are counted", 30)
    assert traffic.seen().by("dlq_records", "topic") == {topic: traffic.pipeline.ends(topic)}
    assert traffic.seen().one("dlq_records") >= 3
    assert traffic.seen().sum("dead_letters_total") == 3


def test_what_runs_stands_in_the_labels(traffic: Traffic) -> None:
    (found,) = traffic.seen().all("build_info")
    labels = dict(found[1])
    assert (labels["version"], labels["faust"], labels["aiokafka"]) == ("0.1.0", "0.15.3", "0.14.0")


def test_twelve_partitions_have_less_than_five_thousand_series(traffic: Traffic) -> None:
    samples = traffic.seen().samples
    by_partition = [labels for _, labels in samples if "partition" in dict(labels)]
    assert len(by_partition) >= 10 * PARTITIONS
    assert len(samples) - len(by_partition) + len(by_partition) * 12 // PARTITIONS < 5000


def test_no_label_names_an_account_or_a_person(traffic: Traffic) -> None:
    values = {value for _, labels in traffic.seen().samples for _, value in labels}
    assert values & {"acme", "ada", "bob", "deal-1", "deal-2"} == set()


def test_it_is_live_and_ready_and_says_so(traffic: Traffic) -> None:
    assert status_of(f"http://127.0.0.1:{traffic.port}/live") == 200
    with urlopen(f"http://127.0.0.1:{traffic.port}/ready", timeout=5) as answer:
        found = json.load(answer)
    numbers = list(range(PARTITIONS))
    assert found == {
        "ready": True, "missing": None, "guarantee": "exactly once",
        "partitions": {"assigned": numbers, "serving": numbers},
    }  # fmt: skip
