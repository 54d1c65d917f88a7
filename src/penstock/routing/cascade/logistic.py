"""A logistic model of a few dozen features, fitted by Newton's method."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, sqrt

import msgspec

_ROUNDS = 12
_ENOUGH = 1e-4


class Logistic(msgspec.Struct, frozen=True):
    """A fitted model.

    Attributes:
        intercept: Log-odds where every feature is 0.
        weights: One a feature, for features as they are, not standardised.
    """

    intercept: float
    weights: tuple[float, ...]

    def logit(self, row: Sequence[float]) -> float:
        """Return the log-odds of `row`, between -30 and 30."""
        total = self.intercept + sum(map(float.__mul__, self.weights, row))
        return max(-30.0, min(30.0, total))


def fit(
    rows: Sequence[Sequence[float]],
    labels: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    ridge: float = 3.0,
) -> Logistic:
    """Maximise the likelihood, less `ridge` / 2 times the squared weights of standardised features.

    Args:
        rows: Features, equally many in each row.
        labels: 0 to 1.
        weights: How much each row counts; 1 if not given. They are scaled to be 1 on average.
        ridge: How strongly weights are drawn to 0.

    Raises:
        ValueError: There are no rows.
    """
    if not rows:
        raise ValueError("there are no rows to fit")
    heavy = _scaled(weights) if weights else [1.0] * len(rows)
    means, spreads = _moments(rows, heavy)
    table = [
        (1.0, *((value - mean) / spread for value, mean, spread in zip(row, means, spreads, strict=True)))
        for row in rows
    ]
    size = len(table[0])
    found = [0.0] * size
    for _ in range(_ROUNDS):
        gradient = [-ridge * value for value in found]
        gradient[0] = 0.0
        curve = [[0.0] * size for _ in range(size)]
        for place in range(size):
            curve[place][place] = ridge if place else 1e-6
        for row, label, weight in zip(table, labels, heavy, strict=True):
            chance = 1.0 / (1.0 + exp(-max(-30.0, min(30.0, sum(map(float.__mul__, found, row))))))
            error, bend = weight * (label - chance), weight * chance * (1.0 - chance)
            for place, value in enumerate(row):
                if value:
                    gradient[place] += error * value
                    line, scaled = curve[place], bend * value
                    for other in range(place + 1):
                        line[other] += scaled * row[other]
        step = _solve(curve, gradient)
        found = [value + change for value, change in zip(found, step, strict=True)]
        if max(map(abs, step)) < _ENOUGH:
            break
    slopes = [value / spread for value, spread in zip(found[1:], spreads, strict=True)]
    return Logistic(found[0] - sum(map(float.__mul__, slopes, means)), tuple(slopes))


def _scaled(weights: Sequence[float]) -> list[float]:
    mean = sum(weights) / len(weights)
    return [weight / mean for weight in weights]


def _moments(rows: Sequence[Sequence[float]], weights: Sequence[float]) -> tuple[list[float], list[float]]:
    total = sum(weights)
    means, spreads = [], []
    for column in zip(*rows, strict=True):
        mean = sum(map(float.__mul__, map(float, column), weights)) / total
        variance = sum(w * (value - mean) ** 2 for w, value in zip(weights, column, strict=True)) / total
        means.append(mean)
        spreads.append(sqrt(variance) or 1.0)
    return means, spreads


def _solve(curve: list[list[float]], right: list[float]) -> list[float]:
    """Solve by Cholesky's decomposition of the lower triangle `curve`, in place."""
    size = len(right)
    for column in range(size):
        line = curve[column]
        for row in range(column, size):
            other = curve[row]
            value = other[column] - sum(map(float.__mul__, other[:column], line[:column]))
            other[column] = sqrt(max(value, 1e-12)) if row == column else value / line[column]
    found = list(right)
    for row in range(size):
        found[row] = (found[row] - sum(map(float.__mul__, curve[row][:row], found[:row]))) / curve[row][row]
    for row in range(size - 1, -1, -1):
        below = sum(curve[other][row] * found[other] for other in range(row + 1, size))
        found[row] = (found[row] - below) / curve[row][row]
    return found
