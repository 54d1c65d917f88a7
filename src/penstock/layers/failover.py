"""Another target when one fails, before the first event only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random

import msgspec

from penstock.core.clock import Clock
from penstock.core.errors import InvalidRequest, ProviderError, TargetBusy
from penstock.core.handler import Handler
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Target
from penstock.routing.balancing import Balancer
from penstock.routing.breaker import RATE_LIMITED, UNKNOWN_WAIT_S, judge
from penstock.routing.health import Health
from penstock.routing.selection import arrange

_LEAST_S = 0.01
"""Less time than this is no time for another try."""
_MAX_NAME, _MAX_REASON = 200, 300
"""Characters of the model's name and of each target's error in the message that sums them up."""
_replace = msgspec.structs.replace


class Failover:
    """Tries the route's targets one after the other until one answers.

    What is inside is the stack for one target. A target whose circuit is open refuses at once, which costs
    microseconds, so nothing is looked up here. When all refuse because they failed before, the one that recovers
    soonest is probed early, by one request at a time: with nothing to lose, waiting would only prolong an outage.
    """

    def __init__(self, health: Health, clock: Clock, random: Random, balancer: Balancer | None = None) -> None:
        """`balancer` orders the targets of ``balanced`` routes; without one they are drawn as ``weighted`` ones."""
        self._balancer = balancer
        self._health = health
        self._clock = clock
        self._random = random

    async def __call__(self, request: Request, inner: Handler, /) -> Response:
        """Answer from the first target that can, or raise what `sum_up` makes of their errors.

        An error that no other target could avoid, such as a malformed request, is raised at once and unchanged. What
        one provider has no words for another may have; if none of them has, the first one's objection is raised.
        """
        return await self.through(request, inner, self.order(request))

    def order(self, request: Request) -> Sequence[Target]:
        """Return the targets of the request's route in the order in which they are tried."""
        route = request.route
        if route is None:
            raise AssertionError("the pipeline resolves the route before a target is chosen")
        if route.strategy == "balanced" and self._balancer is not None:
            return self._balancer.arrange(request)
        return arrange(route, self._random)

    async def through(self, request: Request, inner: Handler, targets: Sequence[Target]) -> Response:
        """Answer from the first of `targets` that can; as `__call__`."""
        try:
            return await inner(_replace(request, target=targets[0]))
        except ProviderError as error:
            if not error.elsewhere:
                raise
            return await self._elsewhere(request, inner, targets, {targets[0]: error}, {})
        except InvalidRequest as error:
            return await self._elsewhere(request, inner, targets, {}, {}, error)
        except TargetBusy as error:
            return await self._elsewhere(request, inner, targets, {}, {targets[0]: error})

    async def _elsewhere(
        self,
        request: Request,
        inner: Handler,
        targets: Sequence[Target],
        failures: dict[Target, ProviderError],
        busy: dict[Target, TargetBusy],
        objection: InvalidRequest | None = None,
    ) -> Response:
        try:
            for target in self._remaining(request, targets, busy):
                try:
                    return await inner(_replace(request, target=target))
                except TargetBusy as error:
                    busy[target] = error
                except InvalidRequest as error:
                    objection = objection or error
                except ProviderError as error:
                    if not error.elsewhere:
                        raise
                    failures.pop(target, None)
                    failures[target] = error
            if failures:
                raise sum_up(request.model, failures)
            if objection is not None and not busy:
                raise objection
            raise next(iter(busy.values()))
        finally:
            del failures, busy, objection  # the errors' tracebacks refer to this frame

    def _remaining(
        self, request: Request, targets: Sequence[Target], busy: Mapping[Target, TargetBusy]
    ) -> Iterator[Target]:
        for target in targets[1:]:
            if not self._time_left(request):
                return
            yield target
        # The others, which had room, have failed: now these are worth waiting for.
        yield from list(busy)
        if not request.call.attempts and self._time_left(request):
            probed = self._health.hasten(targets)
            if probed is not None:
                yield probed

    def _time_left(self, request: Request) -> bool:
        return request.deadline is None or request.deadline - self._clock.monotonic() > _LEAST_S


def sum_up(model: str, failures: Mapping[Target, ProviderError]) -> ProviderError:
    """Make one error of those of all targets of `model`, in the order in which they were tried.

    A single one is kept as it is. If all are rate limits, so is the sum; otherwise it is the last one that speaks of a
    broken target, or else the last one that is not a rate limit. It says when to retry if every target does: when the
    first recovers. A rate limit always does.
    """
    errors = list(failures.values())
    for error in errors:
        if error.code == RATE_LIMITED and error.retry_after is None:
            error.retry_after = UNKNOWN_WAIT_S
    if len(errors) == 1:
        return errors[0]
    broken = [error for error in errors if judge(error) == "failure"]
    unlimited = [error for error in errors if error.code != RATE_LIMITED]
    telling = (broken or unlimited or errors)[-1]
    waits = [error.retry_after for error in errors if error.retry_after is not None]
    reasons = "; ".join(_reason(target, error.message[:_MAX_REASON]) for target, error in failures.items())
    summary = ProviderError(
        f"no target of '{model[:_MAX_NAME]}' answered: {reasons}",
        status_code=telling.status_code,
        code=telling.code,
        param=telling.param,
        retry_after=min(waits) if len(waits) == len(errors) else telling.retry_after,
        retryable=telling.retryable,
        provider=telling.provider,
    )
    summary.__cause__ = telling
    return summary


def _reason(target: Target, message: str) -> str:
    """Put the target before what went wrong with it, in place of the provider that most messages begin with."""
    name = f"{target.provider}/{target.model}"
    for known in (name, f"provider {target.provider}"):
        if message.startswith(known):
            return name + message.removeprefix(known)
    return f"{name}: {message}"
