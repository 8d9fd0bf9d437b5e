"""Real servers, one of each kind for the whole run, and names that keep tests on them apart."""

import itertools
import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import settings

from services.runtime.embedded import apache
from services.runtime.embedded.broker import start_broker
from services.runtime.embedded.errors import Unavailable
from services.runtime.embedded.redis import start_redis
from services.runtime.embedded.server import Server

# A shell that starts us in the background lets us ignore Ctrl-C, and what we start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("steward", deadline=None)  # how fast a machine is, is no property
settings.load_profile("steward")

WAITING = {"e2e", "fault", "integration", "kafka"}  # folders whose tests wait for processes most of their time
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with real processes first: one that began last would keep one worker busy while the others are idle."""
    items.sort(key=lambda item: item.path.parent.name not in WAITING)


@pytest.fixture(scope="session")
def noida(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded broker."""
    try:
        server = start_broker(tmp_path_factory.mktemp("noida"))
    except Unavailable as reason:
        do_without(str(reason))
    with server:
        yield server


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Apache Kafka."""
    if reason := apache.available():
        do_without(reason)
    try:
        server = apache.start_kafka(tmp_path_factory.mktemp("kafka"))
    except Unavailable as error:  # its jars could not be fetched
        do_without(str(error))
    with server:
        yield server


@pytest.fixture(
    scope="session",
    params=[
        pytest.param("noida", id="embedded"),
        pytest.param("kafka", id="apache", marks=pytest.mark.kafka),
    ],
)
def broker(request: pytest.FixtureRequest) -> Server:
    """Each of the two brokers. Topics are never deleted: use `prefix`."""
    server: Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    try:
        server = start_redis(tmp_path_factory.mktemp("redis"))
    except Unavailable as reason:
        do_without(str(reason))
    with server:
        yield server.url


@pytest.fixture(scope="session")
def prefixes() -> Iterator[str]:
    run = secrets.token_hex(3)
    return (f"t-{run}-{number}-" for number in itertools.count())


@pytest.fixture
def prefix(prefixes: Iterator[str]) -> str:
    """Goes before every topic, group and transactional id of a test, because the brokers outlive it."""
    return next(prefixes)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data, kept beside the project and no part of it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("The folder ../shared/data is not beside the project.")
    return SHARED_DATA


def do_without(reason: str) -> NoReturn:
    """Skip on a developer's machine; on CI a missing server would hide that nothing was tested."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
