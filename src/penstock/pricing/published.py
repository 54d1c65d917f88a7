"""The price list of `genai-prices`, which comes with the installed library; nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from penstock.pricing.rates import Rates, rates

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

_PER_MILLION = {
    "input": "input_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "input_audio": "input_audio_mtok",
    "cached_audio": "cache_audio_read_mtok",
    "input_image": "input_image_mtok",
    "cached_image": "cache_image_read_mtok",
    "input_video": "input_video_mtok",
    "cached_video": "cache_video_read_mtok",
    "output": "output_mtok",
    "reasoning": "output_reasoning_mtok",
    "output_audio": "output_audio_mtok",
    "output_image": "output_image_mtok",
}
"""Kind of token → the list's name for its price in USD a million."""


class Published(NamedTuple):
    """What the list says of a model.

    Attributes:
        tiers: Highest `above` first; empty when it knows the model but no price.
        seller: Whose price it is, in the list's words.
        model: The model's id in the list.
        dated: The price depends on the date or the time of day.
        links: Where the seller publishes prices.
        note: What the list says about how far the price can be trusted.
        context_window: Most tokens of a prompt and its answer together; None when the list does not say.
    """

    tiers: tuple[Rates, ...]
    seller: str
    model: str
    dated: bool
    links: tuple[str, ...] = ()
    note: str = ""
    context_window: int | None = None


class PriceList:
    """The list, loaded when it is first asked, which takes a few tenths of a second."""

    def __init__(self, providers: Sequence[Provider] | None = None) -> None:
        """`providers` stand in for the installed library's, to price by another edition of the list."""
        self._providers = None if providers is None else list(providers)
        self._sellers: Mapping[str, Provider] = {}
        if self._providers is not None:
            self._sellers = {each.id: each for each in self._providers}

    def load(self) -> None:
        """Load the list, if it is not yet."""
        self._load()

    def _load(self) -> list[Provider]:
        if self._providers is None:
            from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - 0.2 s that most commands never need

            providers = get_snapshot().providers
            self._sellers = {each.id: each for each in providers}
            self._providers = providers
        return self._providers

    def find(self, seller: str, model: str, when: datetime, service_tier: str = "") -> Published | None:
        """Return the price of a model at a time; None when the list does not know it.

        Args:
            seller: The list's id of the provider.
            model: The provider's name for the model.
            when: Time of the request.
            service_tier: The provider's word for a tier with its own price; one the list does not know changes nothing.
        """
        providers = self._load()
        provider = self._sellers.get(seller)
        info = None if provider is None else provider.find_model(model, all_providers=providers)
        if provider is None or info is None:
            return None
        return _published(provider, info, when, service_tier)

    def models(self, sellers: Sequence[str], when: datetime) -> Iterator[Published]:
        """List what the list knows of some sellers."""
        self._load()
        for seller in sellers:
            provider = self._sellers.get(seller)
            if provider is not None:
                yield from (_published(provider, info, when, "") for info in provider.models)


def _published(provider: Provider, info: ModelInfo, when: datetime, service_tier: str) -> Published:
    # Tiers are those of the seller whose model it is; one that resells it has its own.
    own = any(each is info for each in provider.models)
    context = {"service_tier": service_tier} if service_tier and own else None
    return Published(
        tiers=_tiers(info.get_prices(when, context)) if info.prices else (),
        seller=provider.id,
        model=info.id,
        dated=isinstance(info.prices, list),
        links=tuple(provider.pricing_urls or ()),
        note=info.price_comments or provider.price_comments or "",
        context_window=info.context_window,
    )


def _tiers(price: ModelPrice) -> tuple[Rates, ...]:
    """Read an entry, one `Rates` a threshold of input tokens; nothing when it prices neither tokens nor requests."""
    stated = vars(price)
    found = {kind: stated.get(name) for kind, name in _PER_MILLION.items()}
    said = {kind: value for kind, value in found.items() if value is not None}
    request, search = stated.get("requests_kcount"), stated.get("web_searches_kcount")
    if not said and request is None:
        return ()
    tiered = [one for one in (*said.values(), request, search) if one is not None and not isinstance(one, Decimal)]
    starts = {tier.start for one in tiered for tier in one.tiers}
    made = []
    for above in sorted(starts | {-1}, reverse=True):
        each = {kind: _at(value, above).scaleb(-6) for kind, value in said.items()}
        if search is not None:
            each["search"] = _at(search, above).scaleb(-3)
        made.append(rates(above, each, Decimal(0) if request is None else _at(request, above).scaleb(-3)))
    return tuple(made)


def _at(price: Decimal | TieredPrices, above: int) -> Decimal:
    if isinstance(price, Decimal):
        return price
    passed = [tier.price for tier in price.tiers if tier.start <= above]
    return passed[-1] if passed else price.base
