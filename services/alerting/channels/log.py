"""The log as a channel: one structured line for each delivery, for installations that have no other yet."""

from services.alerting.message import text
from services.alerting.model import Attempt, Outcome
from services.runtime import log


class Log:
    """Implements services.alerting.courier.Channel."""

    name = "log"
    at_once = 32

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""

    async def send(self, attempt: Attempt) -> Outcome:
        """Write the line; always a success."""
        first = attempt.notices[0]
        log.get().info(
            "alert",
            what="digest" if attempt.is_digest else first.what,
            stage=first.stage,
            recipient=attempt.recipient,
            delivery=attempt.delivery,
            attempt=attempt.number,
            alert=first.alert,
            account=first.account,
            text=text(attempt),
        )
        return Outcome(delivered=True, message="logged")
