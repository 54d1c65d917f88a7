"""Bytes that were answered from the cache before, so that they need not be read again."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from penstock.core.route import ContextTerms
from penstock.wire.openai_chat import Inbound

T = TypeVar("T")

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


class SeenBytes(Generic[T]):
    """A bounded memory of what bytes meant, of hits only: what is asked once does not displace what is asked often."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._known: dict[bytes, T] = {}
        self._size = 0
        self.get = self._known.get

    def remember(self, data: bytes, meaning: T) -> None:
        """Keep `meaning` for `data`; when the memory is full all is forgotten, which costs reading each once more."""
        if len(data) > _LONGEST:
            return
        if self._size + len(data) > self._most_bytes:
            self._known.clear()
            self._size = 0
        if data not in self._known:
            self._size += len(data)
        self._known[data] = meaning
