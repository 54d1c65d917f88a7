"""Fitted by `benchmarks.context_fit` on public data; do not edit."""

from __future__ import annotations

INTERCEPT = -3.047
BLOCKS = (0.107, -0.111, 0.375, 0.783, 0.626, 1.454, 1.273, 0.551, 2.101, 0.734, 3.032, -7.046)
TURNS = (1.263, 0.078, -0.133)
