"""What a call cost: the price list of `genai-prices`, resolved once a model, then a few multiplications a call."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from penstock.core.call import CostSource
from penstock.core.clock import Clock, SystemClock
from penstock.core.usage import Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

SELLERS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "azure": "azure",
    "gemini": "google",
    "mistral": "mistral",
    "groq": "groq",
    "deepseek": "deepseek",
    "openrouter": "openrouter",
    "together": "together",
    "fireworks": "fireworks",
    "cerebras": "cerebras",
    "xai": "x-ai",
    "perplexity": "perplexity",
}
"""Provider kind → its id in the price list. Other kinds are servers of one's own, whose price nobody publishes."""

FREE = "simulated"
MAX_MODELS = 4096
"""Resolved models kept; the names may come from clients, so they must be bounded."""
RECHECK_S = 60.0
"""How long a price that depends on the date or the time of day is kept."""

_NOTHING = Decimal(0)
_UNKNOWN: tuple[None, CostSource] = (None, "unknown")
_FREE: tuple[Decimal, CostSource] = (_NOTHING, "none")


class Rates(msgspec.Struct, frozen=True):
    """USD per token, and per request.

    Attributes:
        above: The rates apply to requests with more input tokens than this, to all of their tokens.
        input: Per input token that is neither read from nor written to the provider's prompt cache.
        cache_read: Per input token read from the prompt cache.
        cache_write: Per input token written to the prompt cache.
        output: Per generated token that is not reasoning.
        reasoning: Per reasoning token.
        request: Per request.
    """

    above: int
    input: Decimal
    cache_read: Decimal
    cache_write: Decimal
    output: Decimal
    reasoning: Decimal
    request: Decimal


class _Known(msgspec.Struct, frozen=True):
    tiers: tuple[Rates, ...]
    """Highest `above` first; empty when the price is unknown."""
    until: float


class Pricer:
    """Prices calls. The list is the installed library's; nothing is fetched.

    Prices are the published ones, so discounts one has negotiated are not in them.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._wall = (clock or SystemClock()).wall
        self._known: dict[tuple[str, str], _Known] = {}
        self._sellers: dict[str, Provider] | None = None
        self._providers: list[Provider] = []

    def preload(self) -> None:
        """Load the price list, which takes a few tenths of a second; `cost` does so itself if this was not called."""
        if self._sellers is None:
            from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - 0.2 s that most commands never need

            self._providers = get_snapshot().providers
            by_id = {provider.id: provider for provider in self._providers}
            self._sellers = {kind: by_id[seller] for kind, seller in SELLERS.items() if seller in by_id}

    def cost(self, kind: str, model: str, usage: Usage | None) -> tuple[Decimal | None, CostSource]:
        """Return what a call cost in USD, and how that is known.

        Args:
            kind: The provider's kind in the configuration, e.g. ``openai``.
            model: The provider's own name for the model.
            usage: Tokens of the call; None makes the cost unknown.

        Returns:
            The cost and ``provider`` or ``estimate`` (as `usage.source`); None and ``unknown`` without a published
            price or usage; 0 and ``none`` for the simulated provider.
        """
        if kind == FREE:
            return _FREE
        if usage is None:
            return _UNKNOWN
        known = self._known.get((kind, model))
        if known is None or known.until < self._wall():
            known = self._resolve(kind, model)
        for rates in known.tiers:
            if usage.input_tokens > rates.above:
                return _amount(rates, usage), usage.source
        return _UNKNOWN

    def _resolve(self, kind: str, model: str) -> _Known:
        self.preload()
        seller = self._sellers.get(kind) if self._sellers else None
        info = seller.find_model(model, all_providers=self._providers) if seller is not None else None
        known = _Known((), float("inf")) if info is None else self._read(info)
        if len(self._known) >= MAX_MODELS:
            self._known.clear()
        self._known[kind, model] = known
        return known

    def _read(self, info: ModelInfo) -> _Known:
        now = self._wall()
        until = now + RECHECK_S if isinstance(info.prices, list) else float("inf")
        if not info.prices:
            return _Known((), until)
        return _Known(_tiers(info.get_prices(datetime.fromtimestamp(now, UTC))), until)


def _tiers(price: ModelPrice) -> tuple[Rates, ...]:
    """Read a price list entry, one `Rates` a threshold of input tokens."""
    if price.input_mtok is None and price.output_mtok is None and price.requests_kcount is None:
        return ()
    prices = (price.input_mtok, price.cache_read_mtok, price.cache_write_mtok, price.output_mtok,
              price.output_reasoning_mtok, price.requests_kcount)  # fmt: skip
    starts = {tier.start for one in prices if one is not None and not isinstance(one, Decimal) for tier in one.tiers}
    return tuple(_rates(prices, above) for above in sorted(starts | {-1}, reverse=True))


def _rates(prices: tuple[Decimal | TieredPrices | None, ...], above: int) -> Rates:
    fresh, read, write, output, reasoning, request = (_at(price, above) for price in prices)
    fresh_rate, output_rate = _per(fresh, 6), _per(output, 6)
    return Rates(
        above=above,
        input=fresh_rate,
        cache_read=fresh_rate if read is None else _per(read, 6),
        cache_write=fresh_rate if write is None else _per(write, 6),
        output=output_rate,
        reasoning=output_rate if reasoning is None else _per(reasoning, 6),
        request=_per(request, 3),
    )


def _at(price: Decimal | TieredPrices | None, above: int) -> Decimal | None:
    if price is None or isinstance(price, Decimal):
        return price
    passed = [tier.price for tier in price.tiers if tier.start <= above]
    return passed[-1] if passed else price.base


def _per(price: Decimal | None, digits: int) -> Decimal:
    return _NOTHING if price is None else price.scaleb(-digits)


def _amount(rates: Rates, usage: Usage) -> Decimal:
    read, write, reasoning = usage.cached_input_tokens, usage.cache_write_tokens, usage.reasoning_tokens
    total = rates.input * max(usage.input_tokens - read - write, 0) + rates.output * max(
        usage.output_tokens - reasoning, 0
    )
    if read:
        total += rates.cache_read * read
    if write:
        total += rates.cache_write * write
    if reasoning:
        total += rates.reasoning * reasoning
    if rates.request:
        total += rates.request
    return total
