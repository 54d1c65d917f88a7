"""Which worker of this machine is asking for an answer now, or has one in memory.

A table in shared memory, so that looking takes no message. It is only a directory: what it says may have become untrue,
and whoever follows it asks the worker it names. Claims are made under the table's lock, so that of several workers that
want the same answer at the same instant exactly one asks for it.
"""

from __future__ import annotations

from typing import NamedTuple

from penstock.core.clock import Clock
from penstock.shared_memory.table import NAME_BYTES, UNTIL, VALUE, Table

SLOTS = 131_072
"""Keys there is room for: 4 MiB, once all are used. Those seen longest ago make room, and are then asked for again."""
_FLYING, _CACHED = 0, 1
_STATES = 2
_FLYING_S = 3600.0
"""Answers that are under way make room last, unless they have been for so long."""


class Sighting(NamedTuple):
    """Where another worker's answer is.

    Attributes:
        worker: Its number.
        cached: The answer is there; otherwise that worker is asking for it.
        value: What the table says.
    """

    worker: int
    cached: bool
    value: float


class Directory:
    """One worker's view of the table."""

    def __init__(self, table: Table, number: int, clock: Clock) -> None:
        """`number` is this worker's."""
        self._table = table
        self._clock = clock
        self._flying_here = float(number * _STATES + _FLYING)
        self._cached_here = float(number * _STATES + _CACHED)
        self._claimed: dict[bytes, int] = {}

    def look(self, key: bytes) -> Sighting | None:
        """Return where another worker's answer to `key` is, if the table says so."""
        value = self._table.get(key[:NAME_BYTES])
        return None if value is None or self._own(value) else _sighting(value)

    def claim(self, key: bytes, seen: Sighting | None = None) -> Sighting | None:
        """Say that this worker asks for `key`, unless another one does or has the answer; that one is returned.

        A claim holds until `cached` or `release` is called. What was `seen` and proved to be of no use is no obstacle.
        """
        name, table = key[:NAME_BYTES], self._table
        until = self._clock.monotonic() + _FLYING_S
        with table:
            place = table.find(name)
            if place < 0:
                place = table.add(name, self._flying_here, until)
            else:
                value = table.numbers[place + VALUE]
                if not self._own(value) and (seen is None or value != seen.value):
                    return _sighting(value)
                table.numbers[place + UNTIL] = until
                table.numbers[place + VALUE] = self._flying_here
        self._claimed[key] = place
        return None

    def cached(self, key: bytes) -> None:
        """Say that this worker has the answer."""
        name, table, now = key[:NAME_BYTES], self._table, self._clock.monotonic()
        place = self._claimed.pop(key, -1)
        if table.has(place, name):
            # Without the lock: at worst it says so of a name that takes this place now, and whoever asks is told.
            table.numbers[place + VALUE] = self._cached_here
            table.numbers[place + UNTIL] = now
            return
        with table:
            table.put(name, self._cached_here, now)

    def release(self, key: bytes) -> None:
        """Say that this worker does not ask any more; if the answer was not kept, the next who wants it asks anew."""
        if self._claimed.pop(key, None) is not None:
            self._drop(key, self._flying_here)

    def forget(self, key: bytes) -> None:
        """Say that this worker does not have the answer any more."""
        self._drop(key, self._cached_here)

    def _drop(self, key: bytes, value: float) -> None:
        name, table = key[:NAME_BYTES], self._table
        if table.get(name) == value:
            with table:
                if table.get(name) == value:
                    table.drop(name)

    def _own(self, value: float) -> bool:
        return value == self._flying_here or value == self._cached_here


def _sighting(value: float) -> Sighting:
    worker, state = divmod(int(value), _STATES)
    return Sighting(worker, state == _CACHED, value)
