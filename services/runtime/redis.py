"""The one door to Redis, which holds views only: everything in it can be rebuilt from the topics."""

from urllib.parse import urlsplit, urlunsplit

from redis import Redis
from redis.exceptions import RedisError

from services.core.errors import OperatorError


class RedisAway(OperatorError):
    """Redis does not answer; the text says where and what to do."""


def ping(url: str) -> str:
    """The version of the Redis (or Valkey) server at this address.

    Raises RedisAway with a sentence.
    """
    try:
        with Redis.from_url(url, socket_connect_timeout=3, socket_timeout=3) as client:
            info = client.info("server")
    except RedisError as error:
        raise RedisAway(f"no Redis answers at {shown(url)} ({error}); start one or set STEWARD_REDIS") from None
    return f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"


def shown(url: str) -> str:
    """The address as it may be shown: without user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))
