"""On what terms a conversation is cut."""

from __future__ import annotations

import msgspec

from penstock.context.billing import NO_CACHE, Billing
from penstock.core.route import ContextMode

RECENT, EXCERPTS = 8192, 4096
SUMMARY = 768
"""Tokens of each part when there is no budget to divide."""
MOST_EXCERPTS = 8192


class Terms(msgspec.Struct, frozen=True):
    """On what terms a conversation is cut.

    Attributes:
        mode: ``budget`` cuts what does not fit `tokens`, ``aggressive`` also when the bill is lower then.
        tokens: Most tokens of messages and tools; None for any number.
        billing: How the provider bills a prefix it has cached.
        recent: Tokens of the newest exchanges, before the last user turn, that a cut leaves; None takes a quarter of
            `tokens`, or 2,048.
        excerpts: Most tokens of earlier messages that are repeated because of the question; None takes the same, but
            8,192 at most.
        summary: Most tokens of all summaries; None takes an eighth of `tokens`, or 768.
    """

    mode: ContextMode = "budget"
    tokens: int | None = None
    billing: Billing = NO_CACHE
    recent: int | None = None
    excerpts: int | None = None
    summary: int | None = None

    def shares(self) -> Shares:
        """What each part may have."""
        if self.tokens is None:
            recent, excerpts, summary = RECENT, EXCERPTS, SUMMARY
        else:
            recent, excerpts, summary = self.tokens // 4, min(self.tokens // 4, MOST_EXCERPTS), self.tokens // 8
            if self.mode == "aggressive":
                recent, excerpts, summary = min(recent, RECENT), min(excerpts, EXCERPTS), min(summary, SUMMARY)
        return Shares(
            recent if self.recent is None else self.recent,
            excerpts if self.excerpts is None else self.excerpts,
            summary if self.summary is None else self.summary,
        )


class Shares(msgspec.Struct, frozen=True, gc=False):
    """Tokens of each part of a cut conversation: the same as in `Terms`, none left open."""

    recent: int
    excerpts: int
    summary: int

    def excerpts_for(self, *, asks: bool) -> int:
        """Tokens of excerpts for a turn: a quarter where the user does not ask, but gives something to read."""
        return self.excerpts if asks else self.excerpts // 4
