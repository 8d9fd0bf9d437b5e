"""The peer: a loop by hand on confluent-kafka, the accounts in a dict that is lost with the process.

What a careful person writes in an afternoon: batches from `consume`, msgspec for JSON with the contract's bounds in
its types, librdkafka filling batches in its own threads, offsets committed in the background. No durable state and no
restore: the floor under any engine on librdkafka, not a peer with the same guarantees.
"""

import signal
import sys
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from confluent_kafka import Consumer, Producer

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]
YEARS = range(1990, 2200)
FETCHED = 2_000
WORST = 4


class Ticket(msgspec.Struct, gc=False):
    ticket: Id
    severity: Annotated[int, msgspec.Meta(ge=1, le=WORST)]


class Opened(msgspec.Struct, gc=False, tag_field="type", tag="steward.ticket.opened.v1"):
    specversion: Literal["1.0"]
    id: Id
    source: Id
    subject: Id
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    partitionkey: Id
    data: Ticket
    datacontenttype: Literal["application/json"] = "application/json"


class Values(msgspec.Struct, gc=False):
    count: int = 0
    total: int = 0
    worst: int = WORST
    last: str = ""


class Tallied(msgspec.Struct, gc=False):
    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    datacontenttype: str
    partitionkey: str
    sourcerank: int
    data: Values


def main() -> None:
    bootstrap, group, source, output = sys.argv[1:]
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 50,
            "queued.max.messages.kbytes": 64 << 10,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 20,
            "batch.size": 512 << 10,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    consumer.subscribe([source])
    decode, encode = msgspec.json.Decoder(Opened).decode, msgspec.json.Encoder().encode
    accounts: dict[bytes, Values] = {}
    while not stopping:
        for message in consumer.consume(FETCHED, 0.1):
            key = message.key()
            try:
                event = decode(message.value())
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            if event.time.year not in YEARS or event.partitionkey.encode() != key:
                continue
            values, ticket = accounts.get(key), event.data
            if values is None:
                values = accounts[key] = Values()
            values.count += 1
            values.total += ticket.severity
            values.worst = min(values.worst, ticket.severity)
            values.last = ticket.ticket
            account = event.partitionkey
            told = Tallied(
                "1.0", event.id, "bench", "bench.account.tallied.v1", account, event.time, "application/json", account,
                100, values,
            )  # fmt: skip
            producer.produce(output, encode(told), key, message.partition())
        producer.poll(0)
    producer.flush(30)
    consumer.close()
    for key, values in accounts.items():  # its state, for the comparison alone
        sys.stdout.write(f"{key.decode()} {encode(values).decode()}\n")


if __name__ == "__main__":
    main()
