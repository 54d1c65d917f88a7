"""Numbers of rows: they begin with the time, so rows are appended, and differ between processes."""

from __future__ import annotations

from penstock.stores.sql.tables import ID_SHIFT

_COUNTED = 1 << 11
"""Calls of one process in one millisecond, which their ids have room for."""
SUMS = _COUNTED // 2
"""Where sums of hits begin to count, so that their ids are not those of calls."""


class Ids:
    """Makes ids of milliseconds, node and count; for one thread.

    Args:
        node: A number that no other process at work has.
        first: Where the count begins in a millisecond.
    """

    def __init__(self, node: int, first: int = 0) -> None:
        self._mine = node * _COUNTED + first
        self._last = 0

    def next(self, at: float) -> int:
        """Return an id for what began `at` seconds since the epoch, or later when the clock has gone back."""
        ident = int(at * 1e3) << ID_SHIFT | self._mine  # as `first_id`
        if ident <= self._last:
            ident = self._last + 1
            if not ident % _COUNTED:
                ident += (1 << ID_SHIFT) - _COUNTED
        self._last = ident
        return ident
