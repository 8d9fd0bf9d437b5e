"""An installation of its own on Apache Kafka for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.runtime.embedded.server import Server
from tests.pipeline import Pipeline, running


@pytest.fixture
def pipeline(kafka: Server, prefix: str, tmp_path: Path) -> Iterator[Pipeline]:
    with running(kafka.bootstrap, prefix, tmp_path) as pipeline:
        yield pipeline
