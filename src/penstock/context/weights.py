"""Fitted by `benchmarks.context_fit` on public data; do not edit."""

from __future__ import annotations

INTERCEPT = -3.143
BLOCKS = (0.15, -0.067, 0.386, 0.801, 0.587, 1.456, 1.184, 0.475, 2.344, 0.349, 3.857, -7.5)
TURNS = (1.429, 0.089, -0.13)
