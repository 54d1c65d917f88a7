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
"""Most answers are there sooner; only a request that takes this long, at most twice, pays for a task that notices the
client leaving."""


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
    await send_whole(send, status, headers, body)


class Watch:
    """Cancels the task that answers when its client hangs up, so that everything downstream is closed.

    The body must have been read before. Usable once, as a context manager around the answering.
    """

    __slots__ = ("_receive", "_task", "_watcher", "_watchers", "gone", "since")

    since: float

    def __init__(self, watchers: Watchers, receive: Receive) -> None:
        self._watchers = watchers
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None
        self.gone = False

    def __enter__(self) -> Watch:
        self._task = asyncio.current_task()
        self._watchers.add(self)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        watcher, self._watcher = self._watcher, None  # it refers to this object: together they would be garbage
        task, self._task = self._task, None
        if watcher is None:
            self._watchers.discard(self)
            return False
        watcher.cancel()
        if self.gone and isinstance(error, asyncio.CancelledError) and task is not None:
            task.uncancel()
            return True
        return False

    def start(self) -> None:
        """Look from now on."""
        # The watcher's reference lives as long as this object, which the answering task holds.
        self._watcher = asyncio.get_running_loop().create_task(self._look(), name="watch the client")

    async def _look(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if self._task is not None:
            self._task.cancel()


class Watchers:
    """Requests whose clients are not watched yet; those that take long are.

    One timer for all of them: a timer each would cost more than a cached answer's layers.
    """

    def __init__(self) -> None:
        self._waiting: dict[Watch, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, watch: Watch) -> None:
        """Start `watch` if it is still here in a while."""
        loop = asyncio.get_running_loop()
        watch.since = loop.time()
        self._waiting[watch] = None
        if self._timer is None:
            self._timer = loop.call_later(_LOOK_AFTER_S, self._sweep)

    def discard(self, watch: Watch) -> None:
        """`watch` is not needed any more."""
        del self._waiting[watch]

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() - _LOOK_AFTER_S
        for watch in [watch for watch in self._waiting if watch.since <= due]:
            del self._waiting[watch]
            watch.start()
        self._timer = loop.call_later(_LOOK_AFTER_S, self._sweep) if self._waiting else None


def _too_large(limit: int) -> InvalidRequest:
    return InvalidRequest(
        f"The request body is larger than {limit} bytes; raise server.max_body_bytes or send less.",
        code="request_too_large",
        status_code=413,
    )
