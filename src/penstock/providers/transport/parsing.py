"""The answers on one connection, from bytes to exchanges."""

from __future__ import annotations

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from penstock.core.errors import ProviderError
from penstock.providers.transport.decoding import too_large
from penstock.providers.transport.exchange import Exchange
from penstock.providers.transport.failures import invalid
from penstock.providers.transport.framing import NAMES, field_name, plan_body

HEAD_BYTES = 64 * 1024
"""Cap for the head of a response, and for a run of framing (chunk extensions, trailers) without body data."""


class AnswerParser:
    """Takes one answer after the other apart. The callbacks `on_*` are httptools'.

    Attributes:
        done: The answer is complete.
        keep: The connection may be used again after it.
        silent: Bytes that arrived since the last body data, or since the request was sent.
    """

    __slots__ = (
        "_exchange",
        "_headers",
        "_is_head",
        "_limit",
        "_parser",
        "_parts",
        "_place",
        "_refusal",
        "done",
        "keep",
        "on_body",
        "silent",
    )

    def __init__(self, place: str, limit: int) -> None:
        """`limit` is the most bytes a body may have as transferred; `place` says in errors what is spoken to."""
        self._place = place
        self._limit = limit
        self._exchange: Exchange | None = None
        self._headers: dict[str, str] = {}
        self._is_head = False
        self._parts: list[bytes] = []
        self.on_body = self._parts.append
        self._parser = HttpResponseParser(self)
        self._refusal: ProviderError | None = None
        self.done = False
        self.keep = True
        self.silent = 0

    def begin(self, method: str) -> dict[str, str]:
        """A request was sent; returns the mapping that will have its answer's headers."""
        self._is_head = method == "HEAD"
        self.done = False
        self.silent = 0
        headers = self._headers = {}
        return headers

    def feed(self, data: bytes, exchange: Exchange) -> ProviderError | None:
        """Parse `data` into `exchange`; returns what makes its answer unusable, if something does."""
        self._exchange = exchange
        self.silent += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            # What follows a complete answer only costs the connection.
            self.keep = False
            if self._refusal is None and not self.done:
                self._refusal = invalid(self._place, f"the answer is not valid HTTP: {str(error)[:100]}")
        parts = self._parts
        if parts:
            exchange.feed(parts[0] if len(parts) == 1 else b"".join(parts))
            parts.clear()
            self.silent = 0
            if exchange.received > self._limit:
                self._refusal = too_large(self._place, self._limit)
        elif self.silent > HEAD_BYTES and not self.done:
            self._refuse_head()
        self._exchange = None
        return self._refusal

    def close(self) -> None:
        """Part from httptools' parser, which holds this object's methods: without the cycle both go away at once."""
        del self._parser

    def on_message_begin(self) -> None:
        """Refuse an answer that nobody asked for, lest it be taken for the next request's, or for a refused one."""
        if self.done or self._refusal is not None:
            raise HttpParserError("an answer without a request")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect one field; trailers end up in a dictionary of their own."""
        key = NAMES.get(name) or field_name(name)
        text = value.decode("latin-1")
        headers = self._headers
        headers[key] = f"{headers[key]}, {text}" if key in headers else text

    def on_headers_complete(self) -> None:
        """Decide from the head how the body is to be taken."""
        status = self._parser.get_status_code()
        headers = self._headers
        exchange = self._exchange
        if status < 200:
            if status == 101:
                self._refusal = invalid(self._place, "switched protocols without being asked to")
            headers.clear()
            return
        if exchange is None:
            return
        self._headers = {}
        if self.silent > HEAD_BYTES and sum(map(len, (*headers, *headers.values()))) > HEAD_BYTES:
            self._refuse_head()
        exchange.status = status
        self.keep = True
        if self._is_head:
            # The parser waits for the body that the length announces; it is not coming.
            exchange.head_done = True
            self.done = True
            self.keep = False
            return
        try:
            exchange.decoder, exchange.patient = plan_body(headers, self._limit, self._place)
        except ProviderError as error:
            self._refusal = error
        # Of an answer that is refused for its head nothing may be read, though its body is here already.
        exchange.head_done = self._refusal is None

    def on_message_complete(self) -> None:
        """The body is whole; interim responses (RFC 9110 section 15.2) have none and do not count."""
        exchange = self._exchange
        if exchange is not None and exchange.head_done:
            self.done = True
            self.keep = self._parser.should_keep_alive() and not self._is_head

    def _refuse_head(self) -> None:
        self._refusal = invalid(self._place, f"the answer's head or framing is larger than {HEAD_BYTES} bytes")
