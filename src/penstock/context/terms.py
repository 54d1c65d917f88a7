"""On what terms a conversation is cut."""

from __future__ import annotations

from math import inf

import msgspec

from penstock.context.billing import NO_CACHE, Billing
from penstock.core.route import ContextMode

MOST_RECENT, RECENT_PRICE = 16_384, 8192
EXCERPTS, SUMMARY = 4096, 768
"""Tokens of each part where the bill decides; of recent exchanges at most as many as cost no more to read from a cache
than `RECENT_PRICE` tokens that are not cached."""
MOST_EXCERPTS = 8192


class Terms(msgspec.Struct, frozen=True):
    """On what terms a conversation is cut.

    Attributes:
        mode: ``budget`` cuts what does not fit `tokens`, ``aggressive`` also when the bill is lower then.
        tokens: Most tokens of messages and tools; None for any number.
        billing: How the provider bills a prefix it has cached.
        recent: Tokens of the newest exchanges, before the last user turn, that a cut leaves; None takes a quarter of
            `tokens`, and in mode ``aggressive`` no more than 8,192 / `billing.read`, 16,384 at most.
        excerpts: Most tokens of earlier messages that are repeated because of the question; None takes a quarter of
            `tokens`, 8,192 at most, and in mode ``aggressive`` 4,096 at most.
        summary: Most tokens of all summaries; None takes an eighth of `tokens`, and in mode ``aggressive`` 768 at most.
    """

    mode: ContextMode = "budget"
    tokens: int | None = None
    billing: Billing = NO_CACHE
    recent: int | None = None
    excerpts: int | None = None
    summary: int | None = None

    def shares(self) -> Shares:
        """What each part may have."""
        most = inf if self.tokens is None else self.tokens
        recent, excerpts, summary = most / 4, min(most / 4, MOST_EXCERPTS), most / 8
        if self.mode == "aggressive" or self.tokens is None:
            cheap = RECENT_PRICE / self.billing.read if self.billing.read else inf
            recent, excerpts, summary = min(recent, cheap, MOST_RECENT), min(excerpts, EXCERPTS), min(summary, SUMMARY)
        return Shares(
            int(recent) if self.recent is None else self.recent,
            int(excerpts) if self.excerpts is None else self.excerpts,
            int(summary) if self.summary is None else self.summary,
        )


class Shares(msgspec.Struct, frozen=True, gc=False):
    """Tokens of each part of a cut conversation: the same as in `Terms`, none left open."""

    recent: int
    excerpts: int
    summary: int

    def excerpts_for(self, *, asks: bool) -> int:
        """Tokens of excerpts for a turn: a quarter where the user does not ask, but gives something to read."""
        return self.excerpts if asks else self.excerpts // 4
