"""Fitted by `benchmarks.semantic_fit` on public data; do not edit."""

from __future__ import annotations

from penstock.matching.model import Weights

WEIGHTS = Weights(-1.5308, 4.0082, 1.6732, -2.1693, -0.0315, 0.0840)
PRIOR: tuple[tuple[float, float], ...] = (
    (0.0, 40.0),
    (0.0, 87.0),
    (2.5, 88.5),
    (7.0, 59.0),
    (10.0, 34.0),
    (21.0, 32.5),
    (14.5, 16.0),
    (16.0, 15.0),
    (14.5, 8.0),
    (13.0, 7.5),
    (12.0, 5.5),
    (12.0, 5.0),
    (16.0, 2.5),
    (24.0, 5.0),
    (32.5, 3.0),
    (27.5, 3.5),
    (25.5, 2.0),
    (10.5, 1.0),
    (0.0, 0.0),
    (0.0, 0.0),
    (0.0, 0.0),
    (0.0, 0.0),
    (0.0, 0.0),
    (0.0, 0.0),
)
"""How often the model was right (first) and wrong, by bin, on pairs it was not fitted on."""
