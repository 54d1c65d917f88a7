"""Replies that go wrong, made of replies that are right."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from penstock.testing.faultd.script import Part, UpstreamReply

_BLOCK = 64 * 1024
_replace = msgspec.structs.replace


def gzipped(reply: UpstreamReply) -> UpstreamReply:
    """Compress the whole body of `reply`, and say so."""
    return _coded(reply, gzip.compress(whole_body(reply), mtime=0))


def corrupt(reply: UpstreamReply) -> UpstreamReply:
    """Compress the body of `reply` and turn over the bits of a byte in the middle."""
    data = bytearray(gzip.compress(whole_body(reply), mtime=0))
    data[len(data) // 2] ^= 0xFF
    return _coded(reply, bytes(data))


def truncated(reply: UpstreamReply) -> UpstreamReply:
    """Compress the body of `reply` and leave out the second half, with framing that fits what is left."""
    data = gzip.compress(whole_body(reply), mtime=0)
    return _coded(reply, data[: len(data) // 2])


def bomb(reply: UpstreamReply, size: int = 64 * 1024 * 1024) -> UpstreamReply:
    """Answer with the headers of `reply` and `size` bytes of the letter A, compressed a thousandfold."""
    return _coded(reply, gzip.compress(b'{"a":"' + b"A" * size + b'"}', mtime=0))


def dripped(reply: UpstreamReply, gap_s: float = 1.0) -> UpstreamReply:
    """Send the body of `reply` one byte at a time, `gap_s` apart; the head comes at once."""
    return _replace(reply, step=1, step_gap_s=gap_s)


def slow_head(reply: UpstreamReply, gap_s: float = 1.0) -> UpstreamReply:
    """Send the head of `reply` one byte at a time, `gap_s` apart."""
    return _replace(reply, head_gap_s=gap_s)


def split(reply: UpstreamReply) -> UpstreamReply:
    """Send the body of `reply` and its framing one byte at a time, as fast as it goes."""
    return _replace(reply, step=1, step_gap_s=0.0)


def stalled(reply: UpstreamReply, after: int) -> UpstreamReply:
    """Send `after` bytes of the body of `reply`, and then nothing more."""
    return _replace(reply, cut="stall", cut_after=after)


def html(status: int = 200) -> UpstreamReply:
    """Answer with the page of a web server or a captive portal."""
    page = b"<!doctype html><title>Welcome</title><p>Please sign in.</p>"
    return UpstreamReply(status=status, headers={"content-type": "text/html"}, body=page)


def mislabelled(reply: UpstreamReply, content_type: str | None) -> UpstreamReply:
    """Send `reply` with another content type, or with none."""
    headers = {name: value for name, value in reply.headers.items() if name.lower() != "content-type"}
    return _replace(reply, headers=headers if content_type is None else {**headers, "content-type": content_type})


def malformed_chunk(headers: Mapping[str, str], before: Sequence[bytes]) -> UpstreamReply:
    """Send the chunks `before`, then one whose size is no number."""
    good = [b"%x\r\n%b\r\n" % (len(part), part) for part in before]
    return UpstreamReply(
        headers={**headers, "transfer-encoding": "chunked"}, parts=[*good, b"zz\r\nnonsense\r\n"], framing="own"
    )


def not_http() -> UpstreamReply:
    """Answer in another protocol, and hang up."""
    return UpstreamReply(
        body=b"SSH-2.0-OpenSSH_9.7\r\n", framing="raw", cut="fin", cut_after=len(b"SSH-2.0-OpenSSH_9.7\r\n")
    )


def comments(gap_s: float, before: Sequence[bytes] = ()) -> UpstreamReply:
    """Send the chunks `before`, then a comment every `gap_s` seconds for ever, as servers do to keep a stream awake."""
    return UpstreamReply(headers={"content-type": "text/event-stream"}, parts=_Endless(before, b": ping\n\n", gap_s))


def endless_line(size: int = 64 * 1024 * 1024, before: Sequence[bytes] = ()) -> UpstreamReply:
    """Send the chunks `before`, then one event of a single line of `size` bytes."""
    blocks = [b"A" * _BLOCK] * (size // _BLOCK)
    return UpstreamReply(
        headers={"content-type": "text/event-stream"}, parts=[*before, b'data: {"a":"', *blocks, b'"}\n\n']
    )


def flood(event: bytes, before: Sequence[bytes] = ()) -> UpstreamReply:
    """Send the chunks `before`, then `event` for ever, as fast as they are taken."""
    return UpstreamReply(headers={"content-type": "text/event-stream"}, parts=_Endless(before, event, None))


def whole_body(reply: UpstreamReply) -> bytes:
    """The body of `reply` in one piece."""
    if reply.parts is None:
        return reply.body
    return b"".join(part for part in reply.parts if isinstance(part, bytes))


class _Endless:
    """Parts that can be sent more than once, unlike a generator's."""

    def __init__(self, before: Iterable[bytes], again: bytes, gap_s: float | None) -> None:
        self._before = list(before)
        self._again = again
        self._gap_s = gap_s

    def __iter__(self) -> Iterator[Part]:
        yield from self._before
        while True:
            yield self._again
            if self._gap_s is not None:
                yield self._gap_s


def _coded(reply: UpstreamReply, data: bytes) -> UpstreamReply:
    return _replace(reply, headers={**reply.headers, "content-encoding": "gzip"}, body=data, parts=None)
