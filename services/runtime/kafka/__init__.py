"""The one door to Kafka outside the engine's consumer: topics, readers, publishers and transactions.

BrokerAway        nobody answers at the address
Unacknowledged    the broker has not answered a write in time
Undelivered       records that stand in a topic were not delivered
TopicMismatch     a topic on the broker is not as the catalogue says
Refused           the broker refused a write: the producer is dead
├── Fenced        another writer has taken over
└── TooLarge      one record is larger than a batch may be
"""

from services.runtime.kafka.asking import topic_ids, transactional
from services.runtime.kafka.at_least_once import AtLeastOnce, Writer
from services.runtime.kafka.batches import BATCH_BYTES, Header, Key, Outgoing, Place, Record, Write, partition_of
from services.runtime.kafka.errors import (
    BrokerAway,
    Fenced,
    Refused,
    TooLarge,
    TopicMismatch,
    Unacknowledged,
    Undelivered,
)
from services.runtime.kafka.following import Followed, Offsets, Spot, Tail, follow, offsets, tail
from services.runtime.kafka.publisher import Publisher
from services.runtime.kafka.readers import Received, latest, partitions, read_all, reader, scan
from services.runtime.kafka.replaying import Bare, replay
from services.runtime.kafka.topics import admin, ensure_topics, existing
from services.runtime.kafka.transactions import Transactions

__all__ = [
    "BATCH_BYTES",
    "AtLeastOnce",
    "Bare",
    "BrokerAway",
    "Fenced",
    "Followed",
    "Header",
    "Key",
    "Offsets",
    "Outgoing",
    "Place",
    "Publisher",
    "Received",
    "Record",
    "Refused",
    "Spot",
    "Tail",
    "TooLarge",
    "TopicMismatch",
    "Transactions",
    "Unacknowledged",
    "Undelivered",
    "Write",
    "Writer",
    "admin",
    "ensure_topics",
    "existing",
    "follow",
    "latest",
    "offsets",
    "partition_of",
    "partitions",
    "read_all",
    "reader",
    "replay",
    "scan",
    "tail",
    "topic_ids",
    "transactional",
]
