"""A TCP proxy in a thread of its own: resets connections, swallows what passes, delays it."""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Self

HOST = "127.0.0.1"
CHUNK = 1 << 16
ABORT = struct.pack("ii", 1, 0)  # linger of zero: closing sends a reset


class Proxy:
    """Passes what connects to `port` on to `target`, until told otherwise; every method may be called from anywhere."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self.target = target
        self.passed = 0  # connections taken in so far
        self._open: set[asyncio.StreamWriter] = set()
        self._delay = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{port}", daemon=True)
        self._server: asyncio.Server | None = None
        self._flows: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._start()).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop()).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def reset(self) -> None:
        """Break every open connection with a reset; new ones are taken in."""
        self._do(self._reset()).result(10)

    def stall(self) -> None:
        """Swallow nothing and pass nothing on: a black hole, to both sides. New connections are taken in as well."""
        self._do(self._flow(passing=False)).result(10)

    def heal(self) -> None:
        """Pass everything on again, what waited included."""
        self._delay = 0.0
        self._do(self._flow(passing=True)).result(10)

    def slow(self, seconds: float) -> None:
        """Hold every piece back for so long."""
        self._delay = seconds

    def _do(self, work: Coroutine[Any, Any, None]) -> "Future[None]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _start(self) -> None:
        self._flows = asyncio.Event()
        self._flows.set()
        self._server = await asyncio.start_server(self._serve, HOST, self.port)

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._flow(passing=True)
        await self._reset()
        if self._tasks:  # each ends with its connection
            await asyncio.wait(list(self._tasks), timeout=5)

    async def _flow(self, *, passing: bool) -> None:
        assert self._flows is not None
        if passing:
            self._flows.set()
        else:
            self._flows.clear()

    async def _reset(self) -> None:
        for writer in list(self._open):
            connection: socket.socket | None = writer.get_extra_info("socket")
            if connection is not None:
                with suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.passed += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._connect(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self.target)
        except OSError:  # the broker is away; so is this connection
            return
        self._open |= {writer, far_writer}
        try:
            both = [asyncio.create_task(self._pass(*pair)) for pair in ((reader, far_writer), (far_reader, writer))]
            _, left = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in left:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
        finally:
            self._open -= {writer, far_writer}
            far_writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._flows is not None
        with suppress(OSError):
            while piece := await reader.read(CHUNK):
                if self._delay:
                    await asyncio.sleep(self._delay)
                await self._flows.wait()
                writer.write(piece)
                await writer.drain()
