"""Content codings (RFC 9110 section 8.4), undone as the body arrives and with bounds on what may come out."""

from __future__ import annotations

import zlib

from penstock.core.errors import ProviderError
from penstock.providers.transport.failures import invalid

STEP_BYTES = 1024 * 1024
"""At most this much is decoded in one go, so that neither memory nor the event loop is at an upstream's mercy."""

MAX_RATIO = 256
"""Above `STEP_BYTES`, a body may not expand by more. Real answers stay below 100, bombs reach deflate's 1,030."""

ACCEPTED = "gzip, deflate"
"""The `accept-encoding` that goes with this module."""

_GZIP = zlib.MAX_WBITS | 16


class Decoder:
    """Decodes one body. `decode` returns at most `STEP_BYTES`; while `pending`, call it again without data."""

    __slots__ = ("_consumed", "_encoding", "_inflate", "_limit", "_place", "_produced", "_tail")

    def __init__(self, encoding: str, limit: int, place: str) -> None:
        """`encoding` is ``gzip`` or ``deflate``, `limit` the most bytes that may come out."""
        self._encoding = encoding
        self._limit = limit
        self._place = place
        self._inflate = zlib.decompressobj(_GZIP) if encoding == "gzip" else None
        self._tail = b""
        self._consumed = 0
        self._produced = 0

    @property
    def pending(self) -> bool:
        """There may be more output without more input."""
        return bool(self._tail) and self._inflate is not None

    def decode(self, data: bytes = b"") -> bytes:
        """Return what `data` and what was left over decode to, possibly nothing.

        Raises:
            ProviderError: ``upstream_invalid``: corrupt, too large, or expanding beyond reason.
        """
        data = self._tail + data if self._tail else data
        inflate = self._inflate
        if inflate is None:
            if len(data) < 2:
                self._tail = data
                return b""
            inflate = self._inflate = zlib.decompressobj(_deflate_window(data))
        try:
            piece = inflate.decompress(data, STEP_BYTES)
        except zlib.error:
            raise invalid(self._place, f"the answer's {self._encoding} data is corrupt") from None
        if inflate.unused_data:
            raise invalid(self._place, f"there is data after the end of the answer's {self._encoding} data")
        self._tail = inflate.unconsumed_tail
        self._consumed += len(data) - len(self._tail)
        self._produced += len(piece)
        if self._produced > self._limit:
            raise too_large(self._place, self._limit)
        if self._produced > STEP_BYTES and self._produced > MAX_RATIO * self._consumed:
            raise invalid(self._place, f"the answer's {self._encoding} data expands more than {MAX_RATIO} times")
        return piece

    def finish(self) -> None:
        """Check that the end was reached; no data at all is fine (a 204, for one).

        Raises:
            ProviderError: ``upstream_invalid``: the compressed data is cut short.
        """
        started = self._consumed or self._tail
        if started and not (self._inflate is not None and self._inflate.eof):
            raise invalid(self._place, f"the answer's {self._encoding} data is cut short")


def decoder_for(encoding: str | None, limit: int, place: str) -> Decoder | None:
    """Return the decoder for a `content-encoding` value; None when nothing is to be undone.

    Raises:
        ProviderError: ``upstream_invalid``: a coding that was not offered.
    """
    if encoding is None:
        return None
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return None
    if name in ("gzip", "x-gzip"):
        return Decoder("gzip", limit, place)
    if name == "deflate":
        return Decoder("deflate", limit, place)
    raise invalid(place, f"answered with content-encoding {name[:40]!r}, which was not asked for (only {ACCEPTED})")


def too_large(place: str, limit: int) -> ProviderError:
    """The error for a body above `max_response_bytes`."""
    return invalid(place, f"the answer is larger than max_response_bytes ({limit})")


def _deflate_window(start: bytes) -> int:
    """Tell zlib data (RFC 1950 section 2.2), which ``deflate`` means, from the bare deflate some servers send."""
    is_zlib = start[0] & 0x0F == 8 and (start[0] << 8 | start[1]) % 31 == 0
    return zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS
