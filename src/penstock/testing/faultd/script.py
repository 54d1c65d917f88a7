"""What arrives at an `UpstreamServer`, and what it is told to do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from penstock.core.events import Event
from penstock.testing.answers import answer, chunks

Part = bytes | float | asyncio.Event
"""Bytes are sent, a number is a wait in seconds, an event is awaited."""
Framing = Literal["length", "chunked", "close", "own", "raw"]
Cut = Literal["fin", "rst", "stall"]


class UpstreamReply(msgspec.Struct, frozen=True, kw_only=True):
    """What the server does with one request.

    Attributes:
        status: HTTP status.
        headers: Header fields beside the framing ones; none are added.
        body: The body.
        parts: Instead of `body`, its pieces and the waits between them; a generator may be endless.
        framing: How the end of the body is told: ``length`` (`Content-Length`, the default for `body`), ``chunked``
            (a chunk for each of the parts, the default for `parts`), ``close`` (by closing the connection), ``own``
            (the bytes follow the head as they are, `headers` say whatever they say), ``raw`` (no head either: the
            bytes are all there is).
        delay_s: Seconds before the headers.
        head_gap_s: Seconds between the bytes of the head; 0 sends it at once.
        step: Bytes of the framed body per write; None writes each part at once.
        step_gap_s: Seconds between such writes.
        silent: Never answer; the connection stays open.
        cut: Break off: with ``fin`` as if the answer were over, with ``rst`` as if the server had died, with ``stall``
            by saying nothing more.
        cut_after: Bytes of the body before the cut; None cuts before the headers. What is beyond the end of the body
            cuts after the end of the framing.
    """

    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes = b""
    parts: Iterable[Part] | None = None
    framing: Framing | None = None
    delay_s: float = 0.0
    head_gap_s: float = 0.0
    step: int | None = None
    step_gap_s: float = 0.0
    silent: bool = False
    cut: Cut | None = None
    cut_after: int | None = None


class UpstreamRequest(msgspec.Struct, frozen=True):
    """A request as it arrived; header names in lower case, a chunked body put together."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: UpstreamConnection

    def json(self) -> Any:  # noqa: ANN401 - a JSON value of any type
        """The body, decoded."""
        return msgspec.json.decode(self.body)


class UpstreamConnection(msgspec.Struct, eq=False):
    """One connection; times are the event loop's.

    Attributes:
        opened_at: When it was opened, TLS included.
        closed_at: When the other side closed it; None while it is open, and when the server closed it first.
        requests: How many requests came over it.
        open: Neither side has closed it.
    """

    opened_at: float
    closed_at: float | None = None
    requests: int = 0
    open: bool = True


Script = UpstreamReply | Sequence[UpstreamReply] | Callable[[UpstreamRequest], UpstreamReply]


def json_reply(
    document: bytes | dict[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> UpstreamReply:
    """Answer with JSON."""
    body = document if isinstance(document, bytes) else msgspec.json.encode(document)
    return UpstreamReply(status=status, headers={"content-type": "application/json", **(headers or {})}, body=body)


def sse_reply(
    events: Sequence[Event | bytes],
    *,
    done: bool = True,
    gap_s: float = 0.0,
    cut: Cut | None = None,
    cut_after: int | None = None,
    framing: Framing | None = None,
) -> UpstreamReply:
    """Answer with server-sent events, one HTTP chunk each and `gap_s` apart, `[DONE]` last if `done`.

    A `cut` without `cut_after` comes after the last of them.
    """
    frames = sse_frames(events, done=done)
    parts: list[Part] = []
    for frame in frames:
        parts += [gap_s, frame] if gap_s and parts else [frame]
    if cut is not None and cut_after is None:
        cut_after = sum(map(len, frames))
    return UpstreamReply(
        headers={"content-type": "text/event-stream"}, parts=parts, cut=cut, cut_after=cut_after, framing=framing
    )


def sse_frames(events: Sequence[Event | bytes], *, done: bool = True) -> list[bytes]:
    """Frame each event as server-sent events are, `[DONE]` last if `done`."""
    frames = [b"data: " + (event if isinstance(event, bytes) else event.data) + b"\n\n" for event in events]
    return [*frames, b"data: [DONE]\n\n"] if done else frames


def hello(request: UpstreamRequest) -> UpstreamReply:
    """Answer ``Hello.`` as OpenAI does, as a stream if asked for one."""
    if request.json().get("stream"):
        return sse_reply(chunks("Hello."))
    return json_reply(answer("Hello."))
