"""A token bucket: a rate that is kept on average, and a burst above it."""

from __future__ import annotations

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

    __slots__ = ("_at", "_level", "_rate", "capacity")

    def __init__(self, per_minute: float, capacity: float | None = None) -> None:
        """Holds a minute's worth unless `capacity` says otherwise."""
        self.capacity = float(per_minute if capacity is None else capacity)
        self._rate = per_minute / _MINUTE_S
        self._level = self.capacity
        self._at: float | None = None

    def level(self, now: float) -> float:
        """What is in it; negative is debt."""
        at = self._at
        if at is None:
            self._at = now
        elif now > at:
            self._at = now
            level = self._level + (now - at) * self._rate
            self._level = level if level < self.capacity else self.capacity
        return self._level

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

    def until_full_s(self, level: float) -> float:
        """Seconds until it is full when `level` is in it, if nothing is taken."""
        missing = self.capacity - level
        return 0.0 if missing <= self.capacity * _ROUNDING else missing / self._rate

    def charge(self, amount: float, now: float) -> float:
        """Take `amount` whatever there is, give back when it is negative; return what is in it then."""
        # `level` and `fill` in one, since each request charges several.
        at, level, capacity = self._at, self._level, self.capacity
        if at is None:
            self._at = now
        elif now > at:
            self._at = now
            level += (now - at) * self._rate
            if level > capacity:
                level = capacity
        level -= amount
        if level > capacity:
            level = capacity
        self._level = level
        return level

    def fill(self, level: float, now: float) -> None:
        """There is `level` in it at `now`, when it was last looked at."""
        del now
        self._level = level

    def resize(self, per_minute: float, capacity: float, now: float) -> None:
        """Change both; what was taken stays taken."""
        self._level = self.level(now) + capacity - self.capacity
        self.capacity = capacity
        self._rate = per_minute / _MINUTE_S

    def lower(self, most: float, now: float) -> None:
        """There is no more than `most` in it, somebody who knows says."""
        self._level = min(self.level(now), most)


class OutsideBucket(Bucket):
    """A bucket whose level is elsewhere: `level` and `fill` say how it is read and written."""

    __slots__ = ()

    def charge(self, amount: float, now: float) -> float:
        """Take `amount` whatever there is, give back when it is negative; return what is in it then."""
        level = min(self.level(now) - amount, self.capacity)
        self.fill(level, now)
        return level
