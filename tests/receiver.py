"""A webhook endpoint to deliver to: records each raw request before it answers, and judges its signature."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from services.core.instants import Instant
from services.runtime import clock

SECRET = "whsec_c3Rld2FyZC10ZXN0cy1zaWduLXdpdGgtdGhpcw=="
STALL_SECONDS = 60.0

Mode = Literal["ok", "500 then ok", "429 then ok", "410", "stall then ok", "drop then ok", "redirect"]


@dataclass(frozen=True)
class Post:
    """One request as it came in."""

    at: Instant
    path: str
    headers: dict[str, str]
    body: bytes
    is_signed: bool

    @property
    def id(self) -> str:
        return self.headers.get("webhook-id", "")

    @property
    def message(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Receiver:
    """What came in so far; `mode` says how the first attempt of each message is answered."""

    mode: Mode = "ok"
    secret: str = SECRET
    retry_after: int = 2
    url: str = ""
    posts: list[Post] = field(default_factory=list)

    def ids(self) -> Counter[str]:
        """How often each key was posted."""
        return Counter(post.id for post in self.posts)

    def of(self, handoff: str) -> list[Post]:
        """The posts about one handoff."""
        return [post for post in self.posts if post.message["data"].get("handoff") == handoff]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        is_again = any(post.id == headers.get("webhook-id") for post in self.posts)
        self.posts.append(Post(clock.now(), request.path, headers, body, self._is_signed(headers, body)))
        return web.Response(text="taken") if is_again and self.mode != "410" else await self._first(request)

    async def _first(self, request: web.Request) -> web.StreamResponse:
        match self.mode:
            case "ok":
                return web.Response(text="taken")
            case "500 then ok":
                return web.Response(status=500)
            case "429 then ok":
                return web.Response(status=429, headers={"Retry-After": str(self.retry_after)})
            case "410":
                return web.Response(status=410)
            case "stall then ok":
                await asyncio.sleep(STALL_SECONDS)
                return web.Response(text="too late")
            case "drop then ok":
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            case "redirect":
                return web.Response(status=307, headers={"Location": "/elsewhere"})

    def _is_signed(self, headers: dict[str, str], body: bytes) -> bool:
        with suppress(WebhookVerificationError):
            Webhook(self.secret).verify(body, headers)
            return True
        return False


@contextmanager
def receiving(mode: Mode = "ok", secret: str = SECRET) -> Iterator[Receiver]:
    """A receiver on a free port of this machine, served from a thread of its own while the block runs."""
    receiver = Receiver(mode, secret)
    loop = asyncio.new_event_loop()
    started = threading.Event()
    stopping = asyncio.Event()

    async def serve(announce: Callable[[str], None]) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", receiver.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        announce(f"http://127.0.0.1:{runner.addresses[0][1]}/alerts")
        await stopping.wait()
        await runner.cleanup()

    def announce(url: str) -> None:
        receiver.url = url
        started.set()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(announce),), name="receiver", daemon=True)
    thread.start()
    assert started.wait(10), "the receiver did not start"
    try:
        yield receiver
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(10)
        loop.close()
