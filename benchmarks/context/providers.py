"""What requests cost where a prefix that was sent before is cheaper, by the rules and prices that providers publish.

Anthropic: what stands before a breakpoint is written to the cache at one price and read at another, from 1,024 on.
OpenAI: what begins like an earlier request is read from the cache in steps of 128 tokens, from 1,024 on; writing costs
nothing. Turns are taken to follow each other within the five minutes that prefixes are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from penstock.context.billing import Billing, billing_of
from penstock.pricing.published import SELLERS, PriceList
from penstock.pricing.rates import PARENTS

MODELS = (("anthropic", "claude-sonnet-4-5"), ("openai", "gpt-4o"))
"""Reads at 0.1 of the price after writes at 1.25, and at 0.5."""
_DAY = datetime(2026, 1, 1)


class Prices(NamedTuple):
    """USD for a million tokens of a model, and the terms of its provider's cache."""

    kind: str
    model: str
    fresh: float
    read: float
    write: float
    output: float
    terms: Billing

    @property
    def explicit(self) -> bool:
        """Whether only what stands before a breakpoint is kept."""
        return self.kind == "anthropic"


class Cache:
    """What a provider has kept of a conversation's requests."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._kept: set[int] = set()

    def cost(self, sizes: Sequence[tuple[int, int]], stable: int, answer: int) -> float:
        """Return what a request costs in USD.

        Args:
            sizes: For each message what it is known by, and its tokens.
            stable: So many messages are the same in later requests: where a breakpoint is.
            answer: Tokens of the answer.
        """
        prices, terms, total = self._prices, self._prices.terms, sum(tokens for _, tokens in sizes)
        prefixes = list(_prefixes(sizes))
        read = max((tokens for key, tokens in prefixes if key in self._kept), default=0)
        written = 0
        if prices.explicit:
            ends = [prefixes[stable - 1]] if stable else []
            kept = [end for end in ends if end[1] >= terms.minimum_tokens]
            written = max((tokens - read for _, tokens in kept), default=0)
            self._kept.update(key for key, _ in kept)
        else:
            read = read - read % terms.step_tokens if read >= terms.minimum_tokens else 0
            self._kept.update(key for key, _ in prefixes)
        written = max(written, 0)
        fresh = total - read - written
        usd = fresh * prices.fresh + read * prices.read + written * prices.write + answer * prices.output
        return usd / 1e6


def _prefixes(sizes: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    key = total = 0
    for known_by, tokens in sizes:
        key, total = hash((key, known_by)), total + tokens
        yield key, total


def published() -> list[Prices]:
    """Return the prices of `MODELS` from the list that comes with the library."""
    found, prices = [], PriceList()
    for kind, model in MODELS:
        listed = prices.find(SELLERS[kind], model, _DAY)
        if listed is None:
            raise SystemExit(f"no price of {model} in the list")
        rates = dict(zip(PARENTS, listed.tiers[-1].each, strict=True))
        usd = [rates[name] or Decimal(0) for name in ("input", "cached_input", "cache_write", "output")]
        fresh, read, write, output = (float(price * 1_000_000) for price in usd)
        terms = billing_of(kind, price=usd[0], cached=usd[1], written=usd[2] if kind == "anthropic" else None)
        found.append(Prices(kind, model, fresh, read, write, output, terms))
    return found
