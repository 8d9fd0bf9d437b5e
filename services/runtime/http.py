"""Serves /metrics, /live and /ready from a thread of its own, so that a busy loop still answers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from services.core.errors import OperatorError
from services.runtime import log
from services.runtime.metrics import Metrics


class PortTaken(OperatorError):
    """Another process listens on the port."""


@contextmanager
def serve(port: int | None, metrics: Metrics, ready: Callable[[], bool]) -> Iterator[int | None]:
    """Serve while the block runs; answers the port (None: not asked for). Raises PortTaken."""
    if port is None:
        yield None
        return

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match self.path:
                case "/metrics":
                    self._answer(HTTPStatus.OK, metrics.text(), "text/plain; version=0.0.4; charset=utf-8")
                case "/live":
                    self._answer(HTTPStatus.OK, b"alive\n")
                case "/ready":
                    is_ready = ready()
                    status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
                    self._answer(status, b"ready\n" if is_ready else b"not ready\n")
                case _:
                    self._answer(HTTPStatus.NOT_FOUND, b"see /metrics /live /ready\n")

        def _answer(self, status: HTTPStatus, body: bytes, content_type: str = "text/plain") -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Scrapes are not news."""

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise PortTaken(f"port {port} is taken ({error.strerror}); set STEWARD_HTTP_PORT to a free one, or 0") from None
    thread = Thread(target=server.serve_forever, name="http", daemon=True)
    thread.start()
    log.get().info("metrics served", port=server.server_port)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
