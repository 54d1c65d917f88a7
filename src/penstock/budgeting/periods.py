"""Periods of budgets, and a clock whose jumps begin none early."""

from __future__ import annotations

from datetime import UTC, datetime

from penstock.core.budget import Period
from penstock.core.clock import Clock

DAY_S = 86_400
_JUMP_S = 2.0
"""More difference than this between two clocks is a jump of one of them."""
_SETTLED_S = 3600.0
"""A jump that holds for so long is taken to have put the clock right."""


def start_of(period: Period, at: float) -> int:
    """Return when the period that `at` falls into began; seconds since the epoch, UTC. 0 for ``total``."""
    if period == "total":
        return 0
    day = int(at // DAY_S) * DAY_S
    if period == "day":
        return day
    return day - (datetime.fromtimestamp(day, UTC).day - 1) * DAY_S


def end_of(period: Period, start: int) -> float:
    """Return when the period that began at `start` ends; infinity for ``total``."""
    if period == "total":
        return float("inf")
    if period == "day":
        return start + DAY_S
    first = datetime.fromtimestamp(start, UTC)
    later = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return later.timestamp()


class SteadyClock:
    """Time since the epoch that runs with the monotonic clock, so that a jump of the wall clock begins no period.

    A wall clock that stays where it jumped to for an hour was put right; then it is followed.

    Attributes:
        offset: Seconds since the epoch when the monotonic clock was at 0.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.offset = clock.wall() - clock.monotonic()
        self._jumped: tuple[float, float] | None = None

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock.monotonic() + self.offset

    def check(self) -> None:
        """Compare the clocks; to be called every few seconds."""
        now = self._clock.monotonic()
        offset = self._clock.wall() - now
        if abs(offset - self.offset) <= _JUMP_S:
            self._jumped = None
        elif self._jumped is None or abs(self._jumped[1] - offset) > _JUMP_S:
            self._jumped = (now, offset)
        elif now - self._jumped[0] >= _SETTLED_S:
            self.offset, self._jumped = offset, None
