"""How likely each turn belongs to what answers a question.

A logistic model weighs what `penstock.context.lexicon` finds; with an embedder's scores, both rankings are fused.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from operator import mul

from penstock.context.lexicon import Lexicon
from penstock.context.weights import BLOCKS, INTERCEPT, TURNS

FUSION = 60.0
"""The constant of reciprocal rank fusion (Cormack, Clarke & Büttcher 2009)."""


def probabilities(lexicon: Lexicon, question: str) -> list[float]:
    """Return for each turn how likely it belongs to what answers `question`."""
    columns = lexicon.columns(question)
    near = lexicon.meant(_weighed(BLOCKS, columns.blocks))
    own = _weighed(TURNS, columns.turns)
    return [1.0 / (1.0 + exp(-INTERCEPT - one - other)) for one, other in zip(near, own, strict=True)]


def fuse(*rankings: Sequence[float]) -> list[float]:
    """Return for each turn the sum of its reciprocal ranks, as a share of the greatest possible; equals share one."""
    fused = [0.0] * len(rankings[0])
    for scores in rankings:
        rank, last = 0, None
        for at, place in enumerate(sorted(range(len(scores)), key=scores.__getitem__, reverse=True)):
            if scores[place] != last:
                rank, last = at, scores[place]
            fused[place] += FUSION / (FUSION + rank) / len(rankings)
    return fused


def _weighed(weights: Sequence[float], columns: Sequence[Sequence[float]]) -> list[float]:
    """The weighted sum of columns."""
    return [sum(map(mul, weights, row)) for row in zip(*columns, strict=True)]
