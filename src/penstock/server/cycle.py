"""A request's cycle on a hot route: uvicorn's, with a send that writes the head together with the first of the body."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

_CLOSE = (b"connection", b"close")


class LeanCycle(RequestResponseCycle):
    """For responses that this project makes itself: their header fields need no checking, and come lower-case."""

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
