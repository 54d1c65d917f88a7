"""Time that moves when a test says so."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush

_TURNS = 25
"""Turns of the event loop after which tasks that were woken are taken to have come to rest."""


class FakeClock:
    """A `penstock.core.clock.Clock` that stands still until it is moved.

    Example:
        ::

            clock = FakeClock()
            waiting = asyncio.create_task(clock.sleep(5))
            await clock.run(5)
            assert waiting.done()
    """

    def __init__(self, *, monotonic: float = 1000.0, wall: float = 1_800_000_000.0) -> None:
        """Start at these times, in seconds."""
        self._now = monotonic
        self._wall_offset = wall - monotonic
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    @property
    def sleeping(self) -> int:
        """How many sleepers wait now."""
        return sum(not sleeper.done() for _, _, sleeper in self._sleepers)

    def monotonic(self) -> float:
        """Seconds; moved by `advance` and `run` only."""
        return self._now

    def wall(self) -> float:
        """Seconds since the Unix epoch; moves along with `monotonic`, and by `jump`."""
        return self._now + self._wall_offset

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has been moved by `seconds`; zero or less only yields to other tasks."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        sleeper = asyncio.get_running_loop().create_future()
        self._count += 1
        heappush(self._sleepers, (self._now + seconds, self._count, sleeper))
        await sleeper

    def advance(self, seconds: float) -> None:
        """Move time at once and wake the sleepers that are due, in order; they run when the caller next waits.

        One that goes back to sleep does so from the new time. Use `run` for time that passes for the tasks as well.

        Raises:
            ValueError: `seconds` is negative.
        """
        if seconds < 0:
            raise ValueError("time does not go back; use jump() for the wall clock")
        self._move_to(self._now + seconds)

    async def run(self, seconds: float) -> None:
        """Let time pass: from sleeper to sleeper, and what they wake runs before time goes on."""
        end = self._now + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            self._move_to(self._sleepers[0][0])
            await self.settle()
        self.advance(max(end - self._now, 0.0))
        await self.settle()

    async def settle(self) -> None:
        """Let tasks run until they wait for something, without any time passing."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    def jump(self, seconds: float) -> None:
        """Move the wall clock alone, forwards or back, as an administrator or NTP does."""
        self._wall_offset += seconds

    def _move_to(self, end: float) -> None:
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, sleeper = heappop(self._sleepers)
            self._now = max(self._now, due)
            if not sleeper.done():
                sleeper.set_result(None)
        self._now = end
