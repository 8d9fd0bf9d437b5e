"""The customer's side of the demo: an endpoint that verifies each alert by itself and writes down what it got.

It shares no code with what sends: the signature is checked as the Standard Webhooks spec tells a receiver to.
"""

import hmac
import json
import socket
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from aiohttp import web

from services.core.errors import OperatorError
from services.core.instants import SECOND, Instant
from services.runtime import clock
from services.runtime.embedded.ports import HOST

# It guards nothing but one showing on this machine.
SECRET = "whsec_" + b64encode(b"the secret of the demo's endpoint").decode()
PORT = 28_090  # first choice
PATH = "/alerts"
TOLERANCE = 300  # seconds
LARGEST = 1 << 20


class LogUnusable(OperatorError):
    """The log of the receiver cannot be written."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A request as the log has it. `key` is the id of the delivery; `why` it is not authentic, empty if it is."""

    at: Instant
    key: str
    why: str
    body: str

    @property
    def is_authentic(self) -> bool:
        return not self.why

    @property
    def message(self) -> Mapping[str, Any]:
        """The body; empty where it is no JSON object."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def data(self) -> Mapping[str, Any]:
        found = self.message.get("data")
        return found if isinstance(found, dict) else {}


@asynccontextmanager
async def receiving(log: Path) -> AsyncIterator[str]:
    """Serve on a free port; answers the URL of the endpoint. Raises LogUnusable."""
    _begin(log)

    async def receive(request: web.Request) -> web.Response:
        body = await request.read()
        headers = {
            name.lower(): value for name, value in request.headers.items() if name.lower().startswith("webhook-")
        }
        at = clock.now()
        why = refusal(headers, body, at)
        line = {"at": at, "why": why, "headers": headers, "body": body.decode(errors="replace")}
        with log.open("a") as file:  # before the answer: what it has acknowledged it has
            file.write(json.dumps(line) + "\n")
        return web.Response(status=401 if why else 204)

    app = web.Application(client_max_size=LARGEST)
    app.router.add_post(PATH, receive)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        listener = _listener()
        await web.SockSite(runner, listener).start()
        yield f"http://{HOST}:{listener.getsockname()[1]}{PATH}"
    finally:
        await runner.cleanup()


def _listener() -> socket.socket:
    try:
        return socket.create_server((HOST, PORT))
    except OSError:  # another program has it
        return socket.create_server((HOST, 0))


def _begin(log: Path) -> None:
    try:
        log.write_bytes(b"")
    except OSError as error:
        raise LogUnusable(f"the receiver's log cannot be written to {log}: {error.strerror}") from None


def entries(log: Path) -> list[Entry]:
    """Every request in the log, in the order in which they came."""
    lines = log.read_text().splitlines(keepends=True)
    found = [json.loads(line) for line in lines if line.endswith("\n")]
    return [Entry(line["at"], line["headers"].get("webhook-id", ""), line["why"], line["body"]) for line in found]


def refusal(headers: Mapping[str, str], body: bytes, now: Instant) -> str:
    """Why a request is not authentic; empty if it is."""
    id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not id or not timestamp.isascii() or not timestamp.isdigit():
        return "webhook-id or webhook-timestamp is missing"
    if abs(int(timestamp) - now // SECOND) > TOLERANCE:
        return f"webhook-timestamp {timestamp} is not of these five minutes"
    key = b64decode(SECRET.removeprefix("whsec_"))
    right = hmac.digest(key, f"{id}.{timestamp}.".encode() + body, sha256)
    for version, _, signature in (text.partition(",") for text in headers.get("webhook-signature", "").split()):
        if version == "v1" and hmac.compare_digest(signature.encode(), b64encode(right)):
            return ""
    return "no signature in webhook-signature fits"
