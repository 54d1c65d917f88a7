"""How often waiting looked, in one process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from penstock.core.clock import Clock

T = TypeVar("T")


class PollCounts:
    """Counts looks and the time they are spread over.

    Attributes:
        waits: Pieces of work that were waited for, failures included.
        looks: How often was looked.
        waited_s: Seconds from the first look to the end of each, together.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Begin to count anew."""
        self.waits = self.looks = 0
        self.waited_s = 0.0

    @contextmanager
    def counting(self, fetch: Callable[[], Awaitable[T]]) -> Iterator[Callable[[], Awaitable[T]]]:
        """Give `fetch` back so that each call of it counts; leaving ends the wait."""
        began = self._clock.monotonic()

        async def look() -> T:
            self.looks += 1
            return await fetch()

        try:
            yield look
        finally:
            self.waits += 1
            self.waited_s += self._clock.monotonic() - began
