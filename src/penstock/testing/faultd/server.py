"""The server: listens, asks its script, sends, and writes its invoice."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Literal, cast

from penstock.core.tasks import TaskGroup
from penstock.core.usage import Usage
from penstock.testing.faultd.framing import Break, Malformed, Piece, plan, take_request
from penstock.testing.faultd.invoice import Ending, InvoiceLine, Meter
from penstock.testing.faultd.script import Cut, Script, UpstreamConnection, UpstreamReply, UpstreamRequest, hello

Welcome = Literal["serve", "fin", "rst", "stall"]

_LINGER_ZERO = struct.pack("ii", 1, 0)
_NOT_HTTP = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
"""What web servers say to a TLS client's greeting."""


class UpstreamServer:
    """The server, listening on a free port of 127.0.0.1 inside ``async with``.

    Attributes:
        requests: What arrived, in order.
        connections: Every connection that was opened, in order.
        invoice: A line for each request, in order.
        port: Where it listens.
    """

    def __init__(
        self, script: Script = hello, *, tls: ssl.SSLContext | None = None, welcome: Welcome = "serve"
    ) -> None:
        """Answer each request with `script(request)`, or the n-th with the n-th reply, the last one for all further.

        Args:
            script: What to do.
            tls: Speak TLS, with this certificate.
            welcome: What becomes of new connections: ``fin`` and ``rst`` close them at once, ``stall`` never answers.
        """
        self._script = script
        self._tls = tls
        self.welcome: Welcome = welcome
        self.requests: list[UpstreamRequest] = []
        self.connections: list[UpstreamConnection] = []
        self.invoice: list[InvoiceLine] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks = TaskGroup()
        self._changed = asyncio.Event()

    @property
    def origin(self) -> str:
        """The address, without a path."""
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        """How many connections neither side has closed."""
        return sum(connection.open for connection in self.connections)

    @property
    def billed(self) -> Usage:
        """All tokens on the invoice."""
        told = [line.usage for line in self.invoice if line.usage is not None]
        return Usage(
            input_tokens=sum(usage.input_tokens for usage in told),
            output_tokens=sum(usage.output_tokens for usage in told),
            cached_input_tokens=sum(usage.cached_input_tokens for usage in told),
            cache_write_tokens=sum(usage.cache_write_tokens for usage in told),
            reasoning_tokens=sum(usage.reasoning_tokens for usage in told),
        )

    async def __aenter__(self) -> UpstreamServer:
        """Start listening."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self, self._tasks), "127.0.0.1", 0, ssl=self._tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and drop all connections."""
        if self._server is not None:
            self._server.close()
        await self._tasks.aclose()

    async def wait_for_requests(self, count: int) -> None:
        """Wait until there were `count` requests."""
        await self.wait_until(lambda: len(self.requests) >= count)

    async def wait_for_endings(self, count: int) -> None:
        """Wait until `count` attempts are over."""
        await self.wait_until(lambda: sum(line.ending is not None for line in self.invoice) >= count)

    async def wait_for_close(self, index: int = 0) -> float:
        """Wait until the other side has closed the connection of that index; return when (event loop time)."""
        await self.wait_until(lambda: len(self.connections) > index and self.connections[index].closed_at is not None)
        return self.connections[index].closed_at or 0.0

    async def wait_until(self, check: Callable[[], bool]) -> None:
        """Wait until `check()` is true; it is asked whenever something is written on the invoice."""
        while not check():
            await self._changed.wait()

    def notify(self) -> None:
        """Wake those who wait: something was written on the invoice."""
        self._changed.set()
        self._changed = asyncio.Event()

    def reply_to(self, request: UpstreamRequest) -> UpstreamReply:
        """Write `request` on the invoice and look up its reply."""
        number = len(self.requests)
        self.requests.append(request)
        request.connection.requests += 1
        script = self._script
        if isinstance(script, UpstreamReply):
            return script
        return script(request) if callable(script) else script[min(number, len(script) - 1)]


class _Connection(asyncio.Protocol):
    def __init__(self, server: UpstreamServer, tasks: TaskGroup) -> None:
        self._server = server
        self._tasks = tasks
        self._buffer = b""
        self._waiting: asyncio.Queue[UpstreamRequest] = asyncio.Queue()
        self._writable = asyncio.Event()
        self._writable.set()
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not instances of it
        self._loop = asyncio.get_running_loop()
        self.row = UpstreamConnection(self._loop.time())
        self._server.connections.append(self.row)
        self._task = self._tasks.spawn(self._serve(), name="faultd connection")

    def data_received(self, data: bytes) -> None:
        if self._server.welcome != "serve":
            return
        self._buffer += data
        try:
            while True:
                inbound, self._buffer = take_request(self._buffer)
                if inbound is None:
                    return
                self._waiting.put_nowait(UpstreamRequest(*inbound, self.row))
        except Malformed:
            self._buffer = b""
            self._transport.write(_NOT_HTTP)
            self._break("fin")

    def eof_received(self) -> None:
        self._closed()

    def connection_lost(self, error: Exception | None) -> None:
        self._closed()
        self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _closed(self) -> None:
        if self.row.open:
            self.row.open = False
            if not self._closing:
                self.row.closed_at = self._loop.time()
            self._server.notify()

    async def _serve(self) -> None:
        try:
            welcome = self._server.welcome
            if welcome != "serve":
                self._break(welcome)
                await self._pause(welcome)
            while not self._closing:
                await self._attempt(await self._waiting.get())
        finally:
            self._closing = True
            self._transport.close()

    async def _attempt(self, request: UpstreamRequest) -> None:
        server = self._server
        reply = server.reply_to(request)
        line = InvoiceLine(request, reply.status, self._loop.time())
        server.invoice.append(line)
        server.notify()
        meter = Meter(line, reply)
        ending: Ending = "closed"
        try:
            ending = await self._answer(reply, meter)
        finally:
            meter.end(ending, self._loop.time())
            server.notify()

    async def _answer(self, reply: UpstreamReply, meter: Meter) -> Ending:
        if reply.silent:
            await self._pause("stall")
        if reply.delay_s:
            await asyncio.sleep(reply.delay_s)
        for step in plan(reply):
            if isinstance(step, Piece):
                self._transport.write(step.wire)
                meter.add(step.body)
                await self._writable.wait()
            elif isinstance(step, Break):
                self._break(step.how)
                await self._pause(step.how)
                return "finished" if reply.cut is None else "cut"
            elif isinstance(step, asyncio.Event):
                await step.wait()
            else:
                await asyncio.sleep(step)
        return "finished"

    async def _pause(self, how: Cut) -> None:
        """A stall lasts until the other side has enough of it."""
        if how == "stall":
            await asyncio.Event().wait()

    def _break(self, how: Cut) -> None:
        if how == "stall":
            return
        self._closing = True
        if how == "rst":
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            self._transport.abort()
        else:
            self._transport.close()
