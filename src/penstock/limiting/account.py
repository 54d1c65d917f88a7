"""An account at a provider: its requests and its tokens a minute."""

from __future__ import annotations

from penstock.core.quota import Quota
from penstock.limiting.bucket import Bucket
from penstock.limiting.window import Entry, Window

_BURST = 6
"""A bucket holds this part of its minute: bursts of 10 s. Further use is evenly paced."""
_SMALL_BURST = 10
"""Limits of this many requests or fewer need no pacing."""


class _Budget:
    """One of the two: a bucket for the pace and a window for the sum.

    Attributes:
        taken: All that was ever charged.
    """

    __slots__ = ("_bucket", "_window", "limit", "taken")

    def __init__(self, per_minute: int) -> None:
        self.limit = per_minute
        self.taken = 0.0
        self._bucket = Bucket(per_minute, min(per_minute, max(_SMALL_BURST, per_minute / _BURST)))
        self._window = Window(per_minute)

    def wait_s(self, amount: float, now: float) -> float:
        wait = self._bucket.wait_s(amount, now)
        return max(wait, self._window.eta_s(amount, now))

    def eta_s(self, amount: float, now: float) -> float:
        wait = self._bucket.eta_s(amount, now)
        return max(wait, self._window.eta_s(amount, now))

    def charge(self, amount: float, now: float) -> Entry:
        self.taken += amount
        self._bucket.charge(amount, now)
        return self._window.add(amount, now)

    def amend(self, entry: Entry, more: float, now: float) -> None:
        self.taken += more
        self._bucket.charge(more, now)
        self._window.amend(entry, more, now)

    def heed(self, remaining: float, now: float) -> None:
        self._bucket.lower(remaining, now)


class Charge:
    """What one request was charged, for `Account.settle` and `Account.heed`.

    Attributes:
        tokens: Predicted, later as used.
    """

    __slots__ = ("_requests_taken", "_tokens_entry", "_tokens_taken", "tokens")

    def __init__(self, tokens: float) -> None:
        self.tokens = tokens
        self._tokens_entry: Entry | None = None
        self._requests_taken = 0.0
        self._tokens_taken = 0.0


class Account:
    """Charges each request and its tokens, predicted first and settled when it has ended. `now` is monotonic."""

    __slots__ = ("_requests", "_tokens")

    def __init__(self, requests_per_minute: int | None, tokens_per_minute: int | None) -> None:
        """None is no limit."""
        self._requests = None if requests_per_minute is None else _Budget(requests_per_minute)
        self._tokens = None if tokens_per_minute is None else _Budget(tokens_per_minute)

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
            charge._tokens_entry = self._tokens.charge(tokens, now)
            charge._tokens_taken = self._tokens.taken
        return charge

    def settle(self, charge: Charge, tokens: float, now: float) -> None:
        """It used so many tokens."""
        if self._tokens is not None and charge._tokens_entry is not None:
            self._tokens.amend(charge._tokens_entry, tokens - charge.tokens, now)
        charge.tokens = tokens

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
