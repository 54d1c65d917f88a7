"""Fitted by `benchmarks.semantic_fit` on public data; do not edit."""

from __future__ import annotations

from typing import NamedTuple

from penstock.matching.model import Weights


class Shipped(NamedTuple):
    """What a policy starts from.

    Attributes:
        weights: Of the model.
        counts: How often it was right (first) and wrong, by bin, on pairs it was not fitted on.
    """

    weights: Weights
    counts: tuple[tuple[float, float], ...]


LEXICAL = Shipped(
    Weights(
        intercept=2.9752,
        similarity=-1.0392,
        margin=2.5063,
        support=1.5532,
        difference=-2.2883,
        swapped=-0.1925,
        inserted=-0.0911,
        alike=0.1824,
        function=-0.1146,
        order=-0.7783,
        doubts=-0.4885,
        words=1.2602,
        length=-0.097,
        alone=-1.3903,
        log_margin=0.7933,
        both=-4.3764,
        same=0.8524,
        exact=0.914,
        alone_difference=-4.4134,
        alone_exact=1.7037,
    ),
    (
        (0.0, 0.0),
        (0.0, 0.0),
        (0.0, 2.0),
        (1.0, 2.5),
        (3.0, 7.0),
        (6.5, 14.5),
        (9.0, 19.0),
        (19.0, 30.5),
        (36.5, 37.5),
        (64.0, 43.5),
        (89.5, 55.5),
        (102.5, 47.0),
        (112.0, 30.5),
        (73.0, 13.0),
        (46.5, 6.5),
        (57.0, 2.0),
        (45.5, 2.5),
        (44.0, 2.0),
        (28.5, 0.0),
        (16.0, 0.0),
        (10.0, 0.0),
        (7.0, 0.0),
        (5.5, 0.0),
        (6.5, 0.0),
    ),
)

DENSE = Shipped(
    Weights(
        intercept=-8.6021,
        similarity=12.8275,
        margin=-4.3267,
        support=1.3814,
        difference=2.45,
        swapped=-0.1517,
        inserted=0.0446,
        alike=0.6386,
        function=0.0444,
        order=-0.7567,
        doubts=-0.4385,
        words=0.52,
        length=0.8586,
        alone=-1.6869,
        log_margin=1.129,
        both=1.2653,
        same=0.5845,
        exact=0.9444,
        alone_difference=-5.1254,
        alone_exact=5.9365,
    ),
    (
        (1.5, 24.0),
        (0.5, 7.5),
        (0.0, 16.5),
        (3.0, 15.0),
        (6.0, 18.0),
        (3.5, 17.0),
        (8.0, 22.0),
        (13.5, 24.5),
        (23.0, 25.5),
        (32.5, 22.5),
        (59.5, 26.0),
        (68.5, 21.5),
        (83.0, 19.5),
        (116.0, 14.0),
        (103.5, 11.5),
        (76.0, 6.0),
        (57.0, 1.5),
        (50.5, 1.0),
        (43.5, 0.5),
        (30.0, 0.0),
        (22.0, 0.0),
        (19.0, 0.0),
        (9.5, 0.0),
        (7.0, 0.0),
    ),
)
