"""What a tenant may use a minute, hits and all: whoever has used it up is refused, nobody waits here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

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
from penstock.limiting.tenants import TenantAccount, TenantLimits, Tenants, tightest
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


def limit_of(settings: Settings, tenants: Tenants, estimate: Callable[[Request], int], clock: Clock) -> Limit | None:
    """Return the layer, if anybody has limits: by the settings, or a key or team of its own."""
    if not settings.limits.for_tenants and not tenants.owned:
        return None
    return Limit(tenants, estimate, clock, cached=settings.cache.exact.enabled)


def _limits(settings: TenantLimitSettings) -> TenantLimits:
    return TenantLimits(settings.requests_per_minute, settings.tokens_per_minute)


class Limit:
    """Charges a request, and its input and predicted output; settles when the answer has ended.

    It is charged to all accounts it falls under: its tenant's, its key's, its team's, its organisation's. Every request
    counts, but only tokens that go to a provider do: a tenant without tokens still gets cached answers.
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
        accounts = self._tenants.accounts(request.tenant, request.key_id)
        if not accounts:
            return await inner(request)
        now = self._clock.monotonic()
        counted = [account.requests for account in accounts if account.requests is not None]
        wait, bucket = _longest(counted, 1.0, now)
        if wait and bucket is not None:
            raise self._refusal("requests", accounts, bucket, wait, now)
        for each in counted:
            each.charge(1.0, now)
        buckets = [account.tokens for account in accounts if account.tokens is not None]
        if not buckets:
            request.call.quota = tightest(accounts, now)
            return await inner(request)
        return await self._charging(request, inner, accounts, buckets)

    async def _charging(
        self, request: Request, inner: Handler, accounts: Sequence[TenantAccount], buckets: Sequence[Bucket]
    ) -> Response:
        now = self._clock.monotonic()
        forecast = self._forecast(request)
        tokens = forecast.predict(request.payload, self._estimate(request), generates=request.operation != "embeddings")
        wait, bucket = _longest(buckets, sum(tokens), now)
        if wait and bucket is not None:
            request.call.quota = tightest(accounts, now)
            refusal = self._refusal("tokens", accounts, bucket, wait, now)
            if not self._cached or request.cache.no_cache or request.cache.no_store:
                raise refusal
            try:
                return await inner(_replace(request, cache=_replace(request.cache, only_if_cached=True)))
            except NotCached:
                raise refusal from None
        for each in buckets:
            each.charge(sum(tokens), now)
        request.call.quota = tightest(accounts, now)
        watch = _Watch(self, request, buckets, tokens)
        try:
            response = await inner(request)
        except BaseException:
            watch.settle()
            raise
        response.observe(watch)
        return response

    def settle(self, request: Request, buckets: Sequence[Bucket], tokens: Tokens) -> None:
        """Charge what all attempts used instead of what was predicted."""
        used = 0
        for attempt in request.call.attempts:
            if attempt.usage is not None:
                used += attempt.usage.total_tokens
                if attempt.outcome == "ok":
                    self._forecast(request).learn(tokens, attempt.usage.input_tokens, attempt.usage.output_tokens)
        now = self._clock.monotonic()
        for bucket in buckets:
            bucket.charge(used - sum(tokens), now)

    def _forecast(self, request: Request) -> Forecast:
        name = request.model if request.route is None else request.route.model
        forecast = self._forecasts.get(name)
        if forecast is None:
            forecast = self._forecasts[name] = Forecast()
            if len(self._forecasts) > _MODELS:
                self._forecasts.popitem(last=False)
        return forecast

    def _refusal(
        self, what: str, accounts: Sequence[TenantAccount], bucket: Bucket, wait: float, now: float
    ) -> PenstockError:
        self._tenants.refused += 1
        return RateLimited(
            f"Limit of {bucket.capacity:g} {what} a minute reached; try again in {wait:.1f} s.",
            retry_after=max(wait, 1.0),
            quota=tightest(accounts, now),
        )


def _longest(buckets: Sequence[Bucket], amount: float, now: float) -> tuple[float, Bucket | None]:
    """Return how long must be waited for `amount` from all buckets, and for which of them longest."""
    longest: tuple[float, Bucket | None] = (0.0, None)
    for bucket in buckets:
        wait = bucket.wait_s(amount, now)
        if wait > longest[0]:
            longest = (wait, bucket)
    return longest


class _Watch:
    __slots__ = ("_buckets", "_limit", "_request", "_tokens")

    def __init__(self, limit: Limit, request: Request, buckets: Sequence[Bucket], tokens: Tokens) -> None:
        self._limit = limit
        self._request = request
        self._buckets = buckets
        self._tokens = tokens

    def on_events(self, batch: Batch, /) -> None:
        """Only the end tells what was used."""

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        self.settle()

    def settle(self) -> None:
        self._limit.settle(self._request, self._buckets, self._tokens)
