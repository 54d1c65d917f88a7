"""An upstream for soaking: chat, streams and embeddings over raw sockets, some of them broken, some of them slow.

Of its requests 5 % are answered with 503 and 2 % are broken off in the middle; those that say `SLOW` take their time.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from benchmarks.upstream import events, whole

SLOW = b"take your time"
_SLOW_S = 0.3
_EVERY_ERROR, _EVERY_BREAK = 20, 50


def _reply(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
    return head + body


_CHAT = _reply(b"200 OK", json.dumps(whole()).encode())
_VECTOR = {"object": "embedding", "index": 0, "embedding": [round(n / 7, 4) for n in range(64)]}
_EMBEDDING = _reply(
    b"200 OK",
    json.dumps(
        {"object": "list", "model": "m", "data": [_VECTOR], "usage": {"prompt_tokens": 9, "total_tokens": 9}}
    ).encode(),
)
_ERROR = _reply(b"503 Service Unavailable", b'{"error": {"message": "overloaded", "type": "server_error"}}')
_PIECES = [b"%x\r\n%b\r\n" % (len(event), event) for event in events()]
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Faults:
    """What all connections share.

    Attributes:
        on: Whether to break anything.
        count: Requests so far.
        connections: Open now.
    """

    def __init__(self) -> None:
        self.on = True
        self.count = 0
        self.connections = 0


class FaultyUpstream(asyncio.Protocol):
    """One connection."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._buffer = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._faults.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._faults.connections -= 1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)
        if len(self._buffer) < end + 4 + length:
            return
        body, self._buffer = self._buffer[end + 4 : end + 4 + length], self._buffer[end + 4 + length :]
        if SLOW in body:
            asyncio.get_running_loop().call_later(_SLOW_S, self._answer, head, body)
        else:
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if self._transport.is_closing():
            return
        faults = self._faults
        faults.count += 1
        if faults.on and faults.count % _EVERY_ERROR == 0:
            self._transport.write(_ERROR)
            return
        broken = faults.on and faults.count % _EVERY_BREAK == 7
        if b"/embeddings " in head:
            pieces = [_EMBEDDING]
        elif b'"stream":true' in body or b'"stream": true' in body:
            pieces = [_STREAM_HEAD, *_PIECES, b"0\r\n\r\n"]
        else:
            pieces = [_CHAT]
        if broken:
            whole_answer = b"".join(pieces)
            self._transport.write(whole_answer[: len(whole_answer) // 2])
            self._transport.close()
        elif SLOW in body:
            self._step(pieces)
        else:
            self._transport.write(b"".join(pieces))

    def _step(self, pieces: list[bytes]) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(pieces[0])
        if len(pieces) > 1:
            asyncio.get_running_loop().call_later(_SLOW_S / 10, self._step, pieces[1:])
