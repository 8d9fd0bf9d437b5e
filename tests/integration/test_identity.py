"""The identity processor as it is shipped: facts held under their homes leave under their account, once each."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.runtime.embedded.server import Server
from services.runtime.kafka import partition_of
from tests.pipeline import PARTITIONS, Pipeline, Process, Written, running, wait_until

RELEASED = ("crm.renewals", "crm.ownership")
LONG_AGO = datetime.now(UTC) - timedelta(days=2)

Record = tuple[str | bytes, bytes, int | None]


def record(home: str, id: str, kind: str, data: dict[str, Any], **more: str) -> Record:
    event = {
        "specversion": "1.0",
        "id": id,
        "source": "hubspot",
        "type": kind,
        "subject": home,
        "partitionkey": home,
        "time": LONG_AGO.isoformat(),
        "datacontenttype": "application/json",
        "data": data,
        **more,
    }
    return home, json.dumps(event).encode(), None


def won(home: str, id: str, **more: str) -> Record:
    return record(home, id, "steward.contract.won.v1", {"home": home, "owner": "ada"}, **more)


def accepted(home: str, id: str, **more: str) -> Record:
    data = {"handoff": f"{home}/sale_to_onboarding", "owner": "ada"}
    return record(home, id, "steward.handoff.accepted.v1", data, **more)


def mapped(home: str, account: str) -> Record:
    return record(home, f"{home}:mapped", "steward.identity.mapped.v1", {"home": home, "account": account})


def home_of(number: int) -> str:
    return f"hubspot:deal:{number}"


def account_of(number: int) -> str:
    return f"account-{number}"


def identity(pipeline: Pipeline) -> Process:
    process = pipeline.start("identity")
    wait_until(lambda: process.said("serving"), "the identity processor serves", 60, process)
    return process


def released(pipeline: Pipeline) -> list[Written]:
    return [record for topic in RELEASED for record in pipeline.records(topic)]


def findings(pipeline: Pipeline) -> list[tuple[str, str, int]]:
    """(home, opened or closed, count) in the order of each partition."""
    found = pipeline.records("cs.findings")
    return [(one.key, one.event["type"].split(".")[2], one.event["data"]["count"]) for one in found]


def test_held_facts_leave_under_their_account_in_its_partition_when_it_is_known(
    noida: Server, prefix: str, tmp_path: Path
) -> None:
    receipt = (LONG_AGO + timedelta(minutes=3)).isoformat()
    homes = range(12)
    with running(noida.bootstrap, prefix, tmp_path) as pipeline:
        worker = identity(pipeline)
        pipeline.publish("crm.held", [won(home_of(n), f"{n}:won", receivedat=receipt) for n in homes])
        pipeline.publish("crm.held", [accepted(home_of(n), f"{n}:accepted") for n in homes])
        pipeline.publish("crm.held", [won(home_of(n), f"{n}:won", receivedat=receipt) for n in homes])  # copies
        wait_until(lambda: len(findings(pipeline)) == 12, "the homes are told of", 60, worker)
        assert released(pipeline) == []

        pipeline.publish("crm.identity", [mapped(home_of(n), account_of(n)) for n in homes if n != 5])
        _await_released(pipeline, 22, worker)
        assert worker.stop() == 0, worker.log.read_text()
        records = released(pipeline)

    by_id = {one.event["id"]: one for one in records}
    assert sorted(by_id) == sorted(f"{n}:{what}" for n in homes if n != 5 for what in ("won", "accepted"))
    assert len(records) == 22
    for id, one in by_id.items():
        account = account_of(int(id.split(":")[0]))
        assert (one.key, one.event["subject"], one.event["partitionkey"]) == (account, account, account)
        assert one.partition == partition_of(account.encode(), PARTITIONS)
        assert one.topic == prefix + RELEASED[id.endswith("accepted")]
        assert one.event["source"] == "hubspot"
        assert datetime.fromisoformat(one.event["time"]) == LONG_AGO
    assert all(datetime.fromisoformat(by_id[f"{n}:won"].event["receivedat"]).isoformat() == receipt for n in (0, 11))
    assert all(datetime.fromisoformat(by_id[f"{n}:accepted"].event["receivedat"]) > LONG_AGO for n in (0, 11))


def test_what_comes_for_a_mapped_home_goes_on_at_once_also_after_a_restart(
    noida: Server, prefix: str, tmp_path: Path
) -> None:
    with running(noida.bootstrap, prefix, tmp_path) as pipeline:
        worker = identity(pipeline)
        pipeline.publish("crm.held", [won(home_of(1), "before")])
        pipeline.publish("crm.identity", [mapped(home_of(1), "acme")])
        _await_released(pipeline, 1, worker)
        pipeline.publish("crm.held", [won(home_of(2), "waits")])
        wait_until(lambda: len(findings(pipeline)) == 3, "the second waits", 60, worker)
        assert worker.stop() == 0, worker.log.read_text()

        worker = identity(pipeline)
        pipeline.publish("crm.held", [won(home_of(1), "after")])
        pipeline.publish("crm.identity", [mapped(home_of(2), "acme")])
        _await_released(pipeline, 3, worker)
        assert [one.event["id"] for one in released(pipeline) if one.event["data"]["home"] == home_of(1)] == [
            "before",
            "after",
        ]
        assert sorted(findings(pipeline)) == [
            (home_of(number), word, 1) for number in (1, 2) for word in ("closed", "opened")
        ]


@pytest.mark.kafka
@pytest.mark.slow
def test_a_processor_killed_while_it_releases_loses_nothing_and_releases_nothing_twice(
    kafka: Server, prefix: str, tmp_path: Path
) -> None:
    homes, each = 90, 6
    facts = [won(home_of(n), f"{n}:{k}") for k in range(each) for n in range(homes)]
    mappings = [mapped(home_of(n), account_of(n % 7)) for n in range(homes)]
    half = len(facts) // 2
    with running(kafka.bootstrap, prefix, tmp_path) as pipeline, ThreadPoolExecutor(1) as pool:
        worker = identity(pipeline)
        pipeline.publish("crm.held", facts[:half])
        for kill in range(3):
            seen = len(released(pipeline)) + 1
            writing = pool.submit(_write, pipeline, facts[half + kill :: 3], mappings[kill::3])
            _await_released(pipeline, seen, worker)
            worker.kill()
            writing.result()
            worker = identity(pipeline)
        _await_released(pipeline, len(facts), worker)
        assert worker.stop() == 0, worker.log.read_text()
        records = released(pipeline)

    assert Counter(one.event["id"] for one in records) == Counter(f"{n}:{k}" for n in range(homes) for k in range(each))
    assert {one.event["id"]: one.key for one in records} == {
        f"{n}:{k}": account_of(n % 7) for n in range(homes) for k in range(each)
    }


def _await_released(pipeline: Pipeline, least: int, worker: Process) -> None:
    wait_until(lambda: len(released(pipeline)) >= least, f"{least} facts have left", 60, worker, pause=0.01)


def _write(pipeline: Pipeline, facts: list[Record], mappings: list[Record]) -> None:
    """Facts of homes that are known, become known, and are not known yet."""
    pipeline.publish("crm.identity", mappings[::2])
    pipeline.publish("crm.held", facts)
    pipeline.publish("crm.identity", mappings[1::2])
