"""A provider's account in memory that several processes map; all of it is called under that memory's lock."""

from __future__ import annotations

from penstock.limiting.account import Budget, burst
from penstock.limiting.bucket import Bucket, OutsideBucket
from penstock.limiting.window import SLOT_S, SPAN_S, Entry, Window

_LIMIT, _FULL_AT, _TAKEN, _WINDOW = 0, 1, 2, 3
_HEAD, _USED, _RING = 0, 1, 2
_LIVE = round(SPAN_S / SLOT_S) + 1
"""Slots that count: those of the span, and the one that is being filled."""
_SLOTS = 128
BUDGET_NUMBERS = _WINDOW + _RING + _SLOTS
"""Numbers a budget takes."""


def shared_budget(numbers: memoryview[float], at: int, per_minute: int) -> Budget:
    """Return the budget whose numbers begin at `at`; all zero is a new one."""
    bucket = _Bucket(numbers, at, per_minute)
    return _SharedBudget(numbers, at, per_minute, bucket, _Window(numbers, at + _WINDOW, per_minute))


class _SharedBudget(Budget):
    __slots__ = ("_first", "_numbers")

    def __init__(self, numbers: memoryview[float], at: int, per_minute: int, bucket: Bucket, window: Window) -> None:
        self._numbers = numbers
        self._first = at
        taken = self.taken
        super().__init__(per_minute, bucket, window)
        self.taken = taken

    @property
    def taken(self) -> float:
        """All that was ever charged."""
        return self._numbers[self._first + _TAKEN]

    @taken.setter
    def taken(self, amount: float) -> None:
        self._numbers[self._first + _TAKEN] = amount


class _Bucket(OutsideBucket):
    """As `penstock.limiting.shared_bucket.SharedBucket`, but its limit may change."""

    __slots__ = ("_first", "_numbers")

    def __init__(self, numbers: memoryview[float], at: int, per_minute: int) -> None:
        super().__init__(per_minute, burst(per_minute))
        self._numbers = numbers
        self._first = at
        if not numbers[at + _LIMIT]:
            numbers[at + _LIMIT] = per_minute

    def level(self, now: float) -> float:
        missing_s = self._numbers[self._first + _FULL_AT] - now
        return self.capacity if missing_s <= 0.0 else self.capacity - missing_s * self._rate

    def fill(self, level: float, now: float) -> None:
        self._numbers[self._first + _FULL_AT] = now + (self.capacity - level) / self._rate

    def resize(self, per_minute: float, capacity: float, now: float) -> None:
        self._size(per_minute, capacity)
        before = self._numbers[self._first + _LIMIT]
        if before != per_minute:  # otherwise another process has done it
            missing_s = max(self._numbers[self._first + _FULL_AT] - now, 0.0)
            self._numbers[self._first + _FULL_AT] = now + missing_s * before / per_minute
            self._numbers[self._first + _LIMIT] = per_minute

    def lower(self, most: float, now: float) -> None:
        self.fill(min(self.level(now), most), now)


class _Window(Window):
    """A ring of slots of half a second, by the clock all processes share."""

    __slots__ = ("_first", "_numbers")

    def __init__(self, numbers: memoryview[float], at: int, limit: float) -> None:
        super().__init__(limit)
        self._numbers = numbers
        self._first = at

    def used(self, now: float) -> float:
        numbers, at, slot = self._numbers, self._first, int(now / SLOT_S)
        head = int(numbers[at + _HEAD])
        if slot > head:
            for gone in range(head - _LIVE + 1, min(slot - _LIVE, head) + 1):
                numbers[at + _RING + gone % _SLOTS] = 0.0
            numbers[at + _HEAD] = slot
            # Summed up anew, so that neither rounding nor a process that was killed at it stays.
            numbers[at + _USED] = sum(numbers[at + _RING : at + _RING + _SLOTS])
        return numbers[at + _USED]

    def eta_s(self, amount: float, now: float) -> float:
        over = self.used(now) + min(amount, self._limit) - self._limit
        if over <= self._limit * 1e-9:
            return 0.0
        head = int(self._numbers[self._first + _HEAD])
        for slot in range(head - _LIVE + 1, head + 1):
            over -= self._numbers[self._first + _RING + slot % _SLOTS]
            if over <= self._limit * 1e-9:
                return (slot + 1) * SLOT_S + SPAN_S - now
        return SPAN_S

    def add(self, amount: float, now: float) -> Entry:
        self.used(now)
        head = self._numbers[self._first + _HEAD]
        self._count(int(head), amount)
        return [head, amount]

    def amend(self, entry: Entry, more: float, now: float) -> None:
        self.used(now)
        slot = int(entry[0])
        if slot > self._numbers[self._first + _HEAD] - _LIVE:
            self._count(slot, more)
        elif more > 0:
            self.add(more, now)

    def _count(self, slot: int, amount: float) -> None:
        self._numbers[self._first + _RING + slot % _SLOTS] += amount
        self._numbers[self._first + _USED] += amount
