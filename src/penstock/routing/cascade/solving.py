"""A little linear algebra on lists of floats."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt


def moments(rows: Sequence[Sequence[float]], weights: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return weighted means and standard deviations of columns; 1 for a column that does not vary."""
    total = sum(weights)
    means, spreads = [], []
    for column in zip(*rows, strict=True):
        mean = sum(map(float.__mul__, column, weights)) / total
        variance = sum(w * (value - mean) ** 2 for w, value in zip(weights, column, strict=True)) / total
        means.append(mean)
        spreads.append(sqrt(variance) if variance > 1e-12 else 1.0)
    return means, spreads


def centred(row: Sequence[float], means: Sequence[float], scales: Sequence[float], limit: float) -> list[float]:
    """Return `row` less `means`, scaled, and then nothing beyond `limit`."""
    return [
        max(-limit, min(limit, (value - mean) * scale)) for value, mean, scale in zip(row, means, scales, strict=True)
    ]


def products(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return the lower triangle of the scalar products of each of `one` with each of `other`."""
    return [
        [sum(map(float.__mul__, column, another)) for another in other[: place + 1]] for place, column in enumerate(one)
    ]


def solve(left: list[list[float]], right: Sequence[float]) -> list[float]:
    """Solve a positive definite system by Cholesky's decomposition; the lower triangle `left` is overwritten."""
    size = len(right)
    for row in range(size):
        line = left[row]
        for column in range(row + 1):
            other = left[column]
            value = line[column] - sum(map(float.__mul__, line[:column], other[:column]))
            line[column] = sqrt(max(value, 1e-12)) if row == column else value / other[column]
    found = list(right)
    for row in range(size):
        found[row] = (found[row] - sum(map(float.__mul__, left[row][:row], found[:row]))) / left[row][row]
    for row in range(size - 1, -1, -1):
        below = sum(left[other][row] * found[other] for other in range(row + 1, size))
        found[row] = (found[row] - below) / left[row][row]
    return found
