"""What runs: the pipeline of a configuration, its store and background work; opened, reloaded, closed.

`penstock.engine.Engine` is its face.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

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
from penstock.semantic.operations import CacheOperations
from penstock.semantic.tools import Tools
from penstock.semantic.warming import Make
from penstock.shared import Shared
from penstock.warm_start import read_lists, warm_start

Config = str | os.PathLike[str] | Mapping[str, Any] | Settings | Loaded | None


class Running:
    """What `penstock.engine.Engine` is the face of.

    Attributes:
        loaded: The configuration as it was read.
        clock: Where time comes from.
        bus: Reaches the other workers of the same gateway, if there are any; set before `open`.
    """

    def __init__(
        self, config: Config, clock: Clock | None, providers: Mapping[str, Provider] | None, make: Make
    ) -> None:
        """As `AsyncClient`; `make` makes requests of Penstock's own."""
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
        self._make = make

    @property
    def settings(self) -> Settings:
        """The configuration in force."""
        return self._pipeline.settings if self._pipeline is not None else self.loaded.settings

    @property
    def pipeline(self) -> Pipeline:
        """As `Engine.pipeline`."""
        if self._pipeline is None:
            raise RuntimeError("the client is not open: use it as a context manager or await open()")
        return self._pipeline

    @property
    def shared(self) -> Shared:
        """As `Engine.shared`."""
        return self.pipeline.parts.shared

    @property
    def monitor(self) -> Monitor:
        """As `Engine.monitor`."""
        if self._monitor is None:
            raise RuntimeError("the client is not open: use it as a context manager or await open()")
        return self._monitor

    @property
    def cache(self) -> CacheOperations:
        """As `AsyncClient.cache`."""
        pipeline = self.pipeline
        parts = pipeline.parts
        answers = None if parts.cache is None else parts.cache.answers
        return CacheOperations(
            Tools(
                parts.settings.cache.semantic, answers, parts.memory, pipeline.learner, pipeline.prepare, self.handle,
                self._make, self.shared.stores.compact, self.clock,
            )
        )  # fmt: skip

    async def open(self) -> None:
        """As `Engine.open`."""
        with apart():  # what is started here outlives the turn that needed it first
            async with self._opening:
                if self._pipeline is None:
                    frequent = await read_lists(self.loaded.settings.cache.warm)
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
                    self._start(shared, monitor, reports)
                    if frequent and (self.bus is None or self.bus.elected):
                        warming = warm_start(frequent, self.cache, self._make)
                        shared.tasks.spawn(warming, name="warm the cache")

    def _start(self, shared: Shared, monitor: Monitor, reports: ReportSchedule) -> None:
        """Start what runs in the background; everything is open."""
        reports.start()
        shared.budgets.on_change(self._rebudget)
        shared.budgets.on_event(lambda event: monitor.raise_event(event.alert()))
        shared.trials.on_event(monitor.raise_event)
        if self.loaded.settings.alerts.rules:
            monitor.start()

    async def aclose(self) -> None:
        """As `Engine.aclose`."""
        pipeline, shared = self._pipeline, self._shared
        self._pipeline = self._shared = self._monitor = self._reports = None
        async with AsyncExitStack() as closing:
            if shared is not None:
                closing.push_async_callback(shared.aclose)
            if pipeline is not None:
                for provider in (self._providers or {}).values():
                    closing.push_async_callback(provider.aclose)
                closing.push_async_callback(pipeline.aclose)

    async def reload(self, loaded: Loaded) -> None:
        """As `Engine.reload`."""
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
        if self.bus is not None:
            monitor.join(self.bus)
        monitor.configure(self.loaded.settings)
        monitor.show(shared.metrics.gauge)
        return monitor

    async def handle(self, request: Request) -> Response:
        """As `Engine.handle`."""
        if (pipeline := self._pipeline) is None:
            await self.open()
            pipeline = self.pipeline
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
