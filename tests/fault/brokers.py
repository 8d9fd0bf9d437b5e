"""Apache Kafka for runs of faults: every run may have a proxy of its own, whose port its processes are sent on to."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.runtime.embedded import apache
from services.runtime.embedded.cluster import Cluster, start_cluster
from services.runtime.embedded.ports import HOST, pick_port
from services.runtime.embedded.server import Server
from tests.fault.proxy import Proxy


class Broker:
    """One node on ports that stay the same over restarts. `way(n)` is the n-th proxied way to it."""

    def __init__(self, folder: Path, ways: int) -> None:
        self._folder = folder
        ports = _ports(1 + 2 * ways)
        self._port, self._far = ports[0], ports[1 : 1 + ways]
        self.proxies = [Proxy(near, far) for near, far in zip(ports[1 + ways :], self._far, strict=True)]
        self.server = self._launched()

    @property
    def bootstrap(self) -> str:
        """The straight way, which no fault of a proxy touches."""
        return f"{HOST}:{self._port}"

    def start(self) -> None:
        """Again, on the same data and ports; blocks until it answers."""
        self.server = self._launched()

    def _launched(self) -> Server:
        names = [f"WAY{number}" for number in range(len(self._far))]
        controller = f"{HOST}:{pick_port()}"
        listeners = [f"PLAINTEXT://{HOST}:{self._port}"]
        settings = {
            "listeners": [
                *listeners,
                *(f"{name}://{HOST}:{port}" for name, port in zip(names, self._far, strict=True)),
                f"CONTROLLER://{controller}",
            ],
            "advertised.listeners": [
                *listeners,
                *(f"{name}://{HOST}:{proxy.port}" for name, proxy in zip(names, self.proxies, strict=True)),
            ],
            "listener.security.protocol.map": [f"{name}:PLAINTEXT" for name in ("CONTROLLER", "PLAINTEXT", *names)],
            "controller.quorum.voters": [f"1@{controller}"],
        }
        joined = {name: ",".join(values) for name, values in settings.items()}
        return apache.start_kafka(self._folder, self._port, insist=True, settings=joined)


@contextmanager
def running(folder: Path, ways: int) -> Iterator[Broker]:
    """A broker and its proxies, gone afterwards."""
    with ExitStack() as open_now:
        broker = Broker(folder, ways)
        open_now.callback(lambda: broker.server.kill())  # noqa: PLW0108  # the one that runs by then
        for proxy in broker.proxies:
            open_now.enter_context(proxy)
        yield broker


def _ports(count: int) -> list[int]:
    found: dict[int, None] = {}
    while len(found) < count:
        found[pick_port()] = None
    return list(found)


@dataclass(frozen=True, slots=True)
class Ground:
    """What one run stands on. Only a broker or a cluster of the run's own may be restarted."""

    bootstrap: str
    way: str
    proxy: Proxy | None = None
    broker: Broker | None = None
    cluster: Cluster | None = None


def shared(broker: Broker, way: int) -> Ground:
    """A shared broker by one of its proxied ways."""
    proxy = broker.proxies[way]
    return Ground(broker.bootstrap, f"{HOST}:{proxy.port}", proxy)


@contextmanager
def own(folder: Path) -> Iterator[Ground]:
    """A broker that may be restarted."""
    with running(folder, 1) as broker:
        yield Ground(broker.bootstrap, f"{HOST}:{broker.proxies[0].port}", broker.proxies[0], broker)


@contextmanager
def clustered(folder: Path) -> Iterator[Ground]:
    """Three nodes, of which one at a time may be lost."""
    with start_cluster(folder) as cluster:
        yield Ground(cluster.bootstrap, cluster.bootstrap, cluster=cluster)
