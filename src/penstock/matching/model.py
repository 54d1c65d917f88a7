"""How probable it is that a known answer fits, from what a proposal looks like and how its entry has done.

One logistic model for all entries, and for each an intercept of its own that is drawn to zero until its history says
otherwise (empirical Bayes), so that a new entry is useful at once and a bad one is shut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log
from operator import mul
from typing import NamedTuple

import msgspec


class Features(NamedTuple):
    """What the model goes by.

    Attributes:
        similarity: Cosine to the proposed entry, 0 to 1.
        margin: Similarity less that of the nearest entry whose answer differs. Duplicates with one answer leave it.
        support: Logarithm of how many of the nearest entries have the answer proposed.
        difference: Share of the weight of the words with content that only one of the texts has, rare words weighing
            more.
        swapped: Words with content that stand where the other text has another, up to 2.
        inserted: Words with content one text has more, up to 3.
        alike: Words that seem to differ in spelling only, up to 2.
        function: Pronouns, prepositions and modal verbs that only one text has, up to 4.
        order: Share of the words with content which both have that stand in the same order.
        doubts: Differences that would be vetoes in shorter texts, up to 2.
        words: Logarithm of one more than the words with content of the shorter text.
        length: Words with content of the shorter text over those of the longer.
        alone: How little the margin says because the partition has few entries: 1 for none, 1/2 for 30, towards 0.
    """

    similarity: float
    margin: float
    support: float
    difference: float
    swapped: float
    inserted: float
    alike: float
    function: float
    order: float
    doubts: float
    words: float
    length: float
    alone: float


class Weights(NamedTuple):
    """The pooled model: an intercept, a weight for each feature, and for what is made of them in `inputs`.

    A new one is 0 until it is fitted.
    """

    intercept: float = 0.0
    similarity: float = 0.0
    margin: float = 0.0
    support: float = 0.0
    difference: float = 0.0
    swapped: float = 0.0
    inserted: float = 0.0
    alike: float = 0.0
    function: float = 0.0
    order: float = 0.0
    doubts: float = 0.0
    words: float = 0.0
    length: float = 0.0
    alone: float = 0.0
    log_margin: float = 0.0
    both: float = 0.0
    same: float = 0.0
    exact: float = 0.0
    alone_difference: float = 0.0
    alone_exact: float = 0.0


def inputs(features: Features) -> tuple[float, ...]:
    """Return what the weights multiply."""
    similarity, margin, difference, alone = features.similarity, features.margin, features.difference, features.alone
    same = difference == 0.0
    exact = float(same and not features.alike and not features.function and features.order == 1.0)
    both, log_margin = similarity * margin, log(0.02 + max(0.0, margin))
    return (1.0, *features, log_margin, both, float(same), exact, alone * difference, alone * exact)


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

    def intercept(self, entry: int) -> float:
        """Return the entry's own intercept; 0 while it has no labels."""
        known = self._entries.get(entry)
        return 0.0 if known is None else known[0]

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
        total = (own[0] if own else 0.0) + sum(map(mul, self._weights, row))
        return 1.0 / (1.0 + exp(-max(-30.0, min(30.0, total))))
