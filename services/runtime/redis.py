"""The one door to Redis, which holds views only: everything in it can be rebuilt from the topics."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError, ResponseError

from services.core.errors import OperatorError

Command = tuple[str | bytes | int, ...]

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 10.0
PIPELINE = 1_000  # commands in one round trip
SCANNED = 1_000  # keys looked at in one round trip


class RedisAway(OperatorError):
    """Redis does not answer, or refuses; the text says where and what to do."""


def ping(url: str) -> str:
    """The version of the Redis (or Valkey) server at this address.

    Raises RedisAway with a sentence.
    """
    with _sentences(url), _address(url), Redis.from_url(url, socket_connect_timeout=3, socket_timeout=3) as client:
        info = client.info("server")
    return f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"


class Store:
    """A connection to one server (no cluster: a script touches keys of many accounts). Replies are bytes.

    Every method raises RedisAway when the server does not answer or refuses.
    """

    def __init__(self, client: AsyncRedis, url: str) -> None:
        self._client = client
        self._url = url
        self._scripts: dict[str, AsyncScript] = {}

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to commands sent together; others' commands may come between them."""
        replies: list[Any] = []
        with _sentences(self._url):
            for start in range(0, len(commands), PIPELINE):
                async with self._client.pipeline(transaction=False) as pipeline:
                    for command in commands[start : start + PIPELINE]:
                        pipeline.execute_command(*command)
                    replies += await pipeline.execute()
        return replies

    async def run(self, script: str, keys: Sequence[str], *arguments: str | bytes | int) -> Any:
        """What a Lua script answers. It runs alone; its text is sent to a server only once."""
        with _sentences(self._url):
            if script not in self._scripts:
                self._scripts[script] = self._client.register_script(script)
            return await self._scripts[script](keys=keys, args=arguments)

    async def names(self, pattern: str) -> AsyncIterator[list[bytes]]:
        """The keys that match, some at a time; one that comes or goes meanwhile may be missing."""
        cursor = 0
        while True:
            with _sentences(self._url):
                cursor, found = await self._client.scan(cursor, match=pattern, count=SCANNED)
            yield [name for name in found if isinstance(name, bytes)]
            if cursor == 0:
                return

    async def eviction(self) -> str:
        """What the server does when its memory is full: `noeviction`, or the rule by which it drops keys."""
        with _sentences(self._url):
            return str((await self._client.info("memory")).get("maxmemory_policy", "noeviction"))


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Store]:
    """A store at this address; whether anybody answers there shows with the first command."""
    with _address(url):
        client = AsyncRedis.from_url(
            url,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 1),  # a connection that the server has closed meanwhile
        )
    try:
        yield Store(client, url)
    finally:
        await client.aclose()


@contextmanager
def _sentences(url: str) -> Iterator[None]:
    try:
        yield
    except ResponseError as error:
        raise RedisAway(f"Redis at {shown(url)} refuses: {error}") from None
    except (RedisError, OSError) as error:
        raise RedisAway(f"no Redis answers at {shown(url)} ({error}); start one or set STEWARD_REDIS") from None


@contextmanager
def _address(url: str) -> Iterator[None]:
    try:
        yield
    except ValueError:  # its text may quote the password
        remedy = "set STEWARD_REDIS, and write / # ? @ in a password as %2F %23 %3F %40"
        raise RedisAway(f"{shown(url)} is no address of a Redis; {remedy}") from None


def shown(url: str) -> str:
    """The address as it may be shown: without user and password, and not at all where those cannot be told apart."""
    try:
        parts = urlsplit(url)
        is_plain = parts.scheme == "unix" or (bool(parts.hostname) and (parts.port or 1) > 0)
    except ValueError:
        is_plain = False
    if not is_plain or "@" in parts.path + parts.query + parts.fragment:
        return "the address in STEWARD_REDIS"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))
