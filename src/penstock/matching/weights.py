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
        intercept=4.0444,
        similarity=-1.3325,
        margin=2.6196,
        support=1.2747,
        difference=-1.8163,
        swapped=-0.2545,
        inserted=-0.0738,
        alike=0.306,
        function=-0.1083,
        order=-1.5231,
        doubts=-0.6332,
        words=1.14,
        length=0.559,
        alone=-1.5122,
        log_margin=1.0454,
        both=-4.9187,
        same=0.8693,
        exact=2.0735,
        alone_difference=-4.8438,
    ),
    (
        (0.0, 0.5),
        (0.0, 2.0),
        (0.0, 1.0),
        (1.5, 3.0),
        (1.5, 7.0),
        (5.0, 9.0),
        (7.0, 15.5),
        (13.5, 22.5),
        (23.5, 22.0),
        (34.5, 32.0),
        (58.5, 34.5),
        (88.0, 47.0),
        (112.0, 40.5),
        (87.5, 26.0),
        (53.5, 10.0),
        (56.0, 6.5),
        (43.0, 1.5),
        (31.5, 1.0),
        (22.5, 0.0),
        (22.0, 1.0),
        (25.5, 2.0),
        (15.0, 0.0),
        (8.0, 0.0),
        (9.0, 0.0),
    ),
)

DENSE = Shipped(
    Weights(
        intercept=-6.8957,
        similarity=12.0324,
        margin=-3.7148,
        support=1.1804,
        difference=2.2635,
        swapped=-0.1279,
        inserted=0.0672,
        alike=0.8424,
        function=-0.0064,
        order=-1.418,
        doubts=-0.5426,
        words=0.3859,
        length=1.388,
        alone=-1.9897,
        log_margin=1.2769,
        both=0.3596,
        same=0.5481,
        exact=5.4338,
        alone_difference=-5.1155,
    ),
    (
        (1.5, 17.5),
        (0.5, 10.0),
        (0.0, 5.0),
        (1.0, 16.5),
        (5.5, 13.0),
        (2.0, 13.5),
        (4.5, 18.0),
        (6.5, 17.0),
        (14.5, 21.5),
        (24.5, 24.5),
        (36.5, 20.0),
        (56.5, 21.0),
        (70.0, 18.0),
        (91.0, 20.5),
        (95.5, 14.5),
        (87.0, 7.0),
        (76.0, 4.5),
        (44.5, 1.5),
        (31.5, 0.0),
        (21.0, 0.0),
        (18.5, 0.0),
        (11.0, 0.5),
        (6.0, 0.0),
        (62.0, 2.5),
    ),
)
