"""Apache Kafka as a single KRaft node.

`python -m services.runtime.embedded.apache` runs one for people until Ctrl-C.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from services.runtime.embedded import distribution
from services.runtime.embedded.distribution import VERSION, Distribution
from services.runtime.embedded.errors import EmbeddedError, StartFailed
from services.runtime.embedded.ports import HOST, pick_port
from services.runtime.embedded.server import Program, Server, launch
from services.runtime.embedded.wire import kafka_answers

# Ready in about a second and small, at the price of a slower broker: benches pass flags of their own.
QUICK_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m")

_PATIENCE = 60.0  # seconds; a first start without class archive on a busy machine takes ten
_PROPERTIES, _DATA = "server.properties", "data"  # in the data folder, where the broker is started
SETTINGS: Mapping[str, object] = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "log.dirs": _DATA,
    "auto.create.topics.enable": "false",
    # One node: nothing to replicate, and few partitions to open at start.
    "offsets.topic.num.partitions": 1,
    "offsets.topic.replication.factor": 1,
    "transaction.state.log.num.partitions": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "share.coordinator.state.topic.num.partitions": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    # A killed broker may come back only when its session has run out, by default after 9 s. Much shorter, and
    # a busy machine has it fenced for missed heartbeats. One that is stopped says goodbye and need not wait.
    "broker.session.timeout.ms": 3_000,
    "broker.heartbeat.interval.ms": 500,
    # Nobody should wait for further members of a group, for a dead one, for compaction.
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1_000,
    "log.cleaner.backoff.ms": 1_000,
    # Small: two cores, hundreds of topics.
    "log.segment.bytes": 64 << 20,
    "log.index.size.max.bytes": 1 << 20,
    "log.cleaner.threads": 1,
    "log.cleaner.dedupe.buffer.size": 16 << 20,
    "num.network.threads": 2,
    "num.io.threads": 2,
    "background.threads": 2,
}


def available() -> str | None:
    """Why Apache Kafka cannot run here, as a sentence; None if it can, perhaps after fetching its jars."""
    return distribution.missing()


def start_kafka(
    data_dir: Path,
    port: int | None = None,
    *,
    insist: bool = False,
    settings: Mapping[str, object] | None = None,
    flags: Sequence[str] = QUICK_START,
    advertised: int | None = None,
) -> Server:
    """Start a broker on the folder's data, new or left by an earlier broker that was stopped or killed.

    `port` is a first choice, and the only one if the caller insists. `settings` go over the usual ones;
    `flags` are the JVM's. Clients are sent on to the port `advertised`, where a proxy may stand.
    """
    kafka, sharing = ready_to_start()
    make = _settings_of(advertised, settings or {})
    return launch_node(kafka, data_dir.resolve(), port, insist, make, (*flags, *sharing), advertised=advertised)


def ready_to_start() -> tuple[Distribution, Sequence[str]]:
    """The distribution, fetched and formatted, and the flags with which its brokers start fast."""
    with distribution.prepared(_settings_of(None, {})(pick_port())) as kafka:
        if not kafka.archive.exists():
            _archive_classes(kafka)
    return kafka, (f"-XX:SharedArchiveFile={kafka.archive}",) if kafka.archive.exists() else ()


def launch_node(
    kafka: Distribution,
    data_dir: Path,
    port: int | None,
    insist: bool,
    settings: Callable[[int], Mapping[str, object]],
    flags: Sequence[str],
    *,
    node: int = 1,
    advertised: int | None = None,
) -> Server:
    """Start one node; `settings` are those of a broker on the port that it is given."""
    temporary = data_dir / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    if not (data_dir / _DATA).exists():
        # Renamed when whole, or the next start would take an interrupted copy for data.
        distribution.copy_template(kafka, temporary / _DATA, node).rename(data_dir / _DATA)

    def command(port: int) -> Sequence[str]:
        distribution.write_properties(data_dir / _PROPERTIES, settings(port))
        # A killed JVM would leave files in the system's folder: performance data and unpacked libraries.
        clean = ("-XX:-UsePerfData", f"-Djava.io.tmpdir={temporary}")
        return kafka.command("kafka.Kafka", _PROPERTIES, flags=(*flags, *clean))

    def answers(port: int) -> bool:
        return kafka_answers(port, advertised)

    return launch(Program("kafka", command, answers, _PATIENCE), data_dir, port, insist=insist)


def _settings_of(advertised: int | None, changes: Mapping[str, object]) -> Callable[[int], Mapping[str, object]]:
    """Of the only broker, by its port; its controller gets any other one, which no client needs to know."""

    def make(port: int) -> Mapping[str, object]:
        controller = f"{HOST}:{pick_port()}"
        return {
            **SETTINGS,
            "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{advertised or port}",
            "controller.quorum.voters": f"1@{controller}",
            **changes,
        }

    return make


def _archive_classes(kafka: Distribution) -> None:
    """Keep the classes that a first broker has loaded: those after it start in 1.2 s instead of 3.5."""
    with distribution.scratch() as folder:
        made = folder / "classes.jsa"
        flags = (*QUICK_START, f"-XX:ArchiveClassesAtExit={made}")
        server = launch_node(kafka, folder, None, False, _settings_of(None, {}), flags)
        server.child.stop(patience=60.0)  # it writes the archive while it stops
        with suppress(FileNotFoundError):  # a JVM that cannot archive still runs brokers
            made.rename(kafka.archive)


def main() -> int:
    parser = argparse.ArgumentParser(description=f"Run Apache Kafka {VERSION} on {HOST} until Ctrl-C.")
    parser.add_argument("--port", type=int, help="this port or none (default: 9092, or a free one)")
    port: int | None = parser.parse_args().port
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:  # as nohup asks for
            signal.signal(ending, signal.default_int_handler)  # the way of Ctrl-C, so that nothing is left behind
    try:
        with TemporaryDirectory(prefix="steward-kafka-") as folder:
            print(f"Starting Apache Kafka {VERSION}; fetching it, once, takes about a minute.", flush=True)
            with start_kafka(Path(folder), port or 9092, insist=port is not None) as kafka:
                print(f"Ready on {kafka.bootstrap}. Its data is removed at the end.")
                print(f"Use it:   STEWARD_KAFKA={kafka.bootstrap} steward check")
                print("End it:   Ctrl-C", flush=True)
                code = kafka.child.wait()
                raise StartFailed(f"The broker ended by itself with code {code}.{kafka.child.last_words()}")
    except KeyboardInterrupt:
        return 0
    except EmbeddedError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
