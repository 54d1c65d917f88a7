"""A model server that costs nothing: raw sockets, constant answers. Run as `python upstream.py PORT [--hold]`.

A stream is 22 events, one write each, the way model servers send tokens; with `--hold` it stops after the first.
Several can be run on a port. Whatever else is asked, such as whether it is healthy, gets the whole answer.
"""

from __future__ import annotations

import asyncio
import json
import sys
from functools import partial
from typing import Any

import uvloop

_TEXT = "After a flood: isolate the gate, inspect the seals within 48 hours, measure leakage, log findings. "


def whole() -> dict[str, Any]:
    """The whole answer, about 1 KB."""
    return {
        "id": "chatcmpl-mock0001", "object": "chat.completion", "created": 1760000000, "model": "gpt-mock",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": (_TEXT * 9)[:800]}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 211, "completion_tokens": 188, "total_tokens": 399},
        "system_fingerprint": "fp_mock",
    }  # fmt: skip


def events() -> list[bytes]:
    """The stream's events: 20 of text, the finish, usage, the end."""
    base = {"id": "chatcmpl-mock0001", "object": "chat.completion.chunk", "created": 1760000000, "model": "gpt-mock"}
    chunks: list[dict[str, Any]] = []
    for position in range(20):
        delta = {"content": _TEXT[position * 4 : position * 4 + 12]}
        if position == 0:
            delta["role"] = "assistant"
        chunks.append({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    chunks.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    chunks.append(
        {**base, "choices": [], "usage": {"prompt_tokens": 211, "completion_tokens": 20, "total_tokens": 231}}
    )
    return [b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks] + [b"data: [DONE]\n\n"]


_BODY = json.dumps(whole()).encode()
_WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
_PIECES = [b"%x\r\n%b\r\n" % (len(event), event) for event in events()]
_PIECES[0] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n" + _PIECES[0]
_PIECES[-1] += b"0\r\n\r\n"


class Upstream(asyncio.Protocol):
    """One connection.

    Args:
        hold: Send the first event of streams only.
    """

    def __init__(self, *, hold: bool = False) -> None:
        self._last = 0 if hold else len(_PIECES) - 1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            mark = head.find(b"content-length:")
            length = int(head[mark + 15 :].split(b"\r\n", 1)[0]) if mark >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            if b'"stream":true' in body or b'"stream": true' in body:
                self._step(0)
            else:
                self._transport.write(_WHOLE)

    def _step(self, position: int) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(_PIECES[position])
        if position < self._last:
            asyncio.get_running_loop().call_soon(self._step, position + 1)


async def main(port: int, *, hold: bool) -> None:
    """Serve until ended."""
    server = await asyncio.get_running_loop().create_server(
        partial(Upstream, hold=hold), "127.0.0.1", port, backlog=4096, reuse_port=True
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), hold="--hold" in sys.argv))
