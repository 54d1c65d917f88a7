"""How probable it is that a known answer fits, from what a proposal looks like and how its entry has done.

One logistic model for all entries, and for each an intercept of its own that is drawn to zero until its history says
otherwise (empirical Bayes), so that a new entry is useful at once and a bad one is shut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp
from typing import NamedTuple

import msgspec


class Features(NamedTuple):
    """What the model goes by.

    Attributes:
        similarity: Cosine to the proposed entry, 0 to 1.
        margin: Similarity less that of the nearest entry whose answer differs. Duplicates with one answer leave it.
        difference: Share of the weight of the words with content that only one of the texts has, rare words weighing
            more.
        length: Words of the shorter text over those of the longer.
    """

    similarity: float
    margin: float
    difference: float
    length: float


class Weights(NamedTuple):
    """The pooled model: an intercept and a weight for each feature, and for similarity times margin."""

    intercept: float
    similarity: float
    margin: float
    difference: float
    length: float
    both: float


def inputs(features: Features) -> tuple[float, ...]:
    """Return what the weights multiply."""
    return (1.0, *features, features.similarity * features.margin)


class PooledModel:
    """A logistic model that learns from labels.

    Args:
        weights: Where it starts.
        trust: How many labels the start is worth.
        spread: Variance of the entries' intercepts.
    """

    def __init__(self, weights: Weights, *, trust: float = 200.0, spread: float = 2.0) -> None:
        self._weights = list(weights)
        self._precision = [trust * 0.1] * len(weights)
        self._prior = 1.0 / spread
        self._entries: dict[int, tuple[float, float]] = {}

    def probability(self, features: Features, entry: int) -> float:
        """Return the probability that `entry` has the right answer."""
        return self._probability(inputs(features), entry)

    def learn(self, features: Features, entry: int, *, right: bool) -> None:
        """Learn from a label, by one step of Newton's method for the pool and for the entry."""
        row = inputs(features)
        chance = self._probability(row, entry)
        error, curvature = float(right) - chance, chance * (1.0 - chance)
        for place, value in enumerate(row):
            self._precision[place] += curvature * value * value
            self._weights[place] += error * value / self._precision[place]
        own, precision = self._entries.get(entry, (0.0, self._prior))
        precision += curvature
        self._entries[entry] = (own + error / precision, precision)

    def forget(self, entry: int) -> None:
        """Drop what is known of an entry that has left."""
        self._entries.pop(entry, None)

    def dump(self) -> bytes:
        """Return everything learnt."""
        return msgspec.msgpack.encode((self._weights, self._precision, self._prior, self._entries))

    @classmethod
    def load(cls, state: bytes) -> PooledModel:
        """Return the model that `dump` was called on.

        Raises:
            ValueError: `state` is not such a thing, or of a model with other inputs.
        """
        weights, precision, prior, entries = msgspec.msgpack.decode(
            state, type=tuple[list[float], list[float], float, dict[int, tuple[float, float]]]
        )
        if len(weights) != len(Weights._fields) or len(precision) != len(weights):
            raise ValueError(f"the state of a model has {len(weights)} weights, not {len(Weights._fields)}")
        model = cls(Weights(*weights), spread=1.0 / prior)
        model._precision, model._entries = precision, entries
        return model

    @property
    def intercepts(self) -> Mapping[int, float]:
        """The entries' own intercepts, of those that have labels."""
        return {entry: own for entry, (own, _) in self._entries.items()}

    def _probability(self, row: tuple[float, ...], entry: int) -> float:
        own = self._entries.get(entry)
        total = (own[0] if own else 0.0) + sum(w * x for w, x in zip(self._weights, row, strict=True))
        return 1.0 / (1.0 + exp(-max(-30.0, min(30.0, total))))
