"""Instants as exact integers, and the only two ways between them and datetimes."""

from datetime import UTC, datetime, timedelta

Instant = int  # microseconds since 1970-01-01T00:00:00Z

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(at: datetime) -> Instant:
    """The instant of an aware datetime; in a fold of its zone, the reading that its `fold` names."""
    try:
        # timestamp() would go through a float, which is off by a microsecond for some dates.
        since = at - _EPOCH
    except TypeError:
        raise ValueError(
            f"The time {at.isoformat()} has no zone, so it names no instant; "
            f"give its offset, for example {at.isoformat()}+00:00."
        ) from None
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


def moment(at: Instant) -> datetime:
    """The aware UTC datetime of an instant."""
    try:
        return _EPOCH + timedelta(microseconds=at)
    except OverflowError as error:
        raise ValueError(
            f"The instant {at} lies outside the years 1 to 9999; "
            "instants are microseconds since 1970, check the unit of its source."
        ) from error
