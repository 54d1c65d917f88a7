"""What a connection may do: limits of time and size, strict heads, and refusals in OpenAI's error shape.

uvicorn gives a client any time to send a request, a head any size, malformed requests an answer in plain text, and
waits for ever for a client that does not read. Here a connection that does any of that ends; what was asked for before
it is still answered, in order.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from penstock.config.settings import ServerSettings
from penstock.core.errors import InvalidRequest, PenstockError, Refused
from penstock.server import controls
from penstock.server.cycle import until_close
from penstock.server.errors import INTERNAL, render
from penstock.server.heads import CHECKED, Fields, check_head, invalid
from penstock.server.watchman import Watchman

if TYPE_CHECKING:
    import asyncio

HEAD_BYTES = 64 * 1024
"""Largest head, and most framing (chunk extensions, trailers) without a byte of body between."""
HEAD_FIELDS = 100
"""Most header fields."""
DISCARDED_BYTES = 1024 * 1024
"""How much of a body nobody reads is waited for, so that the connection can be kept; beyond it is closed."""
PIECES = 8192
"""Most chunks in what is read at once, a quarter of a megabyte: parsing more would hold up everyone else."""
LINGER_S = 2.0
"""How long a connection that was ended may take to notice: closing at once would reset it, and the answer be lost."""

OPENED, HEAD, BODY, ANSWER, IDLE, ENDED = range(6)
"""What a connection is waiting for: a first byte, the rest of a head, more of a body, its answer, another request, or
the client's own end of the connection."""

