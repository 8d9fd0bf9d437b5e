"""Apache Kafka on several nodes, each broker and controller at once, so that one may die and be started again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from services.runtime.embedded.apache import QUICK_START, SETTINGS, launch_node, ready_to_start
from services.runtime.embedded.ports import HOST, pick_port
from services.runtime.embedded.server import Server

_REPLICATED: Mapping[str, object] = {
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "inter.broker.listener.name": "INTERNAL",  # past any proxy in front of the clients' listener
    "broker.session.timeout.ms": 4_000,
}


@dataclass(slots=True)
class Cluster:
    """Running nodes by their number, from 1; as a context manager it stops them all at the end.

    `nodes` holds also those that were killed: each keeps its port and its data folder for `restart`.
    """

    nodes: dict[int, Server]
    _start: Callable[[int, int | None, bool], Server]
    _advertised: Mapping[int, int]

    @property
    def bootstrap(self) -> str:
        """host:port of every node, as Kafka clients take it."""
        return ",".join(f"{HOST}:{self._advertised.get(node, server.port)}" for node, server in self.nodes.items())

    def kill(self, node: int) -> None:
        """SIGKILL, as a crash would."""
        self.nodes[node].kill()

    def restart(self, node: int) -> None:
        """Start a node again that was stopped or killed; returns when it serves, some seconds after a crash."""
        self.nodes[node] = self._start(node, self.nodes[node].port, True)

    def stop(self) -> None:
        """SIGKILL to all: a cluster that ends in good order takes many seconds, and its data is not kept."""
        for server in self.nodes.values():
            server.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()


def start_cluster(
    folder: Path,
    nodes: int = 3,
    *,
    settings: Mapping[str, object] | None = None,
    flags: Sequence[str] = QUICK_START,
    advertised: Mapping[int, int] | None = None,
) -> Cluster:
    """Start nodes on new or kept data below the folder, which hold what is acknowledged on all but one of them.

    Clients of a node in `advertised` are sent on to that port, where a proxy may stand. `settings` go over the
    usual ones of every node; `flags` are the JVM's.
    """
    kafka, sharing = ready_to_start()
    told, numbers, free = advertised or {}, range(1, nodes + 1), _ports()
    controllers = {node: f"{HOST}:{next(free)}" for node in numbers}
    internal = {node: f"{HOST}:{next(free)}" for node in numbers}
    chosen = {node: next(free) for node in numbers}

    def start(node: int, port: int | None, insist: bool) -> Server:
        def make(port: int) -> Mapping[str, object]:
            own = {
                "node.id": node,
                "listeners": f"PLAINTEXT://{HOST}:{port},INTERNAL://{internal[node]},CONTROLLER://{controllers[node]}",
                "advertised.listeners": f"PLAINTEXT://{HOST}:{told.get(node, port)},INTERNAL://{internal[node]}",
                "controller.quorum.voters": ",".join(f"{other}@{at}" for other, at in controllers.items()),
            }
            return {**SETTINGS, **_REPLICATED, **_copies(nodes), **own, **(settings or {})}

        data, asked = (folder / f"node-{node}").resolve(), told.get(node)
        return launch_node(kafka, data, port, insist, make, (*flags, *sharing), node=node, advertised=asked)

    with ThreadPoolExecutor(nodes) as pool:  # none is ready before most of them run
        starting = {node: pool.submit(start, node, chosen[node], False) for node in numbers}
    try:
        return Cluster({node: one.result() for node, one in starting.items()}, start, told)
    except BaseException:
        for one in starting.values():
            if one.exception() is None:
                one.result().kill()
        raise


def _copies(nodes: int) -> dict[str, object]:
    """Each record on every node, up to three; with one node away there is still a quorum to write to."""
    copies = min(nodes, 3)
    enough = max(1, copies - 1)
    named = {f"{topic}.replication.factor": copies for topic in ("default", "offsets.topic", "transaction.state.log")}
    return {**named, "min.insync.replicas": enough, "transaction.state.log.min.isr": enough}


def _ports() -> Iterator[int]:
    given = set[int]()
    while True:
        port = pick_port()
        if port not in given:
            given.add(port)
            yield port
