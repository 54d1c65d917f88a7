"""A bucket that several processes draw from."""

from __future__ import annotations

from penstock.limiting.bucket import Bucket
from penstock.shared_memory.table import Table


class SharedBucket(Bucket):
    """Has its level in a table, as the moment at which it will be full, which is one number and never half written.

    `now` must be on a clock that all processes share, as the machine's monotonic one is. What changes it is called
    under the table's lock.
    """

    __slots__ = ("_name", "_table")

    def __init__(self, per_minute: float, table: Table, name: bytes) -> None:
        """Holds a minute's worth; full when `name` is not in `table`."""
        super().__init__(per_minute)
        self._table = table
        self._name = name

    def level(self, now: float) -> float:
        """What is in it; negative is debt."""
        full_at = self._table.get(self._name)
        return self.capacity if full_at is None or full_at <= now else self.capacity - (full_at - now) * self._rate

    def charge(self, amount: float, now: float) -> None:
        """Take `amount` whatever there is; give back when it is negative."""
        full_at = max(self._table.get(self._name) or now, now) + amount / self._rate
        # Full buckets are not needed: their places are the first that others take.
        self._table.put(self._name, full_at, full_at)

    def resize(self, per_minute: float, capacity: float, now: float) -> None:
        """Not for these: others count by the old size."""
        raise NotImplementedError

    def lower(self, most: float, now: float) -> None:
        """There is no more than `most` in it, somebody who knows says."""
        missing = self.level(now) - most
        if missing > 0:
            self.charge(missing, now)
