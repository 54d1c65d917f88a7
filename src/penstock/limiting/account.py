"""An account at a provider: its requests and its tokens a minute."""

from __future__ import annotations

from collections.abc import Callable

from penstock.core.quota import Quota
from penstock.limiting.bucket import Bucket
from penstock.limiting.window import Entry, Window

_BURST = 6
"""A bucket holds this part of its minute: bursts of 10 s. Further use is evenly paced."""
_SMALL_BURST = 10
"""Limits of this many requests or fewer need no pacing."""


class Budget:
    """One of the two: a bucket for the pace and a window for the sum.

    Attributes:
        limit: What may be used in a minute.
        taken: All that was ever charged.
    """

    __slots__ = ("_bucket", "_window", "limit", "taken")

    def __init__(self, per_minute: int, bucket: Bucket | None = None, window: Window | None = None) -> None:
        self.limit = per_minute
        self.taken = 0.0
        self._bucket = bucket or Bucket(per_minute, burst(per_minute))
        self._window = window or Window(per_minute)

    def resize(self, per_minute: int, now: float) -> None:
        """Put another limit in force; what was used counts on."""
        self.limit = per_minute
        self._bucket.resize(per_minute, burst(per_minute), now)
        self._window.resize(per_minute)

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be used, if nobody else uses any."""
        wait = self._bucket.wait_s(amount, now)
        return max(wait, self._window.eta_s(amount, now))

    def eta_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` will have been used, also more than may be at once."""
        wait = self._bucket.eta_s(amount, now)
        return max(wait, self._window.eta_s(amount, now))

    def charge(self, amount: float, now: float) -> Entry:
        """Use `amount`; return where it is counted, for `settle`."""
        self.taken += amount
        self._bucket.charge(amount, now)
        return self._window.add(amount, now)

    def settle(self, entry: Entry, more: float, late: float, now: float) -> None:
        """What was counted as `entry` was `more`, and `late` is counted from now on."""
        self.taken += more + late
        self._bucket.charge(more + late, now)
        self._window.amend(entry, more, now)
        self._window.add(late, now)

    def heed(self, remaining: float, now: float) -> None:
        """There is no more than `remaining`, somebody who knows says."""
        self._bucket.lower(remaining, now)


class Charge:
    """What one request was charged, for `Account.settle` and `Account.heed`."""

    __slots__ = ("_budget", "_requests_taken", "_tokens", "_tokens_entry", "_tokens_taken")

    def __init__(self, tokens: float) -> None:
        self._tokens = tokens
        self._budget: Budget | None = None
        self._tokens_entry: Entry = []
        self._requests_taken = 0.0
        self._tokens_taken = 0.0


class Account:
    """Charges each request and its tokens, predicted first and settled when it has ended. `now` is monotonic."""

    __slots__ = ("_make", "_requests", "_tokens")

    def __init__(
        self,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        make: Callable[[str, int], Budget] | None = None,
    ) -> None:
        """None is no limit; `make` makes what counts ``requests`` or ``tokens``, by the limit."""
        self._make = make or _of_this_process
        self._requests = self._resized("requests", None, requests_per_minute, 0.0)
        self._tokens = self._resized("tokens", None, tokens_per_minute, 0.0)

    def resize(self, requests_per_minute: int | None, tokens_per_minute: int | None, now: float) -> None:
        """Put other limits in force; what was used counts on."""
        self._requests = self._resized("requests", self._requests, requests_per_minute, now)
        self._tokens = self._resized("tokens", self._tokens, tokens_per_minute, now)

    def wait_s(self, tokens: float, now: float) -> float:
        """Seconds until a request of so many tokens may be made, if no other is; 0 when it may now."""
        wait = 0.0 if self._requests is None else self._requests.wait_s(1, now)
        return wait if self._tokens is None else max(wait, self._tokens.wait_s(tokens, now))

    def eta_s(self, requests: int, tokens: float, now: float) -> float:
        """Seconds until so many requests with so many tokens in all will have been made."""
        wait = 0.0 if self._requests is None else self._requests.eta_s(requests, now)
        return wait if self._tokens is None else max(wait, self._tokens.eta_s(tokens, now))

    def charge(self, tokens: float, now: float) -> Charge:
        """A request is made that is predicted to use so many tokens."""
        charge = Charge(tokens)
        if self._requests is not None:
            self._requests.charge(1, now)
            charge._requests_taken = self._requests.taken
        if self._tokens is not None:
            charge._budget = self._tokens
            charge._tokens_entry = self._tokens.charge(tokens, now)
            charge._tokens_taken = self._tokens.taken
        return charge

    def settle(self, charge: Charge, input_tokens: float, output_tokens: float, now: float) -> None:
        """It has ended and used so many tokens.

        Some providers count output when they predict it and some when they have made it, so it counts from the start to
        a minute after the end.
        """
        if charge._budget is not None:
            charge._budget.settle(charge._tokens_entry, input_tokens - charge._tokens, output_tokens, now)

    def heed(self, charge: Charge, quota: Quota, now: float) -> None:
        """The provider said what remained after the request of `charge`.

        What was charged since then may not have been counted there yet.
        """
        if self._requests is not None and quota.requests_remaining is not None:
            since = self._requests.taken - charge._requests_taken
            self._requests.heed(quota.requests_remaining - since, now)
        if self._tokens is not None and quota.tokens_remaining is not None:
            since = max(self._tokens.taken - charge._tokens_taken, 0.0)
            self._tokens.heed(quota.tokens_remaining - since, now)

    def _resized(self, what: str, budget: Budget | None, per_minute: int | None, now: float) -> Budget | None:
        if per_minute is None:
            return None
        if budget is None:
            return self._make(what, per_minute)
        budget.resize(per_minute, now)
        return budget


def burst(per_minute: int) -> float:
    """Return what a bucket holds for such a limit."""
    return min(per_minute, max(_SMALL_BURST, per_minute / _BURST))


def _of_this_process(what: str, per_minute: int) -> Budget:
    del what
    return Budget(per_minute)