_log = logging.getLogger("penstock.server")


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol for clients that are slow, broken or hostile.

    Attributes:
        state: What is waited for, e.g. `BODY`.
        since: On the watchman's clock, when it was last heard of.
    """

    watchman: Watchman

    state = OPENED
    since = 0.0
    _unsent = 0
    _unsent_since = 0.0
    _fed = 0
    _head = 0
    _silent = 0
    _discarded = 0
    _pieces = 0
    _accepted = False
    _checked: object = None
    _old = False
    """The request is of HTTP/1.0."""
    _exit: _Exit
    _refusal: PenstockError | None = None
    _fault: PenstockError | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin to watch."""
        super().connection_made(transport)
        self._exit = _Exit(self, transport)
        self.watchman.add(self)
        self.since = self.watchman.now
        if len(self.connections) > self.watchman.limits().max_connections:
            message = "There are too many connections; try again soon."
            self._refuse(Refused(message, code="too_many_connections", retry_after=1))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.watchman.discard(self)
        self._exit.protocol = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; a fault ends the connection."""
        if self.state == ENDED:
            return
        self._fed = size = len(data)
        self._pieces = 0
        self._head += size
        self._silent += size
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade:
            return
        except HttpParserError as error:
            self._refuse(self._fault or _said_of(error))
            return
        if self.state == HEAD and self._head > HEAD_BYTES:
            self._refuse(_head_too_large())
        elif self.state == BODY:
            if self._silent > HEAD_BYTES:
                self._refuse(invalid(f"it has more than {HEAD_BYTES} bytes of framing without a body"))
            else:
                self.unfinished()

    def on_message_begin(self) -> None:
        """A request's first byte."""
        super().on_message_begin()
        self.state = HEAD
        self.since = self.watchman.now
        # Where in the bytes just read it began is not known: they are not counted, here.
        self._head = 0
        self._accepted = False

    def on_headers_complete(self) -> None:
        """Check the head, then take the request."""
        if len(self.headers) > HEAD_FIELDS or self._head_is_too_large():
            raise self._noted(_head_too_large())
        fields = [field for field in self.headers if field[0] in CHECKED]
        if (self.url, fields) != self._checked:
            self._check(fields)
        self.state = BODY
        self.since = self.watchman.now
        self._silent = self._discarded = 0
        self.accept()
        if len(fields) > 1:
            # What follows a chunked body must not be taken for fields of the head.
            self.headers = []

    def accept(self) -> None:
        """Make the request's cycle, as uvicorn does."""
        super().on_headers_complete()
        self.entered()

    def entered(self) -> None:
        """The request has a cycle now, which may end the connection."""
        self._accepted = True
        cycle: Any = self.cycle
        cycle.transport = self._exit
        if self._old or self.parser.should_upgrade():
            cycle.keep_alive = False
        if self._old:
            cycle.send = until_close(cycle)

    def on_body(self, body: bytes) -> None:
        """Hand it on; if it was answered already, drop it."""
        self.heard()
        if self._accepted and self.cycle.response_complete:
            self._discarded += len(body)
            if self._discarded > DISCARDED_BYTES:
                self.leave()
            return
        super().on_body(body)

    def unfinished(self) -> None:
        """All that was read is parsed, and there is more of the body to come."""

    def heard(self) -> None:
        """Some of a body has come."""
        self._silent = 0
        self.since = self.watchman.now
        self._pieces += 1
        if self._pieces > PIECES:
            raise self._noted(invalid("its chunks are too small; send larger ones, or its Content-Length"))

    def on_message_complete(self) -> None:
        """The request is all there."""
        if self.state == BODY:
            self.state = IDLE if self._accepted and self.cycle.response_complete else ANSWER
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request, or wait for one; the watchman does what uvicorn has a timer for."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.since = self.watchman.now
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._refusal is not None:
            self._say(self._refusal)
            return
        elif self.state == ANSWER:
            self.state = IDLE
        if self.flow.read_paused:
            self.flow.resume_reading()

    def look(self, now: float, limits: ServerSettings) -> None:
        """See whether something is overdue."""
        if self._stalls(now, limits.write_timeout_s):
            self.transport.abort()
            return
        waited = now - self.since
        state = self.state
        if state == HEAD:
            if waited > limits.header_timeout_s and not self._owes():
                self._refuse(_too_slow("head", limits.header_timeout_s))
        elif state == BODY:
            if self.flow.read_paused:
                self.since = now
            elif waited > limits.body_timeout_s:
                self._refuse(_too_slow("body", limits.body_timeout_s))
        elif state == OPENED and waited > limits.header_timeout_s:
            # Nothing was asked: some clients open connections in advance, and would take an error for an answer.
            self.transport.close()
        elif state == IDLE and waited > self.timeout_keep_alive:
            self.transport.close()
        elif state == ENDED and waited > LINGER_S and not self._unsent and not self._owes():
            self.transport.abort()

    def leave(self) -> None:
        """Say that nothing more is coming, and give the client time to read what was sent."""
        self.state = ENDED
        self.since = self.watchman.now
        if not self.transport.is_closing():
            self.transport.write_eof()
            self.flow.resume_reading()

    def _stalls(self, now: float, limit: float) -> bool:
        unsent = self.transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
            return False
        return unsent > 0 and now - self._unsent_since > limit

    def _owes(self) -> bool:
        cycle = self.cycle
        return cycle is not None and not cycle.response_complete and not cycle.disconnected

    def _refuse(self, error: PenstockError) -> None:
        """End the connection with `error`, after the answers it is still owed."""
        state, self.state = self.state, ENDED
        self.since = self.watchman.now
        cycle = self.cycle
        if state != BODY or not self._accepted:
            if self._owes():
                self._refusal = error
            else:
                self._say(error)
        elif self.pipeline:
            # The request that is refused waits behind others, the last of the queue.
            self.pipeline.popleft()
            self._refusal = error
        elif cycle.response_complete:
            self.leave()
        else:
            started = cycle.response_started
            cycle.disconnected = True
            cycle.message_event.set()
            if started:
                self.transport.close()
            else:
                self._say(error)

    def _say(self, error: PenstockError) -> None:
        status, fields, body = render(error)
        fields = [
            *self.server_state.default_headers,
            *fields,
            (b"x-request-id", controls.request_id(controls.pick(self.headers or [])).encode()),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        head = b"".join([b"%b: %b\r\n" % field for field in fields])
        self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[status], head, body))
        self._refusal = None
        self.leave()

    def _noted(self, fault: PenstockError) -> PenstockError:
        """The parser passes no exception on as it is; what is raised in a callback is kept here."""
        self._fault = fault
        return fault

    def _head_is_too_large(self) -> bool:
        if self._head + self._fed <= HEAD_BYTES:
            return False
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > HEAD_BYTES

    def _check(self, fields: Fields) -> None:
        parser = self.parser
        version = parser.get_http_version()
        try:
            check_head(self.url, parser.get_method(), version, fields)
        except InvalidRequest as error:
            raise self._noted(error) from None
        self._old = version == "1.0"
        self._checked = (self.url, fields) if len(fields) == 1 and not self._old else None


class _Exit:
    """The transport as a cycle sees it: it can write, and end the connection without losing what was written."""

    __slots__ = ("is_closing", "protocol", "write")

    def __init__(self, protocol: GuardedProtocol, transport: asyncio.Transport) -> None:
        self.protocol: GuardedProtocol | None = protocol
        self.write = transport.write
        self.is_closing: Callable[[], bool] = transport.is_closing

    def close(self) -> None:
        protocol = self.protocol
        if protocol is None:
            return
        if protocol.state == BODY:
            protocol.leave()
        else:
            protocol.transport.close()


def _said_of(error: HttpParserError) -> PenstockError:
    if isinstance(error, HttpParserCallbackError):
        _log.error("a request could not be taken", exc_info=error)
        return INTERNAL
    return invalid(f"it is not valid HTTP ({str(error)[:100] or 'malformed'})")


def _head_too_large() -> InvalidRequest:
    return InvalidRequest(
        f"The request's head is larger than {HEAD_BYTES} bytes or {HEAD_FIELDS} fields.",
        code="headers_too_large",
        status_code=431,
    )


def _too_slow(part: str, seconds: float) -> InvalidRequest:
    return InvalidRequest(
        f"The request's {part} did not arrive in time ({seconds:g} s).", code="request_timeout", status_code=408
    )
