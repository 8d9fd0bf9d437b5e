"""The peer: the same reducer in an ordinary Faust application, one event at a time.

Faust at its documented best without changing its nature: no web, no leader, one agent, the in-memory store, large
fetches and buffers, a producer that waits a little for full batches. A codec for its changelog lets the table hold the
accounts themselves, so that an event costs one encoding and no decoding. Nothing waits for an acknowledgement:
the offset of an event may be committed although its state or output was never written, so this loses data under
faults, which the handoff processor does not. Checks of key, partition and time are left out, to its advantage.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
import traceback

import faust
import uvloop
from faust.serializers import codecs
from faust.types import EventT, StreamT

from schemas import codec
from schemas.topics import OWNERSHIP, POLICY
from services.core.instants import instant
from services.core.moulds import encode
from services.core.policy import Policies
from services.core.processor import Context, Fact
from services.handoff.model import Account
from services.handoff.processor import HandoffProcessor
from services.runtime import kafka
from services.runtime.settings import Settings, load

NAME = "stock-faust"
TABLE = "accounts"
CHANGELOG = f"{NAME}-{TABLE}-changelog"
OUTPUT = f"{NAME}-handoffs"
SERIALIZER = "account"


class AccountCodec(codecs.Codec):
    """Accounts in the changelog, encoded as the engine does it."""

    processor = HandoffProcessor()

    def _dumps(self, obj: Account) -> bytes:
        return bytes([self.processor.version]) + self.processor.encode(obj)

    def _loads(self, s: bytes) -> Account:
        return self.processor.decode(s[1:], s[0])


def application(settings: Settings, events: int, policies: Policies) -> faust.App:
    """Tells on standard output when the first and the last event were processed, with the CPU used until then."""
    codecs.register(SERIALIZER, AccountCodec())
    processor, context = HandoffProcessor(), Context(policies=policies)
    app = faust.App(
        settings.topic(NAME),
        broker=f"kafka://{settings.kafka}",
        store="memory://",
        datadir=tempfile.gettempdir(),
        web_enabled=False,
        topic_disable_leader=True,
        topic_partitions=settings.partitions,
        broker_max_poll_records=5000,
        stream_buffer_maxsize=16_384,
        stream_wait_empty=False,
        producer_acks=1,
        producer_linger=0.02,
        producer_max_batch_size=512 << 10,
        worker_redirect_stdouts=False,
    )
    source = app.topic(settings.topic(OWNERSHIP), key_serializer="raw", value_serializer="raw")
    outputs = app.topic(settings.topic(OUTPUT), key_type=bytes, value_type=bytes, partitions=settings.partitions)
    table = app.Table(TABLE, partitions=settings.partitions, key_type=bytes)
    table.value_serializer = SERIALIZER  # type: ignore[attr-defined]  # a table takes none when it is made

    async def take(arriving: EventT[bytes]) -> None:
        event = codec.decode(OWNERSHIP, arriving.value)
        arrived = instant(event.receivedat) if event.receivedat else round(arriving.message.timestamp * 1e6)
        key, fact = arriving.key, Fact(OWNERSHIP, event, arrived)
        account = table.get(key) or processor.empty()
        decision = processor.decide(event.partitionkey, account, (fact,), context)
        if decision.state is not None:
            table[key] = decision.state
        for output in decision.outputs:
            await outputs.send(key=output.event.partitionkey.encode(), value=encode(output.event))

    @app.agent(source, concurrency=1)
    async def handle(stream: StreamT[bytes]) -> None:
        seen = 0
        try:
            async for arriving in stream.events():
                if seen == 0:
                    tell("first")
                await take(arriving)
                seen += 1
                if seen == events:
                    await app.producer.flush()
                    tell("last")
        except Exception:  # noqa: BLE001  # the peer must not look as if it had taken everything in
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)  # Faust would go on behind the event that failed

    return app


def tell(event: str) -> None:
    print(json.dumps({"event": event, "at": time.monotonic(), "cpu": time.process_time()}), flush=True)


async def read_policies(settings: Settings) -> Policies:
    policies = Policies()
    for record in await kafka.read_all(settings, POLICY):
        if record.value:
            policies = policies.after(codec.decode(POLICY, record.value))
    return policies


def main() -> None:
    settings = load()
    policies = asyncio.run(read_policies(settings))
    uvloop.install()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app = application(settings, int(sys.argv[1]), policies)
    worker = app.Worker(loop=loop, quiet=True, override_logging=False, redirect_stdouts=False)
    worker.spinner = None
    worker.execute_from_commandline()


if __name__ == "__main__":
    main()
