"""The answers: which there are and, as far as they fit, what they say, in memory; all of them in the store.

What decides that an answer fits a request is outside: the exact cache looks under the request's own key, the semantic
cache under the key of another request of the same tenant. Both give out the same entries, so an answer takes its room
once, and every use of it keeps it from leaving.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence

from penstock.abc import CacheStore, StoredAnswer
from penstock.caching.at_rest import Known, Limits, copy_of, read_answer
from penstock.caching.entries import Entries, Entry
from penstock.caching.freshness import Verdict, decide
from penstock.caching.keeper import Keeper
from penstock.caching.stats import CacheStats
from penstock.core.canonical import assemble
from penstock.core.clock import Clock
from penstock.core.errors import StoreError
from penstock.core.events import Batch
from penstock.core.request import NO_DIRECTIVES, Request
from penstock.core.response import Response

_AT_ONCE = 50
"""Answers that are dropped without letting others go on."""

_SETTLING_S = 30.0
"""How long after a clearing another process may have what was cleared here."""

_log = logging.getLogger("penstock.cache")


class AnswerCache:
    """`start` it before use.

    Attributes:
        store: Has all answers.
        clock: Where time comes from.
        find: Returns the entry of a key, fresh or not, or None.
        clears: How often it was cleared, in whole or in part.
        limits: What may be stored.
        ttl_s: How long an answer stays fresh when neither the client nor the model's settings say so.
        stats: Figures since the start; what is read off the entries is filled in by `ExactCache.stats`.
        on_keep: By name, called with the key of each answer that is stored, under an alias too.
        on_leave: By name, called with the key of each answer that is gone: evicted, outdated, damaged, lost by the
            store or cleared. Not for one that was replaced by a newer one.
    """

    def __init__(
        self, store: CacheStore, clock: Clock, limits: Limits, *, max_entries: int, max_memory_bytes: int, ttl_s: float
    ) -> None:
        self.store = store
        self.clock = clock
        self._entries = Entries(max_entries, max_memory_bytes)
        self.clears = 0
        self._cleared_at = float("-inf")
        self.find: Callable[[bytes], Entry | None] = self._entries.find
        self.limits = limits
        self.ttl_s = ttl_s
        self.stats = CacheStats()
        self.on_keep: dict[str, Callable[[bytes], None]] = {}
        self.on_leave: dict[str, Callable[[bytes], None]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the answers in memory."""
        return self._entries.memory_bytes

    def keep_stale_for(self, seconds: float) -> None:
        """Keep answers for so long past their freshness, and for a day at least."""
        self._entries.kept_stale_s = seconds

    async def start(self) -> None:
        """Learn what the store has; if it cannot say, begin with nothing."""
        try:
            index = await self.store.index()
        except StoreError as error:
            _log.warning("the cache starts empty, its store cannot be read: %s", error)
            return
        now = self.clock.wall()
        gone: list[bytes] = []
        for answer in index:
            entry = Entry.of(answer)
            if self._entries.outdated(entry, now):
                gone.append(entry.key)
            else:
                gone += self._entries.put(entry)
        self._left(gone)

    def lookup(self, key: bytes, now: float) -> Entry | None:
        """Return the entry of `key` if it is fresh at `now`, seconds since the epoch."""
        entry = self.find(key)
        return entry if decide(entry, now, NO_DIRECTIVES) is Verdict.HIT else None

    async def load(self, entry: Entry) -> Known | None:
        """Return an answer, from the store if it is not in memory; None when the store does not have it either."""
        if entry.held is not None:
            return entry.body, entry.events
        try:
            answer = await self.store.get(entry.key)
        except StoreError:
            return None
        if answer is None:
            self._drop(entry)
            return None
        if answer.stored_at != entry.stored_at:
            return None
        try:
            body, events, usage = read_answer(answer)
        except ValueError:
            self._drop(entry)
            return None
        entry.usage = usage or entry.usage
        self._entries.hold(entry, body, events)
        return body, events

    async def body(self, entry: Entry) -> bytes | None:
        """Return an answer whole, as JSON; None when it is gone."""
        known = await self.load(entry)
        if known is None:
            return None
        body, events = known
        return body if body is not None else assemble(events or [])

    def give(self, request: Request, entry: Entry, known: Known, now: float, member: str) -> Response:
        """Answer `request` with `entry`, whose answer is `known`; the caller notes `Call.cache`.

        Args:
            request: What is answered.
            entry: The answer's.
            known: What `load` returned.
            now: Seconds since the epoch.
            member: What `Cache-Status` says of it.
        """
        body, events = known
        if request.stream and events is None and request.operation != "embeddings":
            events = Response(body=body).all_events()
            self._entries.hold(entry, body, events)
        elif body is None and events is not None and not request.stream:
            body = assemble(events)
            self._entries.hold(entry, body, events)
        entry.touch()
        call = request.call
        call.age_s = max(now - entry.stored_at, 0.0)
        call.saved_usd = entry.saved_usd
        call.usage = entry.usage
        call.finish_reason = entry.finish_reason
        call.cache_status.append(member)
        return Response(body=body, events=events, usage=entry.usage, finish_reason=entry.finish_reason)

    async def serve_known(self, request: Request, entry: Entry, member: str) -> Response | None:
        """Answer `request` with another request's answer, and note that as ``semantic``.

        Returns:
            None when `entry` is another tenant's, or not fresh or recent enough for what the client says, or its
            answer is gone.
        """
        if entry.tenant != request.tenant:
            return None
        known = await self.load(entry)
        now = self.clock.wall()  # loading may have taken its time, and others have joined meanwhile
        if known is None or decide(entry, now, request.cache) is not Verdict.HIT:
            return None
        request.call.cache = "semantic"
        return self.give(request, entry, known, now, member)

    async def alias(self, key: bytes, entry: Entry) -> bool:
        """Store the answer of `entry` under `key` too, as old and as fresh as it is, so that `key` is an exact hit.

        Args:
            key: The cache key of a request of the same tenant.
            entry: The answer's.

        Returns:
            False when the answer is gone, or `key` has one that stays fresh as long.
        """
        clears = self.clears
        known = await self.load(entry)
        there = self.find(key)
        if known is None or clears != self.clears or (there is not None and there.fresh_until >= entry.fresh_until):
            return False
        answer = copy_of(entry, key, known)
        self.store.put(answer)
        self.take_in(Entry.of(answer, entry.usage), *known, self.clock.wall())
        return True

    async def copy(self, entry: Entry) -> StoredAnswer | None:
        """Return an answer as it is at rest, without taking it into memory for that; None when it is gone.

        Raises:
            StoreError: It could not be read.
        """
        return await self.store.get(entry.key) if entry.held is None else self.at_rest(entry)

    def at_rest(self, entry: Entry) -> StoredAnswer:
        """Return an answer that is in memory as it is at rest."""
        return copy_of(entry, entry.key, (entry.body, entry.events))

    def adopt(self, answer: StoredAnswer, clears: int) -> tuple[Entry, Known] | None:
        """Take an answer into memory that another process has put to rest.

        Args:
            answer: The answer.
            clears: What `clears` was when it was asked for.

        Returns:
            The entry and what it says; None when the answer is outdated or damaged, or older than a clearing that the
            other process may not know of.
        """
        now = self.clock.wall()
        if answer.stored_at <= self._cleared_at and now < self._cleared_at + _SETTLING_S:
            return None
        try:
            body, events, usage = read_answer(answer)
        except ValueError:
            return None
        entry = Entry.of(answer, usage)
        if clears != self.clears or self._entries.outdated(entry, now):
            return None
        self.take_in(entry, body, events, now)
        return entry, (body, events)

    def restore(self, answer: StoredAnswer) -> bool:
        """Store an answer that was copied; False when there is one under its key, or it is outdated.

        Raises:
            ValueError: It is damaged.
        """
        body, events, usage = read_answer(answer)
        entry = Entry.of(answer, usage)
        now = self.clock.wall()
        if self.find(answer.key) is not None or self._entries.outdated(entry, now):
            return False
        self.store.put(answer)
        self.take_in(entry, body, events, now)
        return True

    def keeper(self, request: Request, seen: Entry | None) -> Keeper:
        """Return what stores the answer to `request`; `seen` is the entry there was when it was asked for."""
        return Keeper(self, request, seen, self.clears, self.limits.max_bytes)

    def take_in(
        self, entry: Entry, body: bytes | None, events: Batch | None, now: float, lines_bytes: int | None = None
    ) -> None:
        """List `entry`, which is stored, and hold what it says; `lines_bytes` is as for `Entries.hold`."""
        entries = self._entries
        gone = entries.expire(now)
        evicted = entries.put(entry)
        entries.hold(entry, body, events, lines_bytes)
        if gone or evicted:
            self._left([*gone, *evicted])
            self.stats.evicted += len(evicted)
        for tell in self.on_keep.values():
            tell(entry.key)

    def clear(self, where: Callable[[Entry], bool] | None = None) -> int:
        """Drop all answers, or those of which `where` says so; returns how many.

        Whatever is on its way into the cache is not stored either: nobody knows whether it is one of them.
        """
        self._cleared()
        return self._clear(where)

    async def clear_gently(self, where: Callable[[Entry], bool]) -> int:
        """As `clear`, a few at a time: whoever is told that one has gone may have much to do."""
        self._cleared()
        keys = [entry.key for entry in self._entries if where(entry)]
        count = 0
        for start in range(0, len(keys), _AT_ONCE):
            gone = [key for key in keys[start : start + _AT_ONCE] if self._entries.remove(key)]
            self._left(gone)
            count += len(gone)
            await asyncio.sleep(0)
        return count

    def tidy(self) -> int:
        """Drop what is too old to be given to anybody; returns how many."""
        now = self.clock.wall()
        return self._clear(lambda entry: self._entries.outdated(entry, now))

    async def known(self, key: bytes) -> bool:
        """Whether there is an answer under `key`, here or where another process left it.

        Raises:
            StoreError: The store could not be read.
        """
        return self.find(key) is not None or await self.store.get(key) is not None

    def _cleared(self) -> None:
        self.clears, self._cleared_at = self.clears + 1, self.clock.wall()

    def _clear(self, where: Callable[[Entry], bool] | None) -> int:
        keys = self._entries.clear(where)
        self._left(keys)
        return len(keys)

    def _drop(self, entry: Entry) -> None:
        if self.find(entry.key) is entry:
            self._entries.remove(entry.key)
            self._left([entry.key])

    def _left(self, keys: Sequence[bytes]) -> None:
        if keys:
            self.store.delete(keys)
            for tell in self.on_leave.values():
                for key in keys:
                    tell(key)
