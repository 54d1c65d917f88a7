"""How much was used in the last minute, so that no minute sees more than its limit, wherever a provider lets it begin.

A bucket that holds a burst lets that much more than its limit pass in the minute after a pause, and providers who count
in fixed or sliding minutes refuse it. A provider with a bucket of its own is satisfied by this as well: what never
exceeds L in any minute never empties a bucket of L that fills in a minute.
"""

from __future__ import annotations

from collections import deque

SPAN_S = 60.5
"""A minute, and as much as requests may overtake each other on their way."""
SLOT_S = 0.5
"""Use is summed up over this time and forgotten at its end, so the memory is bounded and the error on the safe side."""

Entry = list[float]
"""The end of a slot in time, and what was used in it."""


class Window:
    """What was used in the last minute, of at most `limit`; `now` is seconds on a monotonic clock."""

    __slots__ = ("_entries", "_limit", "_used")

    def __init__(self, limit: float) -> None:
        self._limit = float(limit)
        self._entries: deque[Entry] = deque()
        self._used = 0.0

    def resize(self, limit: float) -> None:
        """Change the limit; what was used stays used."""
        self._limit = float(limit)

    def used(self, now: float) -> float:
        """What counts against the limit."""
        entries = self._entries
        while entries and entries[0][0] + SPAN_S <= now:
            self._used -= entries.popleft()[1]
        if not entries:
            self._used = 0.0
        return self._used

    def eta_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` more fits; what is more than the limit goes alone."""
        over = self.used(now) + min(amount, self._limit) - self._limit
        if over <= self._limit * 1e-9:
            return 0.0
        for end, used in self._entries:
            over -= used
            if over <= self._limit * 1e-9:
                return end + SPAN_S - now
        return SPAN_S

    def add(self, amount: float, now: float) -> Entry:
        """Count `amount`, and return where, for `amend`."""
        self._used = self.used(now) + amount
        entries = self._entries
        if entries and now < entries[-1][0]:
            entries[-1][1] += amount
            return entries[-1]
        entry = [now + SLOT_S, amount]
        entries.append(entry)
        return entry

    def amend(self, entry: Entry, more: float, now: float) -> None:
        """What was counted as `entry` was `more` than that, or less; more counts from now if it is long ago."""
        self.used(now)
        if self._entries and entry[0] >= self._entries[0][0]:
            entry[1] += more
            self._used += more
        elif more > 0:
            self.add(more, now)
