"""What a call cost: prices of one's own before published ones, resolved once a model, then a few multiplications."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from penstock.core.call import CostSource
from penstock.core.clock import Clock, SystemClock
from penstock.core.usage import Usage
from penstock.pricing.published import SELLERS, PriceList, Published
from penstock.pricing.rates import PARENTS, Rates, rates

FREE = "simulated"
"""The kind of provider that costs nothing."""
MAX_MODELS = 4096
"""Resolved models kept; the names may come from clients, so they must be bounded."""
RECHECK_S = 60.0
"""How long a price that depends on the date or the time of day is kept."""

_NOTHING, _ONE = Decimal(0), Decimal(1)
_MILLION = 6
_UNKNOWN: tuple[None, CostSource] = (None, "unknown")
_FREE: tuple[Decimal, CostSource] = (_NOTHING, "none")
_UNPAID = rates(-1, dict.fromkeys(("input", "output", "search"), _NOTHING))
_SOURCES: Mapping[str, CostSource] = {"provider": "provider", "estimate": "estimate", "calibrated": "estimate"}


class Account(msgspec.Struct, frozen=True):
    """A provider of the configuration, as far as prices go.

    Attributes:
        kind: Its kind, which says whose published prices apply.
        discount: Share taken off the published prices, 0 to 1.
    """

    kind: str
    discount: Decimal = _NOTHING


class OwnPrice(msgspec.Struct, frozen=True):
    """A price of the configuration, used in place of the published one.

    Attributes:
        provider: Names of providers; ``*`` matches any text.
        model: The providers' names of models; ``*`` matches any text.
        since: First day (UTC) it applies to; None for always.
        until: First day it no longer applies to.
        usd_per_million: USD per million tokens by kind (`PARENTS`). When empty, tokens cost nothing.
        usd_per_request: USD per request.
        usd_per_search: USD per web search the provider made; None when that has no price.
        usd_per_hour: USD per hour the provider's machine works; None when time is not paid for.
    """

    provider: str = "*"
    model: str = "*"
    since: date | None = None
    until: date | None = None
    usd_per_million: Mapping[str, Decimal] = {}
    usd_per_request: Decimal = _NOTHING
    usd_per_search: Decimal | None = None
    usd_per_hour: Decimal | None = None

    def matches(self, provider: str, model: str) -> bool:
        """Whether it is for this model, at whatever time."""
        return fnmatchcase(provider, self.provider) and fnmatchcase(model, self.model)

    def applies(self, day: date) -> bool:
        """Whether it is in force on a day (UTC)."""
        return (self.since is None or self.since <= day) and (self.until is None or day < self.until)

    def rates(self) -> Rates:
        """Return the price of one token, request or search."""
        if not self.usd_per_million:
            found = _UNPAID.each
        else:
            each = {kind: value.scaleb(-_MILLION) for kind, value in self.usd_per_million.items()}
            if self.usd_per_search is not None:
                each["search"] = self.usd_per_search
            found = rates(-1, each).each
        return Rates(-1, found, self.usd_per_request)


class Price(msgspec.Struct, frozen=True):
    """The price of a model at a provider.

    Attributes:
        tiers: Highest `above` first; empty when the price is unknown.
        origin: ``configuration``, ``list`` (published), ``simulated`` (nothing to pay) or ``unknown``.
        dated: It depends on the date or the time of day.
        published: What the list says, also where it says no price; None where it was not asked or knows nothing.
        own: The entry of the configuration.
        discount: Share taken off the published price; the tiers are after it.
        until: When to look again, seconds since the epoch.
    """

    tiers: tuple[Rates, ...]
    origin: Literal["configuration", "list", "simulated", "unknown"]
    dated: bool = False
    published: Published | None = None
    own: OwnPrice | None = None
    discount: Decimal = _NOTHING
    until: float = float("inf")

    def rates(self, usage: Usage) -> Rates | None:
        """Return the rates for a request of that size, None when they are unknown."""
        for tier in self.tiers:
            if usage.input_tokens > tier.above:
                return tier
        return None


class Pricer:
    """Prices calls. What has neither a price in the configuration nor a published one is unknown, never free."""

    def __init__(
        self,
        accounts: Mapping[str, Account],
        own: Sequence[OwnPrice] = (),
        prices: PriceList | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`accounts` are by the provider's name; of `own` the first that matches and is in force counts."""
        self._accounts = accounts
        self._own = own
        self._list = prices or PriceList()
        self._wall = (clock or SystemClock()).wall
        self._known: dict[tuple[str, str, str], Price] = {}

    def cost(self, provider: str, model: str, usage: Usage | None) -> tuple[Decimal | None, CostSource]:
        """Return what a call cost in USD, time not included, and how that is known.

        Args:
            provider: The provider's name in the configuration.
            model: The provider's own name for the model.
            usage: Tokens of the call; None makes the cost unknown.

        Returns:
            The cost and ``provider`` or ``estimate`` (who counted the tokens); None and ``unknown`` when there is no
            price for something that was used, or no usage; 0 and ``none`` for the simulated provider.
        """
        service_tier = "" if usage is None else usage.service_tier
        price = self._known.get((provider, model, service_tier))
        if price is None or price.dated:
            price = self.price(provider, model, service_tier)
        if usage is not None:
            for tier in price.tiers:
                if usage.input_tokens > tier.above:
                    amount = tier.amount(usage)
                    return _UNKNOWN if amount is None else (amount, _SOURCES[usage.source])
        return _FREE if price.origin == "simulated" else _UNKNOWN

    def price(self, provider: str, model: str, service_tier: str = "") -> Price:
        """Return the price of a model now; `service_tier` is as in `Usage`."""
        known = self._known.get((provider, model, service_tier))
        if known is None or (known.dated and known.until < self._wall()):
            known = self._resolve(provider, model, service_tier)
            if len(self._known) >= MAX_MODELS:
                self._known.clear()
            self._known[provider, model, service_tier] = known
        return known

    def window(self, provider: str, model: str) -> int | None:
        """Return the most tokens of a prompt and its answer together; None when nobody publishes it."""
        account = self._accounts.get(provider)
        if account is None or account.kind not in SELLERS:
            return None
        found = self._list.find(SELLERS[account.kind], model, datetime.fromtimestamp(self._wall(), UTC))
        return None if found is None else found.context_window

    def _resolve(self, provider: str, model: str, service_tier: str) -> Price:
        now = self._wall()
        when = datetime.fromtimestamp(now, UTC)
        entries = [entry for entry in self._own if entry.matches(provider, model)]
        dated = any(entry.since or entry.until for entry in entries)
        until = now + RECHECK_S if dated else float("inf")
        own = next((entry for entry in entries if entry.applies(when.date())), None)
        if own is not None:
            return Price((own.rates(),), "configuration", dated, own=own, until=until)
        account = self._accounts.get(provider)
        if account is None or account.kind not in SELLERS:
            free = account is not None and account.kind == FREE
            return Price((), "simulated" if free else "unknown", dated, until=until)
        found = self._list.find(SELLERS[account.kind], model, when, service_tier)
        if found is None or not found.tiers:
            return Price((), "unknown", dated, published=found, until=until)
        return Price(
            tuple(_off(tier, account.discount) for tier in found.tiers),
            "list",
            dated or found.dated,
            published=found,
            discount=account.discount,
            until=min(until, now + RECHECK_S) if found.dated else until,
        )


def _off(tier: Rates, discount: Decimal) -> Rates:
    if not discount:
        return tier
    factor = _ONE - discount
    return Rates(tier.above, tuple(rate and rate * factor for rate in tier.each), tier.request * factor)


KINDS = tuple(kind for kind in PARENTS if kind != "search")
"""The kinds of tokens that have prices."""
