"""Nobody spends more than their budgets: what a request can cost is held before it is sent, and settled at its end.

Outside failover, so all attempts of a call are paid from one reservation, and inside the caches: hits cost nothing.
`penstock.budgeting.bill` decides how much is held; it is always a bound that the request's own cap, lowered if need be,
keeps it to.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from penstock.budgeting.bill import (
    BYTES_PER_ESTIMATE,
    LARGEST_CAP,
    NOTHING,
    SHARE,
    Bill,
    Most,
    Size,
    most_of,
    settle_on,
)
from penstock.budgeting.costs import Costs
from penstock.budgeting.purse import Group, Held, Purse
from penstock.budgeting.purses import Purses
from penstock.budgeting.refusal import refusal
from penstock.budgeting.tariff import Charges, Tariffs
from penstock.config.settings import Settings
from penstock.core.budget import Allowance, Ask, Budget
from penstock.core.errors import BudgetExceeded, InvalidRequest
from penstock.core.handler import Exit, Handler, Phased, Step
from penstock.core.money import to_picodollars
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Route
from penstock.core.usage import unusual_tier
from penstock.limiting.forecast import Forecast
from penstock.pricing.estimate import request_tokens

_MODELS = 1024
"""Models whose history is kept; with ``model: "*"`` their names come from clients."""
_QUANTILE = 2.33
"""Standard deviations above the mean that 99 % of a normal distribution are under."""
_CAPS = ("max_completion_tokens", "max_tokens")
REASONING_KINDS = frozenset({"openai", "azure"})
"""Kinds of providers some of whose models know ``max_completion_tokens`` only."""
_replace = msgspec.structs.replace


class BudgetLayer(Phased):
    """Reserves, lowers caps, settles.

    Attributes:
        purses: What this process has of all budgets.
    """

    def __init__(self, purses: Purses, tariffs: Tariffs, settings: Settings) -> None:
        self.purses = purses
        self._costs = Costs(tariffs, settings.retry.attempts)
        self._now = purses.clock.monotonic
        self._kinds = {provider.name: provider.kind for provider in settings.providers}
        self._forecasts: OrderedDict[str, Forecast] = OrderedDict()

    def enter(self, request: Request, inner: Handler, /) -> Step | None:
        """Reserve from what this process holds of the budgets, if that is far more than it takes.

        Raises:
            InvalidRequest: The model has no price, and a budget in dollars needs one (403, ``unpriced_model``).
        """
        now = self._now()
        group = self.purses.of(request.tenant, request.key_id, request.call.started_at, now)
        purses = group.purses
        if not purses:
            return request, None
        request, _, dollars, tokens = self._bills(request, group, now)
        held = _at_hand(purses, dollars, tokens, 0)
        if held is None:
            return None
        request.call.allowance = _allowance(purses, None)
        return request, _Settling(self, request, held, now)

    async def handle(self, request: Request, inner: Handler, /) -> Response:
        """Answer within the budgets.

        Raises:
            BudgetExceeded: One of them does not allow even a short answer.
            InvalidRequest: As `enter`.
            StoreError: What is left of them cannot be found out.
        """
        now = self._now()
        group = self.purses.of(request.tenant, request.key_id, request.call.started_at, now)
        purses = group.purses
        request, size, dollars, tokens = self._bills(request, group, now)
        likely = self._likely(request, size)
        found = [dollars if purse.budget.unit == "usd" else tokens for purse in purses]
        bills = [Bill(base, each, wanted, each * likely) for base, each, wanted in found]
        async with group.lock:
            cap = bills[0].wanted
            if _at_hand(purses, dollars, tokens, likely) is None:
                cap = await self._claimed(purses, bills, capped=size[1] is not None)
        request, leave = self._held(request, purses, bills, cap)
        try:
            response = await inner(request)
        except BaseException:
            leave.settle()
            raise
        response.observe(leave)
        return response

    async def _claimed(self, purses: Sequence[Purse], bills: Sequence[Bill], *, capped: bool) -> int:
        """Ask the store for what is missing, and reserve as much as it allows; return the cap that this pays for."""
        now = self._now()
        if any(purse.dry(each.least, now) for purse, each in zip(purses, bills, strict=True)):
            raise self._refused(purses, bills)
        asks = [
            Ask(purse.budget, purse.start, each.least, each.base + each.likely, each.most, purse.free)
            for purse, each in zip(purses, bills, strict=True)
        ]
        mine = await self.purses.claim(purses, asks)
        rooms = [purse.left + amount for purse, amount in zip(purses, mine, strict=True)]
        cap = settle_on(bills, mine, rooms)
        if cap is None:
            self.purses.put_back(purses, mine)
            raise self._refused(purses, bills)
        if not capped and cap < bills[0].wanted:
            cap = min(cap, LARGEST_CAP)
        for purse in purses:
            purse.running += 1
        rest = [amount - each.base - each.each * cap for amount, each in zip(mine, bills, strict=True)]
        self.purses.put_back(purses, rest)
        return cap

    def _refused(self, purses: Sequence[Purse], bills: Sequence[Bill]) -> BudgetExceeded:
        self.purses.refused += 1
        return refusal(list(zip(purses, bills, strict=True)), self.purses.steady.now())

    def _bills(self, request: Request, group: Group, now: float) -> tuple[Request, Size, Most, Most]:
        """Return the request without what has no price, its size, and what it can cost in dollars and in tokens.

        What no budget of `group` is in costs nothing.
        """
        route, size = _route(request), _size(request)
        generates = size[2] > 0
        dollars = tokens = NOTHING
        if group.dollars:
            tier = unusual_tier(request.payload["service_tier"]) if "service_tier" in request.payload else ""
            due = self._costs.dollars(route, tier, now, generates=generates)
            if due.unpriced and group.strict is not None:
                request = _priced(request, route, due.charges, group.strict)
            usual = due.cost(size[0] * BYTES_PER_ESTIMATE) if due.longer else due.usual
            dollars = most_of(size, usual)
        if group.tokens:
            tokens = most_of(size, self._costs.tokens(route, generates=generates))
        return request, size, dollars, tokens

    def _held(
        self, request: Request, purses: Sequence[Purse], bills: Sequence[Bill], cap: int
    ) -> tuple[Request, _Settling]:
        """Go on with what was reserved for answers of `cap` tokens."""
        lowered = cap < bills[0].wanted
        if lowered:
            request = self._capped(request, cap)
        held = [(purse, each.base + each.each * cap) for purse, each in zip(purses, bills, strict=True)]
        request.call.allowance = _allowance(purses, cap if lowered else None)
        return request, _Settling(self, request, held, self._now())

    def _likely(self, request: Request, size: Size) -> int:
        """Return how many tokens of answer a choice seldom exceeds."""
        estimate, _, choices, _ = size
        if not choices:
            return 0
        _, made, spread = self.forecast(request).predict({}, estimate)
        return int(made + _QUANTILE * spread) + 1

    def _capped(self, request: Request, cap: int) -> Request:
        """Return `request` with a lower cap, and without second requests beside it."""
        payload, route = dict(request.payload), _route(request)
        names = [name for name in _CAPS if type(payload.get(name)) is int]
        if not names:
            kinds = {self._kinds.get(target.provider, "") for target in route.targets}
            only_new = request.operation == "chat" and kinds & REASONING_KINDS
            names = ["max_completion_tokens" if only_new else "max_tokens"]
        payload.update(dict.fromkeys(names, cap))
        return _replace(request, payload=payload, route=route.over([_replace(leg, hedge=None) for leg in route.legs]))

    def forecast(self, request: Request) -> Forecast:
        """Return what is known of the answers of the request's model."""
        name = request.model if request.route is None else request.route.model
        forecast = self._forecasts.get(name)
        if forecast is None:
            forecast = self._forecasts[name] = Forecast()
            if len(self._forecasts) > _MODELS:
                self._forecasts.popitem(last=False)
        return forecast


