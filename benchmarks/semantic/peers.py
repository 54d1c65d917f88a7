"""The rules of others: vCache's, written from its paper, and GPTCache's fixed threshold."""

from __future__ import annotations

from math import exp
from random import Random
from typing import NamedTuple

import numpy as np

from benchmarks.semantic.neighbours import Nearest
from penstock.matching.evaluation import Same

_SLOPES = np.array([[5.0, 10.0, 20.0, 40.0, 80.0]])
_THRESHOLDS = np.arange(41)[:, None] / 40
_CONFIDENCE = ((0.01, 2.326), (0.02, 2.054), (0.05, 1.645), (0.1, 1.282), (0.2, 0.842), (0.3, 0.524), (0.5, 0.0))
"""One-sided: how often the threshold is above its bound, and the standard deviations of it."""


class Count(NamedTuple):
    """What a rule did with a stream."""

    served: int
    wrong: int
    unknown: int

    @property
    def error(self) -> float | None:
        """Wrong ÷ served, of those where it is known."""
        known = self.served - self.unknown
        return self.wrong / known if known else None


class _Curve:
    """The likelihood of one entry's labels under logistic curves over similarity, on a grid of threshold and slope.

    With the threshold as high as its confidence region allows (profile likelihood; Wilks 1938), an answer is right with
    probability a, and 1 - delta / (1 - a) of such requests have to be asked of the model, so that those that are not
    are wrong in `delta` of the requests at most. The best confidence is chosen.
    """

    def __init__(self) -> None:
        self._fit: np.ndarray | None = None
        self._bounds: list[tuple[float, float, float]] = []

    def label(self, similarity: float, *, right: bool) -> None:
        odds = _SLOPES * (similarity - _THRESHOLDS)
        loss = np.logaddexp(0.0, -odds if right else odds)
        self._fit = -loss if self._fit is None else self._fit - loss
        profile = self._fit.max(axis=1)
        lost = 2 * (profile.max() - profile)
        self._bounds = []
        for error, deviations in _CONFIDENCE:
            high = int(np.nonzero(lost <= deviations * deviations + 1e-9)[0][-1])
            slope = float(_SLOPES[0, int(self._fit[high].argmax())])
            self._bounds.append((1 - error, slope, float(_THRESHOLDS[high, 0])))

    def explore(self, similarity: float, delta: float) -> float:
        """Return how probably to ask the model."""
        least = 1.0
        for sure, slope, threshold in self._bounds:
            right = sure / (1 + exp(-slope * (similarity - threshold)))
            least = min(least, max(0.0, 1 - delta / max(1 - right, delta)))
        return least


def vcache(stream: list[Nearest], delta: float, same: Same, *, seed: int, add_right: bool) -> Count:
    """Play `stream` by the rule of vCache (Schroeder et al. 2025, arXiv 2502.03771), at its own error rate `delta`.

    Each entry has a logistic curve of its own, fitted to its own labels by maximum likelihood. Its promise is on all
    requests, those asked of the model included, so wrong ÷ served may be far above `delta`.

    Args:
        stream: The requests.
        delta: Wrong ÷ requests at most.
        same: Whether two answers are one; what nobody knows is no label.
        seed: Of the choice of what is explored.
        add_right: Whether a question whose proposed answer was right becomes an entry of its own too.
    """
    chance = Random(seed)
    curves: dict[int, _Curve] = {}
    served = wrong = unknown = 0
    for number, (answer, near) in enumerate(stream):
        found = next(((entry, score) for entry, score in near if entry in curves), None)
        right: bool | None = False
        if found is not None:
            entry, similarity = found
            right = same(stream[entry].answer, answer)
            if chance.random() > curves[entry].explore(similarity, delta):
                served += 1
                wrong += right is False
                unknown += right is None
                continue
            if right is not None:
                curves[entry].label(similarity, right=right)
        if add_right or not right:
            curves[number] = _Curve()
    return Count(served, wrong, unknown)


def fixed(stream: list[Nearest], threshold: float, same: Same) -> Count:
    """Play `stream` as a cache does that serves the nearest from a cosine of `threshold` on."""
    return count(stream, decisions(stream, threshold), same)


def decisions(stream: list[Nearest], threshold: float) -> list[int | None]:
    """Return for each request which earlier one answers it, None for none."""
    known: set[int] = set()
    served: list[int | None] = []
    for number, (_, near) in enumerate(stream):
        found = next(((entry, score) for entry, score in near if entry in known), None)
        if found is not None and found[1] >= threshold:
            served.append(found[0])
        else:
            served.append(None)
            known.add(number)
    return served


def count(stream: list[Nearest], served: list[int | None], same: Same) -> Count:
    """Count what was served rightly and wrongly."""
    labels = [
        same(stream[entry].answer, question.answer)
        for question, entry in zip(stream, served, strict=True)
        if entry is not None
    ]
    return Count(len(labels), labels.count(False), labels.count(None))
