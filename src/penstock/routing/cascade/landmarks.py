"""A smooth estimate from what is alike: regression on how near a row is to some that were seen.

Kernel ridge regression through landmarks (Williams & Seeger 2001). Where there are few labels and weak signs it does
better than one weight a feature, and it never says much about what is far from everything it has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, sqrt

import msgspec

from penstock.routing.cascade.solving import centred, moments, products, solve

_MOST = 64
_NOISE = 40.0
"""How much smoother than the labels the estimate is."""
_WIDTH = 0.6
"""How far two rows are apart, in standard deviations of each feature, that say little about each other."""
_FAR = 4.0
_DIGITS = 5


class Landmarks(msgspec.Struct, frozen=True):
    """A fitted estimate.

    Attributes:
        mean: What is said of rows that are near to nothing.
        means: Of each feature.
        scales: What each feature is multiplied with, less its mean.
        places: Rows that were seen, scaled.
        weights: One each.
    """

    mean: float
    means: tuple[float, ...]
    scales: tuple[float, ...]
    places: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]

    def __call__(self, row: Sequence[float]) -> float:
        """Return the estimate for `row`."""
        here = centred(row, self.means, self.scales, _FAR / _width(row))
        own = sum(map(float.__mul__, here, here))
        total = self.mean
        for place, weight in zip(self.places, self.weights, strict=True):
            # The last number of a place is half its squared length.
            near = sum(map(float.__mul__, here, place)) - place[-1]
            total += weight * exp(near - 0.5 * own)
        return total


def fit_landmarks(rows: Sequence[Sequence[float]], labels: Sequence[float], weights: Sequence[float]) -> Landmarks:
    """Fit an estimate of `labels`, 0 to 1.

    Args:
        rows: Features, equally many in each row; the first 64 of them are the landmarks.
        labels: What came of each.
        weights: How much each counts.

    Raises:
        ValueError: There are no rows.
    """
    if not rows:
        raise ValueError("there are no rows to fit")
    means, spreads = moments(rows, weights)
    width = _width(means)
    scales = [1.0 / (spread * width) for spread in spreads]
    table = [centred(row, means, scales, _FAR / width) for row in rows]
    places = [(*row, 0.5 * sum(map(float.__mul__, row, row))) for row in table[:_MOST]]
    near = [_near(row, places) for row in table]
    mean = sum(map(float.__mul__, labels, weights)) / sum(weights)
    columns = [list(column) for column in zip(*near, strict=True)]
    heavy = [list(map(float.__mul__, column, weights)) for column in columns]
    left = products(heavy, columns)
    for line, at in zip(left, near, strict=False):
        for place in range(len(line)):
            line[place] += _NOISE * at[place]
        line[-1] += 1e-6
    rest = [label - mean for label in labels]
    found = solve(left, [sum(map(float.__mul__, column, rest)) for column in heavy])
    return Landmarks(
        mean, tuple(means), tuple(scales), tuple(tuple(round(x, _DIGITS) for x in place) for place in places),
        tuple(found),
    )  # fmt: skip


def _width(row: Sequence[float]) -> float:
    return _WIDTH * sqrt(len(row))


def _near(row: Sequence[float], places: Sequence[Sequence[float]]) -> list[float]:
    own = 0.5 * sum(map(float.__mul__, row, row))
    return [exp(sum(map(float.__mul__, row, place)) - place[-1] - own) for place in places]
