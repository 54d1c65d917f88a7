"""Generic weights, for cascades that have no labels yet."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.routing.cascade import answers, prompts
from penstock.routing.cascade.logistic import Logistic

_PROMPT = {"length": -0.3, "numbers": -0.3, "negated": -0.1, "comparisons": -0.1}
_ANSWER = {"hedges": -0.3, "corrections": -0.4, "refusal": -3.0, "repetition": -3.0, "wrong": -1.5}

SCORES = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0)
VALUES = (0.018, 0.119, 0.269, 0.5, 0.731, 0.881, 0.982)
"""The logistic curve: generic weights are not calibrated."""


def _ordered(names: tuple[str, ...], weights: Mapping[str, float]) -> tuple[float, ...]:
    return tuple(weights.get(name, 0.0) for name in names)


BEFORE = Logistic(2.5, _ordered(prompts.FEATURES, _PROMPT))
AFTER = Logistic(0.3, (1.0, *_ordered(prompts.FEATURES, {}), *_ordered(answers.FEATURES, _ANSWER)))
