"""What runs: the pipeline of a configuration, its store and background work; opened, reloaded, closed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from penstock.abc import Provider
from penstock.abc.workers import Bus
from penstock.config.environment import supplied
from penstock.config.loader import Loaded, load, load_mapping
from penstock.config.settings import Settings
from penstock.core.clock import Clock, SystemClock
from penstock.core.errors import ConfigError
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.spending import IN_FORCE, apart
from penstock.insight.measures import Totals
from penstock.monitoring.monitor import Monitor
from penstock.paying import Paying
from penstock.pipeline import Pipeline
from penstock.report_schedule import ReportSchedule
from penstock.shared import Shared
from penstock.warm_start import Frequent, read_lists

Config = str | os.PathLike[str] | Mapping[str, Any] | Settings | Loaded | None


class Engine:
    """Answers requests in Penstock's own terms; `penstock.client.AsyncClient` is what programs use.

    Attributes:
        loaded: The configuration as it was read.
        clock: Where time comes from.
        bus: Reaches the other workers of the same gateway, if there are any; set before `open`.
    """

    def __init__(self, config: Config, clock: Clock | None, providers: Mapping[str, Provider] | None) -> None:
        """As `AsyncClient`."""
        self.loaded = _load(config)
        self.clock = clock or SystemClock()
        self.bus: Bus | None = None
        self._providers = providers
        self._opening = asyncio.Lock()
        self._reloading = asyncio.Lock()
        self._shared: Shared | None = None
        self._monitor: Monitor | None = None
        self._reports: ReportSchedule | None = None
        self._paying = Paying()
        self._pipeline: Pipeline | None = None
        self._frequent: Sequence[Frequent] = ()

    @property
    def settings(self) -> Settings:
        """The configuration in force."""
        return self._pipeline.settings if self._pipeline is not None else self.loaded.settings

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline in force.

        Raises:
            RuntimeError: The client is not open.
        """
        if self._pipeline is None:
            raise RuntimeError("the client is not open: use it as a context manager or await open()")
        return self._pipeline

    @property
    def shared(self) -> Shared:
        """Store, metrics and background tasks.

        Raises:
            RuntimeError: The client is not open.
        """
        return self.pipeline.parts.shared

    @property
    def monitor(self) -> Monitor:
        """Alerts and health.

        Raises:
            RuntimeError: The client is not open.
        """
        if self._monitor is None:
            raise RuntimeError("the client is not open: use it as a context manager or await open()")
        return self._monitor

    async def open(self) -> Self:
        """Open the store and the providers; harmless when they are open.

        Raises:
            ConfigError: A provider or the store cannot be set up.
            StoreError: The store cannot be opened.
        """
        with apart():  # what is started here outlives the turn that needed it first
            async with self._opening:
                if self._pipeline is None:
                    self._frequent = await read_lists(self.loaded.settings.cache.warm)
                    shared = await Shared.open(self.loaded.settings, self.clock, self.bus)
                    try:
                        monitor = self._watch(shared)
                        reports = ReportSchedule(shared.tasks, shared.clock, shared.stores.books, monitor.tell)
                        reports.configure(self.loaded.settings)
                        self._pipeline = await Pipeline.open(self.loaded.settings, shared, providers=self._providers)
                    except BaseException:
                        await shared.aclose()
                        raise
                    self._shared, self._monitor, self._reports = shared, monitor, reports
                    self._begin(shared, monitor, reports)
        return self

    def _begin(self, shared: Shared, monitor: Monitor, reports: ReportSchedule) -> None:
        """Start what runs in the background; everything is open."""
        reports.start()
        shared.budgets.on_change(self._rebudget)
        shared.budgets.on_event(lambda event: monitor.raise_event(event.alert()))
        shared.trials.on_event(monitor.raise_event)
        if self.loaded.settings.alerts.rules:
            monitor.start()

    async def aclose(self) -> None:
        """Close connections and the store; what was recorded is on disk afterwards."""
        pipeline, shared = self._pipeline, self._shared
        self._pipeline = self._shared = self._monitor = self._reports = None
        async with AsyncExitStack() as closing:
            if shared is not None:
                closing.push_async_callback(shared.aclose)
            if pipeline is not None:
                for provider in (self._providers or {}).values():
                    closing.push_async_callback(provider.aclose)
                closing.push_async_callback(pipeline.aclose)

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
        async with self._reloading:
            old, monitor = self.pipeline, self.monitor
            if loaded.settings.store != old.settings.store:
                raise ConfigError("the store cannot be changed while running; restart Penstock", key="store")
            watch = monitor.prepare(loaded.settings)
            ReportSchedule.check(loaded.settings)
            settings = monitor.adapted(loaded.settings, loaded.sources)
            new = await Pipeline.open(settings, self.shared, providers=self._providers, previous=old)
            changed, self._pipeline, self.loaded = loaded is not self.loaded, new, loaded
            if changed:  # and not only adapted; an alert that is gone with its rule adapts anew
                watch()
                if self._reports is not None:
                    self._reports.configure(loaded.settings)
                    self._reports.start()
            self.shared.tasks.spawn(_retire(old), name="retire the old configuration")

    def _rebudget(self) -> None:
        if self._pipeline is not None:
            self._pipeline.relimit()

    def _watch(self, shared: Shared) -> Monitor:
        def totals() -> Totals:
            _, dropped, lost, _ = shared.stores.state
            return Totals(**shared.metrics.totals(), lost=dropped + lost)

        async def adapt() -> None:
            await self.reload(self.loaded)

        monitor = Monitor(shared.tasks, shared.clock, shared.stores.alerts, totals, adapt)
        monitor.gauge("active_requests", lambda: float(shared.metrics.active))
        monitor.gauge("store_pending", lambda: float(shared.stores.state[0]))
        monitor.gauge("targets_down", lambda: self.pipeline.targets_down)
        monitor.configure(self.loaded.settings)
        monitor.show(shared.metrics.gauge)
        return monitor

    async def handle(self, request: Request) -> Response:
        """Answer a request in Penstock's own terms; for servers and other surfaces.

        Inside `penstock.gather` it counts towards the deadline and the budget given there.

        Raises:
            PenstockError: As `penstock.core.errors` says.
        """
        pipeline = self._pipeline or (await self.open()).pipeline
        spending = IN_FORCE.get()
        return await (pipeline(request) if spending is None else self._paying.ask(spending, pipeline, request))


async def _retire(pipeline: Pipeline) -> None:
    try:
        await pipeline.idle()
    finally:
        await pipeline.aclose()


def _load(config: Config) -> Loaded:
    if isinstance(config, Loaded):
        return config
    if isinstance(config, Settings):
        return Loaded(supplied(config, os.environ))
    if isinstance(config, Mapping):
        return load_mapping(config)
    return load(os.fspath(config) if config is not None else None)
