"""Several processes of one command: where each serves, and when one is started again."""

import subprocess
import sys
from collections.abc import Sequence

import pytest

from services.runtime.settings import Settings
from services.runtime.workers import LONGEST_PAUSE, SETTLED_SECONDS, Pauses, PortsOverlap, ports


@pytest.mark.parametrize(
    ("port", "served"),
    [
        pytest.param(9100, [9100, 9101, 9102], id="the port of the settings and those after it"),
        pytest.param(65533, [65533, 65534, 65535], id="up to the highest"),
        pytest.param(0, [0, 0, 0], id="any free ones"),
        pytest.param(None, [None, None, None], id="none"),
    ],
)
def test_each_worker_serves_its_own_port(port: int | None, served: Sequence[int | None]) -> None:
    assert ports(Settings(http_port=port), 3) == served


@pytest.mark.parametrize(
    ("port", "ingest", "sentence"),
    [
        pytest.param(
            65534, 8080,
            "3 workers from STEWARD_HTTP_PORT=65534 on would need port 65536, and 65535 is the highest; "
            "set it to 65533 or less, or start fewer --workers",
            id="there are no such ports",
        ),
        pytest.param(
            8078, 8080,
            "3 workers from STEWARD_HTTP_PORT=8078 on would take port 8080, where STEWARD_INGEST_PORT receives "
            "webhooks; set one of the two elsewhere",
            id="ingest wants one of them",
        ),
    ],
)  # fmt: skip
def test_ports_that_cannot_be_had_are_refused_with_a_sentence(port: int, ingest: int, sentence: str) -> None:
    with pytest.raises(PortsOverlap) as refused:
        ports(Settings(http_port=port, ingest_port=ingest), 3)
    assert str(refused.value) == sentence


def test_the_parent_loads_nothing_of_what_its_workers_load() -> None:
    script = "import sys, services.__main__, services.runtime.workers; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "services.runtime.workers" in loaded
    assert {"faust", "aiokafka", "mode", "uvloop", "prometheus_client"} & {*loaded} == set()


def test_a_worker_that_ends_again_and_again_is_started_ever_later_up_to_half_a_minute() -> None:
    pauses = Pauses()
    assert [pauses.after(0.5) for _ in range(7)] == [1, 2, 4, 8, 16, LONGEST_PAUSE, LONGEST_PAUSE]


def test_a_worker_that_lived_a_minute_is_started_again_soon() -> None:
    pauses = Pauses()
    for _ in range(5):
        pauses.after(0.5)
    assert [pauses.after(SETTLED_SECONDS), pauses.after(0.5)] == [1, 2]
