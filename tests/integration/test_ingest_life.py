"""The life of ingest over HTTP: how it ends, what time it follows, and what it does without its broker."""

import json
import signal
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.runtime.embedded.broker import start_broker
from services.runtime.embedded.server import Server
from tests.integration.senders import event, register, serve, settings
from tests.pipeline import running, wait_until


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_it_is_told_to(noida: Server, prefix: str, tmp_path: Path, number: signal.Signals) -> None:
    with running(noida.bootstrap, prefix, tmp_path, **settings(steward_http_port="0")) as pipeline:
        ingest = serve(pipeline)
        idle = socket.create_connection(("127.0.0.1", ingest.port))
        ingest.process.signal(number)
        assert ingest.process.popen.wait(20) == 0, ingest.process.log.read_text()
        idle.close()


def mark(at: datetime) -> bytes:
    stamp = at.isoformat()
    data = {"at": stamp, "safe": stamp, "ends": {}, "writer": "a test", "simulated": True}
    attributes = {"specversion": "1.0", "type": "steward.clock.advanced.v1", "source": "t", "id": stamp, "time": stamp}
    return json.dumps({**attributes, "subject": "0", "partitionkey": "0", "data": data}).encode()


def test_in_simulated_time_arrival_and_signatures_follow_the_marks(noida: Server, prefix: str, tmp_path: Path) -> None:
    then = datetime(2031, 3, 7, 16, 0, tzinfo=UTC)
    more = {"steward_simulated": "true", "steward_inflight_bytes": "1024"}
    with running(noida.bootstrap, prefix, tmp_path, **settings(**more)) as pipeline:
        register(pipeline)
        ingest = serve(pipeline)
        early = ingest.post(event("l0"))
        assert (early.status, early.retry_after) == (503, "5")
        assert ingest.ask("GET", "/ready").status == 503

        pipeline.publish("cs.clock", [("0", mark(then), 0)])
        wait_until(lambda: ingest.ask("GET", "/ready").status == 200, "the mark is heard", 10)
        assert ingest.post(event("l1", time=then.isoformat())).status == 202
        assert ingest.signed(event("l2", time=then.isoformat()), then + timedelta(minutes=4)).status == 202
        assert ingest.signed(event("l3", time=then.isoformat())).status == 401
        held = ingest.written("crm.held", "l1", "l2")
        assert {datetime.fromisoformat(record.event["receivedat"]) for record in held} == {then}

        full = ingest.post(b" " * 1025)
        assert (full.status, full.retry_after) == (429, "5")
        assert ingest.post(event("l4", time=then.isoformat())).status == 202


def test_without_its_broker_it_answers_503_and_with_it_again_goes_on(prefix: str, tmp_path: Path) -> None:
    broker = start_broker(tmp_path / "broker")
    with running(broker.bootstrap, prefix, tmp_path, **settings()) as pipeline:
        try:
            register(pipeline)
            ingest = serve(pipeline)
            assert ingest.post(event("m1")).status == 202
            broker.stop()
            for id in ("m2", "m3"):
                away = ingest.post(event(id))
                assert (away.status, away.retry_after) == (503, "5")
                assert away.error.endswith("send this again, with the same ids")
            wait_until(lambda: ingest.ask("GET", "/ready").status == 503, "it is not ready", 30)
            assert ingest.ask("GET", "/live").status == 200

            broker = start_broker(tmp_path / "broker", broker.port, insist=True)
            wait_until(lambda: ingest.post(event("m2")).status == 202, "it takes events again", 60, ingest.process)
            written = {record.event["id"] for record in pipeline.records("crm.held")}
            assert {"m1", "m2"} <= written
            broker.stop()
            assert ingest.process.stop() == 0
        finally:
            broker.stop()
