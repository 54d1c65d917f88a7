"""Request heads as bytes: what does not change is written once, and nothing can be smuggled in."""

from __future__ import annotations

import re
from collections.abc import Sequence

from penstock.abc import HttpRequest
from penstock.providers.transport.decoding import ACCEPTED
from penstock.providers.transport.failures import invalid
from penstock.providers.transport.origin import Origin

RESERVED = frozenset(
    {"host", "content-length", "connection", "accept-encoding", "transfer-encoding", "keep-alive", "te", "trailer",
     "upgrade", "expect", "proxy-connection"}
)  # fmt: skip
"""Names that only the transport may write: they decide about framing and about the connection."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# RFC 9110 section 5.6.2
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_MAX_NAMES = 1024


class HeadWriter:
    """Writes the heads of requests to one origin."""

    __slots__ = ("_block", "_fixed", "_headers", "_last", "_names", "_place", "_start")

    def __init__(self, origin: Origin, place: str) -> None:
        """`place` says in errors what is spoken to."""
        self._place = place
        self._fixed = f" HTTP/1.1\r\nhost: {origin.authority}\r\naccept-encoding: {ACCEPTED}\r\n"
        self._names: set[str] = set()
        self._headers: Sequence[tuple[str, str]] = ()
        self._block = ""
        self._last: tuple[str, str, Sequence[tuple[str, str]]] = ("", "", ())
        self._start = b""

    def encode(self, request: HttpRequest) -> bytes:
        """Return the request line and headers, with the empty line (RFC 9112 section 2.1).

        A tuple of headers that is sent again is not checked again.

        Raises:
            ProviderError: ``upstream_invalid``: something in it would not arrive as it is, such as a line break.
        """
        method, path, headers = request.method, request.path, request.headers
        last = self._last
        if headers is last[2] and path == last[1] and method == last[0]:
            return b"%b%d\r\n\r\n" % (self._start, len(request.body))
        if method not in _METHODS:
            raise invalid(self._place, f"cannot send a request with the method {method[:20]!r}")
        if path[:1] != "/" or " " in path or not (path.isascii() and path.isprintable()):
            raise invalid(self._place, "cannot send the request: its path is not a valid request target")
        block = self._block
        if headers is not self._headers and headers != self._headers:
            block = self._checked(headers)
            if type(headers) is tuple:
                self._headers, self._block = headers, block
        start = f"{method} {path}{self._fixed}{block}".encode("latin-1")
        if request.body or method not in ("GET", "HEAD"):
            if headers is self._headers and method == "POST":
                self._last, self._start = (method, path, headers), start + b"content-length: "
            return b"%bcontent-length: %d\r\n\r\n" % (start, len(request.body))
        return start + b"\r\n"

    def _checked(self, headers: Sequence[tuple[str, str]]) -> str:
        names = self._names
        lines = []
        for name, value in headers:
            if name not in names:
                self._learn(name)
            lines.append(f"{name}: {value}\r\n")
        block = "".join(lines)
        count = len(lines)
        if block.count("\r") != count or block.count("\n") != count or "\0" in block or not _is_latin(block):
            at_fault = next(name for name, value in headers if not _is_value(value))
            what = "its value holds a line break, NUL or text outside Latin-1"
            raise invalid(self._place, f"cannot send the header {at_fault!r}: {what}")
        return block

    def _learn(self, name: str) -> None:
        if not _TOKEN.fullmatch(name):
            raise invalid(self._place, f"cannot send a header named {name[:40]!r}")
        if name.lower() in RESERVED:
            raise invalid(self._place, f"cannot send the header {name!r}: it is the transport's own")
        if len(self._names) < _MAX_NAMES:
            self._names.add(name)


def _is_value(value: str) -> bool:
    """`value` can be sent (RFC 9110 section 5.5): no CR, LF, NUL, and nothing outside Latin-1."""
    return not ("\r" in value or "\n" in value or "\0" in value) and _is_latin(value)


def _is_latin(text: str) -> bool:
    return text.isascii() or max(text) <= "\xff"
