"""How sure a sum over a period is: the moving-block bootstrap (Künsch, Annals of Statistics 17, 1989).

Calls that are near in time are alike, so blocks of time are drawn, not calls. 50 blocks of equal length, 1,000 draws,
and the 5th and 95th of 100 sums: where the sum of another period of the same length would be nine times in ten, if
that period is like this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import msgspec

BLOCKS = 50
DRAWS = 1000
_RUN = 5
"""Blocks that are drawn together, since what follows each other is alike."""


class Range(msgspec.Struct, frozen=True):
    """A sum, and where it would be nine times in ten."""

    value: float
    low: float
    high: float


def interval(at: Sequence[float], amounts: Sequence[float], *, seed: int = 0) -> Range:
    """Return the sum of `amounts`, which belong to the times `at` in ascending order, with its interval."""
    total = float(sum(amounts))
    if len(at) < 2 or at[-1] <= at[0]:
        return Range(total, total, total)
    width = (at[-1] - at[0]) / BLOCKS
    blocks = [0.0] * BLOCKS
    for when, amount in zip(at, amounts, strict=True):
        blocks[min(int((when - at[0]) / width), BLOCKS - 1)] += amount
    ring = blocks + blocks[: _RUN - 1]
    runs = [sum(ring[start : start + _RUN]) for start in range(BLOCKS)]
    random = Random(seed)
    sums = sorted(sum(random.choices(runs, k=BLOCKS // _RUN)) for _ in range(DRAWS))
    return Range(total, sums[DRAWS // 20], sums[DRAWS - DRAWS // 20 - 1])
