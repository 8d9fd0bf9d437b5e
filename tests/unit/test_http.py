"""What /live, /ready and /metrics answer, and what is said of an address that cannot be served."""

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from services.runtime import http
from services.runtime.http import PortTaken, Readiness
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings
from services.runtime.watchdog import END_SECONDS, Watchdog

EVERYWHERE = "0.0.0.0"


@pytest.fixture
def dog() -> Iterator[Watchdog]:
    dog = Watchdog(lambda *_: None)
    yield dog
    dog.__exit__()


def get(port: int | None, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
    try:
        with urlopen(f"http://{host}:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_live_is_no_longer_answered_when_the_loop_hangs(dog: Watchdog) -> None:
    with http.serve(Settings(http_port=0), Metrics(), lambda: Readiness(True), dog) as port:
        assert get(port, "/live") == (200, "alive\n")
        for _ in range(40):
            dog.look(1.0)
        assert get(port, "/live") == (503, "the main loop has not turned for 40 s\n")
        dog.beat()
        dog.look(1.0)
        assert get(port, "/live") == (200, "alive\n")
    assert END_SECONDS > 40


@pytest.mark.parametrize(
    ("found", "status", "body"),
    [
        pytest.param(Readiness(True), 200, {"ready": True, "missing": None}, id="a service"),
        pytest.param(
            Readiness(False, "no mark has been written yet"), 503,
            {"ready": False, "missing": "no mark has been written yet"}, id="a service that waits",
        ),
        pytest.param(
            Readiness(False, "partition 1 waits for its restore", "exactly once", {"assigned": [0, 1], "serving": [0]}),
            503,
            {
                "ready": False, "missing": "partition 1 waits for its restore", "guarantee": "exactly once",
                "partitions": {"assigned": [0, 1], "serving": [0]},
            },
            id="a processor that restores",
        ),
    ],
)  # fmt: skip
def test_ready_says_what_is_there_and_what_is_missing(found: Readiness, status: int, body: dict[str, Any]) -> None:
    with http.serve(Settings(http_port=0), Metrics(), lambda: found) as port:
        answered, text = get(port, "/ready")
    assert (answered, json.loads(text)) == (status, body)


def test_metrics_and_what_else_there_is() -> None:
    with http.serve(Settings(http_port=0), Metrics(), lambda: Readiness(True)) as port:
        status, text = get(port, "/metrics")
        assert (status, "steward_build_info{" in text) == (200, True)
        assert get(port, "/") == (404, "see /metrics /live /ready\n")


@pytest.mark.parametrize(("host", "reached"), [(EVERYWHERE, "127.0.0.1"), ("localhost", "127.0.0.1"), ("::1", "[::1]")])
def test_it_is_served_where_the_settings_say(host: str, reached: str) -> None:
    if ":" in host and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with http.serve(Settings(http_port=0, http_host=host), Metrics(), lambda: Readiness(True)) as port:
        assert get(port, "/live", reached)[0] == 200


def test_a_port_that_was_just_given_up_is_served_again() -> None:
    port = 0
    for _ in range(3):  # the connections of the one before may still be closing
        with http.serve(Settings(http_port=port), Metrics(), lambda: Readiness(True)) as found:
            assert found is not None
            port = found
            with socket.create_connection(("127.0.0.1", port)) as held:
                held.sendall(b"GET /live HTTP/1.0\r\n\r\n")
                while held.recv(1000):
                    continue


def test_without_a_port_nothing_is_served() -> None:
    with http.serve(Settings(), Metrics(), lambda: Readiness(True)) as port:
        assert port is None


def test_a_taken_port_and_a_strange_address_are_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"^port {number} is taken \(.*\); set STEWARD_HTTP_PORT to a free one"):
            http.serve(Settings(http_port=number), Metrics(), lambda: Readiness(True)).__enter__()
    with pytest.raises(PortTaken, match=r"^192\.0\.2\.1 is no address of this machine .* set STEWARD_HTTP_HOST to one"):
        http.serve(Settings(http_port=0, http_host="192.0.2.1"), Metrics(), lambda: Readiness(True)).__enter__()