class _Settling(Exit, msgspec.Struct, eq=False):
    """Settles when the answer has ended and all attempts have: nobody may have waited for one to be closed."""

    layer: BudgetLayer
    request: Request
    held: Sequence[Held]
    since: float

    def failed(self, error: BaseException, /) -> None:
        self.settle()

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        self.settle()

    def settle(self) -> None:
        """Let what the attempts cost take the place of what was held."""
        # Others' attempts may have come into the list since: whoever takes over a shared call brings its own.
        attempts, since = self.request.call.attempts, self.since
        for attempt in attempts:
            if attempt.running and attempt.started >= since:
                attempt.when_ended(self.settle)
                return
        usd = tokens = ident = 0
        for attempt in attempts:
            if not ident:
                ident = attempt.ledger_id
            if attempt.started < since:
                continue
            cost, usage = attempt.cost_usd, attempt.usage
            if cost is not None:
                usd += to_picodollars(cost)
            if usage is not None:
                given, made = usage.input_tokens, usage.output_tokens
                tokens += given + made
                if attempt.outcome == "ok":
                    self.layer.forecast(self.request).learn(0.0, given, made)
        self.layer.purses.settle(self.held, usd, tokens, ident)


def _size(request: Request) -> Size:
    payload, estimate = request.payload, request_tokens(request)
    if request.operation == "embeddings":
        return estimate, 0, 0, False
    number, wanted = 1, None
    if "n" in payload:
        choices = payload["n"]
        number = choices if type(choices) is int and choices > 0 else 1
    for name in _CAPS:
        if name in payload and type(cap := payload[name]) is int:
            wanted = cap if cap > 0 else 0
            break
    return estimate, wanted, number, "tools" in payload and bool(payload["tools"])


