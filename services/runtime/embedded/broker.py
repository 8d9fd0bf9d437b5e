"""The embedded broker: noida, one binary that speaks the Kafka protocol.

It is for demonstrations, small installations and the ordinary test run, not for crash tests:
- killed, it loses about a second of acknowledged records;
- an expired transaction stays open until its producer or a successor ends it, and may still be committed;
- a group never loses a dead member: its partitions wait for a rebalance, and if the dead one led the group, nobody
  gets any partition until the broker restarts. A member with a static id, alone in its group, may die and return;
- a commit of offsets during a rebalance is refused as of an illegal generation, which has the same end;
- a topic that a client merely names comes into being with one partition: create topics first.
"""

import signal
from collections.abc import Sequence
from pathlib import Path

from services.runtime.embedded.binaries import packaged_binary
from services.runtime.embedded.ports import HOST
from services.runtime.embedded.server import Program, Server, launch
from services.runtime.embedded.wire import kafka_answers


def start_broker(data_dir: Path, port: int | None = None, *, insist: bool = False) -> Server:
    """Start noida on the folder's data; `port` is a first choice, and the only one if the caller insists."""
    data_dir = data_dir.resolve()
    binary = packaged_binary("noida_db", "noida-db", "noida-db")

    def command(port: int) -> Sequence[str]:
        # `--only`: the same binary can be six other servers. Beside Kafka it opens one control port, on
        # 127.0.0.1 and guarded by a token in the data folder; no option closes it.
        where = ("--host", HOST, "--kafka-port", str(port), "--data-dir", str(data_dir))
        return (str(binary), "start", "--only", "kafka", *where)

    # SIGTERM at the parent's end: it writes its last second of records only when it is asked to stop.
    noida = Program("noida", command, kafka_answers, patience=15.0, at_parents_end=signal.SIGTERM)
    return launch(noida, data_dir, port, insist=insist)
