"""Reading the configuration again, on a signal and when its file changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from penstock.config.loader import Loaded, load
from penstock.config.watch import FileStamp
from penstock.core.errors import PenstockError
from penstock.server.listening import require_keys

WATCH_S = 1.0
"""How often it is looked whether files have changed."""
_UNCHANGEABLE = ("host", "port", "workers", "reload")
"""Settings of `server` that are in force only after a restart."""

_log = logging.getLogger("penstock.server")


class Reloader:
    """Reads the configuration again, and has it put in force; one that cannot be used changes nothing.

    Args:
        started: What the start was with.
        host: The address that is listened on.
        apply: Puts a configuration in force.
    """

    def __init__(self, started: Loaded, host: str, apply: Callable[[Loaded], Awaitable[None]]) -> None:
        self._started = started
        self._host = host
        self._apply = apply
        self._reloading = asyncio.Lock()

    async def reload(self) -> None:
        """Read it now; what comes of it is logged."""
        async with self._reloading:
            try:
                loaded = await asyncio.to_thread(load, self._started.path)
                require_keys(loaded.settings.server, self._host)
                await self._apply(loaded)
            except PenstockError as error:
                _log.error("the new configuration is not used, the old one keeps serving: %s", error)
                return
            self._tell(loaded)

    async def watch(self) -> None:
        """Read it when its file changes, from now on, if `server.reload` said so at the start."""
        path = self._started.path
        if path is None or not self._started.settings.server.reload:
            return
        seen = FileStamp.of(path)
        while True:
            await asyncio.sleep(WATCH_S)
            now = FileStamp.of(path)
            if now != seen:
                seen = now
                await self.reload()

    def _tell(self, loaded: Loaded) -> None:
        _log.info("configuration reloaded from %s", self._started.path or "the environment")
        for warning in loaded.warnings:
            _log.warning("%s", warning)
        before, wanted = self._started.settings.server, loaded.settings.server
        for name in _UNCHANGEABLE:
            # Arguments hold over a reload.
            argued = self._started.sources.get(f"server.{name}", "").startswith("argument")
            if getattr(wanted, name) != getattr(before, name) and not argued:
                _log.warning("server.%s was changed: that takes effect with the next start", name)
