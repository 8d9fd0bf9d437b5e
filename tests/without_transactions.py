"""A proxy in front of a Kafka broker that refuses to give producers transactions and passes on everything else."""

import socket
import struct
import threading
from contextlib import suppress
from enum import Enum
from typing import Self

from services.runtime.embedded.ports import HOST

INIT_PRODUCER_ID = 22
UNSUPPORTED_VERSION = 35
FLEXIBLE_FROM = 2  # the version of InitProducerId


class Refusal(Enum):
    """How a broker that does not know a request may say so."""

    ERROR = "error"
    CLOSE = "close"


class Proxy:
    """Listens on a port of its own, which the broker must advertise; `target` is set once the broker listens.

    With `refusal` None it passes on everything. `also_idempotence`: no ids for producers without transactions either.
    """

    def __init__(self, refusal: Refusal | None = Refusal.ERROR, *, also_idempotence: bool = False) -> None:
        self.refusal = refusal
        self.also_idempotence = also_idempotence
        self.refused = 0
        self.target: int | None = None
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._listener, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self.target is None:
            client.close()
            return
        with suppress(OSError), client, socket.create_connection((HOST, self.target)) as broker:
            self._open.append(broker)
            waiting = _Waiting()
            threading.Thread(target=_answer, args=(broker, client, waiting), daemon=True).start()
            while frame := _frame(client):
                if not self._refuses(frame):
                    waiting.more()
                    broker.sendall(struct.pack(">i", len(frame)) + frame)
                    continue
                self.refused += 1
                if self.refusal is Refusal.CLOSE:
                    break
                waiting.none_left()  # answers keep the order of their questions
                client.sendall(_unsupported(frame))
            broker.shutdown(socket.SHUT_RDWR)

    def _refuses(self, frame: bytes) -> bool:
        if self.refusal is None or struct.unpack_from(">h", frame)[0] != INIT_PRODUCER_ID:
            return False
        return self.also_idempotence or _names_a_transaction(frame)


class _Waiting:
    """How many questions the broker has not answered yet."""

    def __init__(self) -> None:
        self._count, self._changed = 0, threading.Condition()

    def more(self, by: int = 1) -> None:
        with self._changed:
            self._count += by
            self._changed.notify_all()

    def none_left(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0, timeout=10)


def _answer(broker: socket.socket, client: socket.socket, waiting: _Waiting) -> None:
    with suppress(OSError):
        while frame := _frame(broker):
            client.sendall(struct.pack(">i", len(frame)) + frame)
            waiting.more(-1)
        client.shutdown(socket.SHUT_RDWR)


def _frame(source: socket.socket) -> bytes:
    """One message without its length; empty at the end of the connection."""
    head = _exactly(source, 4)
    return _exactly(source, struct.unpack(">i", head)[0]) if head else b""


def _exactly(source: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = source.recv(size - len(data))
        if not piece:
            return b""
        data += piece
    return bytes(data)


def _names_a_transaction(frame: bytes) -> bool:
    _, version, _, client = struct.unpack_from(">hhih", frame)
    body = frame[10 + max(client, 0) :]
    if version >= FLEXIBLE_FROM:
        return body[1] != 0  # after the header's empty list of tags: the length plus one, 0 for none
    return bool(struct.unpack_from(">h", body)[0] >= 0)


def _unsupported(frame: bytes) -> bytes:
    _, version, correlation = struct.unpack_from(">hhi", frame)
    tags = b"\0" if version >= FLEXIBLE_FROM else b""
    body = struct.pack(">ihqh", 0, UNSUPPORTED_VERSION, -1, -1)  # throttle, error, id, epoch
    answer = struct.pack(">i", correlation) + tags + body + tags
    return struct.pack(">i", len(answer)) + answer
