"""What an `UpstreamServer` has against its clients: every attempt, and the tokens it said it used."""

from __future__ import annotations

import zlib
from typing import Any, Literal

import msgspec

from penstock.core.canonical import read_usage
from penstock.core.usage import Usage
from penstock.testing.faultd.script import UpstreamReply, UpstreamRequest

Ending = Literal["finished", "cut", "closed"]

_REMEMBERED_BYTES = 1024 * 1024
"""Usage is not looked for in longer answers."""
_decode = msgspec.json.Decoder().decode


class InvoiceLine(msgspec.Struct, eq=False):
    """One attempt; times are the event loop's.

    Attributes:
        request: What was asked.
        status: The HTTP status of the answer.
        started_at: When the request had arrived.
        ended_at: When the answer was over, for whatever reason; None while it runs.
        ending: ``finished`` with the reply's last byte, ``cut`` by the script, or ``closed`` by the other side; None
            while it runs. A stall ends when the other side closes.
        sent_bytes: Bytes of the body that were sent, without framing.
        usage: The tokens the answer named, if that part of it was sent.
    """

    request: UpstreamRequest
    status: int
    started_at: float
    ended_at: float | None = None
    ending: Ending | None = None
    sent_bytes: int = 0
    usage: Usage | None = None


class Meter:
    """Listens to one answer while it is sent."""

    def __init__(self, line: InvoiceLine, reply: UpstreamReply) -> None:
        self._line = line
        self._coded = any(name.lower() == "content-encoding" for name in reply.headers)
        self._said = bytearray()

    def add(self, body: bytes) -> None:
        """These bytes of the body are sent."""
        self._line.sent_bytes += len(body)
        if len(self._said) + len(body) <= _REMEMBERED_BYTES:
            self._said += body

    def end(self, ending: Ending, now: float) -> None:
        """Nothing more is sent."""
        line = self._line
        if line.ending is None:
            line.ending, line.ended_at = ending, now
            line.usage = _told(bytes(self._said), coded=self._coded)


def _told(body: bytes, *, coded: bool) -> Usage | None:
    """Return the last usage in a JSON document, in lines of JSON or in an event stream."""
    if coded:
        try:
            body = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(body, _REMEMBERED_BYTES)
        except zlib.error:
            return None
    found = None
    if b"usage" in body:
        for document in [body] if body.startswith(b"{") else body.splitlines():
            found = _usage(document.removeprefix(b"data:")) or found
    return found


def _usage(text: bytes) -> Usage | None:
    try:
        document: Any = _decode(text)
        return read_usage(document["usage"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
