"""Free TCP ports on 127.0.0.1."""

import os
import socket
import sys
import time
from pathlib import Path

from services.runtime.embedded.errors import PortTaken

HOST = "127.0.0.1"

# Below the ephemeral ports (Linux: from 32768). Among those, a client that keeps dialling a dead broker can
# get the broker's own port as its local one, connect to itself, and keep the broker from coming back.
_LOWEST, _SPAN = 20_000, 12_000


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now; connections that are still closing do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def is_held_by(pid: int, port: int) -> bool:
    """Whether this very process listens on the port; elsewhere than on Linux, that is taken for granted."""
    if sys.platform != "linux":
        return True
    try:
        rows = [row.split() for table in ("tcp", "tcp6") for row in _read(f"/proc/{pid}/net/{table}")[1:]]
        sockets = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}
        return any(str(file.readlink()) in sockets for file in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # it ended, or closed a file, while we looked
        return False


def _read(path: str) -> list[str]:
    return Path(path).read_text(encoding="ascii").splitlines()


def pick_port(first_choice: int | None = None, *, insist: bool = False) -> int:
    """The first choice if it is free, else another port; PortTaken if the caller insists on that choice."""
    if first_choice is not None:
        if is_free(first_choice):
            return first_choice
        if insist:
            raise PortTaken(
                f"Port {first_choice} on {HOST} is taken by another program; stop it or choose another port."
            )
    # Two processes that look at the same time should not look at the same ports.
    start = (time.monotonic_ns() // 1_000 + os.getpid() * 97) % _SPAN
    for step in range(_SPAN):
        port = _LOWEST + (start + step) % _SPAN
        if port != first_choice and is_free(port):
            return port
    raise PortTaken(f"No port from {_LOWEST} to {_LOWEST + _SPAN - 1} is free on {HOST}; stop some servers.")
