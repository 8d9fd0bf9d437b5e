"""Wires ingest over HTTP: settings and maps checked, topics made, homes read, and then served."""

import asyncio
import gc
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvloop

from schemas.topics import BUILT, CLOCK, Topic
from services.ingest import homes, http
from services.ingest.outlet import LETTERS, Outlet
from services.ingest.providers.hubspot import Rules
from services.ingest.receiver import Receiver
from services.ingest.signature import PREFIX, is_secret
from services.runtime import documents, kafka, log, service
from services.runtime.documents import DocumentError
from services.runtime.http import ready_when
from services.runtime.http import serve as serve_metrics
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings, SettingsError

TOPICS: tuple[Topic, ...] = (*(topic for topic in BUILT if "ingest" in topic.producers), LETTERS, CLOCK)

DEAF = "ingest cannot take facts in now: no mark of the clock is heard, or Kafka takes none"


def run(settings: Settings) -> None:
    """Serve until told to stop. Raises OperatorError where it cannot."""
    check_secrets(settings)
    maps = read_maps(settings.mappings)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    service.run(lambda stopping: _serve(settings, maps, stopping))


def read_maps(folder: Path) -> dict[str, Rules]:
    """The maps of vendors' events in a folder, by source; maps of files are not read. Raises DocumentError."""
    if not folder.is_dir():
        raise DocumentError(f"{folder}: there is no such folder; set STEWARD_MAPPINGS to the folder of the maps")
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        if any(line.startswith("vendor:") for line in path.read_text(errors="replace").splitlines()):
            rules = documents.load(path, Rules)
            if rules.source != path.stem:
                raise DocumentError(f"{path}: source is '{rules.source}'; the file of a source is named like it")
            found[rules.source] = rules
    return found


def check_secrets(settings: Settings) -> None:
    """Raises SettingsError where a secret names two sources, or looks like one of Standard Webhooks and is none."""
    known = [(name, one.get_secret_value()) for name, several in settings.source_secrets.items() for one in several]
    twice = [secret for secret, number in Counter(secret for _, secret in known).items() if number > 1]
    for name, secret in known:
        place = f"STEWARD_SOURCE_SECRETS: {name}"
        if secret in twice:
            raise SettingsError(f"{place} has a secret that stands there twice; a secret must tell who sends")
        if not secret.strip():
            raise SettingsError(f"{place} has an empty secret")
        if secret.startswith(PREFIX) and not is_secret(secret):
            raise SettingsError(f"{place} has a secret with {PREFIX} and no base64 behind it")


async def _serve(settings: Settings, maps: Mapping[str, Rules], stopping: asyncio.Event) -> None:
    await kafka.ensure_topics(settings, {topic.name: topic.config for topic in TOPICS})
    metrics = Metrics()
    async with AsyncExitStack() as running:
        out = await running.enter_async_context(Outlet(settings))
        known, followed = await running.enter_async_context(homes.known(settings))
        gc.freeze()  # or every full collection would stop us for as long as there are homes
        for source in settings.source_secrets:
            if known.sender(source) is None:
                log.get().warning("a source with a secret is not registered", run=f"steward source register {source}")
        listener = http.listen(settings.ingest_host, settings.ingest_port)
        host = f"[{settings.ingest_host}]" if ":" in settings.ingest_host else settings.ingest_host
        url = f"http://{host}:{listener.getsockname()[1]}"
        receiver = Receiver(settings, maps, known, out, metrics, url)
        running.enter_context(serve_metrics(settings, metrics, ready_when(lambda: receiver.is_ready, DEAF)))
        log.get().info("serving", url=url, public=settings.public_url or url, maps=sorted(maps))
        told = asyncio.ensure_future(stopping.wait())
        either: list[asyncio.Future[Any]] = [told, followed]
        ended = asyncio.ensure_future(asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED))
        await http.serve(http.application(settings, receiver, metrics), listener, ended)
        told.cancel()
        if followed.done():
            await followed  # it ends only by an error, and that is ours to tell
