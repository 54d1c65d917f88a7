"""Finished classifications in Redis, shared by all instances; the cache of each instance is beneath them.

Redis is never needed: while it cannot be asked, every text is a miss.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import RedisError

from penstock import Classification

log = logging.getLogger("lead_engine")
PREFIX = "lead_engine:result:"
"""Before every key, so that clearing leaves other applications' keys alone."""
_PAUSE_S = 2.0
"""How long Redis is left alone after it failed, lest every request waits for it."""
_CONNECTIONS = 32
_AT_ONCE = 1000
"""Keys to look through in one exchange when clearing."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Classification).decode
T = TypeVar("T")


class SharedResults:
    """Results by key.

    Attributes:
        counts: Texts that were found (``hits``) and not found (``misses``), and exchanges that failed (``errors``).
        problem: The kind of the error while Redis cannot be used; None while it can.
    """

    def __init__(self, url: str, *, ttl_s: float, timeout_s: float) -> None:
        """Connect to `url` when first used.

        Args:
            url: The server, as ``redis://HOST:PORT/DATABASE``.
            ttl_s: Seconds after which a result is forgotten.
            timeout_s: Seconds for one exchange, connecting included.
        """
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 1, (Lost,)),  # once: a restarted server has closed the connections of the pool
        )
        self._redis = Redis.from_pool(pool)
        self._timeout_s = timeout_s
        self._ttl_ms = int(ttl_s * 1000)
        self._not_before = 0.0
        self.counts: Counter[str] = Counter(hits=0, misses=0, errors=0)
        self.problem: str | None = None

    async def aclose(self) -> None:
        """Close all connections."""
        await self._redis.aclose()

    async def check(self) -> None:
        """Ask whether Redis can be used, also while it is left alone."""
        await self._tried(self._redis.ping)

    async def get(self, keys: Sequence[str | None]) -> list[Classification | None]:
        """Return the results under `keys`, in their order; None for what is not there, or has no key."""
        asked = list({key for key in keys if key is not None})
        values: Sequence[bytes | str | None] | None = None
        if asked and time.monotonic() >= self._not_before:
            values = await self._tried(partial(self._redis.mget, [PREFIX + key for key in asked]))
        there = {key: self._read(value) for key, value in zip(asked, values or (), strict=False) if value is not None}
        found = [None if key is None else there.get(key) for key in keys]
        hits = sum(each is not None for each in found)
        self.counts.update(hits=hits, misses=len(found) - hits)
        return found

    async def put(self, results: Mapping[str, Classification]) -> None:
        """Keep results; if Redis cannot be used, they are not kept."""
        if not results or self._ttl_ms <= 0 or time.monotonic() < self._not_before:
            return
        async with self._redis.pipeline(transaction=False) as pipeline:
            for key, result in results.items():
                pipeline.set(PREFIX + key, _encode(result), px=self._ttl_ms)
            await self._tried(pipeline.execute)

    async def clear(self) -> int | None:
        """Remove all results, and nothing else; return how many there were, or None if Redis cannot be used."""
        removed, cursor = 0, 0
        while True:
            done = await self._tried(partial(self._clear_some, cursor))
            if done is None:
                return None
            cursor, gone = done
            removed += gone
            if not cursor:
                return removed

    async def _clear_some(self, cursor: int) -> tuple[int, int]:
        cursor, keys = await self._redis.scan(cursor, f"{PREFIX}*", _AT_ONCE)
        return cursor, await self._redis.unlink(*keys) if keys else 0

    def _read(self, value: bytes | str) -> Classification | None:
        try:
            return _decode(value)
        except msgspec.DecodeError:
            self.counts["errors"] += 1  # of another version of this application
            return None

    async def _tried(self, exchange: Callable[[], Awaitable[T]]) -> T | None:
        """Return what Redis says, or None if it cannot be used; log when that changes."""
        try:
            async with asyncio.timeout(self._timeout_s):
                said = await exchange()
        except (RedisError, OSError) as error:
            self.counts["errors"] += 1
            self._not_before = time.monotonic() + _PAUSE_S
            if self.problem is None:
                log.warning("Redis cannot be used, so results are not shared: %s: %s", type(error).__name__, error)
            self.problem = type(error).__name__
            return None
        if self.problem is not None:
            log.info("Redis can be used again")
        self.problem, self._not_before = None, 0.0
        return said
