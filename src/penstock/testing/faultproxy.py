"""faultproxy, a TCP proxy that delays, throttles, freezes and cuts connections, for example those to a database."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Literal

from penstock.core.tasks import TaskGroup

Cut = Literal["fin", "rst"]

_BLOCK = 64 * 1024
_IN_FLIGHT = 64
"""Blocks that may be under way in one direction of a connection, as in a network's buffers; more are not read."""
_LINGER_ZERO = struct.pack("ii", 1, 0)


class FaultProxy:
    """The proxy, listening on a free port of 127.0.0.1 inside ``async with``.

    Everything may be changed while it runs, and applies to open connections too.

    Example:
        ::

            async with FaultProxy("127.0.0.1", 5432) as proxy:
                database = await connect(port=proxy.port)
                proxy.delay_s = 0.1  # a slow network
                proxy.freeze()  # a hung server: connections stay, nothing moves
                proxy.thaw()  # what was sent meanwhile arrives
                proxy.cut()  # a crash: every connection is reset
                proxy.refusing = True  # and new ones are, too

    Attributes:
        delay_s: Seconds everything takes in each direction; the order is kept and the throughput does not suffer.
        bytes_per_s: The most each direction of a connection carries; None for no limit.
        refusing: Reset new connections at once.
        port: Where it listens.
        accepted: How many connections were made to it.
    """

    def __init__(
        self, host: str, port: int, *, delay_s: float = 0.0, bytes_per_s: float | None = None, refusing: bool = False
    ) -> None:
        """Pass connections on to `host` and `port`."""
        self._target = (host, port)
        self.delay_s = delay_s
        self.bytes_per_s = bytes_per_s
        self.refusing = refusing
        self.port = 0
        self.accepted = 0
        self._passages: set[_Passage] = set()
        self._tasks = TaskGroup()
        self._moving = asyncio.Event()
        self._moving.set()
        self._server: asyncio.Server | None = None

    @property
    def frozen(self) -> bool:
        """Nothing moves."""
        return not self._moving.is_set()

    @property
    def connections(self) -> int:
        """How many connections are passed on now."""
        return len(self._passages)

    async def __aenter__(self) -> FaultProxy:
        """Start listening."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and drop all connections."""
        if self._server is not None:
            self._server.close()
        await self._tasks.aclose()

    def freeze(self) -> None:
        """Let nothing through, in either direction, and leave new connections unserved: a stopped server."""
        self._moving.clear()

    def thaw(self) -> None:
        """Go on, with what was sent meanwhile."""
        self._moving.set()

    def cut(self, how: Cut = "rst") -> int:
        """End all connections on both sides; what is under way is lost.

        Returns:
            How many there were.
        """
        passages = list(self._passages)
        for passage in passages:
            passage.end(how)
        return len(passages)

    async def moving(self) -> None:
        """Wait until it is not frozen."""
        await self._moving.wait()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.refusing:
            _end(writer, "rst")
            return
        passage = _Passage(self, reader, writer)
        self._passages.add(passage)
        passage.task = self._tasks.spawn(passage.run(*self._target), name="faultproxy connection")
        passage.task.add_done_callback(lambda _: self._passages.discard(passage))


class _Passage:
    """One connection and its continuation."""

    def __init__(self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader = reader
        self._writers = [writer]
        self.task: asyncio.Task[None] | None = None

    async def run(self, host: str, port: int) -> None:
        """Connect, and pass everything on until both directions have ended or one has failed."""
        how: Cut = "rst"
        try:
            await self._proxy.moving()
            reader, writer = await asyncio.open_connection(host, port)
            self._writers.append(writer)
            async with asyncio.TaskGroup() as directions:
                directions.create_task(self._pass_on(self._reader, writer))
                directions.create_task(self._pass_on(reader, self._writers[0]))
            how = "fin"
        except* OSError:
            pass
        finally:
            for each in self._writers:
                _end(each, how)

    def end(self, how: Cut) -> None:
        """Close both sides now."""
        for writer in self._writers:
            _end(writer, how)
        if self.task is not None:
            self.task.cancel()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_IN_FLIGHT)
        async with asyncio.TaskGroup() as ends:
            ends.create_task(self._take(reader, under_way))
            ends.create_task(self._give(under_way, writer))

    async def _take(self, reader: asyncio.StreamReader, under_way: asyncio.Queue[tuple[float, bytes]]) -> None:
        loop = asyncio.get_running_loop()
        data = b"x"
        while data:
            data = await reader.read(_BLOCK)
            await under_way.put((loop.time(), data))

    async def _give(self, under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        proxy = self._proxy
        while True:
            arrived, data = await under_way.get()
            await asyncio.sleep(max(arrived + proxy.delay_s - loop.time(), 0.0))
            await proxy.moving()
            if not data:
                break
            while data and proxy.bytes_per_s is not None:
                # A tenth of a second's worth at a time, so that a changed rate is noticed.
                share = max(int(proxy.bytes_per_s / 10), 1)
                await asyncio.sleep(len(data[:share]) / proxy.bytes_per_s)
                await proxy.moving()
                writer.write(data[:share])
                data = data[share:]
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()


def _end(writer: asyncio.StreamWriter, how: Cut) -> None:
    transport = writer.transport
    if how == "fin" or transport.is_closing():
        writer.close()
        return
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    transport.abort()
