"""Time as a dependency, so that tests and simulations can own it."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

TIMER_SLACK_S = 0.005
"""How much before its time a timer may fire: event loops count in milliseconds or coarser."""


class Clock(Protocol):
    """Where layers and policies get time from."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; only differences mean anything."""

    def wall(self) -> float:
        """Seconds since the Unix epoch; may jump."""

    async def sleep(self, seconds: float) -> None:
        """Wait; zero or less only yields to other tasks."""


class SystemClock:
    """The machine's clocks. `monotonic` is the event loop's time, so deadlines can be given to `loop.call_at`."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    async def sleep(self, seconds: float) -> None:
        """Wait on the running event loop."""
        await asyncio.sleep(max(seconds, 0.0))
