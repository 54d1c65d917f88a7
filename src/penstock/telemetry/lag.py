"""How late the event loop is: what it does without a pause, every other request waits for."""

from __future__ import annotations

import asyncio

INTERVAL_S = 0.05
"""Between two looks: a block of the loop that is longer than this is always seen, at least in part; a look takes some
microseconds."""
_WINDOW_S = 30.0


class LoopLag:
    """Looks when the event loop gets round to a timer, and remembers the worst."""

    def __init__(self) -> None:
        self._due = 0.0
        self._worst = self._before = 0.0
        self._window_until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look from now on, on the running loop."""
        loop = asyncio.get_running_loop()
        self._window_until = loop.time() + _WINDOW_S
        self._set(loop)

    def stop(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def worst_s(self) -> float:
        """The longest delay of a timer in the last 30 to 60 seconds, in seconds."""
        return max(self._worst, self._before)

    def _set(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + INTERVAL_S
        self._timer = loop.call_at(self._due, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        if now > self._window_until:
            self._before, self._worst = self._worst, 0.0
            self._window_until = now + _WINDOW_S
        self._worst = max(self._worst, now - self._due)
        self._set(loop)
