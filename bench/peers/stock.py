"""The peer: the small reducer as Faust's manual has it, a table of records and a send for each event.

Settings are those of bench/stock_faust.py: no web, no leader, one agent, large fetches and buffers, a producer that
waits a little for full batches. What records cannot say (a control character, a zone, a strict number) is checked
by hand. Nothing waits for an acknowledgement, so this loses data under faults.
"""

import asyncio
import re
import sys
import tempfile
from datetime import datetime
from typing import Any

import faust
import uvloop
from faust.models.fields import StringField
from faust.types import StreamT

TYPE = "steward.ticket.opened.v1"
YEARS = range(1990, 2200)
WORST = 4
ID = re.compile(r"[^\x00-\x1f]+")


class Ticket(faust.Record, validation=True, include_metadata=False):
    ticket: str = StringField(min_length=1, max_length=200)
    severity: Any  # declared a number, Faust would make 1 of `true` and 2 of 2.5


class Opened(faust.Record, validation=True, include_metadata=False):
    specversion: str
    id: str = StringField(min_length=1, max_length=200)
    source: str = StringField(min_length=1, max_length=200)
    type: str
    subject: str = StringField(min_length=1, max_length=200)
    time: str
    partitionkey: str = StringField(min_length=1, max_length=200)
    data: Ticket
    datacontenttype: str = "application/json"


class Values(faust.Record, include_metadata=False):
    count: int = 0
    total: int = 0
    worst: int = WORST
    last: str = ""


class Tallied(faust.Record, include_metadata=False):
    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    datacontenttype: str
    partitionkey: str
    sourcerank: int
    data: Values


def application(bootstrap: str, name: str, source: str, output: str, partitions: int) -> faust.App:
    app = faust.App(
        name,
        broker=f"kafka://{bootstrap}",
        store="memory://",
        datadir=tempfile.gettempdir(),
        web_enabled=False,
        topic_disable_leader=True,
        topic_partitions=partitions,
        broker_max_poll_records=5000,
        stream_buffer_maxsize=16_384,
        stream_wait_empty=False,
        producer_acks=1,
        producer_linger=0.02,
        producer_max_batch_size=512 << 10,
        worker_redirect_stdouts=False,
    )
    opened = app.topic(source, key_type=bytes, key_serializer="raw", value_type=Opened)
    # The manual's way of skipping what is broken.
    opened.on_value_decode_error = refuse  # type: ignore[assignment,method-assign]  # a hook, declared a method
    tallied = app.topic(output, key_type=bytes, key_serializer="raw", value_type=Tallied, partitions=partitions)
    table = app.Table("tallies", partitions=partitions, key_type=bytes, value_type=Values, default=Values)

    @app.agent(opened, concurrency=1)
    async def handle(stream: StreamT[Opened]) -> None:
        arriving: Any
        async for arriving in stream.events():
            event: Opened = arriving.value
            if not is_valid(arriving.key, event):
                continue
            key, ticket, before = arriving.key, event.data, table[arriving.key]
            values = Values(
                before.count + 1,
                before.total + ticket.severity,
                min(before.worst, ticket.severity),
                ticket.ticket,
            )
            table[key] = values
            account = event.partitionkey
            told = Tallied(
                "1.0", event.id, "bench", "bench.account.tallied.v1", account, event.time, "application/json", account,
                100, values,
            )  # fmt: skip
            await tallied.send(key=key, value=told)

    return app


async def refuse(_error: Exception, _message: object) -> None:
    """What cannot be read as the record is dropped."""


def is_valid(key: bytes, event: Opened) -> bool:
    """What the types of the record leave open."""
    if event.specversion != "1.0" or event.type != TYPE or event.datacontenttype != "application/json":
        return False
    texts = (event.id, event.source, event.subject, event.partitionkey, event.data.ticket)
    if not all(is_text(text) for text in texts):
        return False
    severity = event.data.severity
    if type(severity) is not int or not 1 <= severity <= WORST or event.partitionkey.encode() != key:
        return False
    try:
        at = datetime.fromisoformat(event.time)
    except (ValueError, TypeError):
        return False
    return at.tzinfo is not None and at.year in YEARS


def is_text(value: object) -> bool:
    return isinstance(value, str) and ID.fullmatch(value) is not None


def main() -> None:
    bootstrap, name, source, output, partitions = sys.argv[1:6]
    del sys.argv[1:]
    uvloop.install()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app = application(bootstrap, name, source, output, int(partitions))
    worker = app.Worker(loop=loop, quiet=True, override_logging=False, redirect_stdouts=False)
    worker.spinner = None
    worker.execute_from_commandline()


if __name__ == "__main__":
    main()
