"""What arrives at an `UpstreamServer`, and what it is told to do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from penstock.core.events import Event
from penstock.testing.answers import answer, chunks

Part = bytes | float | asyncio.Event


class UpstreamReply(msgspec.Struct, frozen=True, kw_only=True):
    """What the server does with one request.

    Attributes:
        status: HTTP status.
        headers: Header fields beside the framing ones; none are added.
        body: The body, sent with `Content-Length`.
        parts: Instead of `body`, sent chunked: bytes are a chunk, a number is a wait in seconds, an event is awaited.
        delay_s: Seconds before the headers.
        silent: Never answer; the connection stays open.
        cut: Break the connection, with ``fin`` as if the answer were over, with ``rst`` as if the server had died.
        cut_after: Bytes of the body before the cut; None cuts before the headers.
    """

    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes = b""
    parts: Sequence[Part] | None = None
    delay_s: float = 0.0
    silent: bool = False
    cut: Literal["fin", "rst"] | None = None
    cut_after: int | None = None


class UpstreamRequest(msgspec.Struct, frozen=True):
    """A request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: UpstreamConnection

    def json(self) -> Any:  # noqa: ANN401 - a JSON value of any type
        """The body, decoded."""
        return msgspec.json.decode(self.body)


class UpstreamConnection(msgspec.Struct, eq=False):
    """One connection; times are the event loop's, `closed_at` only if the other side closed it first."""

    opened_at: float
    closed_at: float | None = None
    requests: int = 0


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
    cut: Literal["fin", "rst"] | None = None,
    cut_after: int | None = None,
) -> UpstreamReply:
    """Answer with server-sent events, one HTTP chunk each and `gap_s` apart, `[DONE]` last if `done`.

    A `cut` without `cut_after` comes after the last of them.
    """
    frames = [b"data: " + (event if isinstance(event, bytes) else event.data) + b"\n\n" for event in events]
    frames += [b"data: [DONE]\n\n"] if done else []
    parts: list[Part] = []
    for frame in frames:
        parts += [gap_s, frame] if gap_s and parts else [frame]
    if cut is not None and cut_after is None:
        cut_after = sum(map(len, frames))
    return UpstreamReply(headers={"content-type": "text/event-stream"}, parts=parts, cut=cut, cut_after=cut_after)


def hello(request: UpstreamRequest) -> UpstreamReply:
    """Answer ``Hello.`` as OpenAI does, as a stream if asked for one."""
    if request.json().get("stream"):
        return sse_reply(chunks("Hello."))
    return json_reply(answer("Hello."))
