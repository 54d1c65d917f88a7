"""Calibration: a rising curve from scores to probabilities."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

_BEYOND = 10.0


class Curve(NamedTuple):
    """A rising curve through points, level before the first and after the last.

    Attributes:
        scores: Where the points are, rising.
        values: How high they are, never falling.
    """

    scores: tuple[float, ...]
    values: tuple[float, ...]

    def __call__(self, score: float) -> float:
        """Return the height at `score`, on the straight line between the points beside it."""
        scores, values = self.scores, self.values
        place = bisect_right(scores, score)
        if place == 0:
            return values[0]
        if place == len(scores):
            return values[-1]
        low, high = scores[place - 1], scores[place]
        return values[place - 1] + (values[place] - values[place - 1]) * (score - low) / (high - low)


def isotonic(scores: Sequence[float], labels: Sequence[float], weights: Sequence[float] | None = None) -> Curve:
    """Fit the rising curve with the least squared error (pool adjacent violators, Ayer et al. 1955).

    Each level of the curve is one point, in the middle of the scores pooled, so that scores which differ are still
    told apart. Half a label of each kind is added to each level: no level is certain. Beyond the scores that were
    seen the curve goes to 0 and 1 slowly, so that the best are told apart too.

    Args:
        scores: At least one.
        labels: What each came to, 0 to 1.
        weights: How much each counts; 1 if not given.

    Raises:
        ValueError: There is nothing to fit.
    """
    if not scores:
        raise ValueError("there are no scores to calibrate")
    alike: dict[float, tuple[float, float]] = {}
    for score, label, weight in zip(scores, labels, weights or [1.0] * len(scores), strict=True):
        known, right = alike.get(score, (0.0, 0.0))
        alike[score] = (known + weight, right + weight * label)
    blocks: list[tuple[float, float, float]] = []
    for score, (weight, right) in sorted(alike.items()):
        block = (weight, right, weight * score)
        while blocks and blocks[-1][1] * block[0] >= block[1] * blocks[-1][0]:
            last = blocks.pop()
            block = (last[0] + block[0], last[1] + block[1], last[2] + block[2])
        blocks.append(block)
    highest, points = 0.0, [(min(scores) - _BEYOND, 0.0)]
    for weight, right, at in blocks:
        highest = max(highest, (right + 0.5) / (weight + 1.0))
        points.append((at / weight, highest))
    points.append((max(scores) + _BEYOND, 1.0))
    return Curve(*map(tuple, zip(*points, strict=True)))
