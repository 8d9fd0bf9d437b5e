"""Everything or nothing: the transactional producer."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced

from services.runtime.kafka.batches import BATCH_BYTES, Place, Write, all_acknowledged
from services.runtime.kafka.connection import REQUEST_MS, bounded
from services.runtime.kafka.errors import Fenced, Refused
from services.runtime.settings import Settings


class Transactions:
    """A transactional producer: `open`, then `begin`, `write` and `commit` again and again, then `close`.

    After any error, also a cancellation, it is dead: close it and open another one under the same id.
    """

    transactional = True

    def __init__(self, settings: Settings, transactional_id: str) -> None:
        self.transactional_id = f"{settings.prefix}{transactional_id}"
        self._producer = AIOKafkaProducer(
            bootstrap_servers=settings.kafka,
            transactional_id=self.transactional_id,
            transaction_timeout_ms=settings.transaction_seconds * 1000,
            enable_idempotence=True,
            compression_type="zstd",
            max_batch_size=BATCH_BYTES,
            request_timeout_ms=REQUEST_MS,
            retry_backoff_ms=20,
        )

    async def open(self) -> None:
        """InitProducerId: fences whoever wrote under this id and ends what it left open. Raises Refused."""
        with self._told():
            await self._producer.start()

    async def close(self) -> None:
        """End the connections within seconds; what was not committed is aborted by the next `open`."""
        await bounded(self._producer.stop())

    async def begin(self) -> None:
        """Open a transaction; the broker hears of it with the first write."""
        with self._told():
            await self._producer.begin_transaction()

    async def write(self, writes: Iterable[Write]) -> dict[Place, int]:
        """Write all of it and wait for every acknowledgement; nobody who reads committed records sees it yet.

        Each partition once. Answers the offset of the first record of each, -1 where the broker does not say.
        Every batch is waited for here, because aiokafka commits a transaction whose batch was refused.
        Raises Fenced, TooLarge, Refused.
        """
        with self._told():
            return await all_acknowledged(self._producer, writes)

    async def commit(self) -> None:
        """All of it becomes visible together. Raises Fenced, Refused; then it may be visible or not."""
        with self._told():
            await self._producer.commit_transaction()

    async def transact(self, writes: Iterable[Write]) -> None:
        """Begin, write and commit."""
        await self.begin()
        await self.write(writes)
        await self.commit()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise Fenced(f"another writer has taken over {self.transactional_id}: {error!r}") from error
        except KafkaError as error:
            raise Refused(f"the broker refused a write of {self.transactional_id}: {error!r}") from error
