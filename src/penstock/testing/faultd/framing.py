"""HTTP/1.1 by hand (RFC 9112): requests taken apart, replies turned into what goes over the wire.

Nothing is shared with the program under test, lest a common library hide a fault.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import NamedTuple

from penstock.testing.faultd.script import Cut, Framing, Part, UpstreamReply

_START = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ\r\n")


class Malformed(ValueError):
    """What arrived is not an HTTP request; a TLS client's greeting to a plain server, for one."""


class Inbound(NamedTuple):
    """A request without its connection."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Piece(NamedTuple):
    """Bytes to write, and the part of the body that they carry."""

    wire: bytes
    body: bytes


class Break(NamedTuple):
    """The end of the connection, or of all talk on it."""

    how: Cut


Step = Piece | Break | float | asyncio.Event


def take_request(buffer: bytes) -> tuple[Inbound | None, bytes]:
    """Take the first request off `buffer`, None when it is not complete; the rest is kept.

    Raises:
        Malformed: It never will be.
    """
    if buffer and buffer[0] not in _START:
        raise Malformed
    head, separator, rest = buffer.partition(b"\r\n\r\n")
    if not separator:
        return None, buffer
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise Malformed
    fields = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in fields}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        taken = _take_chunks(rest)
    else:
        taken = _take_bytes(rest, headers.get("content-length", "0"))
    if taken is None:
        return None, buffer
    return Inbound(words[0], words[1], headers, taken[0]), taken[1]


def plan(reply: UpstreamReply) -> Iterator[Step]:
    """Yield what to do for `reply`, in order, its delay and its silence left out."""
    if reply.cut is not None and reply.cut_after is None:
        yield Break(reply.cut)
        return
    framing = framing_of(reply)
    if framing != "raw":
        yield from _head(reply, framing)
    left = reply.cut_after
    for part in [reply.body] if reply.parts is None else reply.parts:
        if not isinstance(part, bytes):
            yield part
            continue
        if reply.cut is not None and left is not None:
            if left <= len(part):
                yield from _steps(_frame(part, framing, left), part[:left], reply)
                yield Break(reply.cut)
                return
            left -= len(part)
        yield from _steps(_frame(part, framing, len(part)), part, reply)
    if framing == "chunked":
        yield from _steps(b"0\r\n\r\n", b"", reply)
    if reply.cut is not None or framing == "close":
        yield Break(reply.cut or "fin")


def framing_of(reply: UpstreamReply) -> Framing:
    """How the end of the reply's body is told."""
    return reply.framing or ("length" if reply.parts is None else "chunked")


def _head(reply: UpstreamReply, framing: Framing) -> Iterator[Step]:
    lines = [f"HTTP/1.1 {reply.status} {_phrase(reply.status)}"]
    if framing == "length":
        lines.append(f"content-length: {_length(reply.body if reply.parts is None else reply.parts)}")
    elif framing == "chunked":
        lines.append("transfer-encoding: chunked")
    elif framing == "close":
        lines.append("connection: close")
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    if not reply.head_gap_s:
        yield Piece(head, b"")
        return
    for at in range(len(head)):
        yield Piece(head[at : at + 1], b"")
        yield reply.head_gap_s


def _length(body: bytes | Iterable[Part]) -> int:
    return len(body) if isinstance(body, bytes) else sum(len(part) for part in body if isinstance(part, bytes))


def _frame(part: bytes, framing: Framing, length: int) -> bytes:
    """Frame `part`, but give only `length` bytes of it."""
    if framing != "chunked":
        return part[:length]
    if length == 0:
        return b""
    end = b"\r\n" if length == len(part) else b""
    return b"%x\r\n" % len(part) + part[:length] + end


def _steps(wire: bytes, body: bytes, reply: UpstreamReply) -> Iterator[Step]:
    step = reply.step or len(wire)
    for at in range(0, len(wire), step or 1):
        yield Piece(wire[at : at + step], b"" if at else body)
        if reply.step is not None:
            yield reply.step_gap_s


def _take_bytes(rest: bytes, length: str) -> tuple[bytes, bytes] | None:
    if not length.isdigit():
        raise Malformed
    size = int(length)
    return (rest[:size], rest[size:]) if len(rest) >= size else None


def _take_chunks(rest: bytes) -> tuple[bytes, bytes] | None:
    """RFC 9112 section 7.1; trailers are dropped."""
    parts = []
    while True:
        line, separator, rest = rest.partition(b"\r\n")
        if not separator:
            return None
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            raise Malformed from None
        if size == 0:
            break
        if len(rest) < size + 2:
            return None
        parts.append(rest[:size])
        rest = rest[size + 2 :]
    while True:
        line, separator, rest = rest.partition(b"\r\n")
        if not separator:
            return None
        if not line:
            return b"".join(parts), rest


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
