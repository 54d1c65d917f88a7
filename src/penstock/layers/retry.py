"""Second tries on the same target, before the first event only."""

from __future__ import annotations

from random import Random

import msgspec

from penstock.config.settings import RetrySettings
from penstock.core.clock import TIMER_SLACK_S, Clock
from penstock.core.errors import ProviderError
from penstock.core.handler import Exit, Handler, Step
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.routing.breaker import RATE_LIMITED
from penstock.routing.budget import RetryBudget
from penstock.routing.health import Health


class Retry:
    """Tries the target again after a failure that may pass.

    A target that asks for a pause, or whose circuit has just opened, is waited for only when the route has no other
    one, and for no longer than `max_backoff_s`. While another target that was not tried yet is healthy, only a server
    error is tried again, and only once; then it is failover's turn. The waits are drawn evenly between 0 and a bound
    that starts at twice `backoff_s` and doubles ("full jitter", Brooker, "Exponential Backoff And Jitter", AWS, 2015).
    A hedge is never tried again: it is a second try already. What met a kept connection that the upstream had closed is
    sent once more at once, whatever the settings and the budget say (RFC 9112 section 9.3.1): nothing had failed.
    No wait reaches beyond the request's deadline, and all retries of the process share one budget.
    """

    def __init__(self, settings: RetrySettings, health: Health, clock: Clock, random: Random) -> None:
        self._settings = settings
        self._health = health
        self._clock = clock
        self._random = random
        self._budget = RetryBudget(settings.budget)

    def enter(self, request: Request, inner: Handler, /) -> Step:
        """Let the first try pass; if it fails, `__call__` goes on, whose `inner` then fails in the same way first."""
        return request, _Deposit(self._budget, request) if not request.call.attempts else None

    async def __call__(self, request: Request, inner: Handler, /) -> Response:
        """Answer with the first try, or with a later one, or raise the last one's error."""
        attempts = request.call.attempts
        try:
            response = await inner(request)
        except ProviderError as error:
            if len(attempts) == 1:
                self._budget.deposit()
            return await self._again(request, inner, error)
        if len(attempts) == 1:
            self._budget.deposit()
        return response

    async def _again(self, request: Request, inner: Handler, failure: ProviderError) -> Response:
        try:
            if failure.stale:
                try:
                    return await inner(request)
                except ProviderError as error:
                    failure = error
            for tried in range(1, self._settings.attempts):
                wait = self._wait(request, failure, tried)
                if wait is None or not self._budget.withdraw():
                    break
                await self._clock.sleep(wait)
                try:
                    return await inner(request)
                except ProviderError as error:
                    failure = error
            raise failure
        finally:
            del failure  # its traceback refers to this frame

    def _wait(self, request: Request, failure: ProviderError, tried: int) -> float | None:
        """Seconds to wait before the next try; None for no more tries here."""
        limited = failure.code == RATE_LIMITED
        if request.hedge or not (failure.retryable or limited) or request.route is None or request.target is None:
            return None
        pause = max(failure.retry_after or 0.0, self._health.recovers_in(request.target))
        if (limited or pause) and (len(request.route.targets) > 1 or pause > self._settings.max_backoff_s):
            return None
        if pause:
            pause += TIMER_SLACK_S  # a try that wakes a moment too early would only be refused by the circuit
        if self._other_target(request) and (tried > 1 or (failure.status_code or 0) < 500):
            return None
        bound = min(2 * self._settings.backoff_s * 2.0 ** (tried - 1), self._settings.max_backoff_s)
        wait = pause + self._random.uniform(0.0, bound)
        if request.deadline is not None and self._clock.monotonic() + wait >= request.deadline:
            return None
        return wait

    def _other_target(self, request: Request) -> bool:
        """Whether the route has a healthy target that this call did not try yet."""
        if request.route is None or len(request.route.targets) == 1:
            return False
        tried = {(attempt.provider, attempt.model) for attempt in request.call.attempts}
        return any(
            (target.provider, target.model) not in tried and self._health.recovers_in(target) == 0.0
            for target in request.route.targets
        )


class _Deposit(Exit, msgspec.Struct, eq=False):
    """Each request pays for a part of a retry."""

    _budget: RetryBudget
    _request: Request

    def begun(self, response: Response, /) -> None:
        if len(self._request.call.attempts) == 1:
            self._budget.deposit()

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        if response.whole:
            self.begun(response)
