"""A bucket that several processes draw from."""

from __future__ import annotations

from penstock.limiting.bucket import OutsideBucket
from penstock.shared_memory.table import UNTIL, VALUE, Table


class SharedBucket(OutsideBucket):
    """Has its level in a table, as the moment at which it will be full, which is one number and never half written.

    `now` must be on a clock that all processes share, as the machine's monotonic one is. What changes it is called
    under the table's lock.
    """

    __slots__ = ("_name", "_place", "_table")

    def __init__(self, per_minute: float, table: Table, name: bytes) -> None:
        """Holds a minute's worth; full when `name` is not in `table`."""
        super().__init__(per_minute)
        self._table = table
        self._name = name
        self._place = -1

    def level(self, now: float) -> float:
        """What is in it; negative is debt."""
        table = self._table
        if not table.has(self._place, self._name):
            self._place = table.find(self._name)
            if self._place < 0:
                return self.capacity
        missing_s = table.numbers[self._place + VALUE] - now
        return self.capacity - missing_s * self._rate if missing_s > 0.0 else self.capacity

    def fill(self, level: float, now: float) -> None:
        """There is `level` in it at `now`, when it was last looked at."""
        full_at = now + (self.capacity - level) / self._rate
        # Full buckets are not needed: their places are the first that others take.
        if self._place >= 0:
            numbers = self._table.numbers
            numbers[self._place + UNTIL] = numbers[self._place + VALUE] = full_at
        else:
            self._table.put(self._name, full_at, full_at)

    def resize(self, per_minute: float, capacity: float, now: float) -> None:
        """Not for these: others count by the old size."""
        raise NotImplementedError

    def lower(self, most: float, now: float) -> None:
        """There is no more than `most` in it, somebody who knows says."""
        self.fill(min(self.level(now), most), now)
