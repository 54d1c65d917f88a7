"""An upstream that misbehaves to order: an HTTP/1.1 server, scripted per request, that keeps an invoice.

It parses and frames HTTP by itself, so that no library it shares with the program under test hides a fault.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from http import HTTPStatus

from penstock.core.tasks import TaskGroup
from penstock.testing.upstream_script import Script, UpstreamConnection, UpstreamReply, UpstreamRequest, hello

_LINGER_ZERO = struct.pack("ii", 1, 0)


class UpstreamServer:
    """The server, listening on a free port of 127.0.0.1 inside ``async with``. Requests need a `Content-Length`.

    Attributes:
        requests: What arrived, in order.
        connections: Every connection that was opened, in order.
    """

    def __init__(self, script: Script = hello) -> None:
        """Answer each request with `script(request)`, or the n-th with the n-th reply, the last one for all further."""
        self._script = script
        self.requests: list[UpstreamRequest] = []
        self.connections: list[UpstreamConnection] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks = TaskGroup()
        self._changed = asyncio.Event()

    @property
    def origin(self) -> str:
        """The address, without a path."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> UpstreamServer:
        """Start listening."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self, self._tasks), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and drop all connections."""
        if self._server is not None:
            self._server.close()
        await self._tasks.aclose()

    async def wait_for_requests(self, count: int) -> None:
        """Wait until there were `count` requests."""
        while len(self.requests) < count:
            await self._changed.wait()

    async def wait_for_close(self, index: int = 0) -> float:
        """Wait until the other side has closed the connection of that index; return when (event loop time)."""
        while len(self.connections) <= index or self.connections[index].closed_at is None:
            await self._changed.wait()
        return self.connections[index].closed_at or 0.0

    def notify(self) -> None:
        """Wake those who wait: something was written on the invoice."""
        self._changed.set()
        self._changed = asyncio.Event()

    def reply_to(self, request: UpstreamRequest) -> UpstreamReply:
        """Write `request` on the invoice and look up its reply."""
        number = len(self.requests)
        self.requests.append(request)
        request.connection.requests += 1
        self.notify()
        if isinstance(self._script, UpstreamReply):
            return self._script
        if callable(self._script):
            return self._script(request)
        return self._script[min(number, len(self._script) - 1)]


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
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self.row = UpstreamConnection(self._loop.time())
        self._server.connections.append(self.row)
        self._task = self._tasks.spawn(self._serve(), name="test upstream")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (request := self._parse()) is not None:
            self._waiting.put_nowait(request)

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
        if not self._closing and self.row.closed_at is None:
            self.row.closed_at = self._loop.time()
            self._server.notify()

    def _parse(self) -> UpstreamRequest | None:
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        fields = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return None
        self._buffer = rest[length:]
        return UpstreamRequest(method, path, headers, rest[:length], self.row)

    async def _serve(self) -> None:
        try:
            while not self._closing:
                request = await self._waiting.get()
                await self._answer(self._server.reply_to(request))
        finally:
            self._closing = True
            self._transport.close()

    async def _answer(self, reply: UpstreamReply) -> None:
        if reply.silent:
            await asyncio.Event().wait()
        await asyncio.sleep(reply.delay_s)
        if reply.cut and reply.cut_after is None:
            self._cut(reply)
            return
        framing = f"content-length: {len(reply.body)}" if reply.parts is None else "transfer-encoding: chunked"
        lines = [f"HTTP/1.1 {reply.status} {_phrase(reply.status)}", framing]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        self._transport.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        await self._send_body(reply)

    async def _send_body(self, reply: UpstreamReply) -> None:
        left = reply.cut_after if reply.cut else None
        for part in [reply.body] if reply.parts is None else reply.parts:
            if isinstance(part, asyncio.Event):
                await part.wait()
            elif isinstance(part, (int, float)):
                await asyncio.sleep(part)
            elif left is not None and left <= len(part):
                self._transport.write(_frame(part, reply, left))
                self._cut(reply)
                return
            elif part:
                left = None if left is None else left - len(part)
                self._transport.write(_frame(part, reply, len(part)))
                await self._writable.wait()
        if reply.parts is not None:
            self._transport.write(b"0\r\n\r\n")

    def _cut(self, reply: UpstreamReply) -> None:
        self._closing = True
        if reply.cut == "rst":
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            self._transport.abort()
        else:
            self._transport.close()


def _frame(part: bytes, reply: UpstreamReply, length: int) -> bytes:
    """Frame `part` as the reply is framed, but give only `length` bytes of it."""
    if reply.parts is None:
        return part[:length]
    if length == 0:
        return b""
    end = b"\r\n" if length == len(part) else b""
    return b"%x\r\n" % len(part) + part[:length] + end


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
