"""How the exact cache is doing."""

from __future__ import annotations

import msgspec


class CacheStats(msgspec.Struct):
    """Figures since the start.

    Attributes:
        entries: Answers known, in memory or in the store.
        memory_bytes: Bytes of answers in memory.
        hits: Requests answered from the cache, `stale` ones included.
        misses: Requests that were looked up and not answered so, though perhaps later by a stale answer.
        stale: Requests answered with an answer past its freshness.
        bypassed: Requests that were neither looked up nor stored.
        stored: Answers stored.
        evicted: Answers dropped to make room for others.
    """

    entries: int = 0
    memory_bytes: int = 0
    hits: int = 0
    misses: int = 0
    stale: int = 0
    bypassed: int = 0
    stored: int = 0
    evicted: int = 0
