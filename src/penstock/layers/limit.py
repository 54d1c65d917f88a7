"""What a tenant may use a minute, hits and all: whoever has used it up is refused, nobody waits here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec

from penstock.config.settings import LimitSettings, Settings, TenantLimitSettings
from penstock.core.clock import Clock
from penstock.core.errors import NotCached, PenstockError, RateLimited
from penstock.core.handler import Exit, Handler, Phased, Step
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.limiting.bucket import Bucket
from penstock.limiting.forecast import Forecast, Tokens
from penstock.limiting.tenants import NOBODY, Lacking, TenantLimits, Tenants
from penstock.pricing.estimate import request_tokens
from penstock.telemetry.metrics import Gauge

_MODELS = 1024
"""Models whose history is kept; with ``model: "*"`` their names come from clients."""
_replace = msgspec.structs.replace


class TenantAccounts(Tenants):
    """The tenants' accounts, by the settings. Outlives configurations."""

    def configure(self, settings: LimitSettings) -> None:
        """Put limits in force; what was used under the same limits before counts on."""
        named = {name: _limits(each) for name, each in settings.tenants.items()}
        self.put_in_force(_limits(settings.per_tenant), named)

    def show(self, gauge: Callable[[str, str, tuple[str, ...], Gauge], None]) -> None:
        """Put refusals on the metrics page."""
        gauge("penstock_tenants_refused_total", "Requests over their tenant's limits since the start.", (),
              lambda: [((), self.refused)])  # fmt: skip


def limit_of(settings: Settings, tenants: Tenants, clock: Clock) -> Limit | None:
    """Return the layer, if anybody has limits: by the settings, or a key or team of its own."""
    if not settings.limits.for_tenants and not tenants.owned:
        return None
    return Limit(tenants, request_tokens, clock, cached=settings.cache.exact.enabled)


def _limits(settings: TenantLimitSettings) -> TenantLimits:
    return TenantLimits(settings.requests_per_minute, settings.tokens_per_minute)


class Limit(Phased):
    """Charges a request, and its input and predicted output; settles when the answer has ended.

    It is charged to all accounts it falls under: its tenant's, its key's, its team's, its organisation's. Every request
    counts, but only tokens that go to a provider do: a tenant without tokens still gets cached answers,
    those by meaning too.
    """

    def __init__(self, tenants: Tenants, estimate: Callable[[Request], int], clock: Clock, *, cached: bool) -> None:
        """`estimate` counts a request's input tokens; `cached` tells whether there is a cache inside."""
        self._tenants = tenants
        self._estimate = estimate
        self._now = clock.monotonic
        self._cached = cached
        self._forecasts: OrderedDict[str, Forecast] = OrderedDict()

    def enter(self, request: Request, inner: Handler, /) -> Step | None:
        """Charge it, or refuse with `RateLimited`, whose `retry_after` says when to come back."""
        group = self._tenants.group(request.tenant, request.key_id)
        if group is NOBODY:
            return request, None
        tokens, leave = 0.0, None
        if group.tokens:
            forecast, predicted = self._predict(request)
            given, made, spread = predicted
            tokens = given + made + spread
            leave = _Settling(self._tenants, self._now, request, group.tokens, forecast, given, tokens)
        taken = self._tenants.take(group, tokens, self._now())
        if type(taken) is Lacking:
            if taken.bucket in group.requests:
                raise self._refusal("requests", taken)
            return None
        request.call.quota = taken
        return request, leave

    def enter_known(self, request: Request, inner: Handler, /) -> Step | None:
        """Charge a request whose answer is in memory: it takes no tokens, so nobody has to guess how many."""
        del inner
        group = self._tenants.group(request.tenant, request.key_id)
        if group is not NOBODY:
            taken = self._tenants.take(group, None, self._now())
            if type(taken) is Lacking:
                raise self._refusal("requests", taken)
            request.call.quota = taken
        return request, None

    async def handle(self, request: Request, inner: Handler, /) -> Response:
        """Answer a tenant that has used up its tokens from the cache, or refuse."""
        group = self._tenants.group(request.tenant, request.key_id)
        _, predicted = self._predict(request)
        lacking = self._tenants.missing(group, sum(predicted), self._now())
        if lacking is None:  # they have filled up since `enter` looked
            return await self(request, inner)
        self.enter_known(request, inner)
        refusal = self._refusal("tokens", lacking._replace(quota=request.call.quota or lacking.quota))
        if not self._cached or request.cache.no_cache or request.cache.no_store:
            raise refusal
        try:
            return await inner(_replace(request, cache=_replace(request.cache, only_if_cached=True)))
        except NotCached:
            raise refusal from None

    def _predict(self, request: Request) -> tuple[Forecast, Tokens]:
        name = request.model if request.route is None else request.route.model
        forecast = self._forecasts.get(name)
        if forecast is None:
            forecast = self._forecasts[name] = Forecast()
            if len(self._forecasts) > _MODELS:
                self._forecasts.popitem(last=False)
        generates = request.operation != "embeddings"
        return forecast, forecast.predict(request.payload, self._estimate(request), generates=generates)

    def _refusal(self, what: str, lacking: Lacking) -> PenstockError:
        self._tenants.refused += 1
        return RateLimited(
            f"Limit of {lacking.bucket.capacity:g} {what} a minute reached; try again in {lacking.wait_s:.1f} s.",
            retry_after=max(lacking.wait_s, 1.0),
            quota=lacking.quota,
        )


class _Settling(Exit, msgspec.Struct, eq=False):
    """Charges what all attempts used instead of what was predicted."""

    tenants: Tenants
    now: Callable[[], float]
    request: Request
    buckets: Sequence[Bucket]
    forecast: Forecast
    predicted_input: float
    charged: float

    def failed(self, error: BaseException, /) -> None:
        self._settle()

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        self._settle()

    def _settle(self) -> None:
        used = 0
        for attempt in self.request.call.attempts:
            usage = attempt.usage
            if usage is not None:
                given, made = usage.input_tokens, usage.output_tokens
                used += given + made
                if attempt.outcome == "ok":
                    self.forecast.learn(self.predicted_input, given, made)
        self.tenants.settle(self.buckets, used - self.charged, self.now)
