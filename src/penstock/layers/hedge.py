"""A second request beside one that is late, before its first event only. The first answer is given.

    request ──► target ─────────────── late ──────────► first event, or given up
                                        └─► another one ──► first event, or given up

It stands around the stack of the target that failover chose, and asks another target through the same stack, with its
breaker, its limits and its own row in the record. What failed as a hedge is not failover's business: the first request
goes on, and if it fails too, failover does what it always does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from penstock.core.call import HEDGE_LOST, Attempt
from penstock.core.clock import Clock
from penstock.core.errors import PenstockError, ProviderError
from penstock.core.events import Batch
from penstock.core.handler import Handler, Phased, Step
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import HedgeTerms, Route, Target
from penstock.core.tasks import TaskGroup
from penstock.routing.health import Health
from penstock.routing.hedging import Hedging

_LOOKS = 5
"""How often a late request is looked at. One that could not be hedged is again when it has waited twice as long."""
_PATIENCE_S = 1.0
"""How long to wait for a try that was given up to end, so that its row is complete; normally that is at once."""
_GIVEN_UP = ("", "ok", "client_closed")
_replace = msgspec.structs.replace


class Hedge(Phased):
    """Hedges requests of routes that have `HedgeTerms`: streams, and embeddings.

    A whole answer of a chat is left alone: nobody can tell a long one from a late one, and giving it up costs all the
    tokens it has so far.
    """

    def __init__(
        self, policy: Hedging, health: Health, inputs: Callable[[Request], int], clock: Clock, tasks: TaskGroup
    ) -> None:
        """`inputs` estimates a request's input tokens."""
        self.policy = policy
        self.health = health
        self.clock = clock
        self.tasks = tasks
        self._inputs = inputs

    def enter(self, request: Request, inner: Handler, /) -> Step | None:
        """Let pass what is not hedged."""
        route = request.route
        hedged = route is not None and route.hedge is not None and request.target is not None
        return None if hedged and (request.stream or request.operation == "embeddings") else (request, None)

    async def handle(self, request: Request, inner: Handler, /) -> Response:
        """Answer with the first request, or with the second if there is one and it is sooner.

        If both fail, the first one's error is raised.
        """
        route, target = request.route, request.target
        if route is None or target is None or route.hedge is None:
            raise AssertionError("`enter` lets pass what is not hedged")
        return await _Race(self, request, inner, route, target, route.hedge, self._inputs(request)).run()


