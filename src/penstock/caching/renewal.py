"""Asks again in the background for answers that are stale or soon will be."""

from __future__ import annotations

import asyncio
from functools import partial

import msgspec

from penstock.abc import Ledger
from penstock.caching.answer_cache import AnswerCache
from penstock.caching.entries import Entry
from penstock.core.call import Call
from penstock.core.clock import Clock
from penstock.core.errors import DeadlineExceeded, PenstockError
from penstock.core.handler import Handler
from penstock.core.request import Request
from penstock.core.tasks import TaskGroup


class Renewals:
    """One at a time for each key (RFC 5861 section 3)."""

    def __init__(self, answers: AnswerCache, clock: Clock, tasks: TaskGroup, ledger: Ledger | None) -> None:
        """`ledger` is given the calls made here, which no layer outside sees."""
        self._answers = answers
        self._clock = clock
        self._tasks = tasks
        self._ledger = ledger
        self._running: set[bytes] = set()

    def begin(self, request: Request, inner: Handler, entry: Entry) -> None:
        """Ask `inner` for what `request` asks, unless that is under way, and store it in place of `entry`."""
        if entry.key in self._running:
            return
        self._running.add(entry.key)
        now = self._clock.monotonic()
        call = Call(id=f"{request.call.id}-renewal", started=now, started_at=self._clock.wall(), key=entry.key)
        call.cache = "miss"
        left = None if request.deadline is None else now + request.deadline - request.call.started
        # An answer to another question would renew nothing.
        fresh = msgspec.structs.replace(request, call=call, deadline=left, semantic="off")
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
            self._running.discard(entry.key)
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
            response.observe(self._answers.keeper(request, entry))
            if not response.whole:
                async for _ in response:
                    pass
        finally:
            await response.aclose()
