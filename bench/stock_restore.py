"""The peer of the restore: a stock Faust table of the same states as bytes, read back from its changelog.

To its advantage nothing is decoded.
Tells on standard output how long it took from the assignment of its partitions to the recovered table.
"""

import asyncio
import json
import tempfile
import time

import faust
import uvloop

from services.runtime.settings import Settings, load

NAME = "stock-restore"
TABLE = "accounts"
CHANGELOG = f"{NAME}-{TABLE}-changelog"
INPUT = f"{NAME}-input"


def application(settings: Settings) -> faust.App:
    app = faust.App(
        settings.topic(NAME),
        broker=f"kafka://{settings.kafka}",
        store="memory://",
        datadir=tempfile.gettempdir(),
        web_enabled=False,
        topic_disable_leader=True,
        topic_partitions=settings.partitions,
        table_standby_replicas=0,
        broker_max_poll_records=5000,
        stream_buffer_maxsize=16_384,
        worker_redirect_stdouts=False,
    )
    source = app.topic(settings.topic(INPUT), key_serializer="raw", value_serializer="raw")
    table = app.Table(TABLE, partitions=settings.partitions, key_type=bytes, value_type=bytes)
    begun = 0.0

    @app.on_partitions_assigned.connect
    async def assigned(*_: object, **_named: object) -> None:
        nonlocal begun
        begun = time.perf_counter()

    @table.on_recover
    async def recovered() -> None:
        told = {"event": "recovered", "seconds": time.perf_counter() - begun, "accounts": len(table)}
        print(json.dumps(told), flush=True)

    @app.agent(source)
    async def handle(stream: faust.StreamT[bytes]) -> None:
        async for _ in stream:
            pass

    return app


def main() -> None:
    uvloop.install()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app = application(load())
    worker = app.Worker(loop=loop, quiet=True, override_logging=False, redirect_stdouts=False)
    worker.spinner = None
    worker.execute_from_commandline()


if __name__ == "__main__":
    main()
