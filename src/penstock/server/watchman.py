"""One timer for all connections: a timer each, set and cancelled with every request, would cost more than a look."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from penstock.config.settings import ServerSettings

_MOST_S = 1.0
_SHARE = 8


class Watched(Protocol):
    """A connection."""

    def look(self, now: float, limits: ServerSettings) -> None:
        """See whether something is overdue at `now`, and if so end the connection."""


class Watchman:
    """Looks at every connection now and then, at most a second or an eighth of the shortest limit apart.

    Attributes:
        limits: Returns the settings in force.
        now: The event loop's time when it last looked, which is near enough for limits.
    """

    def __init__(self, limits: Callable[[], ServerSettings]) -> None:
        self.limits = limits
        self.now = 0.0
        self._connections: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: Watched) -> None:
        """Look at `connection` from now on."""
        self._connections.add(connection)
        if self._timer is None:
            self._set()

    def discard(self, connection: Watched) -> None:
        """Forget `connection`."""
        self._connections.discard(connection)

    def _set(self) -> None:
        loop = asyncio.get_running_loop()
        limits = self.limits()
        self.now = loop.time()
        shortest = min(limits.header_timeout_s, limits.body_timeout_s, limits.write_timeout_s)
        self._timer = loop.call_later(min(_MOST_S, shortest / _SHARE), self._look)

    def _look(self) -> None:
        self._timer = None
        if self._connections:
            self._set()
            limits = self.limits()
            for connection in [*self._connections]:
                connection.look(self.now, limits)
