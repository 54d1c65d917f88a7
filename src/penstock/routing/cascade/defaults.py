"""Generic weights, for cascades that have no labels yet: what lowers the odds of an answer, whatever it is about."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.routing.cascade import answers, prompts
from penstock.routing.cascade.landmarks import Landmarks
from penstock.routing.cascade.logistic import Logistic

_ANSWER = {
    "length": -0.3,
    "relative_length": 0.3,
    "hedges": -0.6,
    "corrections": -0.4,
    "refusal": -3.0,
    "repetition": -3.0,
    "marked": 0.3,
    "many_finals": -0.5,
    "final_fraction": -0.5,
    "final_computed": 0.3,
    "wrong": -1.0,
    "any_wrong": -1.5,
    "fractions": -0.3,
    "negatives": -0.3,
    "unused": -0.5,
    "unused_words": -0.3,
    "dangling": -0.3,
    "repeated": -0.3,
    "no_product": -0.3,
    "no_quotient": -0.3,
    "no_difference": -0.3,
    "logprob_mean": 3.0,
    "logprob_known": -2.5,
    "agreement": 3.0,
    "agreement_known": -2.0,
}

SCORES = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0)
VALUES = (0.018, 0.119, 0.269, 0.5, 0.731, 0.881, 0.982)
"""The logistic curve: generic weights are not calibrated."""


def _ordered(names: tuple[str, ...], weights: Mapping[str, float]) -> tuple[float, ...]:
    return tuple(weights.get(name, 0.0) for name in names)


_FLAT = (0.0,) * len(prompts.FEATURES)
BEFORE = Landmarks(0.7, _FLAT, _FLAT, (), ())
AFTER = Logistic(2.5, (1.0, *_ordered(answers.FEATURES, _ANSWER)))
