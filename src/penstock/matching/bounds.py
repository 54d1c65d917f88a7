"""Bounds on an error rate that hold however often one looks, and an alarm when it has changed."""

from __future__ import annotations

from math import lgamma, log


def upper_bound(wrong: float, total: float, *, alpha: float, expected: float = 0.01) -> float:
    """Return a rate that the true one is above with probability `alpha` at most, at whatever moment one asks.

    The beta-binomial mixture of Robbins (1970): anytime-valid, unlike Clopper–Pearson's interval, which holds for a
    sample size chosen beforehand. Counts may be fractions.

    Args:
        wrong: How many of `total` were wrong.
        total: How many were looked at.
        alpha: How often the bound may fail.
        expected: The rate near which the bound is tightest.
    """
    if total <= 0:
        return 1.0
    a, b = 1.0, 1.0 / expected
    right = total - wrong
    mixture = _log_beta(wrong + a, right + b) - _log_beta(a, b)
    low, high = min(wrong / total, 1.0), 1.0
    for _ in range(40):
        middle = (low + high) / 2
        likelihood = (wrong * log(middle) if wrong else 0.0) + (right * log(1 - middle) if middle < 1 else -1e300)
        if mixture - likelihood >= -log(alpha):
            high = middle
        else:
            low = middle
    return high


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


class ChangeDetector:
    """Says when an error rate that was at most `delta` is not any more, from a sample of what was served.

    A product of bets that starts anew whenever it falls below 1 (e-detector, Shin, Ramdas & Rinaldo 2023): while the
    rate stays at `delta` or below, false alarms are on average `patience` requests apart at least.

    Args:
        delta: The rate that is allowed.
        patience: Requests between false alarms, at least, on average.
    """

    def __init__(self, delta: float, *, patience: float = 1000.0) -> None:
        self._delta = delta
        self._patience = patience
        self._evidence = 0.0
        self._bet = min(2.0, 0.5 / delta)

    def served(self, *, wrong: bool, chance: float) -> bool:
        """Count one served request, and return whether there is an alarm.

        Args:
            wrong: Whether it was audited and found wrong.
            chance: The probability with which it was audited.
        """
        loss = 1.0 / chance if wrong else 0.0
        self._evidence = max(self._evidence, 1.0) * (1.0 + self._bet * (loss - self._delta))
        if self._evidence < self._patience:
            return False
        self._evidence = 0.0
        return True
