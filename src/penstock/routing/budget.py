"""How many second tries are allowed, so that they cannot multiply the load on an upstream that is failing."""

from __future__ import annotations

RESERVE = 10.0
"""Retries allowed before any request has paid for them, so that a quiet gateway can retry at all."""
_CAPACITY = 100.0
"""The most retries that can be saved up: what one restart of a busy upstream costs, not what an outage does."""


class RetryBudget:
    """A token bucket: each request puts in `share`, each retry takes out 1.

    So over any stretch of traffic retries ≤ `share` × requests + what was saved up before, and since the start
    retries ≤ `share` × requests + `RESERVE`.
    """

    __slots__ = ("_saved", "_share")

    def __init__(self, share: float) -> None:
        """`share` is between 0 and 1; 0 allows no retries, not even the reserve."""
        self._share = share
        self._saved = RESERVE if share > 0 else 0.0

    def deposit(self) -> None:
        """A request was made."""
        saved = self._saved + self._share
        self._saved = saved if saved < _CAPACITY else _CAPACITY

    def withdraw(self) -> bool:
        """Ask for one retry; False when the budget is used up."""
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True
