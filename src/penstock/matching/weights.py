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
        intercept=3.0927,
        similarity=-1.5582,
        margin=3.4916,
        support=1.6139,
        difference=-2.761,
        swapped=-0.163,
        inserted=-0.1117,
        alike=0.1268,
        function=-0.1369,
        order=-0.566,
        doubts=-0.4733,
        words=1.2775,
        length=-0.2792,
        alone=-1.293,
        log_margin=0.7079,
        both=-4.9684,
        same=0.8498,
        exact=0.8263,
        alone_difference=-4.6292,
        alone_exact=1.5687,
    ),
    (
        (0.0, 0.0),
        (0.0, 0.0),
        (0.0, 2.5),
        (1.5, 2.5),
        (3.0, 9.5),
        (7.0, 13.0),
        (11.0, 21.0),
        (18.0, 33.0),
        (38.5, 35.5),
        (65.5, 48.0),
        (85.5, 51.0),
        (101.0, 46.0),
        (107.0, 29.0),
        (77.0, 14.5),
        (47.5, 7.0),
        (52.5, 1.0),
        (47.5, 3.0),
        (43.5, 2.0),
        (27.0, 0.0),
        (17.0, 0.0),
        (13.0, 0.0),
        (5.0, 0.0),
        (7.0, 0.0),
        (7.0, 0.0),
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
