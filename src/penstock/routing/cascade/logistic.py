"""A logistic model of a few dozen features, fitted by Newton's method."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, inf

import msgspec

from penstock.routing.cascade.solving import centred, moments, products, solve

_ROUNDS = 10
_ENOUGH = 1e-2


class Logistic(msgspec.Struct, frozen=True):
    """A fitted model.

    Attributes:
        intercept: Log-odds where every feature is 0.
        weights: One a feature, for features as they are, not standardised.
    """

    intercept: float
    weights: tuple[float, ...]

    def __call__(self, row: Sequence[float]) -> float:
        """Return the log-odds of `row`, between -30 and 30."""
        total = self.intercept + sum(map(float.__mul__, self.weights, row))
        return max(-30.0, min(30.0, total))


def fit_logistic(
    rows: Sequence[Sequence[float]],
    labels: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    prior: Logistic | None = None,
    ridge: float = 30.0,
) -> Logistic:
    """Maximise the likelihood, less `ridge` / 2 times the squared weights of standardised features.

    With a `prior` it is what differs from the prior's weights that is kept small.

    Args:
        rows: Features, equally many in each row.
        labels: 0 to 1.
        weights: How much each row counts; 1 if not given.
        prior: What is assumed without labels.
        ridge: How strongly weights are drawn to those of the prior, or to 0.

    Raises:
        ValueError: There are no rows.
    """
    if not rows:
        raise ValueError("there are no rows to fit")
    heavy = list(weights or [1.0] * len(rows))
    means, spreads = moments(rows, heavy)
    scales = [1.0 / spread for spread in spreads]
    table = [[1.0, *centred(row, means, scales, inf)] for row in rows]
    columns = [list(column) for column in zip(*table, strict=True)]
    found = [0.0] * len(columns)
    offsets = [prior(row) for row in rows] if prior else [0.0] * len(rows)
    for _ in range(_ROUNDS):
        logits = [offset + sum(map(float.__mul__, found, row)) for offset, row in zip(offsets, table, strict=True)]
        chances = [1.0 / (1.0 + exp(-max(-30.0, min(30.0, logit)))) for logit in logits]
        errors = [weight * (label - chance) for weight, label, chance in zip(heavy, labels, chances, strict=True)]
        bends = [weight * chance * (1.0 - chance) for weight, chance in zip(heavy, chances, strict=True)]
        curve = products([list(map(float.__mul__, column, bends)) for column in columns], columns)
        gradient = [sum(map(float.__mul__, column, errors)) for column in columns]
        for place, line in enumerate(curve):
            line[place] += ridge if place else 1e-6
            gradient[place] -= ridge * found[place] if place else 0.0
        step = solve(curve, gradient)
        found = [value + change for value, change in zip(found, step, strict=True)]
        if max(map(abs, step)) < _ENOUGH:
            break
    slopes = [value * scale for value, scale in zip(found[1:], scales, strict=True)]
    intercept = found[0] - sum(map(float.__mul__, slopes, means))
    if prior:
        intercept += prior.intercept
        slopes = [one + other for one, other in zip(slopes, prior.weights, strict=True)]
    return Logistic(intercept, tuple(slopes))
