"""Receives events and webhooks over HTTP: who sent it, what it says, and an answer only once Kafka has it."""

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from schemas.identity import IdentityMapped
from services.core.errors import OperatorError
from services.core.instants import Instant
from services.ingest import decide, outlet
from services.ingest.homes import Homes
from services.ingest.model import Accepted, Outcome, Refused, Sender, Unknown
from services.ingest.outlet import Away, Outlet
from services.ingest.providers import body, cloudevents, hubspot
from services.ingest.signature import Keys
from services.runtime import clock, log
from services.runtime.http import PortTaken
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings

BODY_SECONDS = 30.0  # a sender that takes longer gives a connection up, not our memory
RETRY_SECONDS = 5
GRACE_SECONDS = 5  # for what is in flight when we are told to stop
BACKLOG = 1024
NOBODY = "unknown"  # the source in metrics and logs until it is authenticated and registered
PATHS = "POST /v1/events and POST /v1/webhooks/hubspot/{source}"


class Reason(StrEnum):
    """Why a request as a whole was refused."""

    SIGNATURE = "signature"
    SIZE = "size"
    TYPE = "content_type"
    SCHEMA = "schema"
    RATE = "rate"
    AWAY = "away"
    SOURCE = "source"
    TIMEOUT = "timeout"


