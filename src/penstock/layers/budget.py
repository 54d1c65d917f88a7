"""Nobody spends more than their budgets: what a request can cost is held before it is sent, and settled at its end.

Outside failover, so all attempts of a call are paid from one reservation, and inside the caches: hits cost nothing.
`penstock.budgeting.bill` decides how much is held; it is always a bound that the request's own cap, lowered if need be,
keeps it to.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from penstock.budgeting.bill import (
    BYTES_PER_ESTIMATE,
    LARGEST_CAP,
    NOTHING,
    PER_TOKEN,
    Bill,
    Size,
    bill,
    settle_on,
    total,
)
from penstock.budgeting.purses import Group, Purse, Purses
from penstock.budgeting.tariff import Charges, Tariffs
from penstock.config.settings import Settings
from penstock.core.budget import Allowance, Ask, Budget, Move
from penstock.core.call import Attempt
from penstock.core.errors import BudgetExceeded, InvalidRequest
from penstock.core.handler import Exit, Handler, Phased, Step
from penstock.core.money import to_picodollars
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Route
from penstock.core.usage import unusual_tier
from penstock.limiting.forecast import Forecast, Tokens
from penstock.pricing.estimate import request_tokens

_MODELS = 1024
"""Models whose history is kept; with ``model: "*"`` their names come from clients."""
_QUANTILE = 2.33
"""Standard deviations above the mean that 99 % of a normal distribution are under."""
_RETRY_S = 2.0
"""When to come back if others that are under way hold what is left."""
_SAME_S = 900.0
"""A call that began longer ago than this did not: the wall clock has jumped."""
_CAPS = ("max_completion_tokens", "max_tokens")
REASONING_KINDS = frozenset({"openai", "azure"})
"""Kinds of providers some of whose models know ``max_completion_tokens`` only."""
_UNPREDICTED = Tokens(0.0, 0.0)
_replace = msgspec.structs.replace
_tuple = tuple.__new__
"""Makes a named tuple of a tuple; its own constructor takes several times as long."""


class BudgetLayer(Phased):
    """Reserves, lowers caps, settles."""

    def __init__(self, purses: Purses, tariffs: Tariffs, settings: Settings) -> None:
        self._purses = purses
        self._tariffs = tariffs
        self.now = purses.clock.monotonic
        self._tries = settings.retry.attempts
        self._kinds = {provider.name: provider.kind for provider in settings.providers}
        self._forecasts: OrderedDict[str, Forecast] = OrderedDict()

    def enter(self, request: Request, inner: Handler, /) -> Step | None:
        """Reserve from what this process holds of the budgets, if that is far more than it takes.

        Raises:
            InvalidRequest: The model has no price, and a budget in dollars needs one (403, ``unpriced_model``).
        """
        group = self._group(request)
        if not group.purses:
            return request, None
        purses = group.purses
        request, _, bills = self._bills(request, group)
        held = _at_hand(purses, bills)
        if held is None:
            return None
        request.call.allowance = _allowance(purses, None)
        return request, _Settling(self, request, purses, held)

    async def handle(self, request: Request, inner: Handler, /) -> Response:
        """Answer within the budgets.

        Raises:
            BudgetExceeded: One of them does not allow even a short answer.
            InvalidRequest: As `enter`.
            StoreError: What is left of them cannot be found out.
        """
        group = self._group(request)
        purses = group.purses
        request, sizes, bills = self._bills(request, group)
        likely = self._likely(request, sizes[0])
        bills = [each._replace(likely=each.each * likely) for each in bills]
        async with group.lock:
            cap = bills[0].wanted
            if _at_hand(purses, bills) is None:
                cap = await self._claimed(purses, bills, capped=sizes[0].cap is not None)
        request, leave = self._held(request, purses, bills, cap)
        try:
            response = await inner(request)
        except BaseException:
            leave.settle()
            raise
        response.observe(leave)
        return response

    def settle(
        self, request: Request, purses: Sequence[Purse], held: Sequence[int], attempts: Sequence[Attempt]
    ) -> None:
        """Let what `attempts` cost take the place of what was held."""
        usd = count = ident = 0
        for attempt in attempts:
            cost, usage = attempt.cost_usd, attempt.usage
            if cost is not None:
                usd += to_picodollars(cost)
            if usage is not None:
                given, made = usage.input_tokens, usage.output_tokens
                count += given + made
                if attempt.outcome == "ok":
                    self._forecast(request).learn(_UNPREDICTED, given, made)
        for attempt in request.call.attempts:
            if ident := attempt.ledger_id:
                break
        moves = []
        for purse, amount in zip(purses, held, strict=True):
            budget = purse.budget
            used = usd if budget.unit == "usd" else count
            self._purses.settle(purse, amount, used)
            if used:
                moves.append(_tuple(Move, (budget.id, purse.start, used)))
        if moves:
            self._purses.store.settle(ident, moves)

    async def _claimed(self, purses: Sequence[Purse], bills: Sequence[Bill], *, capped: bool) -> int:
        """Ask the store for what is missing, and reserve as much as it allows; return the cap that this pays for."""
        now = self.now()
        if any(purse.dry(each.least, now) for purse, each in zip(purses, bills, strict=True)):
            raise self._refusal(purses, bills)
        asks = [
            Ask(purse.budget, purse.start, each.least, each.base + each.likely, each.most, purse.free)
            for purse, each in zip(purses, bills, strict=True)
        ]
        mine = await self._purses.claim(purses, asks)
        rooms = [purse.left + amount for purse, amount in zip(purses, mine, strict=True)]
        cap = settle_on(bills, mine, rooms)
        if cap is None:
            self._purses.put_back(purses, mine)
            raise self._refusal(purses, bills)
        if not capped and cap < bills[0].wanted:
            cap = min(cap, LARGEST_CAP)
        for purse in purses:
            purse.running += 1
        rest = [amount - each.base - each.each * cap for amount, each in zip(mine, bills, strict=True)]
        self._purses.put_back(purses, rest)
        return cap

    def _refusal(self, purses: Sequence[Purse], bills: Sequence[Bill]) -> BudgetExceeded:
        self._purses.refused += 1
        pairs = list(zip(purses, bills, strict=True))
        short = [(purse, each.least) for purse, each in pairs if purse.free + purse.left < each.least]
        purse, least = max(short or [(pairs[0][0], pairs[0][1].least)], key=lambda each: each[0].end)
        budget, ends = purse.budget, purse.end
        resets = "it does not reset" if ends == float("inf") else f"it resets at {_iso(ends)}"
        said = (
            f"{budget.name[0].upper()}{budget.name[1:]} does not allow this request: {budget.shown(purse.spent)} of "
            f"{budget.shown(budget.amount)} is spent, and it may cost {budget.shown(least)} or more; {resets}."
        )
        retry_after = None if ends == float("inf") else max(ends - self._purses.steady.now(), 1.0)
        if purse.spent + least <= budget.amount:
            said += " Requests under way hold the rest; what they do not need will be free when they end."
            retry_after = _RETRY_S
        return BudgetExceeded(said, retry_after=retry_after)

    def _group(self, request: Request) -> Group:
        """Return the budgets that pay for `request`."""
        began, now = request.call.started_at, self._purses.steady.now()
        return self._purses.of(request.tenant, request.key_id, began if abs(began - now) <= _SAME_S else now)

    def _bills(self, request: Request, group: Group) -> tuple[Request, list[Size], list[Bill]]:
        """Return what a request costs in each budget of `group`, and the request without what has no price."""
        route, strict = _route(request), group.strict
        tier = unusual_tier(request.payload.get("service_tier")) if group.dollars else ""
        sizes: list[Size] = []
        charges: list[Charges] = []
        dollars: list[Bill] = []
        counted: list[Bill] = []
        for leg in route.legs:
            size = self._size(request, leg)
            sizes.append(size)
            if group.dollars:
                each = self._tariffs.of(leg, tier)
                charges.append(each)
                dollars.append(bill(size, each.rate(size.estimate * BYTES_PER_ESTIMATE)))
            if group.tokens:
                counted.append(bill(size, PER_TOKEN))
        if strict is not None and any(each.unpriced for each in charges):
            request = _priced(request, route, charges, strict)
        usd, tokens = total(dollars) if dollars else NOTHING, total(counted) if counted else NOTHING
        return request, sizes, [usd if purse.budget.unit == "usd" else tokens for purse in group.purses]

    def _held(
        self, request: Request, purses: Sequence[Purse], bills: Sequence[Bill], cap: int
    ) -> tuple[Request, _Settling]:
        """Go on with what was reserved for answers of `cap` tokens."""
        lowered = cap < bills[0].wanted
        if lowered:
            request = self._capped(request, cap)
        held = [each.base + each.each * cap for each in bills]
        request.call.allowance = _allowance(purses, cap if lowered else None)
        return request, _Settling(self, request, purses, held)

    def _size(self, request: Request, route: Route) -> Size:
        payload = request.payload
        estimate = request_tokens(request)
        tries = self._tries * len(route.targets)
        if request.operation == "embeddings":
            return Size(estimate, 0, 0, tools=False, tries=tries)
        choices, cap = payload.get("n"), None
        for name in _CAPS:
            if name in payload and cap is None and type(value := payload[name]) is int:
                cap = max(value, 0)
        number = choices if type(choices) is int and choices > 0 else 1
        if route.hedge is not None:  # two answers may be paid for
            number, tries = number * 2, tries + 1
        return _tuple(Size, (estimate, cap, number, bool(payload.get("tools")), tries))

    def _likely(self, request: Request, size: Size) -> int:
        """Return how many tokens of answer a choice seldom exceeds."""
        if not size.choices:
            return 0
        tokens = self._forecast(request).predict({}, size.estimate)
        return int(tokens.output + _QUANTILE * tokens.spread) + 1

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

    def _forecast(self, request: Request) -> Forecast:
        name = request.model if request.route is None else request.route.model
        forecast = self._forecasts.get(name)
        if forecast is None:
            forecast = self._forecasts[name] = Forecast()
            if len(self._forecasts) > _MODELS:
                self._forecasts.popitem(last=False)
        return forecast


class _Settling(Exit):
    """Settles when the answer has ended and all attempts have: nobody may have waited for one to be closed."""

    __slots__ = ("_held", "_layer", "_purses", "_request", "_since")

    def __init__(self, layer: BudgetLayer, request: Request, purses: Sequence[Purse], held: Sequence[int]) -> None:
        self._layer = layer
        self._request = request
        self._purses = purses
        self._held = held
        self._since = layer.now()

    def failed(self, error: BaseException, /) -> None:
        self.settle()

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        self.settle()

    def settle(self) -> None:
        # Others' attempts may have come into the list since: whoever takes over a shared call brings its own.
        attempts = [attempt for attempt in self._request.call.attempts if attempt.started >= self._since]
        for attempt in attempts:
            if attempt.running:
                attempt.when_ended(self.settle)
                return
        self._layer.settle(self._request, self._purses, self._held, attempts)


def _at_hand(purses: Sequence[Purse], bills: Sequence[Bill]) -> list[int] | None:
    """Reserve from the purses if they are far from their limits; return how much, for the cap the client has."""
    held: list[int] = []
    for purse, each in zip(purses, bills, strict=True):
        most = each.at_ease(purse.free, purse.left)
        if most is None:
            return None
        held.append(most)
    for purse, most in zip(purses, held, strict=True):
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


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%MZ")
