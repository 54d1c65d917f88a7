"""Which heads of requests are read: those that every reader understands alike."""

from __future__ import annotations

import re

from penstock.core.errors import InvalidRequest

Fields = list[tuple[bytes, bytes]]

CHECKED = frozenset({b"host", b"transfer-encoding"})
"""The fields that `check_head` looks at."""

_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_TARGET = re.compile(rb"(?:https?://[^/?#@]+)?(/[^?#]*)(?:\?[^#]*)?", re.IGNORECASE)
# Two readers of such a path may see two different ones: empty and dot segments, also encoded, and what ends strings.
_AMBIGUOUS = re.compile(rb"(?:/|%2f){2}|(?:/|%2f)\.\.?(?:/|%2f|$)|%2e|%5c|\\|%[01][0-9a-f]|%7f", re.IGNORECASE)


def check_head(target: bytes, method: bytes, version: str, fields: Fields) -> None:
    """Refuse what RFC 9112 has a server refuse (sections 2.3, 3.2 and 6.1) and the parser passes, and ambiguous paths.

    Args:
        target: The request target.
        method: The method.
        version: The version of HTTP, e.g. ``1.1``.
        fields: All fields whose lower-case names are in `CHECKED`.

    Raises:
        InvalidRequest: 400, ``invalid_http``.
    """
    if version not in ("1.1", "1.0"):
        raise invalid(f"HTTP/{version} is not spoken here, only 1.1 and 1.0")
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1 or (not hosts and version == "1.1") or not all(map(_HOST.fullmatch, hosts)):
        raise invalid("it must have one valid Host header")
    codings = [value.strip().lower() for name, value in fields if name == b"transfer-encoding"]
    if codings and (version == "1.0" or codings != [b"chunked"]):
        raise invalid("the only Transfer-Encoding read here is chunked, of HTTP/1.1")
    found = _TARGET.fullmatch(target)
    if found is None and (target, method) != (b"*", b"OPTIONS"):
        raise invalid("its target is not a path")
    if found is not None and _AMBIGUOUS.search(found[1]):
        raise invalid("its path has empty or dot segments, or encodes dots or control characters")


def invalid(reason: str) -> InvalidRequest:
    """Return the error for a request that is not HTTP as it is spoken here."""
    return InvalidRequest(f"The request cannot be read: {reason}.", code="invalid_http")
