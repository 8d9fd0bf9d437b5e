"""The handoff processor as it is shipped, on both brokers, with live facts on a clock of seconds."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from services.runtime.embedded.server import Server
from tests.pipeline import BREACHED, Pipeline, running, wait_until

SECONDS = 4
POLICY = f"""
version: 1
owner: A test
calendar: always
calendars:
  always: {{zone: UTC, week: {{mon-sun: [["00:00", "24:00"]]}}}}
handoffs:
  quick: {{legs: {{accept: {{hours: {SECONDS / 3600}}}}}}}
  slow: {{legs: {{accept: {{hours: 400}}}}}}
"""


@pytest.fixture
def pipeline(broker: Server, prefix: str, tmp_path: Path) -> Iterator[Pipeline]:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    with running(broker.bootstrap, prefix, tmp_path, steward_policy=str(policy), steward_grace_seconds="0") as pipeline:
        pipeline.serve()
        yield pipeline


def fact(what: str, number: int, at: datetime, account: str = "acme", **data: Any) -> tuple[str, bytes, None]:
    event = {
        "specversion": "1.0",
        "id": f"{what}-{number}",
        "source": "crm",
        "type": f"steward.handoff.{what}.v1",
        "subject": account,
        "partitionkey": account,
        "time": at.isoformat(),
        "datacontenttype": "application/json",
        "data": {"handoff": f"deal-{number}", **data},
    }
    return account, json.dumps(event).encode(), None


def opened(number: int, at: datetime, kind: str = "quick") -> tuple[str, bytes, None]:
    return fact("opened", number, at, kind=kind, owner="ada", sender="bob")


def test_a_breach_is_raised_once_and_taken_back_by_a_late_acceptance_that_was_in_time(pipeline: Pipeline) -> None:
    now = datetime.now(UTC)
    pipeline.publish("crm.ownership", [opened(1, now), opened(2, now), opened(3, now)])
    pipeline.publish("crm.ownership", [fact("accepted", 1, now + timedelta(seconds=1), owner="ada")])
    due = now + timedelta(seconds=SECONDS)

    wait_until(lambda: len(pipeline.verdicts()) >= 2, "the untaken handoffs breach", 30)
    assert pipeline.breaches() == {("deal-2", "accept"): due, ("deal-3", "accept"): due}
    assert [met["handoff"] for met in pipeline.verdicts("steward.sla.met.v1")] == ["deal-1"]

    pipeline.publish("crm.ownership", [fact("accepted", 2, due, owner="eve")])  # exactly due is in time
    pipeline.publish("crm.ownership", [fact("accepted", 3, due + timedelta(milliseconds=1), owner="eve")])
    taken_back = wait_until(pipeline.retractions, "the breach is retracted", 30)
    pipeline.await_quiet()

    first = next(data for data in pipeline.verdicts() if data["handoff"] == "deal-2")
    retracted = {data["stage"]: data for data in pipeline.retractions() if data["stage"] == "breached"}
    assert taken_back[0]["handoff"] == "deal-2"
    assert retracted["breached"]["transition"] == first["transition"]
    assert "in time" in retracted["breached"]["reason"]
    assert {data["handoff"] for data in pipeline.retractions()} == {"deal-2"}


def test_what_cannot_be_read_is_kept_with_its_reason_and_stops_nothing(pipeline: Pipeline) -> None:
    now = datetime.now(UTC)
    good = opened(1, now)
    stray = next(name for name in map(str, range(99)) if _partition(pipeline, name) != 0)
    bad = {
        "schema": ("acme", b'{"type": "steward.handoff.opened.v1", "id": false}', None),
        "unknown_type": ("acme", b'{"type": "steward.handoff.mislaid.v1"}', None),
        "policy": opened(2, now, kind="unheard-of"),
        "future": opened(3, now + timedelta(hours=1)),
        "wrong_partition": (stray, fact("opened", 4, now, account=stray, kind="quick")[1], 0),
    }
    pipeline.publish("crm.ownership", [*bad.values(), ("acme", b"\xff\xfe not JSON", None), good])

    wait_until(lambda: pipeline.verdicts(BREACHED), "the good one is processed", 30)
    letters = pipeline.records("dlq.handoff")
    reasons = sorted(letter.headers["dlq.reason"] for letter in letters)
    assert reasons == sorted([*bad, "schema"])
    assert {letter.headers["dlq.topic"] for letter in letters} == {"crm.ownership"}
    told = {letter.headers["dlq.reason"]: letter.headers["dlq.message"] for letter in letters}
    assert "kind 'unheard-of' is not in policy version 1, which has quick, slow" in told["policy"]
    assert "partitioner=murmur2_random" in told["wrong_partition"]
    assert [data["handoff"] for data in pipeline.verdicts()] == ["deal-1"]


def test_a_restart_goes_on_from_its_state_and_reads_nothing_again(pipeline: Pipeline) -> None:
    now = datetime.now(UTC)
    pipeline.publish("crm.ownership", [opened(number, now, kind="slow") for number in range(50)])
    first = pipeline.processes[-1]
    wait_until(lambda: len(pipeline.verdicts("steward.handoff.changed.v1")) == 50, "all are open", 30)
    assert first.stop() == 0, first.log.read_text()

    second = pipeline.handoff()
    restored = second.said("restored")
    assert sum(line["accounts"] for line in restored) == 1
    assert sum(line["positions"]["crm.ownership"] for line in restored) == 50
    pipeline.publish("crm.ownership", [fact("accepted", 7, datetime.now(UTC), owner="ada")])
    wait_until(lambda: pipeline.verdicts("steward.sla.met.v1"), "the acceptance is taken in", 30)
    assert len(pipeline.verdicts("steward.handoff.changed.v1")) == 51


def test_a_partition_whose_producer_was_fenced_starts_again_from_its_log(pipeline: Pipeline) -> None:
    now = datetime.now(UTC)
    pipeline.publish("crm.ownership", [opened(1, now, kind="slow")])
    wait_until(lambda: pipeline.verdicts("steward.handoff.changed.v1"), "the first is open", 30)
    asyncio.run(_fence(pipeline))
    pipeline.publish("crm.ownership", [opened(number, now, kind="slow") for number in range(2, 12)])

    worker = pipeline.processes[-1]
    wait_until(lambda: len(pipeline.verdicts("steward.handoff.changed.v1")) == 11, "all are open", 60, worker)
    assert worker.said("flush failed")
    assert len(worker.said("restored")) > 4
    pipeline.await_quiet()
    assert len({data["handoff"] for data in pipeline.verdicts("steward.handoff.changed.v1")}) == 11
    assert worker.popen.poll() is None


async def _fence(pipeline: Pipeline) -> None:
    """Open a producer under each of the worker's transactional ids, as a successor would."""
    for number in range(4):
        usurper = AIOKafkaProducer(
            bootstrap_servers=pipeline.bootstrap, transactional_id=f"{pipeline.prefix}steward-handoff-{number}"
        )
        await usurper.start()
        await usurper.stop()


def _partition(pipeline: Pipeline, key: str) -> int:
    return int(murmur2(key.encode()) & 0x7FFFFFFF) % 4
