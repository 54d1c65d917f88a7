"""Reading bodies and sending responses over plain ASGI, for the routes that must be quick."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from penstock.core.errors import InvalidRequest, PenstockError
from penstock.server.errors import render

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_LOOK_AFTER_S = 0.05
"""Most answers are there sooner; only a request that takes longer pays for a task that notices the client leaving."""


class ClientGone(Exception):
    """The client closed the connection."""


async def read_body(headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """Return the request's body.

    Raises:
        InvalidRequest: It is larger than `limit` (413), or compressed (415).
        ClientGone: The client left before it was sent.
    """
    if b"content-encoding" in headers and headers[b"content-encoding"] != b"identity":
        raise InvalidRequest(
            "Compressed request bodies are not read; send it without Content-Encoding.",
            code="unsupported_content_encoding",
            status_code=415,
        )
    declared = headers.get(b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    message = await receive()
    if not message.get("more_body", False):
        if message["type"] == "http.disconnect":
            raise ClientGone
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        return body
    parts = [message.get("body", b"")]
    size = len(parts[0])
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


async def send_whole(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send a complete response."""
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: PenstockError, request_id: str) -> None:
    """Send `error` in OpenAI's shape."""
    status, headers, body = render(error)
    headers.append((b"x-request-id", request_id.encode()))
    if status == 413:
        headers.append((b"connection", b"close"))
    await send_whole(send, status, headers, body)


class Watch:
    """Cancels the task that answers when its client hangs up, so that everything downstream is closed.

    The body must have been read before. Usable once, as a context manager around the answering.
    """

    __slots__ = ("_handle", "_receive", "_task", "_watcher", "gone")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.gone = False

    def __enter__(self) -> Watch:
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None
        self._handle = loop.call_later(_LOOK_AFTER_S, self._start)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        self._handle.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self.gone and isinstance(error, asyncio.CancelledError) and self._task is not None:
            self._task.uncancel()
            return True
        return False

    def _start(self) -> None:
        # The watcher's reference lives as long as this object, which the answering task holds.
        self._watcher = asyncio.get_running_loop().create_task(self._look(), name="watch the client")

    async def _look(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if self._task is not None:
            self._task.cancel()


def _too_large(limit: int) -> InvalidRequest:
    return InvalidRequest(
        f"The request body is larger than {limit} bytes; raise server.max_body_bytes or send less.",
        code="request_too_large",
        status_code=413,
    )
