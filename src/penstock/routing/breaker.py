"""The circuit breaker of one target: closed → open → half-open → closed or open again.

- *closed*: requests pass; `failures` of them in a row open it.
- *open*: nothing passes until the recovery time is over. It doubles each time a probe fails, up to eightfold.
- *half-open*: one request passes as a probe. If it is answered the circuit closes, if it fails it opens, and if it is
  given up (the client hung up) the next request is the probe.

Beside that, a rate limit makes a target *cool down* for as long as the upstream asks. That says nothing about its
health, so it leaves the three states as they are.
"""

from __future__ import annotations

import math
from typing import Literal

from penstock.core.errors import ProviderError

State = Literal["closed", "open", "half_open", "cooling"]
Verdict = Literal["failure", "limited", "alive"]

RATE_LIMITED = "rate_limit_exceeded"
UNKNOWN_WAIT_S = 1.0
"""How long to wait when there is no telling: a rate limit without Retry-After, a probe that is on its way."""
MAX_COOLDOWN_S = 300.0
"""The longest a target is left alone for a rate limit, so that an absurd Retry-After does not take it out for good."""
_RECENT_S = 30.0
"""How long after a pause a target may still be short of capacity."""
_MAX_STRIKES = 3
_CLIENTS_FAULT = frozenset({400, 404, 413, 422})


def judge(error: ProviderError) -> Verdict:
    """Say what `error` tells about the target.

    A target that cannot be reached, breaks off, answers nonsense, a server error or that its key is wrong has failed;
    one that finds fault with the request is alive.
    """
    if error.status_code in _CLIENTS_FAULT:
        return "alive"
    if error.code == RATE_LIMITED:
        return "limited"
    return "failure" if error.code.startswith("upstream_") else "alive"


class Circuit:
    """One target's breaker. It has no clock: `now` is seconds on any monotonic clock, the same for all calls.

    A request that `admit` lets pass gets a permit and reports with it, exactly once: `succeeded`, `failed`, `limited`
    or `released`. Reports of requests that passed before the circuit last opened are ignored: they are old news.

    Attributes:
        cause: Code of the error that opened it; empty while it is closed.
    """

    __slots__ = ("_cool_until", "_failures", "_limit", "_permit", "_probing", "_recovery_s", "_state", "_strikes",
                 "_until", "cause")  # fmt: skip

    def __init__(self, failures: int, recovery_s: float) -> None:
        """`failures` in a row open it, for `recovery_s` seconds the first time."""
        self._limit = failures
        self._recovery_s = recovery_s
        self._state: Literal["closed", "open", "half_open"] = "closed"
        self._failures = 0
        self._strikes = 0
        self._until = 0.0
        self._cool_until = -math.inf
        self._probing = False
        self._permit = 0
        self.cause = ""

    def admit(self, now: float) -> int | None:
        """Let one request pass: its permit, or None when the target is to be left alone."""
        if self._cool_until > now:
            return None
        if self._state == "closed":
            return self._permit
        if self._state == "open":
            if now < self._until:
                return None
            self._state = "half_open"
        if self._probing:
            return None
        self._probing = True
        return self._permit

    def answering(self, permit: int) -> None:
        """A stream has begun: no report yet, but a probe need not block others until its stream ends.

        The circuit closes on probation: one failure, such as the stream breaking off, opens it again.
        """
        if permit == self._permit and self._state == "half_open":
            self._state = "closed"
            self._probing = False
            self._failures = self._limit - 1

    def succeeded(self, permit: int) -> None:
        """The request was answered in full, or refused for a fault of its own."""
        if permit == self._permit and (self._failures or self._strikes):
            self._state = "closed"
            self._probing = False
            self._failures = self._strikes = 0
            self.cause = ""

    def failed(self, permit: int, now: float, cause: str) -> None:
        """The target failed the request with an error of code `cause`."""
        if permit != self._permit:
            return
        self._failures += 1
        if self._state == "closed" and self._failures < self._limit:
            return
        self._state = "open"
        self._probing = False
        self._permit += 1
        self._until = now + self._recovery_s * 2**self._strikes
        self._strikes = min(self._strikes + 1, _MAX_STRIKES)
        self.cause = cause

    def limited(self, permit: int, now: float, retry_after: float | None) -> None:
        """The target asked for `retry_after` seconds of rest; None when it did not say how many."""
        wait = UNKNOWN_WAIT_S if retry_after is None else min(retry_after, MAX_COOLDOWN_S)
        self._cool_until = max(self._cool_until, now + wait)
        self.released(permit)

    def released(self, permit: int) -> None:
        """The request was given up before it told anything about the target."""
        if permit == self._permit:
            self._probing = False

    @property
    def opened(self) -> bool:
        """It has opened, and no answer has closed it yet."""
        return self._state != "closed"

    def unreachable(self, now: float, cause: str) -> None:
        """A check, not a request, found that the target cannot be reached: nothing passes for the recovery time."""
        if self._state == "closed":
            self._permit += 1
            self._failures = self._limit
            self.cause = cause
        elif self._probing:
            return  # the probe knows better
        self._state = "open"
        self._until = max(self._until, now + self._recovery_s)

    def hasten(self, now: float) -> bool:
        """End the recovery time, so that the next request is a probe; False when that would not let one pass."""
        if self._state != "open" or self._cool_until > now:
            return False
        self._until = now
        return True

    def recovers_in(self, now: float) -> float:
        """Seconds until a request may pass; 0 when it may now."""
        wait = max(self._cool_until - now, 0.0)
        if self._state == "open":
            return max(wait, self._until - now)
        return max(wait, UNKNOWN_WAIT_S) if self._probing else wait

    def steady(self, now: float) -> bool:
        """Whether it is closed, and the last pause the target asked for, if any, has been over for some time."""
        return self._state == "closed" and now - self._cool_until >= _RECENT_S

    def state(self, now: float) -> State:
        """How it looks: ``cooling`` for a rate limit, ``half_open`` as soon as the recovery time is over."""
        if self._state == "open":
            return "open" if now < self._until else "half_open"
        if self._state == "closed" and self._cool_until > now:
            return "cooling"
        return self._state
