"""Renews what recurs before it goes stale, so that nobody waits for it; `penstock.caching.recurrence` chooses what."""

from __future__ import annotations

import msgspec

from penstock.caching.answer_cache import AnswerCache
from penstock.caching.key import cache_key
from penstock.caching.recurrence import Recurrence
from penstock.core.call import Call
from penstock.core.clock import Clock
from penstock.core.errors import PenstockError
from penstock.core.handler import Handler, Phased, Step
from penstock.core.request import Request
from penstock.core.tasks import TaskGroup
from penstock.semantic.asking import background

_MOST_BYTES = 32 * 1024
"""Larger requests are not kept for their renewal."""
_LOOKS = 3
"""How often in the time in which an answer may be renewed it is asked what to renew."""
_LONGEST_S = 5.0


class Refresh(Phased):
    """The layer, around an exact cache; `run` it beside.

    Args:
        recurrence: What was asked for, and what is worth renewing.
        answers: The cache.
        ask: Answers a request through the whole pipeline, on its tenant's account.
        clock: Where time comes from.
        tasks: Where renewals run.
        horizon_s: How long before it goes stale an answer may be renewed.
    """

    def __init__(
        self,
        recurrence: Recurrence[Request],
        answers: AnswerCache,
        ask: Handler,
        clock: Clock,
        tasks: TaskGroup,
        horizon_s: float,
    ) -> None:
        self._recurrence = recurrence
        self._answers = answers
        self._ask = ask
        self._clock = clock
        self._tasks = tasks
        self._pause_s = min(horizon_s / _LOOKS, _LONGEST_S)
        answers.on_keep["refresh"] = self._kept
        # What was cleared leaves nothing behind.
        answers.on_leave["refresh"] = recurrence.forget

    def enter(self, request: Request, inner: Handler, /) -> Step:
        """Note that it was asked for."""
        directives, route = request.cache, request.route
        if not (directives.no_cache or directives.no_store or (route is not None and route.cache_ttl_s == 0)):
            key = cache_key(request)
            if request.call.asked_bytes <= _MOST_BYTES:
                self._recurrence.asked(key, self._clock.wall(), request)
        return request, None

    async def run(self) -> None:
        """Renew what is due, for ever."""
        while True:
            await self._clock.sleep(self._pause_s)
            now = self._clock.wall()
            for renewal in self._recurrence.due(now):
                if self._answers.lookup(renewal.key, now) is not None:
                    self._tasks.spawn(self._renew(renewal.what), name="renew what recurs")

    async def _renew(self, request: Request) -> None:
        clock = self._clock
        call = Call(
            f"{request.call.id}-refresh{self._recurrence.renewed}", started=clock.monotonic(), started_at=clock.wall()
        )
        # Routed anew, for the configuration may be another by now.
        fresh = msgspec.structs.replace(background(request, "refresh", clock), call=call, route=None)
        try:
            response = await self._ask(fresh)
            try:
                await response.read()
            finally:
                await response.aclose()
        except PenstockError:
            return  # it is on the ledger, and the answer there is stays as it is

    def _kept(self, key: bytes) -> None:
        entry = self._answers.find(key)
        if entry is not None:
            self._recurrence.stored(key, self._clock.wall(), entry.fresh_until)
