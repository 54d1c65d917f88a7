"""What outlives configurations: the store, counters, background work, and what was learnt."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Mapping
from contextlib import AsyncExitStack
from typing import NamedTuple

from penstock.abc import Provider
from penstock.abc.workers import Bus
from penstock.budgeting.purses import Purses
from penstock.caching.directory import SLOTS, Directory
from penstock.caching.neighbourhood import Neighbourhood
from penstock.caching.recurrence import Recurrence
from penstock.cascading.cascades import Cascades
from penstock.config.budgets import configured
from penstock.config.caches import RefreshSettings
from penstock.config.settings import Settings
from penstock.core.clock import Clock, SystemClock
from penstock.core.errors import ConfigError
from penstock.core.handler import Handler
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.tasks import TaskGroup
from penstock.embedders.opening import open_embedder
from penstock.layers.concurrency import ProviderDoors
from penstock.layers.exact_cache import ExactCache
from penstock.layers.limit import TenantAccounts
from penstock.layers.shape_context import Shaping
from penstock.limiting.shared_gate import SharedGates
from penstock.pricing.calibration import Calibration
from penstock.pricing.estimate import estimate_request_tokens
from penstock.pricing.machine_time import MachineTime
from penstock.pricing.prices import Account, OwnPrice, Pricer
from penstock.pricing.published import SELLERS, PriceList
from penstock.prompt_library import PromptLibrary
from penstock.routing.balancing import Balancer
from penstock.routing.health import Health
from penstock.routing.hedging import Hedging
from penstock.routing.table import RouteTable
from penstock.semantic.memory import Memory
from penstock.semantic.opening import index_for
from penstock.shared_memory.table import Table
from penstock.stores.opening import Stores, open_store
from penstock.telemetry.metrics import Metrics
from penstock.trials.running import Trials

_COUNTERS = 65_536
"""Counters of limits there is room for in memory that workers share: 2 MiB, once all are used."""
_ENDED = "limits"
"""Topic of messages that a request has ended at a provider, for which others wait."""
_ENDING_S = 0.05
"""How often is looked whether a worker that left has ended."""


class Shared:
    """What every configuration of one process shares.

    Attributes:
        clock: Where time comes from.
        bus: Reaches the other workers of the same gateway; None when there are none.
        random: Where chance comes from.
        stores: Cache, ledger and stored completions at rest.
        metrics: Counters of the process.
        tasks: Background work that may be cancelled at the end.
        writes: Background work that is waited for at the end.
        prices: What tokens cost, as published.
        calibration: What is known of how models count tokens.
        machine_time: Who shares the time of machines that are paid by the hour.
        hedging: How long answers take to begin, of models that are hedged, and the budgets for it.
        balancer: What is known of the replicas behind models that are balanced.
        doors: Providers' limits, and who waits for them.
        tenants: What tenants may use a minute.
        budgets: What this process may spend.
        cascades: What models that are cascades have learnt.
        trials: The experiments.
        loading: Ends when the price list is in memory, as far as it is needed.
        answer: The pipeline in force, for what Penstock asks on its own.
        memory: The questions that were asked, while they are matched by meaning.
        recurrence: What is asked for again and again, while that is renewed.
        shaping: What is known of conversations that were cut.
        neighbourhood: What the workers of this gateway share; None when there are no others.
    """

    loading: asyncio.Future[None]
    answer: Handler

    def __init__(self, stores: Stores, clock: Clock, bus: Bus | None = None) -> None:
        self.clock = clock
        self.bus = bus
        self.random = random.Random()
        self.stores = stores
        self.metrics = Metrics()
        self.tasks = TaskGroup()
        self.writes = TaskGroup()
        self.prices = PriceList()
        self.calibration = Calibration()
        self.machine_time = MachineTime(clock)
        self.hedging = Hedging()
        self.balancer = Balancer(clock, self.random, estimate_request_tokens)
        self.doors = ProviderDoors(clock)
        self.tenants = TenantAccounts()
        self.budgets = Purses(stores.budgets, clock, self.writes)
        self.cascades = Cascades(stores.states, clock, self.tasks)
        self.trials = Trials(stores.states, stores.scores, stores.books.claim, clock, self.tasks)
        self.shaping = Shaping()
        self.memory: Memory | None = None
        self.recurrence: Recurrence[Request] | None = None
        self._renewed_by: RefreshSettings | None = None
        self._following = False
        self._priced = False
        self._closing = AsyncExitStack()
        self.neighbourhood = None if bus is None else self._settle(bus)

    @classmethod
    async def open(cls, settings: Settings, clock: Clock | None = None, bus: Bus | None = None) -> Shared:
        """Open the store and start what runs in the background.

        Raises:
            ConfigError: The store's URL cannot be used.
            StoreError: The store cannot be opened.
        """
        clock = clock or SystemClock()
        price = make_pricer(settings, clock=clock).cost
        shared = cls(open_store(settings.store.url, clock, price, settings.store.hit_rows_per_s), clock, bus)
        shared._closing.push_async_callback(shared.stores.aclose)
        shared.budgets.configure(configured(settings.budgets))
        await shared.stores.start()
        shared._closing.callback(shared.budgets.close)
        shared._closing.push_async_callback(shared._forget)
        shared._closing.push_async_callback(shared.cascades.save)
        shared._closing.push_async_callback(shared.writes.drain)
        shared._closing.push_async_callback(shared.tasks.aclose)
        shared.tasks.spawn(shared.stores.books.keep(settings.store.retention_days), name="keep the ledger's books")
        shared.loading = asyncio.get_running_loop().create_future()
        shared.loading.set_result(None)
        try:
            await shared.budgets.refresh()
        except BaseException:
            await shared.aclose()
            raise
        if shared.stores.budgets.shared or shared.budgets.index:
            shared.follow_budgets()
        else:
            shared.budgets.on_change(shared.follow_budgets)
        return shared

    def load_prices(self, settings: Settings) -> None:
        """Load the price list in the background, unless it is loaded or nobody in it is asked."""
        if not self._priced and any(each.kind in SELLERS for each in settings.providers):
            self._priced = True
            self.loading = self.tasks.spawn(asyncio.to_thread(self.prices.load), name="load the price list")

    def _settle(self, bus: Bus) -> Neighbourhood:
        """Share memory with the other workers of this gateway."""
        limits = Table(os.path.join(bus.directory, "limits"), _COUNTERS)
        gates = SharedGates(os.path.join(bus.directory, "gates"), limits, bus.number, bus.workers)
        answers = Table(os.path.join(bus.directory, "answers"), SLOTS)
        for each in (limits, gates, answers):
            self._closing.callback(each.close)
        self.tenants.share(limits)
        self.doors.share(gates, lambda provider: bus.broadcast(_ENDED, provider.encode()))
        bus.hear(_ENDED, lambda _, provider: self.doors.look(provider.decode()))

        def left(worker: int) -> None:
            """Its places are free when its process has ended, which it may take its time for."""
            if gates.gone(worker):
                self.doors.look()
            elif worker not in bus.others:
                asyncio.get_running_loop().call_later(_ENDING_S, left, worker)

        bus.watch(lambda worker, lives: None if lives or not worker else left(worker))
        return Neighbourhood(bus, Directory(answers, bus.number, self.clock), self.clock, self.stores.ledger)

    def ask(self, request: Request) -> Awaitable[Response]:
        """Answer a request of Penstock's own through the pipeline that is in force then.

        Raises:
            PenstockError: As `penstock.core.errors` says.
        """
        return self.answer(request)

    async def recall(self, settings: Settings) -> Memory | None:
        """Return what is known of earlier questions, or None when `settings` match none by meaning.

        Raises:
            ConfigError: There is no exact cache to have their answers, or the embedder cannot be opened.
        """
        semantic = settings.cache.semantic
        modes = [semantic.mode, *(model.semantic for model in settings.models)]
        if all(mode in (None, "off") for mode in modes):
            return None
        if not settings.cache.exact.enabled:
            raise ConfigError(
                "matching by meaning needs the exact cache, which has the answers",
                key="cache.semantic.mode",
                expected="off, or cache.exact.enabled: true",
            )
        if self.memory is not None and self.memory.adopt(semantic):
            return self.memory
        embedder = await open_embedder(semantic.embedder, self.ask, self.clock)
        memory = Memory(semantic, embedder, index_for(embedder), self.stores.questions, self.clock, self.tasks,
                        self.random)  # fmt: skip
        await memory.start()
        if self.memory is not None:
            memory.inherit(self.memory)
            memory.adopt(semantic)
        await self._forget()
        self.memory = memory
        return memory

    def recurring(self, terms: RefreshSettings) -> Recurrence[Request]:
        """Return what is known of requests that recur; it is learnt anew when the settings change."""
        if self.recurrence is None or self._renewed_by != terms:
            self.recurrence = Recurrence(least=terms.least, per_minute=terms.per_minute, horizon_s=terms.horizon_s)
            self._renewed_by = terms
        return self.recurrence

    async def _forget(self) -> None:
        """Keep what was learnt, and let go of the questions."""
        if self.memory is not None:
            await self.memory.aclose()
            self.memory = None

    def follow_budgets(self) -> None:
        """Keep up with budgets from now on; one that has a store of its own need not before it has any."""
        if not self._following:
            self._following = True
            self.tasks.spawn(self.budgets.follow(), name="follow changes of budgets")

    async def aclose(self) -> None:
        """End background tasks, then write out and close the store."""
        await self._closing.aclose()


class Parts(NamedTuple):
    """What layers are made of."""

    settings: Settings
    shared: Shared
    health: Health
    cache: ExactCache | None
    routes: RouteTable
    memory: Memory | None
    prompts: PromptLibrary
    providers: Mapping[str, Provider]


def make_pricer(
    settings: Settings,
    prices: PriceList | None = None,
    clock: Clock | None = None,
    accounts: Mapping[str, Account] | None = None,
) -> Pricer:
    """Make what prices calls under `settings`.

    Args:
        settings: The configuration.
        prices: The published list, by default the installed library's.
        clock: Says when now is; by default the machine's.
        accounts: Providers by name, by default those of `settings`.
    """
    if accounts is None:
        accounts = {each.name: Account(each.kind, each.discount) for each in settings.providers}
    own = [OwnPrice(**each.model_dump(exclude_none=True)) for each in settings.prices]
    return Pricer(accounts, own, prices, clock)
