"""Answers what was asked before, word for word, without asking again.

Nothing but the key decides which answer fits: see `penstock.caching.key`. Whether it may still be given is decided in
`penstock.caching.freshness`, and the answers are in a `penstock.caching.answer_cache`.
"""

from __future__ import annotations

import asyncio
import copy
from contextlib import suppress

import msgspec

from penstock.abc import CacheStore, Ledger
from penstock.caching.answer_cache import AnswerCache
from penstock.caching.at_rest import Known, Limits
from penstock.caching.entries import Entry
from penstock.caching.freshness import Verdict, decide, may_stand_in
from penstock.caching.keeper import Keeper
from penstock.caching.key import cache_key
from penstock.caching.renewal import Renewals
from penstock.caching.stats import CacheStats
from penstock.config.caches import ExactCacheSettings
from penstock.core.call import Call
from penstock.core.clock import Clock
from penstock.core.errors import NOTHING_CACHED, NotCached, PenstockError, ProviderError, Refused, StoreError
from penstock.core.handler import Exit, Handler, Phased, Step
from penstock.core.request import NO_DIRECTIVES, Request
from penstock.core.response import Response
from penstock.core.tasks import TaskGroup

_NAME = "Penstock-Exact"
_MISSED = f"{_NAME}; fwd={Verdict.MISS.value}"
_GRACE_S = 0.1
"""How long the store may take to find a stale answer when the request's time may be over."""

_replace = msgspec.structs.replace


