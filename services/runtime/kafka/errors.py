"""What may go wrong between this process and the broker."""

from services.core.errors import OperatorError


class BrokerAway(OperatorError):
    """Nobody answers at the broker's address."""


class Unacknowledged(OperatorError):
    """The broker has not acknowledged in time; the records may be written yet."""


class Undelivered(OperatorError):
    """Records that stand in a topic were not delivered; what was made of the others is not whole."""


class TopicMismatch(OperatorError):
    """A topic on the broker is not as the catalogue and the settings say."""


class Refused(OperatorError):
    """The broker refused a write, or another writer took over; this producer must not be used again."""


class Fenced(Refused):
    """Another producer with the same transactional id has taken over."""


class TooLarge(Refused):
    """One record is larger than the broker takes."""
