"""The transport's reading of responses, with nothing behind it."""

from __future__ import annotations

import asyncio
import math
from typing import Any, cast

from penstock.config.providers import ProviderSettings
from penstock.core.errors import ProviderError
from penstock.providers.transport.connection import Connection
from penstock.providers.transport.exchange import Exchange

_SETTINGS = ProviderSettings(name="fuzz", kind="openai", max_response_bytes=1000)
_HEAD = b"HTTP/1.1 200 OK\r\n"

FRAMING_SEEDS = (
    b"\x02" + _HEAD + b"content-length: 2\r\ncontent-type: application/json\r\n\r\n{}",
    b"\x05" + _HEAD + b"transfer-encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nx: y\r\n\r\n",
    b"\x01HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 429 Slow\r\nretry-after: 1\r\n\r\ntext",
    b"\x03HTTP/1.1 500 No\r\ncontent-encoding: odd\r\ncontent-length: 1\r\n\r\na"
    + _HEAD
    + b"content-length: 0\r\n\r\n",
    b"\x03" + _HEAD + b"content-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc" + _HEAD,
)


class _Pool:
    """What a connection tells its pool."""

    def __init__(self) -> None:
        self.freed = 0

    def opened(self, _: Connection) -> None:
        pass

    gone = forget = opened

    def free(self) -> None:
        self.freed += 1

    def release(self, _: Connection) -> None:
        self.freed += 1


class _Transport:
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        self.closed = False

    def write(self, _: bytes) -> None:
        pass

    writelines = write

    def abort(self) -> None:
        self.closed = True

    close = abort

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


def framing(data: bytes) -> None:
    """Any answer ends its exchange exactly once, with a body or an error, and alike however it arrives in pieces."""
    step, rest = data[:1] or b"\x00", data[1:]
    size = step[0] % 9 + 1
    whole = asyncio.run(_outcome([rest]))
    cut = asyncio.run(_outcome([rest[at : at + size] for at in range(0, len(rest), size)]))
    assert whole[:2] == cut[:2], (whole, cut)
    assert whole[2] == cut[2] or "error" in (whole[0], cut[0]), (whole, cut)


async def _outcome(parts: list[bytes]) -> tuple[str, int, bytes]:
    pool, transport = _Pool(), _Transport()
    connection = Connection(cast("Any", pool), "fuzz", _SETTINGS)
    connection.connection_made(cast("asyncio.BaseTransport", transport))
    exchange = connection.start("POST", b"", b"", 0.0, math.inf)
    for part in parts:
        if transport.closed or exchange.ended:
            break
        connection.data_received(part)
    if not transport.closed:
        connection.eof_received()
    connection.connection_lost(None)
    assert exchange.ended
    assert pool.freed == 1, pool.freed
    return await _read(exchange)


async def _read(exchange: Exchange) -> tuple[str, int, bytes]:
    try:
        return "ok", exchange.status, await exchange.read()
    except ProviderError as error:
        assert error.code in ("upstream_invalid", "upstream_incomplete")
        return "error", exchange.status, b""