class ExactCache(Phased):
    """The layer; `start` it before use.

    Attributes:
        answers: What was answered, for whoever else has use for it.
        beyond: Layers inside may have answers too, so they are asked under `only-if-cached`. The last of them ends it.
    """

    def __init__(
        self,
        settings: ExactCacheSettings,
        store: CacheStore,
        clock: Clock,
        tasks: TaskGroup,
        ledger: Ledger | None = None,
    ) -> None:
        """`ledger` is given the calls that renew stale answers in the background, which no layer outside sees."""
        self._clock = clock
        self.beyond = False
        self.answers = AnswerCache(
            store,
            clock,
            Limits(settings.max_entry_bytes, settings.tool_calls),
            max_entries=settings.max_entries,
            max_memory_bytes=settings.max_memory_bytes,
            ttl_s=settings.ttl_s,
        )
        self._find = self.answers.find
        self._renewals = Renewals(self.answers, clock, tasks, ledger)
        self._stats = self.answers.stats
        self._configure(settings)

    def adopt(self, settings: ExactCacheSettings) -> ExactCache | None:
        """Return a layer under `settings` with the same answers; None if they ask for another size.

        What holds for the answers, such as how long they stay fresh, changes for this one too.
        """
        old = self._settings
        if (settings.max_entries, settings.max_memory_bytes) != (old.max_entries, old.max_memory_bytes):
            return None
        layer = copy.copy(self)
        layer._configure(settings)
        return layer

    async def start(self) -> None:
        """Learn what the store has; if it cannot say, begin with nothing."""
        await self.answers.start()

    def enter(self, request: Request, inner: Handler, /) -> Step | None:
        """Let pass what has no entry, and keep the answer to it."""
        directives, route = request.cache, request.route
        if (
            (directives is not NO_DIRECTIVES and directives != NO_DIRECTIVES)
            or (route is not None and route.cache_ttl_s == 0)
            or self._find(request.call.key or cache_key(request)) is not None
        ):
            return None
        self._stats.misses += 1
        answers = self.answers
        return request, _Keeping(answers, request, None, answers.clears, answers.limits.max_bytes)

    async def handle(self, request: Request, inner: Handler, /) -> Response:
        """Answer from the cache or from `inner`.

        Raises:
            NotCached: The client wants only a cached answer and there is none.
        """
        directives, route = request.cache, request.route
        if route is not None and route.cache_ttl_s == 0:
            directives = _replace(directives, no_store=True)
        entry = None if directives.no_store else self._find(cache_key(request))
        now = self._clock.wall()
        verdict = decide(entry, now, directives, self._settings.stale_while_revalidate_s)
        if entry is not None and (verdict is Verdict.HIT or verdict is Verdict.REFRESH):
            known: Known | None = (entry.body, entry.events)
            if entry.held is None:
                known = await self.answers.load(entry)
            if known is not None:
                if verdict is Verdict.REFRESH and not directives.only_if_cached:
                    self._renewals.begin(request, inner, entry)
                return self._serve(request, entry, known, now)
            entry = None
            verdict = decide(None, now, directives)
        if verdict is Verdict.ABSENT:
            self._stats.misses += 1
            if self.beyond:
                with suppress(NotCached):
                    response = await inner(request)
                    _note(request.call, _MISSED)
                    return response
            raise _absent(request.call)
        if verdict is Verdict.BYPASS:
            self._stats.bypassed += 1
            request.call.cache = "bypass"
            request.call.cache_status.append(f"{_NAME}; fwd=bypass")
            return await inner(request)
        return await self._forward(request, inner, entry, verdict)

    def at_hand(self, request: Request) -> Entry | None:
        """Return the fresh entry in memory that the layer will answer `request` with, for `give`; None without one."""
        directives, route = request.cache, request.route
        if directives.no_store or (route is not None and route.cache_ttl_s == 0):
            return None
        entry = self._find(cache_key(request))
        if entry is None or entry.held is None:
            return None
        return entry if decide(entry, self._clock.wall(), directives) is Verdict.HIT else None

    def give(self, request: Request, entry: Entry) -> Response:
        """Answer `request` with what is `at_hand` for it."""
        return self._serve(request, entry, (entry.body, entry.events), self._clock.wall())

    def stats(self) -> CacheStats:
        """Return the figures since the start."""
        return _replace(self._stats, entries=len(self.answers), memory_bytes=self.answers.memory_bytes)

    def clear(self, tenant: str | None = None) -> int:
        """Drop all answers, or one tenant's, those on their way into the cache included; returns how many."""
        return self.answers.clear(None if tenant is None else lambda entry: entry.tenant == tenant)

    def _configure(self, settings: ExactCacheSettings) -> None:
        self._settings = settings
        self.answers.ttl_s = settings.ttl_s
        self.answers.limits = Limits(settings.max_entry_bytes, settings.tool_calls)
        self.answers.keep_stale_for(max(settings.stale_while_revalidate_s, settings.stale_if_error_s))

    def _serve(self, request: Request, entry: Entry, known: Known, now: float, member: str = "") -> Response:
        """Give `entry`, whose answer is `known`; `member` goes into `Cache-Status` if it is no plain hit."""
        self._stats.hits += 1
        ttl = entry.fresh_until - now
        if ttl > 0:
            request.call.cache = "hit"
        else:
            request.call.cache = "stale"
            self._stats.stale += 1
        return self.answers.give(request, entry, known, now, member or f"{_NAME}; hit; ttl={int(ttl)}")

    async def _load_soon(self, entry: Entry) -> Known | None:
        """Load it, but give up after `_GRACE_S`: the request's time may be over, and nothing else ends this wait."""
        try:
            async with asyncio.timeout(_GRACE_S):
                return await self.answers.load(entry)
        except TimeoutError:
            return None

    async def _forward(self, request: Request, inner: Handler, entry: Entry | None, verdict: Verdict) -> Response:
        self._stats.misses += 1
        keeper = self.answers.keeper(request, entry)
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
        entry = self._find(cache_key(request))
        if entry is None or not may_stand_in(entry, now, request.cache, self._settings.stale_if_error_s):
            return None
        known: Known | None = (entry.body, entry.events)
        if entry.held is None:
            known = await self._load_soon(entry)
        if known is None:
            return None
        request.call.degraded.append("stale-if-error")
        return self._serve(request, entry, known, now, f'{member}; detail="stale-if-error"')


class NoCache(Phased):
    """In its place where there is no exact cache, and so no other: nothing is cached."""

    def enter(self, request: Request, inner: Handler, /) -> Step:
        """Let pass what may be asked for."""
        directives = request.cache
        if directives is not NO_DIRECTIVES and directives.only_if_cached:
            raise _absent(request.call)
        return request, None


class _Keeping(Keeper, Exit):
    """Keeps the answer to what had no entry; nothing stale can stand in for it."""

    def failed(self, error: BaseException, /) -> None:
        if isinstance(error, (PenstockError, asyncio.CancelledError)):
            _note(self.request.call, _MISSED)

    def begun(self, response: Response, /) -> None:
        _note(self.request.call, _MISSED)

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        if error is None:
            self.stored = self.keep(response)
        if response.whole:
            _note(self.request.call, _MISSED, "; stored" if self.stored else "")


def _absent(call: Call) -> NotCached:
    """Note that there is no answer and none may be asked for."""
    call.cache = "miss"
    call.cache_status.append(f'{_NAME}; detail="only-if-cached"')
    return NotCached(NOTHING_CACHED)


def _note(call: Call, member: str, stored: str = "") -> None:
    if call.cache == "hit":  # in the memory of another worker, where it was noted
        return
    if not call.cache:
        call.cache = "miss"
    call.cache_status.append(member + ("; collapsed" if call.cache == "collapsed" else stored))
