"""The proxy passes on what it is given, and does the harm that it is asked for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.runtime.embedded.ports import HOST, pick_port
from tests.fault.proxy import Proxy

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(100):
        writer.write(piece)
        await writer.drain()
    writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(_echo, HOST, 0)
    with Proxy(pick_port(), server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    server.close()


@asynccontextmanager
async def line(proxy: Proxy) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    yield reader, writer
    writer.transport.abort()


async def says(on: Line, text: bytes, seconds: float = 5) -> bytes:
    on[1].write(text)
    async with asyncio.timeout(seconds):
        return await on[0].readexactly(len(text))


async def test_what_goes_in_comes_out_and_back(proxy: Proxy) -> None:
    async with line(proxy) as on:
        assert await says(on, b"hello") == b"hello"
    assert proxy.passed == 1


async def test_a_reset_breaks_what_is_open_and_lets_new_connections_in(proxy: Proxy) -> None:
    async with line(proxy) as on, line(proxy) as other:
        assert await says(on, b"one") == b"one"
        assert await says(other, b"two") == b"two"
        await asyncio.to_thread(proxy.reset)
        for broken in (on, other):
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await says(broken, b"three")
        async with line(proxy) as fresh:
            assert await says(fresh, b"four") == b"four"


async def test_a_stalled_proxy_answers_nothing_until_it_is_healed(proxy: Proxy) -> None:
    async with line(proxy) as on:
        await asyncio.to_thread(proxy.stall)
        with pytest.raises(TimeoutError):
            await says(on, b"late", 0.3)
        await asyncio.to_thread(proxy.heal)
        async with asyncio.timeout(5):
            assert await on[0].readexactly(4) == b"late"
