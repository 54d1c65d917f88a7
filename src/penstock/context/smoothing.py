"""Rows of numbers, one for each block of a text, and what their neighbours lend them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, chain
from operator import sub


def merged(parts: Iterable[tuple[Mapping[int, float], float]]) -> dict[int, float]:
    """Return the weighted sum of what stands at places."""
    total: dict[int, float] = {}
    for places, weight in parts:
        for place, value in places.items():
            total[place] = total.get(place, 0.0) + weight * value
    return total


def laid_out(places: Mapping[int, float], count: int) -> list[float]:
    """Return what stands at each of `count` places, 0 where nothing does."""
    row = [0.0] * count
    for place, value in places.items():
        row[place] = value
    return row


def scaled(column: Sequence[float]) -> list[float]:
    """Return the column with its greatest value as 1."""
    most = max(column, default=0.0)
    return [each / most for each in column] if most else list(column)


def triangle(reach: int) -> Callable[[Sequence[float]], Sequence[float]]:
    """Return what sums a row over `2 * reach` neighbours on either side, weighing each less the farther it is."""
    if not reach:
        return lambda row: row
    width = 2 * reach + 1
    beside = [0.0] * reach

    def averaged(row: Sequence[float]) -> list[float]:
        sums = list(accumulate(chain(beside, row, beside), initial=0.0))
        return list(map(sub, sums[width:], sums))

    return lambda row: [each / width for each in averaged(averaged(row))]
