"""How providers bill a prompt that begins like an earlier one, and what that means for cutting a conversation.

Every price here is a share of the price of an input token, so that a decision needs no price list.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from math import inf
from types import MappingProxyType

import msgspec


class Billing(msgspec.Struct, frozen=True):
    """The terms of a provider's prompt cache.

    Attributes:
        read: Price of a token that is read from the cache, as a share of an input token's.
        write: Price of a token that is written to it.
        minimum_tokens: A shorter prefix is not cached.
        step_tokens: Cached prefixes are multiples of this.
        ttl_s: Seconds after its last use that a prefix is kept for; None for as long as it takes.
    """

    read: float = 1.0
    write: float = 1.0
    minimum_tokens: int = 0
    step_tokens: int = 1
    ttl_s: float | None = None

    def after(self, pause_s: float) -> Billing:
        """The terms when turns follow each other after `pause_s` seconds: nothing is cached for longer than `ttl_s`."""
        return self if self.ttl_s is None or pause_s <= self.ttl_s else NO_CACHE

    def cacheable(self, tokens: int) -> int:
        """How many tokens of a prefix of that length the cache holds."""
        if self.read == 1.0 == self.write or tokens < max(self.minimum_tokens, 1):
            return 0
        return tokens - tokens % self.step_tokens

    def cost(self, prefix: int, known: int, once: int = 0) -> float:
        """Return what a request costs, in input tokens.

        Args:
            prefix: Tokens of its beginning that later requests repeat.
            known: How many of these an earlier request has sent already.
            once: Its other tokens, which no later request repeats at this place.
        """
        held, read = self.cacheable(prefix), self.cacheable(min(known, prefix))
        return read * self.read + (held - read) * self.write + (prefix - held) + once

    def kept(self, prefix: int) -> float:
        """What a turn pays for a prefix that is cached."""
        return self.cost(prefix, prefix)

    def rewriting(self, prefix: int, known: int) -> float:
        """What the first turn with a new prefix pays more than those after it, if `known` tokens stay as they were."""
        return self.cost(prefix, known) - self.kept(prefix)

    def turns_to_pay(self, before: int, after: int, known: int = 0) -> float:
        """After how many turns cutting a cached prefix from `before` to `after` tokens has paid for itself.

        Writing the new prefix costs (write - read) * after once, and each turn then saves read * (before - after): at
        0.1 and 1.25 that is 11.5 * after / (before - after) turns. Infinite when a turn costs no less afterwards.
        """
        saved = self.kept(before) - self.kept(after)
        return self.rewriting(after, known) / saved if saved > 0 else inf

    @property
    def compression_to_win(self) -> float:
        """How many times shorter a prompt chosen anew for each question must be to cost less than the cached whole."""
        return 1 / self.read if self.read else inf


NO_CACHE = Billing()
"""Every token costs the same in every request."""
OWN_MACHINE = Billing(read=0.0, step_tokens=16)
"""A server of one's own keeps the blocks of recent prompts; what it has of a prompt costs it nothing to speak of."""

BILLINGS: Mapping[str, Billing] = MappingProxyType({
    "anthropic": Billing(0.1, 1.25, 1024, ttl_s=300.0),
    "openai": Billing(0.5, 1.0, 1024, 128, 300.0),
    "azure": Billing(0.5, 1.0, 1024, 128, 300.0),
    "deepseek": Billing(0.1, 1.0, 64, 64, 3600.0),
    "gemini": Billing(0.1, 1.0, 2048, ttl_s=300.0),
    "ollama": OWN_MACHINE,
    "vllm": OWN_MACHINE,
    "llamacpp": OWN_MACHINE,
    "lmstudio": OWN_MACHINE,
})  # fmt: skip
"""By kind of provider. The shares are those of the vendors' documentation where a price list does not say other ones;
how long a prefix is kept is the least they promise. Anthropic's larger and smallest models need longer prefixes."""


def billing_of(
    kind: str, *, price: Decimal | None = None, cached: Decimal | None = None, written: Decimal | None = None
) -> Billing:
    """Return the terms of a kind of provider for a model.

    Args:
        kind: The provider's kind, as in the configuration.
        price: What an input token costs.
        cached: What one read from the cache costs; None when the price list has no price for that.
        written: What one written to the cache costs; likewise.
    """
    terms = BILLINGS.get(kind)
    if not price:
        return terms or NO_CACHE
    if cached is None or cached == price:
        return terms if terms is OWN_MACHINE else NO_CACHE
    terms = terms or BILLINGS["openai"]
    return msgspec.structs.replace(
        terms, read=float(cached / price), write=float((price if written is None else written) / price)
    )
