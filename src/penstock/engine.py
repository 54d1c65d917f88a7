"""The face of what runs, which is imported when one is made: the names alone cost a program next to nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from penstock.abc import Provider
from penstock.core.clock import Clock
from penstock.core.request import Request
from penstock.core.response import Response

if TYPE_CHECKING:
    from penstock.abc.workers import Bus
    from penstock.config.loader import Loaded
    from penstock.config.settings import Settings
    from penstock.monitoring.monitor import Monitor
    from penstock.pipeline import Pipeline
    from penstock.running import Config as Config
    from penstock.semantic.operations import CacheOperations
    from penstock.semantic.warming import Make
    from penstock.shared import Shared


class Engine:
    """Answers requests in Penstock's own terms; `penstock.client.AsyncClient` is what programs use."""

    def __init__(
        self, config: Config, clock: Clock | None, providers: Mapping[str, Provider] | None, make: Make
    ) -> None:
        """As `AsyncClient`; `make` makes requests of Penstock's own."""
        from penstock.running import Running  # noqa: PLC0415 - 0.2 s and 30 MB that only those need who make one

        self._running = Running(config, clock, providers, make)
        self.clock = self._running.clock

    @property
    def loaded(self) -> Loaded:
        """The configuration as it was read."""
        return self._running.loaded

    @property
    def bus(self) -> Bus | None:
        """Reaches the other workers of the same gateway, if there are any; set before `open`."""
        return self._running.bus

    @bus.setter
    def bus(self, bus: Bus | None) -> None:
        self._running.bus = bus

    @property
    def settings(self) -> Settings:
        """The configuration in force."""
        return self._running.settings

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline in force.

        Raises:
            RuntimeError: The client is not open.
        """
        return self._running.pipeline

    @property
    def shared(self) -> Shared:
        """Store, metrics and background tasks.

        Raises:
            RuntimeError: The client is not open.
        """
        return self._running.shared

    @property
    def monitor(self) -> Monitor:
        """Alerts and health.

        Raises:
            RuntimeError: The client is not open.
        """
        return self._running.monitor

    @property
    def cache(self) -> CacheOperations:
        """What can be done with the caches: looking into them, explaining, clearing, filling and carrying them.

        Raises:
            RuntimeError: The client is not open.
        """
        return self._running.cache

    async def open(self) -> Self:
        """Open the store and the providers; harmless when they are open.

        Raises:
            ConfigError: A provider or the store cannot be set up.
            StoreError: The store cannot be opened.
        """
        await self._running.open()
        return self

    async def aclose(self) -> None:
        """Close connections and the store; what was recorded is on disk afterwards."""
        await self._running.aclose()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def reload(self, loaded: Loaded) -> None:
        """Put another configuration in force; requests that are running end with the old one.

        Raises:
            ConfigError: It cannot be used, or changes the store, which needs a restart. The old one stays in force.
        """
        await self._running.reload(loaded)

    def handle(self, request: Request) -> Awaitable[Response]:
        """Answer a request in Penstock's own terms; for servers and other surfaces.

        Inside `penstock.gather` it counts towards the deadline and the budget given there.

        Raises:
            PenstockError: As `penstock.core.errors` says.
        """
        return self._running.handle(request)
