"""The HTTP server of ingest: reads requests within limits of size, number and time, and sends answers as JSON."""

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse

from services.core.errors import OperatorError
from services.ingest.receiver import Answer, Denied, Reason, Receiver, Visit
from services.runtime import clock, log
from services.runtime.http import PortTaken
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings

BODY_SECONDS = 30.0  # a sender that takes longer gives a connection up, not our memory
GRACE_SECONDS = 5  # for what is in flight when we are told to stop
BACKLOG = 1024
PATHS = "POST /v1/events and POST /v1/webhooks/hubspot/{source}"

# As ASGI has them.
Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Take = Callable[[Visit, bytes], Awaitable[Answer]]


class _Gone(Exception):
    """The sender has hung up."""


class Bodies:
    """Reads bodies: each no larger than one may be, all together no more than may be in flight."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._largest = settings.body_bytes
        self._most = settings.inflight_bytes
        self._gauge = metrics.ingest_inflight
        self._inflight = 0

    async def taken(self, declared: str, receive: Receive, take: Callable[[bytes], Awaitable[Answer]]) -> Answer:
        """What `take` answers to the body, which is in flight until then. Raises Denied, _Gone."""
        if declared.isdecimal() and int(declared[:20]) > self._largest:
            raise self._too_large()
        found, is_whole = bytearray(), False
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while not is_whole:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    is_whole = not message.get("more_body", False)
                    self._add(found, message.get("body", b""))
            return await take(bytes(found))
        except TimeoutError:
            sentence = f"the body did not come within {BODY_SECONDS:.0f} s"
            raise Denied(HTTPStatus.REQUEST_TIMEOUT, Reason.TIMEOUT, sentence) from None
        finally:
            self._count(-len(found))

    def _add(self, found: bytearray, chunk: bytes) -> None:
        found += chunk
        self._count(len(chunk))
        if len(found) > self._largest:
            raise self._too_large()
        if self._inflight > self._most:
            sentence = "too many bytes are in flight; send this again later"
            raise Denied(HTTPStatus.TOO_MANY_REQUESTS, Reason.RATE, sentence, is_passing=True)

    def _count(self, size: int) -> None:
        self._inflight += size
        self._gauge.set(self._inflight)

    def _too_large(self) -> Denied:
        sentence = f"the body is larger than {self._largest:,} bytes"
        return Denied(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, Reason.SIZE, sentence)


class Endpoint:
    """One route, as an application of its own: the layers of a framework would cost more than all we do."""

    def __init__(self, route: str, take: Take, receiver: Receiver, bodies: Bodies, metrics: Metrics) -> None:
        self._route = route
        self._take = take
        self._receiver = receiver
        self._bodies = bodies
        self._requests = metrics.ingest_requests
        self._seconds = metrics.ingest_seconds.labels(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = clock.elapsed()
        visit = _visit(self._route, scope)
        try:
            visit.arrival = self._receiver.now()
            declared = visit.headers.get("content-length", "")
            answer = await self._bodies.taken(declared, receive, lambda content: self._take(visit, content))
        except Denied as denied:
            answer = self._receiver.denied(visit, denied)
        except _Gone:
            return
        except Exception:
            self._requests.labels(visit.source, "500").inc()
            raise
        self._requests.labels(visit.source, str(answer.status.value)).inc()
        self._seconds.observe(clock.elapsed() - begun)
        await _send(send, answer)


def _visit(route: str, scope: Scope) -> Visit:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}
    query = scope["query_string"].decode("latin-1")
    target = scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
    return Visit(route, scope["method"], scope["path"], target, dict(parse_qsl(query)) if query else {}, headers)


async def _send(send: Send, answer: Answer) -> None:
    body = msgspec.json.encode(answer.content)
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **answer.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status.value, "headers": raw})
    await send({"type": "http.response.body", "body": body})


# ---------------------------------------------------------------- the server


class CannotListen(OperatorError):
    """The address is none of this machine, or not for us."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises PortTaken, CannotListen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except socket.gaierror as error:
        raise CannotListen(f"STEWARD_INGEST_HOST: '{host}' is no address ({error.strerror})") from None
    except OSError as error:
        why = os.strerror(error.errno or 0)  # without what Python adds to it
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(f"port {port} is taken ({why}); set STEWARD_INGEST_PORT to a free one, or 0") from None
        place = "STEWARD_INGEST_PORT" if error.errno == errno.EACCES else "STEWARD_INGEST_HOST"
        raise CannotListen(f"{place}: nobody can listen at {host}, port {port} ({why})") from None


def application(settings: Settings, receiver: Receiver, metrics: Metrics) -> FastAPI:
    """The routes."""
    bodies = Bodies(settings, metrics)

    async def webhook(visit: Visit, content: bytes) -> Answer:
        vendor, source = visit.path.rsplit("/", 2)[1:]
        return await receiver.webhook(visit, content, vendor, source)

    async def ready(_: Request) -> Response:
        status = HTTPStatus.OK if receiver.is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return PlainTextResponse("ready\n" if receiver.is_ready else "not ready\n", status)

    events = Endpoint("events", receiver.events, receiver, bodies, metrics)
    webhooks = Endpoint("hubspot", webhook, receiver, bodies, metrics)
    app = FastAPI(
        openapi_url=None, redirect_slashes=False, telemetry={"tracing": False, "metrics": False, "logs": False}
    )
    for path, endpoint in (("/v1/events", events), ("/v1/webhooks/{vendor}/{source}", webhooks)):
        app.add_route(path, endpoint, methods=["POST"])  # type: ignore[arg-type]  # it takes applications, too
    app.add_route("/live", _live, methods=["GET"])
    app.add_route("/ready", ready, methods=["GET"])
    app.add_exception_handler(HTTPStatus.NOT_FOUND, _nowhere)
    app.add_exception_handler(HTTPStatus.METHOD_NOT_ALLOWED, _nowhere)
    app.add_exception_handler(Exception, _failed)
    return app


async def serve(app: FastAPI, listener: socket.socket, stopping: "asyncio.Future[Any]") -> None:
    """Serve until `stopping` is done, then finish what is in flight."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await serving


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the command: uvicorn would end the process by the signal it was stopped with."""
        yield


async def _live(_: Request) -> Response:
    return PlainTextResponse("alive\n")


async def _nowhere(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", HTTPStatus.NOT_FOUND)
    return _error(status, f"{request.method} is not served at this path; there are {PATHS}")


async def _failed(_: Request, error: Exception) -> Response:
    log.get().error("a request failed", error=type(error).__name__)
    return _error(HTTPStatus.INTERNAL_SERVER_ERROR, "this is a fault of ours; it is logged")


def _error(status: int, sentence: str) -> Response:
    return Response(msgspec.json.encode({"error": sentence}), status, media_type="application/json")
