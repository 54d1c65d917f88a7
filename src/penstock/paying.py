"""Calls that count towards a shared deadline and budget: `penstock.gather` and batches put one in force."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import msgspec

from penstock.budgeting.tariff import Tariffs
from penstock.core.call import Attempt
from penstock.core.errors import BudgetExceeded, DeadlineExceeded, InvalidRequest, NotCached
from penstock.core.events import Batch
from penstock.core.money import to_picodollars, to_usd
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Route
from penstock.core.spending import Spending
from penstock.core.usage import unusual_tier
from penstock.pipeline import Pipeline
from penstock.pricing.estimate import estimate_request_tokens
from penstock.shared import make_pricer

ASSUMED_OUTPUT = 1024
"""Tokens of answer that a call without a cap is expected to need."""
_CAPS = ("max_completion_tokens", "max_tokens")
_CENT = Decimal("0.01")
_replace = msgspec.structs.replace


class Paying:
    """Asks a pipeline within what a `Spending` allows."""

    def __init__(self) -> None:
        self._tariffs: tuple[Pipeline, Tariffs] | None = None

    async def ask(self, spending: Spending, pipeline: Pipeline, request: Request) -> Response:
        """Answer `request`; when the money is used up, from the cache only.

        Raises:
            BudgetExceeded: What is left does not pay for the call, and the answer is not in the cache.
            DeadlineExceeded: The shared time is over.
            InvalidRequest: The price of the model is unknown, and money is limited (403, ``unpriced_model``).
            PenstockError: As the pipeline.
        """
        request = self._in_time(spending, pipeline, request)
        expected, short = 0, None
        if spending.limited:
            request, expected = await self._expected(pipeline, request)
            short = spending.short(expected)
            if short is not None:
                request = _replace(request, cache=_replace(request.cache, only_if_cached=True))
        held = 0 if short is not None else expected
        watch = _Watch(spending, request, held)
        spending.hold(held)
        try:
            response = await pipeline(request)
        except NotCached:
            watch.settle()
            if short is None:
                raise
            raise _used_up(short, expected) from None
        except BaseException:
            watch.settle()
            raise
        response.observe(watch)
        return response

    def _in_time(self, spending: Spending, pipeline: Pipeline, request: Request) -> Request:
        if spending.deadline is None:
            return request
        left = spending.deadline - pipeline.parts.shared.clock.monotonic()
        if left <= 0:
            raise DeadlineExceeded("the time allowed for all of these calls together is over")
        if request.timeout_s is not None and request.timeout_s <= left:
            return request
        return _replace(request, timeout_s=left)

    async def _expected(self, pipeline: Pipeline, request: Request) -> tuple[Request, int]:
        """Return the request, without targets that have no price, and what it is expected to cost, in picodollars."""
        loading = pipeline.parts.shared.loading
        if not loading.done():
            await asyncio.wait((loading,))
        if request.route is None:
            request = pipeline.prepare(request)
        route, payload = request.route, request.payload
        if route is None:
            raise AssertionError("a prepared request has a route")
        tariffs, tier = self._tariffs_of(pipeline), unusual_tier(payload.get("service_tier"))
        prompt, answer, cost = estimate_request_tokens(payload), _answer_tokens(request), 0
        legs = []
        for leg in route.legs:  # each model of a cascade may have to be paid
            charges = tariffs.of(leg, tier)
            priced = tuple(target for target in leg.targets if target not in charges.unpriced)
            if not priced:
                raise _unpriced(leg)
            legs.append(leg if len(priced) == len(leg.targets) else _replace(leg, targets=priced))
            rate = charges.rate(prompt)
            cost += rate.fixed + prompt * rate.input + answer * rate.output
        if legs != list(route.legs):
            request = _replace(request, route=route.over(legs))
        return request, cost

    def _tariffs_of(self, pipeline: Pipeline) -> Tariffs:
        if self._tariffs is None or self._tariffs[0] is not pipeline:
            shared = pipeline.parts.shared
            price = make_pricer(pipeline.settings, shared.prices, shared.clock).price
            self._tariffs = pipeline, Tariffs(price, shared.clock.monotonic)
        return self._tariffs[1]


class _Watch:
    """Settles when the answer has ended and so have all attempts."""

    __slots__ = ("_held", "_request", "_spending")

    def __init__(self, spending: Spending, request: Request, held: int) -> None:
        self._spending = spending
        self._request = request
        self._held = held

    def on_events(self, batch: Batch, /) -> None:
        """Only the end tells the cost."""

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        self.settle()

    def settle(self) -> None:
        attempts = self._request.call.attempts
        running = next((each for each in attempts if each.running), None)
        if running is not None:
            running.when_ended(self.settle)
        else:
            self._spending.settle(self._held, _cost(attempts), unpriced=_unknown(attempts))


def _answer_tokens(request: Request) -> int:
    """How many tokens of answer are expected."""
    if request.operation == "embeddings":
        return 0
    payload = request.payload
    caps = [payload[name] for name in _CAPS if type(payload.get(name)) is int]
    choices = payload.get("n")
    return min(caps, default=ASSUMED_OUTPUT) * (choices if type(choices) is int else 1)


def _cost(attempts: list[Attempt]) -> int:
    return sum(to_picodollars(each.cost_usd) for each in attempts if each.cost_usd is not None)


def _unknown(attempts: list[Attempt]) -> int:
    return int(any(each.cost_source == "unknown" for each in attempts))


def _used_up(spending: Spending, expected: int) -> BudgetExceeded:
    limit, spent, held = spending.limit_pusd or 0, spending.spent_pusd, spending.held_pusd
    under_way = f", calls under way are expected to cost {_usd(held)}" if held else ""
    return BudgetExceeded(
        f"the budget of {_usd(limit)} for all of these calls together does not allow this one: {_usd(spent)} is spent"
        f"{under_way}, and it is expected to cost {_usd(expected)}"
    )


def _usd(amount: int) -> str:
    usd = to_usd(amount).normalize()
    return f"${max(usd, usd.quantize(_CENT), key=lambda each: -int(each.as_tuple().exponent)):f}"


def _unpriced(route: Route) -> InvalidRequest:
    target = route.targets[0]
    return InvalidRequest(
        f"The price of '{target.provider}/{target.model}' is unknown, and there is a budget in dollars: give it one "
        "under `prices` in the configuration, or leave out the budget.",
        code="unpriced_model",
        param="model",
        status_code=403,
    )
