"""What stands in the place of transactions on a broker that has none."""

from collections.abc import Iterable

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from services.runtime.kafka.asking import idempotent
from services.runtime.kafka.batches import BATCH_BYTES, Place, Write, all_acknowledged
from services.runtime.kafka.connection import REQUEST_MS, bounded
from services.runtime.kafka.errors import Refused
from services.runtime.kafka.transactions import Transactions
from services.runtime.settings import Settings


class AtLeastOnce:
    """The methods of `Transactions`: a crash may repeat what was written since the last whole `write`, never lose it.

    Nobody is fenced: a process that the group has given up on may write until it notices.
    """

    transactional = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None

    async def open(self) -> None:
        """Connect; repeats of a batch are dropped where the broker knows them. Raises BrokerAway, Refused."""
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.kafka,
            enable_idempotence=await idempotent(self._settings),
            acks="all",
            compression_type="zstd",
            max_batch_size=BATCH_BYTES,
            request_timeout_ms=REQUEST_MS,
            retry_backoff_ms=20,
        )
        try:
            await self._producer.start()
        except KafkaError as error:
            raise Refused(f"the broker takes no producer in: {error!r}") from error

    async def close(self) -> None:
        """End the connections within seconds."""
        if self._producer is not None:
            await bounded(self._producer.stop())

    async def begin(self) -> None:
        """Nothing: what is written is visible at once."""

    async def write(self, writes: Iterable[Write]) -> dict[Place, int]:
        """Write in an order that loses nothing when we die in between, and wait for every acknowledgement.

        The last write is that of the state, and its first record tells how far the inputs were read: it is written
        after all the others, these after the outputs. Answers the offset of the first record of each partition, of
        the state that of the record written last; -1 where the broker does not say. Raises TooLarge, Refused.
        """
        *outputs, state = [write for write in writes if write.records]
        told = await self._written(outputs)
        told |= await self._written([Write(state.topic, state.partition, state.records[1:])])
        return told | await self._written([Write(state.topic, state.partition, state.records[:1])])

    async def commit(self) -> None:
        """Nothing: it is done."""

    async def transact(self, writes: Iterable[Write]) -> None:
        """Write records of which none is a state; whoever reads meanwhile sees some of them."""
        await self._written(writes)

    async def _written(self, writes: Iterable[Write]) -> dict[Place, int]:
        assert self._producer is not None, "write before open"
        try:
            return await all_acknowledged(self._producer, writes)
        except KafkaError as error:
            raise Refused(f"the broker refused a write: {error!r}") from error


Writer = Transactions | AtLeastOnce
"""What a flush is written with."""
