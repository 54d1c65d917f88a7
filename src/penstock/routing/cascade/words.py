"""A sparse logistic model of hashed words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import exp, sqrt

import msgspec

_ROUNDS = 8
_STEP = 0.1
_RIDGE = 0.02
_SEEN = 3


class Words(msgspec.Struct, frozen=True):
    """Fitted weights.

    Attributes:
        weights: By hash; a hash without one has none.
    """

    weights: dict[int, float]

    def logit(self, words: Sequence[int]) -> float:
        """Return what the words add to the log-odds, between -10 and 10."""
        if not self.weights or not words:
            return 0.0
        get = self.weights.get
        return max(-10.0, min(10.0, sum(get(word, 0.0) for word in words) / sqrt(len(words))))


def fit_words(
    texts: Sequence[Sequence[int]],
    labels: Sequence[float],
    offsets: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    ridge: float = _RIDGE,
) -> Words:
    """Fit weights by stochastic gradients with a step for each word (AdaGrad, Duchi, Hazan & Singer 2011).

    Args:
        texts: Hashes of each text's words.
        labels: 0 to 1.
        offsets: Log-odds known of each text, to which those of its words are added.
        weights: How much each text counts; 1 if not given.
        ridge: How strongly weights are drawn to 0.
    """
    counts = Counter(word for words in texts for word in words)
    kept = [[word for word in words if counts[word] >= _SEEN] for words in texts]
    found: dict[int, float] = {}
    squares: dict[int, float] = {}
    for _ in range(_ROUNDS):
        for place, words in enumerate(kept):
            if words:
                _learn(found, squares, words, labels[place], offsets[place], weights[place] if weights else 1.0, ridge)
    return Words({word: round(weight, 4) for word, weight in found.items() if abs(weight) >= 5e-4})


def _learn(
    found: dict[int, float],
    squares: dict[int, float],
    words: Sequence[int],
    label: float,
    offset: float,
    weight: float,
    ridge: float,
) -> None:
    scale = 1.0 / sqrt(len(words))
    total = offset + scale * sum(found.get(word, 0.0) for word in words)
    error = weight * scale * (label - 1.0 / (1.0 + exp(-max(-30.0, min(30.0, total)))))
    for word in words:
        known = found.get(word, 0.0)
        gradient = error - ridge * known
        square = squares.get(word, 1e-2) + gradient * gradient
        squares[word] = square
        found[word] = known + _STEP * gradient / sqrt(square)