class Denied(Exception):
    """The request is answered with an error; the sentence quotes neither body nor secret."""

    def __init__(self, status: HTTPStatus, reason: Reason, sentence: str, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


@dataclass(slots=True)
class Visit:
    """One request: its route for metrics, when it came, and its source once that is known."""

    request: Request
    route: str
    arrival: Instant
    source: str = NOBODY
    is_dry: bool = False


class Receiver:
    """The routes under /v1."""

    def __init__(
        self,
        settings: Settings,
        maps: Mapping[str, hubspot.Rules],
        homes: Homes,
        out: Outlet,
        metrics: Metrics,
        url: str,
    ) -> None:
        self._settings = settings
        self._keys = Keys(_plain(settings.source_secrets))
        self._maps = maps
        self._homes = homes
        self._out = out
        self._metrics = metrics
        self._url = settings.public_url or url
        self._inflight = 0

    @property
    def is_ready(self) -> bool:
        return self._homes.is_current and self._homes.now() is not None

    async def events(self, request: Request) -> Response:
        """POST /v1/events"""
        return await self._visited(request, "events", self._events)

    async def webhook(self, request: Request) -> Response:
        """POST /v1/webhooks/{vendor}/{source}"""
        return await self._visited(request, "hubspot", self._hubspot)

    # -- around every request ------------------------------------------------------------------------------------

    async def _visited(
        self, request: Request, route: str, take: Callable[[Visit, bytes], Awaitable[Response]]
    ) -> Response:
        begun = clock.elapsed()
        visit = Visit(request, route, 0, is_dry=request.query_params.get("dry_run") == "1")
        try:
            visit.arrival = self._now()
            with self._room() as room:
                response = await take(visit, await self._body(request, room))
        except Denied as denied:
            response = self._denied(visit, denied)
        except ClientDisconnect:
            response = Response(status_code=HTTPStatus.BAD_REQUEST)
        self._metrics.ingest_requests.labels(visit.source, str(response.status_code)).inc()
        self._metrics.ingest_seconds.labels(route).observe(clock.elapsed() - begun)
        return response

    def _now(self) -> Instant:
        now = self._homes.now()
        if now is None or not self._homes.is_current:
            raise _away("Kafka does not answer, or the clock has not begun")
        return now

    @contextmanager
    def _room(self) -> Iterator[Callable[[int], None]]:
        """Counts the bytes that a request brings as being in flight while the block runs."""
        mine = 0

        def more(size: int) -> None:
            nonlocal mine
            mine += size
            self._inflight += size
            self._metrics.ingest_inflight.set(self._inflight)
            if self._inflight > self._settings.inflight_bytes:
                sentence = "too many bytes are in flight; send this again later"
                raise Denied(HTTPStatus.TOO_MANY_REQUESTS, Reason.RATE, sentence, RETRY_SECONDS)

        try:
            yield more
        finally:
            self._inflight -= mine
            self._metrics.ingest_inflight.set(self._inflight)

    async def _body(self, request: Request, more: Callable[[int], None]) -> bytes:
        limit = self._settings.body_bytes
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > limit:
            raise _too_large(limit)
        found = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in request.stream():
                    more(len(chunk))
                    found += chunk
                    if len(found) > limit:
                        raise _too_large(limit)
        except TimeoutError:
            sentence = f"the body did not come within {BODY_SECONDS:.0f} s"
            raise Denied(HTTPStatus.REQUEST_TIMEOUT, Reason.TIMEOUT, sentence) from None
        return bytes(found)

    def _denied(self, visit: Visit, denied: Denied) -> Response:
        self._metrics.ingest_rejections.labels(visit.source, denied.reason.value).inc()
        said = {"route": visit.route, "source": visit.source, "status": int(denied.status)}
        log.get().info("request refused", reason=denied.reason.value, why=str(denied), **said)
        headers = {} if denied.retry_after is None else {"Retry-After": str(denied.retry_after)}
        return _json(denied.status, {"error": str(denied)}, headers)

    # -- who sent it ---------------------------------------------------------------------------------------------

    def _registered(self, visit: Visit, source: str) -> Sender:
        sender = self._homes.sender(source)
        if sender is None:
            sentence = f"source '{source}' is not registered; run `steward source register {source}`"
            raise Denied(HTTPStatus.NOT_FOUND, Reason.SOURCE, sentence)
        visit.source = source
        return sender

    def _public(self, request: Request) -> str:
        """The URL as the sender sees it."""
        query = request.scope["query_string"]
        path = request.scope["raw_path"] + (b"?" + query if query else b"")
        return self._url + bytes(path).decode("latin-1")

    # -- what it says --------------------------------------------------------------------------------------------

    async def _events(self, visit: Visit, content: bytes) -> Response:
        request = visit.request
        source = self._keys.sender(request.headers, request.query_params.get("source", ""), content, visit.arrival)
        if source is None:
            raise _unsigned()
        sender = self._registered(visit, source)
        items = items_of(visit.request, content)
        return await self._settled(visit, decide.cloud_events(items, sender, self._homes.mappings, visit.arrival))

    async def _hubspot(self, visit: Visit, content: bytes) -> Response:
        request, headers = visit.request, visit.request.headers
        vendor, source = request.path_params["vendor"], request.path_params["source"]
        rules = self._maps.get(source)
        if rules is None or rules.vendor != vendor or source not in self._keys.secrets:
            sentence = f"no source '{source:.60}' of vendor '{vendor:.60}' has a map and a secret here"
            raise Denied(HTTPStatus.NOT_FOUND, Reason.SOURCE, sentence)
        url = self._public(request)
        if not self._keys.is_hubspot(source, headers, request.method, url, content, visit.arrival):
            raise _unsigned()
        sender = self._registered(visit, source)
        if body.shape(headers.get("content-type", "")) != "either":
            raise _wrong_type("application/json")
        outcomes = decide.webhook(
            _split(content, "either"),
            lambda item: hubspot.read(item, rules),
            sender,
            self._homes.mappings,
            visit.arrival,
            create=rules.account.create,
        )
        return await self._settled(visit, outcomes, keeps=True)

    # -- what becomes of it --------------------------------------------------------------------------------------

    async def _settled(self, visit: Visit, outcomes: Sequence[Outcome], *, keeps: bool = False) -> Response:
        """Write what was decided and answer. With `keeps`, nobody reads the answer: what was refused is kept, too."""
        accepted = [outcome for outcome in outcomes if isinstance(outcome, Accepted)]
        refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
        unknown = [outcome for outcome in outcomes if isinstance(outcome, Unknown)]
        is_taken = bool(accepted or unknown or not refused)
        if not visit.is_dry:
            # A request that is refused as a whole comes again, so there is nothing to keep of it.
            letters: list[Refused | Unknown] = [*unknown, *(refused if keeps and is_taken else [])]
            await self._written(visit, accepted, letters)
            self._count(visit.source, outcomes)
        answer: dict[str, Any] = {
            "accepted": [_told(one, is_dry=visit.is_dry) for one in accepted],
            "refused": [{"item": one.item, "field": one.field, "why": one.why} for one in refused],
            "unknown": len(unknown),
        }
        if visit.is_dry:
            answer["dry_run"] = True
        if is_taken:
            return _json(HTTPStatus.ACCEPTED, answer)
        self._metrics.ingest_rejections.labels(visit.source, Reason.SCHEMA.value).inc()
        fields = sorted({one.field for one in refused})
        said = {"route": visit.route, "source": visit.source, "status": 422, "items": len(refused)}
        log.get().info("request refused", reason=Reason.SCHEMA.value, fields=fields[:20], **said)
        return _json(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": "nothing was taken; `refused` says why", **answer})

    async def _written(self, visit: Visit, accepted: Sequence[Accepted], letters: Sequence[Refused | Unknown]) -> None:
        path = visit.request.scope["path"]
        kept = [outlet.letter(visit.source, one, path, visit.arrival) for one in letters]
        try:
            await self._out.write([*map(outlet.fact, accepted), *kept])
        except Away as away:
            raise _away(str(away)) from None
        for one in accepted:
            if isinstance(one.event, IdentityMapped):
                self._homes.mappings.learn(one.event)
        for letter in letters:
            self._metrics.dead_letters.labels("ingest", visit.route, outlet.reason(letter).value).inc()

    def _count(self, source: str, outcomes: Sequence[Outcome]) -> None:
        for outcome, number in Counter(map(_outcome, outcomes)).items():
            self._metrics.ingest_events.labels(source, outcome).inc(number)
            if outcome == "unknown":
                self._metrics.unknown_types.labels(source).inc(number)


def _plain(secrets: Mapping[str, Sequence[SecretStr]]) -> dict[str, list[str]]:
    return {source: [secret.get_secret_value() for secret in several] for source, several in secrets.items()}


def _outcome(outcome: Outcome) -> str:
    match outcome:
        case Accepted(held=None):
            return "accepted"
        case Accepted():
            return "held"
        case Refused():
            return "refused"
        case Unknown():
            return "unknown"


def _told(accepted: Accepted, *, is_dry: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"id": accepted.event.id}
    if accepted.account is not None:
        told["account"] = accepted.account
    if accepted.held is not None:
        told["held"] = f"unknown {accepted.held}"
    if is_dry:
        told |= {"topic": accepted.topic.name, "event": msgspec.Raw(outlet.value(accepted))}
    return told


def items_of(request: Request, content: bytes) -> Sequence[bytes]:
    """The CloudEvents in a request, whichever way they are sent."""
    headers = request.headers
    shape = body.shape(headers.get("content-type", ""))
    if "ce-specversion" not in headers or shape in {"one", "batch"}:
        if shape is None:
            raise _wrong_type(", ".join(body.SHAPES))
        return _split(content, shape)
    if shape != "either":
        raise _wrong_type("application/json with the headers ce-*")
    attributes = {name[3:]: text for name, text in headers.items() if name.startswith("ce-")}
    try:
        return [cloudevents.structured(attributes, content)]
    except body.Unreadable as error:
        raise _unreadable(error) from None


def _split(content: bytes, shape: body.Shape) -> Sequence[bytes]:
    try:
        return body.split(content, shape)
    except body.TooMany as error:
        raise Denied(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, Reason.SIZE, str(error)) from None
    except body.Unreadable as error:
        raise _unreadable(error) from None


def _unreadable(error: body.Unreadable) -> Denied:
    return Denied(HTTPStatus.UNPROCESSABLE_ENTITY, Reason.SCHEMA, str(error))


def _unsigned() -> Denied:
    # One answer for all that can be wrong: whoever tries signatures learns nothing from it.
    return Denied(HTTPStatus.UNAUTHORIZED, Reason.SIGNATURE, "signature or token: missing, wrong, or too old")


def _too_large(limit: int) -> Denied:
    return Denied(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, Reason.SIZE, f"the body is larger than {limit:,} bytes")


def _wrong_type(wanted: str) -> Denied:
    return Denied(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, Reason.TYPE, f"send the content type {wanted}, in UTF-8")


def _away(why: str) -> Denied:
    sentence = f"{why}; send this again, with the same ids"
    return Denied(HTTPStatus.SERVICE_UNAVAILABLE, Reason.AWAY, sentence, RETRY_SECONDS)


def _json(status: int, content: object, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")


# ---------------------------------------------------------------- the server


class CannotListen(OperatorError):
    """The address is none of this machine."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises PortTaken, CannotListen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except PermissionError as error:
        raise CannotListen(
            f"STEWARD_INGEST_PORT: port {port} needs rights that we have not ({error.strerror})"
        ) from None
    except socket.gaierror as error:
        raise CannotListen(f"STEWARD_INGEST_HOST: '{host}' is no address ({error.strerror})") from None
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise CannotListen(f"STEWARD_INGEST_HOST: '{host}' is no address of this machine") from None
        sentence = f"port {port} is taken ({error.strerror}); set STEWARD_INGEST_PORT to a free one, or 0"
        raise PortTaken(sentence) from None


def application(receiver: Receiver) -> FastAPI:
    """The routes."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    app.add_route("/v1/events", receiver.events, methods=["POST"])
    app.add_route("/v1/webhooks/{vendor}/{source}", receiver.webhook, methods=["POST"])
    app.add_route("/live", _live, methods=["GET"])

    async def ready(_: Request) -> Response:
        if receiver.is_ready:
            return PlainTextResponse("ready\n")
        return PlainTextResponse("not ready\n", HTTPStatus.SERVICE_UNAVAILABLE)

    app.add_route("/ready", ready, methods=["GET"])
    app.add_exception_handler(HTTPException, _nowhere)
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
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.NOT_FOUND
    return _json(status, {"error": f"{request.method} is not served at this path; there are {PATHS}"})


async def _failed(_: Request, error: Exception) -> Response:
    log.get().error("a request failed", error=type(error).__name__)
    return _json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "this is a fault of ours; it is logged"})
