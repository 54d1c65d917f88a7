"""Hits at a precision: how many of what a rule proposes are right, from its surest proposals down."""

from __future__ import annotations

from collections.abc import Sequence

Ranked = Sequence[tuple[float, bool]]
"""How sure a proposal was, and whether it was right."""


def hits_at_error(found: Ranked, error: float) -> int:
    """Return the most right ones among the surest of which at most `error` are wrong; ties are served together."""
    best = right = 0
    order = sorted(found, reverse=True)
    for count, (score, ok) in enumerate(order, 1):
        right += ok
        tied = count < len(order) and order[count][0] == score
        if not tied and count - right <= error * count:
            best = max(best, right)
    return best