def _at_hand(purses: Sequence[Purse], dollars: Most, tokens: Most, likely: int) -> list[Held] | None:
    """Hold the most a request can cost, if the purses pay for that and it is a small share of what is left.

    An answer of up to `likely` tokens may take a larger one.

    Returns:
        What is held for the cap the client has; None, with nothing held, if they do not.
    """
    held: list[Held] = []
    for purse in purses:
        base, each, wanted = dollars if purse.budget.unit == "usd" else tokens
        answer, free = each * wanted, purse.free
        most = base + answer
        if most > free or (answer > (free + purse.left) // SHARE and answer > each * likely):
            return None
        held.append((purse, most))
    for purse, most in held:
        purse.free -= most
        purse.running += 1
    return held


def _priced(request: Request, route: Route, charges: Sequence[Charges], budget: Budget) -> Request:
    """Return `request` without the targets whose price is unknown, since `budget` needs one."""
    legs = [
        _replace(leg, targets=tuple(target for target in leg.targets if target not in each.unpriced))
        for leg, each in zip(route.legs, charges, strict=True)
    ]
    bare = next((each for leg, each in zip(legs, charges, strict=True) if not leg.targets), None)
    if bare is None:
        return _replace(request, route=route.over(legs))
    target = bare.unpriced[0]
    raise InvalidRequest(
        f"The price of '{target.provider}/{target.model}' is unknown, and {budget.name} is in dollars: give it one "
        "under `prices` in the configuration, or set the budget's allow_unpriced.",
        code="unpriced_model",
        param="model",
        status_code=403,
    )


def _allowance(purses: Sequence[Purse], capped: int | None) -> Allowance:
    usd = tokens = None
    for purse in purses:
        left = purse.free + purse.left
        if purse.budget.unit == "usd":
            usd = left if usd is None or left < usd else usd
        else:
            tokens = left if tokens is None or left < tokens else tokens
    return Allowance(capped, usd, tokens)


def _route(request: Request) -> Route:
    if request.route is None:
        raise AssertionError("the pipeline resolves the route before budgets are looked at")
    return request.route
