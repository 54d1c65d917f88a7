"""Opens streams, waits for the first event of each, and holds them until its input ends.

    python idle_streams.py URL N

Its input is the length of a request, a line's end, and the request, with NUMBER where each differs. Prints how many
are open when all have begun, and again at the end. The upstream is to send nothing after its first event
(`upstream.py --hold`).
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any
from urllib.parse import urlsplit

import uvloop

FIRST = 1_000_000
"""In place of NUMBER, and then the next."""
_AT_ONCE = 64


class Stream(asyncio.Protocol):
    """One connection with one request."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._seen = b""
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        sending: Any = transport
        sending.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if b"data:" in self._seen and not self.open.done():
            self.open.set_result(None)

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.open.done():
            self.open.set_exception(RuntimeError(f"closed: {self._seen[:300]!r}"))


async def hold(host: str, port: int, n: int, request: bytes) -> None:
    """Open `n` streams and hold them until the input ends."""
    loop, room, held = asyncio.get_running_loop(), asyncio.Semaphore(_AT_ONCE), []

    async def one(number: int) -> None:
        message = request.replace(b"NUMBER", b"%d" % (FIRST + number))
        async with room:
            transport, stream = await loop.create_connection(lambda: Stream(message), host, port)
            held.append(transport)
            await stream.open

    await asyncio.gather(*(one(number) for number in range(n)))
    print(sum(not transport.is_closing() for transport in held), flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    print(sum(not transport.is_closing() for transport in held), flush=True)


def main() -> None:
    """Run it."""
    url, n = sys.argv[1:]
    place = urlsplit(url)
    length = int(sys.stdin.buffer.readline())
    request = sys.stdin.buffer.read(length)
    uvloop.run(hold(place.hostname or "", place.port or 80, int(n), request))


if __name__ == "__main__":
    main()
