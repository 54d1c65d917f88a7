"""A token bucket: a rate that is kept on average, and a burst above it."""

from __future__ import annotations

import math
from collections.abc import Sequence

_MINUTE_S = 60.0
_ROUNDING = 1e-9
"""Share of the capacity that is forgiven, so that after waiting `wait_s` the amount is there."""


class Bucket:
    """Fills at `per_minute` up to `capacity` and starts full. It has no clock: `now` is seconds on a monotonic one.

    It may be in debt: what was used is charged even if it is more than there was, and more than it holds at all can be
    taken when it is full.

    Attributes:
        capacity: The most it holds.
    """

    __slots__ = ("_at", "_level", "_limit", "_rate", "capacity")

    def __init__(self, per_minute: float, capacity: float | None = None) -> None:
        """Holds a minute's worth unless `capacity` says otherwise."""
        self._size(per_minute, per_minute if capacity is None else capacity)
        self._level = self.capacity
        self._at = -math.inf

    def level(self, now: float) -> float:
        """What is in it; negative is debt."""
        level, at = self._level, self._at
        if now > at:
            self._at = now
            level += (now - at) * self._rate
        if level > self.capacity:
            level = self.capacity
        self._level = level
        return level

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` can be taken, if nobody else takes any; 0 when it can be now."""
        return self.eta_s(min(amount, self.capacity), now)

    def eta_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` has run in on top of what is there: also more than it holds at once."""
        missing = amount - self.level(now)
        return 0.0 if missing <= self.capacity * _ROUNDING else missing / self._rate

    def has(self, amount: float, level: float) -> bool:
        """Whether `amount` can be taken when `level` is in it."""
        capacity = self.capacity
        return (amount if amount < capacity else capacity) - level <= capacity * _ROUNDING

    def left(self, level: float) -> tuple[int, int, float]:
        """Return its capacity, what can be taken when `level` is in it, and seconds until it is full."""
        capacity = self.capacity
        missing = capacity - level
        full_s = 0.0 if missing <= capacity * _ROUNDING else missing / self._rate
        return self._limit, int(level) if level > 0.0 else 0, full_s

    def charge(self, amount: float, now: float) -> float:
        """Take `amount` whatever there is, give back when it is negative; return what is in it then."""
        return charge_all((self,), amount, now)[1]

    def fill(self, level: float, now: float) -> None:
        """There is `level` in it at `now`, when it was last looked at."""
        del now
        self._level = level

    def resize(self, per_minute: float, capacity: float, now: float) -> None:
        """Change both; what was taken stays taken."""
        self._level = self.level(now) + capacity - self.capacity
        self._size(per_minute, capacity)

    def lower(self, most: float, now: float) -> None:
        """There is no more than `most` in it, somebody who knows says."""
        self._level = min(self.level(now), most)

    def _size(self, per_minute: float, capacity: float) -> None:
        self._rate = per_minute / _MINUTE_S
        self.capacity = float(capacity)
        self._limit = int(capacity)


class OutsideBucket(Bucket):
    """A bucket whose level is elsewhere: `level` and `fill` say how it is read and written."""

    __slots__ = ()

    def charge(self, amount: float, now: float) -> float:
        """Take `amount` whatever there is, give back when it is negative; return what is in it then."""
        level = min(self.level(now) - amount, self.capacity)
        self.fill(level, now)
        return level


Charged = tuple[Bucket | None, float]
"""Of several buckets one in which least is left, and how much that is; None and infinity of none."""


def charge_all(buckets: Sequence[Bucket], amount: float, now: float) -> Charged:
    """Charge `amount` to each bucket, none of which is an `OutsideBucket`: each request charges several.

    `now` is not before that of an earlier charge.
    """
    tightest, least = None, math.inf
    taken = amount if amount > 0.0 else 0.0
    for bucket in buckets:
        level = bucket._level + (now - bucket._at) * bucket._rate - amount
        most = bucket.capacity - taken  # it was full before, or is now
        if level > most:
            level = most
        bucket._level, bucket._at = level, now
        if level < least:
            tightest, least = bucket, level
    return tightest, least


def give_back(buckets: Sequence[Bucket], amount: float) -> None:
    """Put `amount`, not negative, into each bucket, as charging a negative one does, but without a look at the time.

    Filling only adds, so it is soon enough to take away what is beyond the capacity when the bucket is looked at.
    """
    for bucket in buckets:
        bucket._level += amount


def look_at_all(buckets: Sequence[Bucket], now: float) -> Charged:
    """As `charge_all`, without a charge."""
    tightest, least = None, math.inf
    for bucket in buckets:
        level = bucket._level + (now - bucket._at) * bucket._rate
        if level > bucket.capacity:
            level = bucket.capacity
        if level < least:
            tightest, least = bucket, level
    return tightest, least


def charge_each(buckets: Sequence[Bucket], amount: float, now: float) -> Charged:
    """As `charge_all`, of buckets of any kind."""
    tightest, least = None, math.inf
    for bucket in buckets:
        level = bucket.charge(amount, now)
        if level < least:
            tightest, least = bucket, level
    return tightest, least


def look_at_each(buckets: Sequence[Bucket], now: float) -> Charged:
    """As `look_at_all`, at buckets of any kind."""
    tightest, least = None, math.inf
    for bucket in buckets:
        level = bucket.level(now)
        if level < least:
            tightest, least = bucket, level
    return tightest, least
