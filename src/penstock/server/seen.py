"""Bodies that were answered from the cache before, so that the same bytes need not be decoded and digested again."""

from __future__ import annotations

from typing import NamedTuple

from penstock.core.route import ContextTerms
from penstock.wire.openai_chat import Inbound

_MOST_BYTES = 2 * 1024 * 1024
_LONGEST = 32 * 1024


class Seen(NamedTuple):
    """What a body was found to be.

    Attributes:
        inbound: What it says; shared by all requests with this body, so never changed.
        source: The tenant, the identity of the route and the terms of cutting `key` was computed for.
        key: The cache key.
    """

    inbound: Inbound
    source: tuple[str, bytes, ContextTerms | None]
    key: bytes


class SeenBodies:
    """A bounded memory of bodies, of hits only: what is asked once does not displace what is asked often."""

    def __init__(self) -> None:
        self._known: dict[bytes, Seen] = {}
        self._size = 0
        self.get = self._known.get

    def remember(self, body: bytes, seen: Seen) -> None:
        """Keep `seen` for `body`; when the memory is full all is forgotten, which costs each body one decoding."""
        if len(body) > _LONGEST:
            return
        if self._size + len(body) > _MOST_BYTES:
            self._known.clear()
            self._size = 0
        self._size += len(body)
        self._known[body] = seen
