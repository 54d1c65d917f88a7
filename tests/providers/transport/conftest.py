"""A scripted raw TCP server, and transports closed after the test. Async tests here run on both event loops."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvloop

from penstock.abc import HttpRequest
from penstock.config.providers import ProviderSettings
from penstock.providers.transport import open_transport


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config, item):
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Peer:
    """The server's side of one connection."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """The next request, head and body; empty when the client has closed."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return head + await self.reader.readexactly(length)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, body: bytes = b"{}", *fields: str, status: str = "200 OK") -> None:
        lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *fields]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def gone(self) -> None:
        """Wait until the client has closed the connection."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Close with RST."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Upstream:
    """Runs `handler` for each connection."""

    def __init__(self, handler: Callable[[Peer], Awaitable[None]], scheme: str = "http") -> None:
        self.handler = handler
        self.scheme = scheme
        self.peers: list[Peer] = []
        self.port = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def start(self, **options: Any) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, **options)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for peer in self.peers:
            peer.writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(len(self.peers), reader, writer)
        self.peers.append(peer)
        self._tasks.append(asyncio.current_task())
        try:
            await self.handler(peer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def serve() -> AsyncIterator[Any]:
    started: list[Upstream] = []

    async def start(handler: Callable[[Peer], Awaitable[None]], scheme: str = "http", **options: Any) -> Upstream:
        upstream = Upstream(handler, scheme)
        await upstream.start(**options)
        started.append(upstream)
        return upstream

    yield start
    for upstream in started:
        await upstream.stop()


@pytest.fixture
async def connect(serve) -> AsyncIterator[Any]:
    """Open a transport to an upstream or URL."""
    opened = []

    def make(upstream: Upstream | str, **options: Any):
        url = upstream if isinstance(upstream, str) else upstream.url
        transport = open_transport(url, ProviderSettings(name="up", kind="openai", **options))
        opened.append(transport)
        return transport

    yield make
    for transport in opened:
        await transport.aclose()


@pytest.fixture
def post():
    """Build a request."""

    def make(path: str = "/v1/x", body: bytes = b"{}", *headers: tuple[str, str], **options: Any) -> HttpRequest:
        return HttpRequest(method=options.pop("method", "POST"), path=path, headers=headers, body=body, **options)

    return make
