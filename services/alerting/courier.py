"""The courier: does the attempts that the desk asks for, outside and at once, and publishes what came of each."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from schemas import codec, notices
from schemas.topics import NOTICES
from services.alerting.channels.log import Log
from services.alerting.channels.webhook import Webhook
from services.alerting.model import Attempt, Outcome
from services.core.instants import moment
from services.core.processor import Effect
from services.runtime import clock, kafka, log
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings

SOURCE = "steward/alerting-desk"
REVOKED_SECONDS = 5.0  # for what is under way; what takes longer is repeated with the same key by the next owner
AGAIN_SECONDS = 1.0
DONE_KEPT = 100_000
MESSAGE_LENGTH = 500


class Channel(Protocol):
    """One way to reach people; does one attempt at a time, `at_once` of them beside each other."""

    name: str
    at_once: int

    async def start(self) -> None:
        """Called in the loop before the first attempt."""

    async def stop(self) -> None:
        """Called after the last one."""

    async def send(self, attempt: Attempt) -> Outcome:
        """One attempt, bounded in time; a failure is an outcome and no exception."""


def channels_of(settings: Settings) -> tuple[Channel, ...]:
    """The log, and the webhook where one is set. Raises WebhookError."""
    return (Log(), Webhook(settings)) if settings.alert_url else (Log(),)


class Courier:
    """Implements services.runtime.engine.courier.Courier. An attempt is begun once by this process, and never forgotten
    between its end and the broker's acknowledgement of the result.
    """

    def __init__(self, settings: Settings, metrics: Metrics, channels: Sequence[Channel] | None = None) -> None:
        self._channels = {channel.name: channel for channel in (channels or channels_of(settings))}
        self._results = _Results(settings)
        self._metrics = metrics
        self._room = {name: asyncio.Semaphore(channel.at_once) for name, channel in self._channels.items()}
        self._queued: dict[str, asyncio.Task[None]] = {}
        self._begun: dict[str, asyncio.Task[None]] = {}
        self._done: dict[str, None] = {}
        self._stopped = False

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Names of the endpoints that every notice goes to."""
        return tuple(self._channels)

    async def start(self) -> None:
        for channel in self._channels.values():
            await channel.start()

    def perform(self, effects: Sequence[Effect]) -> None:
        """Begin what is neither under way nor done; once stopped, nothing: the next owner is asked for it."""
        for effect in () if self._stopped else effects:
            if effect.id not in self._queued and effect.id not in self._begun and effect.id not in self._done:
                self._queued[effect.id] = asyncio.create_task(self._attempt(effect))

    async def revoked(self) -> None:
        """Give what is under way its time, forget the rest: the next owner is asked for it again."""
        for task in self._queued.values():
            task.cancel()
        begun = list(self._begun.values())
        if begun:
            await asyncio.wait(begun, timeout=REVOKED_SECONDS)
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, *self._queued.values(), return_exceptions=True)
        self._queued.clear()
        self._begun.clear()

    async def stop(self) -> None:
        self._stopped = True
        await self.revoked()
        for channel in self._channels.values():
            await channel.stop()
        await self._results.close()

    async def _attempt(self, effect: Effect) -> None:
        attempt = effect.content
        assert isinstance(attempt, Attempt)  # noqa: S101  # the desk asks for nothing else
        channel = self._channels.get(attempt.endpoint)
        if channel is None:
            self._begin(effect)
            outcome = Outcome(delivered=False, message=f"no endpoint '{attempt.endpoint}' is set up")
            await self._publish(effect, attempt, outcome)
            return
        async with self._room[channel.name]:
            self._begin(effect)
            with self._metrics.outbox_pending.labels(channel.name).track_inprogress():
                outcome = await self._sent(channel, attempt)
                await self._publish(effect, attempt, outcome)

    def _begin(self, effect: Effect) -> None:
        self._begun[effect.id] = self._queued.pop(effect.id)

    async def _sent(self, channel: Channel, attempt: Attempt) -> Outcome:
        since = clock.elapsed()
        try:
            outcome = await channel.send(attempt)
        except Exception as error:  # noqa: BLE001  # an attempt without a result would wait for ever
            log.get().error("channel failed", channel=channel.name, delivery=attempt.delivery, error=repr(error))
            outcome = Outcome(delivered=False, message=f"the channel failed: {error!r}")
        self._metrics.delivery_seconds.labels(channel.name).observe(clock.elapsed() - since)
        self._metrics.delivery_attempts.labels(channel.name, _code(outcome)).inc()
        if not outcome.delivered:
            log.get().warning(
                "alert not delivered", channel=channel.name, delivery=attempt.delivery, why=outcome.message
            )
        return outcome

    async def _publish(self, effect: Effect, attempt: Attempt, outcome: Outcome) -> None:
        await self._results.publish(_result(attempt, outcome))
        self._begun.pop(effect.id, None)
        self._done[effect.id] = None
        if len(self._done) > DONE_KEPT:
            del self._done[next(iter(self._done))]


class _Results:
    """Writes results to cs.notices for as long as it takes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._publisher: kafka.Publisher | None = None
        self._opening = asyncio.Lock()

    async def publish(self, event: notices.NoticeDelivered | notices.NoticeFailed) -> None:
        """Return once the broker has it."""
        value = codec.encode(event)
        while True:
            publisher = None
            try:
                publisher = await self._open()
                await publisher.send(NOTICES, event.partitionkey, value)
            except Exception as error:  # noqa: BLE001  # whatever it was: a result that is lost is an alert told twice
                log.get().warning("result of an attempt not written yet", id=event.id, error=repr(error))
                await self._discard(publisher)
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                return

    async def close(self) -> None:
        await self._discard(self._publisher)

    async def _open(self) -> kafka.Publisher:
        async with self._opening:
            if self._publisher is None:
                self._publisher = await kafka.Publisher(self._settings).__aenter__()
            return self._publisher

    async def _discard(self, publisher: kafka.Publisher | None) -> None:
        """After an error a producer is not to be trusted any more."""
        if publisher is not None and self._publisher is publisher:
            self._publisher = None
            await publisher.__aexit__()


def _result(attempt: Attempt, outcome: Outcome) -> notices.NoticeDelivered | notices.NoticeFailed:
    kind = notices.NoticeDelivered if outcome.delivered else notices.NoticeFailed
    word = "delivered" if outcome.delivered else "failed"
    return kind(
        id=f"{attempt.delivery}.{attempt.number}.{word}",
        source=SOURCE,
        subject=attempt.recipient,
        partitionkey=attempt.recipient,
        time=moment(clock.now()),
        data=notices.Result(
            delivery=attempt.delivery,
            notice=attempt.name,
            endpoint=attempt.endpoint,
            attempt=attempt.number,
            status=outcome.status,
            retry_after=outcome.retry_after,
            message=outcome.message[:MESSAGE_LENGTH],
        ),
    )


def _code(outcome: Outcome) -> str:
    """The answer as a label: the status where it has a meaning of its own, else its class."""
    if outcome.status is None:
        return "done" if outcome.delivered else "none"
    return str(outcome.status) if outcome.status in {410, 429} else f"{outcome.status // 100}xx"
