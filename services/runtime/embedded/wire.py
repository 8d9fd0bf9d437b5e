"""Just enough of the Kafka and Redis protocols to ask a server whether it is ready."""

import socket
import struct

from services.runtime.embedded.ports import HOST

_TIMEOUT = 2.0  # seconds for one question; far above what a ready server needs
_METADATA_V1 = struct.pack(">hhih7si", 3, 1, 1, 7, b"steward", 0)  # api, version, number, client, no topics


def kafka_answers(port: int, advertised: int | None = None) -> bool:
    """Whether the broker there names itself and a controller in its metadata.

    It names itself by the port `advertised` where that is another than the one it listens on. An open port is
    too early: until a controller is named, clients cannot create topics.
    """
    try:
        with socket.create_connection((HOST, port), _TIMEOUT) as connection:
            connection.sendall(struct.pack(">i", len(_METADATA_V1)) + _METADATA_V1)
            (size,) = struct.unpack(">i", _receive(connection, 4))
            ports, controller = _read_metadata_v1(_receive(connection, size))
    except (OSError, EOFError, struct.error):
        return False
    return (advertised or port) in ports and controller >= 0


def redis_answers(port: int) -> bool:
    """Whether the server there answers PONG; while it loads its data it answers with an error."""
    try:
        with socket.create_connection((HOST, port), _TIMEOUT) as connection:
            connection.sendall(b"PING\r\n")
            return _receive(connection, 7) == b"+PONG\r\n"
    except (OSError, EOFError):
        return False


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError(f"The server closed the connection after {len(data)} of {size} bytes.")
        data += piece
    return data


def _read_metadata_v1(reply: bytes) -> tuple[set[int], int]:
    """The brokers' ports and the controller's id (-1: none yet)."""
    (count,), at = struct.unpack_from(">i", reply, 4), 8  # the correlation id comes first
    ports = set()
    for _ in range(count):
        _node, length = struct.unpack_from(">ih", reply, at)
        at += 6 + length
        port, rack = struct.unpack_from(">ih", reply, at)
        at += 6 + max(rack, 0)
        ports.add(port)
    (controller,) = struct.unpack_from(">i", reply, at)
    return ports, controller
