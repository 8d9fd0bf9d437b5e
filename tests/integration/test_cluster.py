"""Three nodes of Apache Kafka: any one of them may die."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.runtime import kafka
from services.runtime.embedded import apache
from services.runtime.embedded.cluster import Cluster, start_cluster
from services.runtime.settings import Settings
from tests.conftest import do_without

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := apache.available():
        do_without(reason)
    with start_cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


async def test_what_is_acknowledged_outlives_one_node_after_the_other(cluster: Cluster, prefix: str) -> None:
    settings = Settings(kafka=cluster.bootstrap, prefix=prefix, partitions=3, replication=3)
    await kafka.ensure_topics(settings, {"kept": {}})
    for node in (1, 3):
        async with kafka.Publisher(settings) as publisher:
            await publisher.send("kept", "before", str(node).encode())
            cluster.kill(node)
            await publisher.send("kept", "while", str(node).encode())
        cluster.restart(node)
    there = sorted((record.key, record.value) for record in await kafka.read_all(settings, "kept"))
    assert there == [(key, b"%d" % node) for key in (b"before", b"while") for node in (1, 3)]


async def test_a_killed_node_comes_back_on_its_port_with_another_process(cluster: Cluster, tmp_path: Path) -> None:
    port, pid = cluster.nodes[2].port, cluster.nodes[2].pid
    cluster.kill(2)
    assert cluster.nodes[2].child.exit_code() == -9
    cluster.restart(2)
    assert (cluster.nodes[2].port, cluster.nodes[2].child.exit_code()) == (port, None)
    assert cluster.nodes[2].pid != pid
