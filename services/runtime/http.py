"""Serves /metrics, /live and /ready from a thread of its own, so that a busy loop still answers."""

import errno
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6
from socketserver import TCPServer
from threading import Thread

from services.core.errors import OperatorError
from services.runtime import log
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings
from services.runtime.watchdog import Watchdog

JSON = "application/json"
PLAIN = "text/plain; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"


class PortTaken(OperatorError):
    """Another process listens on the port, or this one may not."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """What /ready answers: is everything there, and in one sentence what is not.

    `guarantee` is what a record is written (exactly once, at least once), `partitions` what was assigned and what of
    it serves; both None for a process that has no partitions.
    """

    ready: bool
    missing: str | None = None
    guarantee: str | None = None
    partitions: dict[str, list[int]] | None = None

    def body(self) -> bytes:
        told = {name: value for name, value in asdict(self).items() if value is not None or name == "missing"}
        return json.dumps(told).encode() + b"\n"


def ready_when(is_ready: Callable[[], bool], otherwise: str) -> Callable[[], Readiness]:
    """Readiness of a process that lacks one thing or nothing; `otherwise` is the sentence that says what."""
    return lambda: Readiness(True) if is_ready() else Readiness(False, otherwise)


@contextmanager
def serve(
    settings: Settings, metrics: Metrics, ready: Callable[[], Readiness], watchdog: Watchdog | None = None
) -> Iterator[int | None]:
    """Serve while the block runs; answers the port (None: not asked for). Raises PortTaken."""
    if settings.http_port is None:
        yield None
        return

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match self.path:
                case "/metrics":
                    self._answer(HTTPStatus.OK, metrics.text(), METRICS)
                case "/live" if watchdog is not None and not watchdog.is_live:
                    told = f"the main loop has not turned for {watchdog.blocked:.0f} s\n"
                    self._answer(HTTPStatus.SERVICE_UNAVAILABLE, told.encode())
                case "/live":
                    self._answer(HTTPStatus.OK, b"alive\n")
                case "/ready":
                    found = ready()
                    status = HTTPStatus.OK if found.ready else HTTPStatus.SERVICE_UNAVAILABLE
                    self._answer(status, found.body(), JSON)
                case _:
                    self._answer(HTTPStatus.NOT_FOUND, b"see /metrics /live /ready\n")

        def _answer(self, status: HTTPStatus, body: bytes, content_type: str = PLAIN) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Scrapes are not news."""

    server = _listening(settings.http_host, settings.http_port, Handler)
    thread = Thread(target=server.serve_forever, name="http", daemon=True)
    thread.start()
    log.get().info("metrics served", port=server.server_port)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    def server_bind(self) -> None:
        """Without the look-up of this machine's name, which may take seconds where no name server answers."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class _Server6(_Server):
    address_family = AF_INET6


def _listening(host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    try:
        return (_Server6 if ":" in host else _Server)((host, port), handler)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            told = f"port {port} is taken ({error.strerror}); set STEWARD_HTTP_PORT to a free one, or 0"
        elif error.errno == errno.EACCES:
            told = f"port {port} is not for this user ({error.strerror}); set STEWARD_HTTP_PORT to one over 1023, or 0"
        else:
            told = f"{host} is no address of this machine ({error.strerror}); set STEWARD_HTTP_HOST to one, or 0.0.0.0"
        raise PortTaken(told) from None
