"""Answers what was asked before, word for word, without asking again.

An index of all entries is in memory, so a miss costs no I/O; what does not fit there of the answers themselves is read
from the store. Nothing but the key decides which answer fits: see `penstock.caching.key`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

import msgspec

from penstock.abc import CacheStore, Ledger
from penstock.caching.at_rest import Limits, read_answer, write_answer
from penstock.caching.entries import Entries, Entry
from penstock.caching.freshness import Verdict, decide, lifetime_s, may_stand_in
from penstock.caching.key import cache_key
from penstock.caching.stats import CacheStats
from penstock.config.settings import ExactCacheSettings
from penstock.core.call import Call
from penstock.core.canonical import assemble
from penstock.core.clock import Clock
from penstock.core.errors import DeadlineExceeded, NotCached, PenstockError, ProviderError, Refused, StoreError
from penstock.core.events import Batch
from penstock.core.handler import Handler
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.tasks import TaskGroup

_NAME = "Penstock-Exact"
_GRACE_S = 0.1
"""How long the store may take to find a stale answer when the request's time may be over."""

Known = tuple[bytes | None, Batch | None]
"""An answer's body and events, at least one of them."""

_replace = msgspec.structs.replace
_log = logging.getLogger("penstock.cache")


class ExactCache:
    """The layer; `start` it before use."""

    def __init__(
        self,
        settings: ExactCacheSettings,
        store: CacheStore,
        clock: Clock,
        tasks: TaskGroup,
        ledger: Ledger | None = None,
    ) -> None:
        """`ledger` is given the calls that renew stale answers in the background, which no layer outside sees."""
        self._settings = settings
        self._store = store
        self._clock = clock
        self._tasks = tasks
        self._ledger = ledger
        self._entries = Entries(
            settings.max_entries,
            settings.max_memory_bytes,
            kept_stale_s=max(settings.stale_while_revalidate_s, settings.stale_if_error_s),
        )
        self.limits = Limits(settings.max_entry_bytes, settings.tool_calls)
        self._renewing: set[bytes] = set()
        self._clears = 0
        self._stats = CacheStats()

    def adopt(self, settings: ExactCacheSettings) -> bool:
        """Go on under `settings`, with all answers; False if they ask for another size, which needs a new cache."""
        old = self._settings
        if (settings.max_entries, settings.max_memory_bytes) != (old.max_entries, old.max_memory_bytes):
            return False
        self._settings = settings
        self._entries.kept_stale_s = max(settings.stale_while_revalidate_s, settings.stale_if_error_s)
        self.limits = Limits(settings.max_entry_bytes, settings.tool_calls)
        return True

    async def start(self) -> None:
        """Learn what the store has; if it cannot say, begin with nothing."""
        try:
            index = await self._store.index()
        except StoreError as error:
            _log.warning("the cache starts empty, its store cannot be read: %s", error)
            return
        now = self._clock.wall()
        gone: list[bytes] = []
        for answer in index:
            entry = Entry(answer)
            if self._entries.outdated(entry, now):
                gone.append(entry.key)
            else:
                gone += self._entries.put(entry)
        self._delete(gone)

    async def __call__(self, request: Request, inner: Handler, /) -> Response:
        """Answer from the cache or from `inner`.

        Raises:
            NotCached: The client wants only a cached answer and there is none.
        """
        directives, route = request.cache, request.route
        if route is not None and route.cache_ttl_s == 0:
            directives = _replace(directives, no_store=True)
        entry = None if directives.no_store else self._entries.find(cache_key(request))
        now = self._clock.wall()
        verdict = decide(entry, now, directives, self._settings.stale_while_revalidate_s)
        if entry is not None and (verdict is Verdict.HIT or verdict is Verdict.REFRESH):
            known: Known | None = (entry.body, entry.events)
            if entry.held is None:
                known = await self._load(entry)
            if known is not None:
                if verdict is Verdict.REFRESH and not directives.only_if_cached:
                    self._renew_soon(request, inner, entry)
                return self._serve(request, entry, known, now)
            entry = None
            verdict = decide(None, now, directives)
        if verdict is Verdict.ABSENT:
            self._stats.misses += 1
            request.call.cache = "miss"
            request.call.cache_status.append(f'{_NAME}; detail="only-if-cached"')
            raise NotCached("There is no cached answer to this request, and only-if-cached forbids asking for one.")
        if verdict is Verdict.BYPASS:
            self._stats.bypassed += 1
            request.call.cache = "bypass"
            request.call.cache_status.append(f"{_NAME}; fwd=bypass")
            return await inner(request)
        return await self._forward(request, inner, entry, verdict)

    def at_hand(self, request: Request) -> bool:
        """Whether the layer will answer `request` with a fresh entry from memory, without waiting for anything."""
        directives, route = request.cache, request.route
        if directives.no_store or (route is not None and route.cache_ttl_s == 0):
            return False
        entry = self._entries.find(cache_key(request))
        if entry is None or entry.held is None:
            return False
        return decide(entry, self._clock.wall(), directives) is Verdict.HIT

    def stats(self) -> CacheStats:
        """Return the figures since the start."""
        return _replace(self._stats, entries=len(self._entries), memory_bytes=self._entries.memory_bytes)

    def clear(self, tenant: str | None = None) -> int:
        """Drop all answers, or one tenant's, those on their way into the cache included; returns how many."""
        self._clears += 1
        keys = self._entries.clear(tenant)
        self._delete(keys)
        return len(keys)

    def _serve(self, request: Request, entry: Entry, known: Known, now: float, member: str = "") -> Response:
        """Give `entry`, whose answer is `known`; `member` goes into `Cache-Status` if it is no plain hit."""
        body, events = known
        if request.stream and events is None and request.operation != "embeddings":
            events = Response(body=body).all_events()
            self._entries.hold(entry, body, events)
        elif body is None and events is not None and not request.stream:
            body = assemble(events)
            self._entries.hold(entry, body, events)
        entry.touch()
        self._stats.hits += 1
        call = request.call
        ttl = entry.fresh_until - now
        if ttl > 0:
            call.cache = "hit"
        else:
            call.cache = "stale"
            self._stats.stale += 1
        call.age_s = max(now - entry.stored_at, 0.0)
        call.saved_usd = entry.saved_usd
        call.usage = entry.usage
        call.finish_reason = entry.finish_reason
        call.cache_status.append(member or f"{_NAME}; hit; ttl={int(ttl)}")
        return Response(body=body, events=events, usage=entry.usage, finish_reason=entry.finish_reason)

    async def _load(self, entry: Entry) -> Known | None:
        """Read an answer that is not in memory; None when the store does not have it."""
        try:
            answer = await self._store.get(entry.key)
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
            self._store.delete([entry.key])
            return None
        entry.usage = usage or entry.usage
        self._entries.hold(entry, body, events)
        return body, events

    async def _load_soon(self, entry: Entry) -> Known | None:
        """As `_load`, but give up after `_GRACE_S`: the request's time may be over, and nothing else ends this wait."""
        try:
            async with asyncio.timeout(_GRACE_S):
                return await self._load(entry)
        except TimeoutError:
            return None

    def _drop(self, entry: Entry) -> None:
        if self._entries.find(entry.key) is entry:
            self._entries.remove(entry.key)

    async def _forward(self, request: Request, inner: Handler, entry: Entry | None, verdict: Verdict) -> Response:
        self._stats.misses += 1
        keeper = _Keeper(self, request, entry, self._clears)
        member = f"{_NAME}; fwd={verdict.value}"
        try:
            response = await inner(request)
        except (PenstockError, asyncio.CancelledError) as error:
            stale = await self._stand_in(request, error, member)
            if stale is not None:
                return stale
            _note(request.call, member)
            raise
        response.observe(keeper)
        _note(request.call, member, "; stored" if keeper.stored else "")
        return response

    async def _stand_in(self, request: Request, error: BaseException, member: str) -> Response | None:
        """Return a stale answer to give instead of `error` (RFC 5861 section 4), if there is one and it may be."""
        if isinstance(error, ProviderError):
            if not error.retryable and not error.elsewhere:  # the request's fault, which is no failure to hide
                return None
            if error.status_code is not None:
                member += f"; fwd-status={error.status_code}"
        elif isinstance(error, asyncio.CancelledError):
            if not request.late(self._clock.monotonic()):
                return None
            # Who cancels what is late, the deadline layer or that for fallbacks, accepts an answer in its place.
        elif not isinstance(error, (Refused, StoreError)):
            return None
        now = self._clock.wall()
        entry = self._entries.find(cache_key(request))
        if entry is None or not may_stand_in(entry, now, request.cache, self._settings.stale_if_error_s):
            return None
        known: Known | None = (entry.body, entry.events)
        if entry.held is None:
            known = await self._load_soon(entry)
        if known is None:
            return None
        request.call.degraded.append("stale-if-error")
        return self._serve(request, entry, known, now, f'{member}; detail="stale-if-error"')

    def _renew_soon(self, request: Request, inner: Handler, entry: Entry) -> None:
        """Ask again in the background, once at a time for each key (RFC 5861 section 3)."""
        if entry.key in self._renewing:
            return
        self._renewing.add(entry.key)
        now = self._clock.monotonic()
        call = Call(id=f"{request.call.id}-renewal", started=now, started_at=self._clock.wall(), key=entry.key)
        call.cache = "miss"
        left = None if request.deadline is None else now + request.deadline - request.call.started
        fresh = _replace(request, call=call, deadline=left)
        self._tasks.spawn(self._renew(fresh, inner, entry), name="cache-renewal")

    async def _renew(self, request: Request, inner: Handler, entry: Entry) -> None:
        outcome = "client_closed"
        now = self._clock.monotonic()
        try:
            # No layer outside watches over the time of what runs in the background.
            async with asyncio.timeout(None if request.deadline is None else request.deadline - now):
                await self._fetch(request, inner, entry)
            outcome = "ok"
        except TimeoutError:
            outcome = DeadlineExceeded.code
        except PenstockError as error:
            outcome = error.code
        finally:
            self._renewing.discard(entry.key)
            self._record(request, self._clock.monotonic() - request.call.started, outcome)

    def _record(self, request: Request, duration_s: float, outcome: str) -> None:
        """As `penstock.layers.record.Record` does, when all attempts have ended."""
        running = request.call.running
        if running is not None:
            running.when_ended(partial(self._record, request, duration_s, outcome))
        elif self._ledger is not None:
            self._ledger.record(request, request.call, duration_s=duration_s, outcome=outcome)

    async def _fetch(self, request: Request, inner: Handler, entry: Entry) -> None:
        response = await inner(request)
        try:
            response.observe(_Keeper(self, request, entry, self._clears))
            if not response.whole:
                async for _ in response:
                    pass
        finally:
            await response.aclose()

    def keep(self, keeper: _Keeper, response: Response) -> bool:
        """Store a complete answer if it may be; False when it may not, or somebody else did since it was asked for."""
        request, body, events = keeper.request, response.body, response.events or keeper.events
        route_ttl_s = request.route.cache_ttl_s if request.route is not None else None
        ttl = lifetime_s(request.cache, route_ttl_s, self._settings.ttl_s)
        known = self._entries.find(cache_key(request))
        if ttl <= 0 or keeper.clears != self._clears or (known is not None and known is not keeper.seen):
            return False
        now = self._clock.wall()
        answer = write_answer(request, response, events, self.limits, now=now, ttl_s=ttl)
        if answer is None:
            return False
        request.call.answer_bytes = len(answer.data)
        entry = Entry(answer, response.usage or request.call.usage)
        gone = self._entries.expire(now)
        evicted = self._entries.put(entry)
        self._entries.hold(entry, body, events if body is None else None)
        self._store.put(answer)
        self._delete(gone + evicted)
        self._stats.evicted += len(evicted)
        self._stats.stored += 1
        return True

    def _delete(self, keys: Sequence[bytes]) -> None:
        if keys:
            self._store.delete(keys)


class _Keeper:
    """Collects an answer on its way to the client, and stores it when it is complete."""

    __slots__ = ("_cache", "_max_bytes", "_size", "clears", "events", "request", "seen", "stored")

    def __init__(self, cache: ExactCache, request: Request, seen: Entry | None, clears: int) -> None:
        self._cache = cache
        self._max_bytes = cache.limits.max_bytes
        self._size = 0
        self.request = request
        self.seen = seen
        self.clears = clears
        self.events: Batch = []
        self.stored = False

    def on_events(self, batch: Batch, /) -> None:
        if self._size <= self._max_bytes:
            self._size += sum([len(event.data) for event in batch])
            self.events += batch
            if self._size > self._max_bytes:
                self.events = []

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        if error is None:
            self.stored = self._cache.keep(self, response)


def _note(call: Call, member: str, stored: str = "") -> None:
    call.cache = call.cache or "miss"
    call.cache_status.append(member + ("; collapsed" if call.cache == "collapsed" else stored))
