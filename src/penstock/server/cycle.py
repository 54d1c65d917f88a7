"""Requests' cycles: uvicorn's, with other ways to send a response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

_CLOSE = (b"connection", b"close")


class LeanCycle(RequestResponseCycle):
    """On a hot route: the head is written together with the first of the body.

    For responses that this project makes itself: their header fields need no checking, and come lower-case.
    """

    _start: Any = None

    async def send(self, message: Any) -> None:  # noqa: ANN401 uvicorn's own type has a shape for each message
        """ASGI's `send`."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            self.response_started = True
            self._start = message
            return
        body = message.get("body", b"")
        more = message.get("more_body", False)
        pieces = []
        if self._start is not None:
            pieces.append(self._head(self._start))
            self._start = None
        if not self.chunked_encoding:
            pieces.append(body)
        else:
            if body:
                pieces.append(b"%x\r\n%b\r\n" % (len(body), body))
            if not more:
                pieces.append(b"0\r\n\r\n")
        self.transport.write(b"".join(pieces))
        if not more:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()

    def _head(self, start: Any) -> bytes:  # noqa: ANN401 as above
        fields = [*self.default_headers, *start["headers"]]
        if _CLOSE in fields:
            self.keep_alive = False
        elif not self.keep_alive:
            fields.append(_CLOSE)
        self.chunked_encoding = not any(name == b"content-length" for name, _ in fields)
        if self.chunked_encoding:
            fields.append((b"transfer-encoding", b"chunked"))
        return b"%b%b\r\n" % (STATUS_LINE[start["status"]], b"".join([b"%b: %b\r\n" % field for field in fields]))


def until_close(cycle: RequestResponseCycle) -> Callable[[Any], Awaitable[None]]:
    """Return a `send` for a client of HTTP/1.0, which knows no chunks (RFC 9112 sections 6.1 and 7.1).

    A body whose length is not known ends with the connection, so `cycle` must not be one to keep it.
    """
    sized = True

    async def send(message: Any) -> None:  # noqa: ANN401 as above
        nonlocal sized
        if message["type"] == "http.response.start":
            sized = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
            if not sized:
                cycle.chunked_encoding = False
        elif not sized:
            cycle.expected_content_length = len(message.get("body", b""))
        await RequestResponseCycle.send(cycle, message)

    return send
