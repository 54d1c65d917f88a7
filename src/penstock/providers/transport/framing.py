"""What the head of a response says about its body (RFC 9112 section 6)."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.providers.transport.decoding import Decoder, decoder_for, too_large
from penstock.providers.transport.failures import invalid

SMALL_BYTES = 64 * 1024
"""A JSON body up to this length is waited for in one go."""

NAMES: dict[bytes, str] = {}
"""The names `field_name` remembers."""
_MAX_NAMES = 1024


def plan_body(headers: Mapping[str, str], limit: int, place: str) -> tuple[Decoder | None, bool]:
    """Return how to decode the body, and whether to wake the reader for the whole of it only.

    The latter saves a wake-up when head and body come in two packets. It needs a small body that is JSON: an event
    stream may have a length too, and its events must not be held back.

    Raises:
        ProviderError: ``upstream_invalid``: the body is too large or coded in a way that was not offered.
    """
    coding = headers.get("transfer-encoding")
    if coding is not None and coding.lower() != "chunked":
        raise invalid(place, "answered with a transfer-encoding other than chunked")
    patient = False
    length = headers.get("content-length")
    if length is not None and length.isdigit():
        size = int(length)
        if size > limit:
            raise too_large(place, limit)
        patient = size <= SMALL_BYTES and headers.get("content-type", "").startswith("application/json")
    return decoder_for(headers.get("content-encoding"), limit, place), patient


def ends_with_connection(headers: Mapping[str, str]) -> bool:
    """The end of the connection is the end of the body."""
    return "content-length" not in headers and "transfer-encoding" not in headers


def field_name(name: bytes) -> str:
    """Return `name` in lower case; servers use few names, so the last thousand spellings are remembered."""
    key = name.decode("latin-1").lower()
    if len(NAMES) < _MAX_NAMES and len(name) <= 64:
        NAMES[name] = key
    return key