class _Race:
    """One request, and perhaps a second one."""

    def __init__(
        self,
        hedge: Hedge,
        request: Request,
        inner: Handler,
        route: Route,
        target: Target,
        terms: HedgeTerms,
        inputs: int,
    ) -> None:
        self._hedge = hedge
        self._policy = hedge.policy
        self._request = request
        self._inner = inner
        self._route = route
        self._target = target
        self._terms = terms
        self._inputs = inputs
        self._before = len(request.call.attempts)
        self._started = hedge.clock.monotonic()
        self._other: Target | None = None
        self._late = False
        self._over = False

    async def run(self) -> Response:
        self._policy.enter(self._target)
        spawn = self._hedge.tasks.spawn
        first = spawn(self._try(self._request), name="first request")
        second = spawn(self._second(), name="second request")
        try:
            winner, response = await self._first_answer(first, second)
        except BaseException:
            await self._stop(first, second)
            self._learn_of_given_up()
            raise
        finally:
            self._policy.leave(self._target, late=self._late)
        try:
            await self._settle(second if winner is first else first, second_won=winner is second)
        except BaseException:
            await response.aclose()
            raise
        response.observe(_Earnings(self._policy, self._route, self._terms, self._inputs))
        return response

    async def _first_answer(
        self, first: asyncio.Task[_Outcome], second: asyncio.Task[_Outcome]
    ) -> tuple[asyncio.Task[_Outcome], Response]:
        waiting = {first, second}
        while True:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in (first, second):
                outcome = task.result() if task.done() else None
                if isinstance(outcome, Response):
                    return task, outcome
            failure = first.result() if first.done() else None
            if isinstance(failure, PenstockError) and (second.done() or not self._may_save(failure)):
                raise failure

    def _may_save(self, failure: PenstockError) -> bool:
        """Whether a second request is on its way that may succeed in spite of `failure`."""
        return self._other is not None and isinstance(failure, ProviderError) and failure.elsewhere

    async def _try(self, request: Request) -> _Outcome:
        try:
            response = await self._inner(request)
        except PenstockError as error:
            return error
        if self._over:  # it answered although it was given up
            await response.aclose()
        return response

    async def _second(self) -> _Outcome:
        at = self._policy.late_after(self._route, self._terms, self._inputs)
        for look in range(_LOOKS):
            await self._hedge.clock.sleep(at - self._waited())
            if not look:
                self._late = True
                self._policy.tarry(self._target)
            self._other = self._choose(first_look=not look)
            if self._other is not None:
                return await self._hedged(self._other)
            at = 2.0 * self._waited()
        return None

    async def _hedged(self, other: Target) -> _Outcome:
        try:
            self._policy.enter(other)
            return await self._try(_replace(self._request, target=other, hedge=True))
        finally:
            self._policy.leave(other, late=False)
            if not self._rows(hedge=True):
                self._policy.refund(self._route, self._inputs)

    def _choose(self, *, first_look: bool) -> Target | None:
        """The target for a second request; None if there is none now, or it is not worth it."""
        policy, counts, waited = self._policy, self._policy.counts, self._waited()
        fit = [each for each in self._others() if self._hedge.health.fit(each) and not policy.crowded(each)]
        saving, other = 0.0, None
        for each in fit:
            saved = policy.saving(self._route, self._target, each, self._inputs, waited)
            if saved > saving and self._in_time(each):
                saving, other = saved, each
        if other is None:
            counts.futile += first_look and bool(fit)
            counts.saturated += first_look and not fit
        elif not policy.spend(self._route, self._inputs):
            counts.unaffordable += first_look
            other = None
        return other

    def _others(self) -> list[Target]:
        """Targets that may answer in place of this one: of the same order, and not tried in vain by this call.

        For the only target of its order that is itself: behind most addresses there is more than one server.
        """
        own = self._target
        same = [each for each in self._route.targets if each.order == own.order and (each.weight or each == own)]
        others = [each for each in same if each != own] or same
        tried = {(attempt.provider, attempt.model) for attempt in self._request.call.attempts[: self._before]}
        return [each for each in others if (each.provider, each.model) not in tried]

    def _in_time(self, other: Target) -> bool:
        deadline = self._request.deadline
        if deadline is None:
            return True
        return self._hedge.clock.monotonic() + self._policy.expected(self._route, other, self._inputs) < deadline

    def _waited(self) -> float:
        return self._hedge.clock.monotonic() - self._started

    async def _settle(self, loser: asyncio.Task[_Outcome], *, second_won: bool) -> None:
        """End the loser, mark its row and learn from both."""
        winners = self._rows(hedge=second_won)
        target = self._other if second_won else self._target
        if winners and target is not None and (seconds := winners[-1].first_token_s) is not None:
            self._policy.learn(self._route, target, self._inputs, seconds)
        call = self._request.call
        notes = call.usage, call.finish_reason
        await self._stop(loser)
        call.usage, call.finish_reason = notes
        if second_won:
            self._policy.counts.won += 1
            self._learn_of_given_up()
        losers = self._rows(hedge=not second_won)
        if losers and losers[-1].outcome in _GIVEN_UP:
            losers[-1].outcome = HEDGE_LOST

    def _learn_of_given_up(self) -> None:
        """The first request, if it was late and would have gone on."""
        row = next(reversed(self._rows(hedge=False)), None)
        if self._late and row is not None and row.first_token_s is None and row.outcome in _GIVEN_UP:
            waited = self._hedge.clock.monotonic() - row.started
            self._policy.cut_short(self._route, self._target, self._inputs, waited)

    async def _stop(self, *tasks: asyncio.Task[_Outcome]) -> None:
        """Give tries up, and close what they answered."""
        self._over = True
        running = [task for task in tasks if task.cancel()]
        for task in tasks:
            if task.done() and not task.cancelled() and task.exception() is None:
                answer = task.result()
                if isinstance(answer, Response):
                    await answer.aclose()
        if running:
            await asyncio.wait(running, timeout=_PATIENCE_S)

    def _rows(self, *, hedge: bool) -> list[Attempt]:
        return [attempt for attempt in self._request.call.attempts[self._before :] if attempt.hedge is hedge]


_Outcome = Response | PenstockError | None
"""Of a request: the answer or the error; of the second one also None if it was not sent."""


class _Earnings:
    """Pays a share of each answer's tokens into the budget."""

    __slots__ = ("_inputs", "_policy", "_route", "_terms")

    def __init__(self, policy: Hedging, route: Route, terms: HedgeTerms, inputs: int) -> None:
        self._policy = policy
        self._route = route
        self._terms = terms
        self._inputs = inputs

    def on_events(self, batch: Batch, /) -> None:
        """Only the end tells how many tokens there were."""

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        usage = response.usage
        total = self._inputs if usage is None else usage.total_tokens
        self._policy.earn(self._route, self._terms, self._inputs, total)
