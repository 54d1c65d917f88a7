"""What a tenant may use a minute, hits and all: whoever has used it up is refused, nobody waits here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import msgspec

from penstock.config.settings import LimitSettings, Settings, TenantLimitSettings
from penstock.core.clock import Clock
from penstock.core.errors import NotCached, PenstockError, RateLimited
from penstock.core.events import Batch
from penstock.core.handler import Handler
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.limiting.bucket import Bucket
from penstock.limiting.forecast import Forecast, Tokens
from penstock.limiting.tenants import TenantAccount, TenantLimits, Tenants
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
        gauge("penstock_tenants_refused", "Requests over their tenant's limits since the start.", (),
              lambda: [((), self.refused)])  # fmt: skip


def limit_of(settings: Settings, tenants: Tenants, estimate: Callable[[Request], int], clock: Clock) -> Limit | None:
    """Return the layer, if the settings limit any tenant."""
    if not settings.limits.for_tenants:
        return None
    return Limit(tenants, estimate, clock, cached=settings.cache.exact.enabled)


def _limits(settings: TenantLimitSettings) -> TenantLimits:
    return TenantLimits(settings.requests_per_minute, settings.tokens_per_minute)


class Limit:
    """Charges a request, and its input and predicted output, to the tenant; settles when the answer has ended.

    Every request counts, but only tokens that go to a provider do: a tenant without tokens still gets cached answers.
    """

    def __init__(self, tenants: Tenants, estimate: Callable[[Request], int], clock: Clock, *, cached: bool) -> None:
        """`estimate` counts a request's input tokens; `cached` tells whether there is a cache inside."""
        self._tenants = tenants
        self._estimate = estimate
        self._clock = clock
        self._cached = cached
        self._forecasts: OrderedDict[str, Forecast] = OrderedDict()

    async def __call__(self, request: Request, inner: Handler, /) -> Response:
        """Answer, or refuse at once with `RateLimited`, whose `retry_after` says when to come back."""
        account = self._tenants.account(request.tenant)
        if account is None:
            return await inner(request)
        now = self._clock.monotonic()
        if account.requests is not None:
            wait = account.requests.wait_s(1.0, now)
            if wait:
                raise self._refusal("requests", account, account.requests, wait, now)
            account.requests.charge(1.0, now)
        if account.tokens is None:
            request.call.quota = account.quota(now)
            return await inner(request)
        return await self._charging(request, inner, account, account.tokens)

    async def _charging(self, request: Request, inner: Handler, account: TenantAccount, bucket: Bucket) -> Response:
        now = self._clock.monotonic()
        forecast = self._forecast(request)
        tokens = forecast.predict(request.payload, self._estimate(request), generates=request.operation != "embeddings")
        wait = bucket.wait_s(sum(tokens), now)
        if wait:
            request.call.quota = account.quota(now)
            refusal = self._refusal("tokens", account, bucket, wait, now)
            if not self._cached or request.cache.no_cache or request.cache.no_store:
                raise refusal
            try:
                return await inner(_replace(request, cache=_replace(request.cache, only_if_cached=True)))
            except NotCached:
                raise refusal from None
        bucket.charge(sum(tokens), now)
        request.call.quota = account.quota(now)
        watch = _Watch(self, request, bucket, tokens)
        try:
            response = await inner(request)
        except BaseException:
            watch.settle()
            raise
        response.observe(watch)
        return response

    def settle(self, request: Request, bucket: Bucket, tokens: Tokens) -> None:
        """Charge what all attempts used instead of what was predicted."""
        used = 0
        for attempt in request.call.attempts:
            if attempt.usage is not None:
                used += attempt.usage.total_tokens
                if attempt.outcome == "ok":
                    self._forecast(request).learn(tokens, attempt.usage.input_tokens, attempt.usage.output_tokens)
        bucket.charge(used - sum(tokens), self._clock.monotonic())

    def _forecast(self, request: Request) -> Forecast:
        name = request.model if request.route is None else request.route.model
        forecast = self._forecasts.get(name)
        if forecast is None:
            forecast = self._forecasts[name] = Forecast()
            if len(self._forecasts) > _MODELS:
                self._forecasts.popitem(last=False)
        return forecast

    def _refusal(self, what: str, account: TenantAccount, bucket: Bucket, wait: float, now: float) -> PenstockError:
        self._tenants.refused += 1
        return RateLimited(
            f"Limit of {bucket.capacity:g} {what} a minute reached; try again in {wait:.1f} s.",
            retry_after=max(wait, 1.0),
            quota=account.quota(now),
        )


class _Watch:
    __slots__ = ("_bucket", "_limit", "_request", "_tokens")

    def __init__(self, limit: Limit, request: Request, bucket: Bucket, tokens: Tokens) -> None:
        self._limit = limit
        self._request = request
        self._bucket = bucket
        self._tokens = tokens

    def on_events(self, batch: Batch, /) -> None:
        """Only the end tells what was used."""

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        self.settle()

    def settle(self) -> None:
        self._limit.settle(self._request, self._bucket, self._tokens)
