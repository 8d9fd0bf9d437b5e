"""From a request to its answer: who sent it, what it says, and success only once Kafka has it.

Denied    the request as a whole is answered with an error
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import msgspec
from pydantic import SecretStr

from schemas.identity import IdentityMapped
from services.core.instants import Instant
from services.ingest import decide, outlet
from services.ingest.homes import Homes
from services.ingest.model import Accepted, Outcome, Refused, Sender, Unknown
from services.ingest.outlet import Away, Outlet
from services.ingest.providers import body, cloudevents, hubspot
from services.ingest.signature import Keys
from services.runtime import log
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings

RETRY_SECONDS = 5
NOBODY = "unknown"  # the source in metrics and logs until it is authenticated and registered


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

    def __init__(self, status: HTTPStatus, reason: Reason, sentence: str, *, is_passing: bool = False) -> None:
        super().__init__(sentence)
        self.status = status
        self.reason = reason
        self.is_passing = is_passing


@dataclass(slots=True)
class Visit:
    """One request without its body. `target` is path and query as they came; names of headers are in small letters."""

    route: str
    method: str
    path: str
    target: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    arrival: Instant = 0
    source: str = NOBODY

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the sender is told, as JSON."""

    status: HTTPStatus
    content: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


class Receiver:
    """Answers requests whose bodies have been read."""

    def __init__(
        self,
        settings: Settings,
        maps: Mapping[str, hubspot.Rules],
        homes: Homes,
        out: Outlet,
        metrics: Metrics,
        url: str,
    ) -> None:
        self._keys = Keys(_plain(settings.source_secrets))
        self._maps = maps
        self._homes = homes
        self._out = out
        self._metrics = metrics
        self._url = settings.public_url or url

    @property
    def is_ready(self) -> bool:
        return self._out.is_open and self._homes.is_current and self._homes.now() is not None

    def now(self) -> Instant:
        """When a request arrives that comes now. Raises Denied while nothing can be taken."""
        now = self._homes.now()
        if now is None or not self._homes.is_current:
            raise _away("Kafka does not answer, or the clock has not begun")
        return now

    def denied(self, visit: Visit, denied: Denied) -> Answer:
        """The answer to a request that is refused as a whole; counted and logged."""
        self._refused(visit, denied.status, denied.reason, why=str(denied))
        headers = {"Retry-After": str(RETRY_SECONDS)} if denied.is_passing else {}
        return Answer(denied.status, {"error": str(denied)}, headers)

    # -- who sent it, and what it says ---------------------------------------------------------------------------

    async def events(self, visit: Visit, content: bytes) -> Answer:
        """CloudEvents of own code. Raises Denied."""
        source = self._keys.sender(visit.headers, visit.query.get("source", ""), content, visit.arrival)
        if source is None:
            raise _unsigned()
        sender = self._registered(visit, source)
        items = items_of(visit.headers, content)
        return await self._settled(visit, decide.cloud_events(items, sender, self._homes.mappings, visit.arrival))

    async def webhook(self, visit: Visit, content: bytes, vendor: str, source: str) -> Answer:
        """Events of a vendor. Raises Denied."""
        rules = self._maps.get(source)
        if rules is None or rules.vendor != vendor or source not in self._keys.secrets:
            sentence = f"no source '{source:.60}' of vendor '{vendor:.60}' has a map and a secret here"
            raise Denied(HTTPStatus.NOT_FOUND, Reason.SOURCE, sentence)
        url = self._url + visit.target
        if not self._keys.is_hubspot(source, visit.headers, visit.method, url, content, visit.arrival):
            raise _unsigned()
        sender = self._registered(visit, source)
        if body.shape(visit.content_type) != "either":
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

    def _registered(self, visit: Visit, source: str) -> Sender:
        sender = self._homes.sender(source)
        if sender is None:
            sentence = f"source '{source}' is not registered; run `steward source register {source}`"
            raise Denied(HTTPStatus.NOT_FOUND, Reason.SOURCE, sentence)
        visit.source = source
        return sender

    # -- what becomes of it --------------------------------------------------------------------------------------

    async def _settled(self, visit: Visit, outcomes: Sequence[Outcome], *, keeps: bool = False) -> Answer:
        """Write what was decided and answer. With `keeps`, nobody reads the answer: what was refused is kept, too."""
        accepted = [outcome for outcome in outcomes if type(outcome) is Accepted]
        refused = [outcome for outcome in outcomes if type(outcome) is Refused]
        unknown = [outcome for outcome in outcomes if type(outcome) is Unknown]
        is_taken = bool(accepted or unknown or not refused)
        is_dry = visit.query.get("dry_run") == "1"
        if not is_dry:
            letters: list[Refused | Unknown] = [*unknown, *(refused if keeps else [])]
            await self._written(visit, accepted, letters)
            self._count(visit.source, accepted, len(refused), len(unknown))
        answer: dict[str, Any] = {
            "accepted": [_told(one, is_dry=is_dry) for one in accepted],
            "refused": [{"item": one.item, "field": one.field, "why": one.why} for one in refused],
            "unknown": len(unknown),
        }
        if is_dry:
            answer["dry_run"] = True
        if is_taken:
            return Answer(HTTPStatus.ACCEPTED, answer)
        status, fields = HTTPStatus.UNPROCESSABLE_ENTITY, sorted({one.field for one in refused})
        self._refused(visit, status, Reason.SCHEMA, items=len(refused), fields=fields[:20])
        return Answer(status, {"error": "nothing was taken; `refused` says why", **answer})

    async def _written(self, visit: Visit, accepted: Sequence[Accepted], letters: Sequence[Refused | Unknown]) -> None:
        kept = [outlet.letter(visit.source, one, visit.path, visit.arrival) for one in letters]
        try:
            await self._out.write([*map(outlet.fact, accepted), *kept])
        except Away as away:
            raise _away(str(away)) from None
        for one in accepted:
            if isinstance(one.event, IdentityMapped):
                self._homes.mappings.learn(one.event)
        for letter in letters:
            self._metrics.dead_letters.labels("ingest", visit.route, outlet.reason(letter).value).inc()

    def _count(self, source: str, accepted: Sequence[Accepted], refused: int, unknown: int) -> None:
        held = sum(one.held is not None for one in accepted)
        counts = {"accepted": len(accepted) - held, "held": held, "refused": refused, "unknown": unknown}
        for outcome, number in counts.items():
            if number:
                self._metrics.ingest_events.labels(source, outcome).inc(number)
        if unknown:
            self._metrics.unknown_types.labels(source).inc(unknown)

    def _refused(self, visit: Visit, status: HTTPStatus, reason: Reason, **more: object) -> None:
        self._metrics.ingest_rejections.labels(visit.source, reason.value).inc()
        said = {"route": visit.route, "source": visit.source, "status": status.value, "reason": reason.value}
        log.get().info("request refused", **said, **more)


def items_of(headers: Mapping[str, str], content: bytes) -> Sequence[bytes]:
    """The CloudEvents in a request, whichever way they are sent. Raises Denied."""
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


def _plain(secrets: Mapping[str, Sequence[SecretStr]]) -> dict[str, list[str]]:
    return {source: [secret.get_secret_value() for secret in several] for source, several in secrets.items()}


def _told(accepted: Accepted, *, is_dry: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"id": accepted.event.id}
    if accepted.account is not None:
        told["account"] = accepted.account
    if accepted.held is not None:
        told["held"] = f"unknown {accepted.held}"
    if is_dry:
        told |= {"topic": accepted.topic.name, "event": msgspec.Raw(outlet.value(accepted))}
    return told


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


def _wrong_type(wanted: str) -> Denied:
    return Denied(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, Reason.TYPE, f"send the content type {wanted}, in UTF-8")


def _away(why: str) -> Denied:
    sentence = f"{why}; send this again, with the same ids"
    return Denied(HTTPStatus.SERVICE_UNAVAILABLE, Reason.AWAY, sentence, is_passing=True)
