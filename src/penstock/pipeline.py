"""THE file: what is done to a call, in which order, and how long each part lives.

    record › limit › deadline › fallback › exact_cache › coalesce › failover › hedge
    { per target: retry › breaker › load › concurrency › attempt › provider }

A layer that the settings switch off is not in the stack. `docs/adr/0001-order-of-layers.md` argues for the order.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from hashlib import sha256
from typing import NamedTuple

import msgspec

from penstock.abc import Connected, ModelInfo, Provider
from penstock.config.settings import ProviderSettings, Settings
from penstock.core.call import Attempt
from penstock.core.clock import Clock, SystemClock
from penstock.core.errors import ConfigError, PenstockError, ProviderError
from penstock.core.handler import Handler, Layer, compose
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import HedgeTerms, Target
from penstock.core.tasks import TaskGroup
from penstock.core.usage import Usage
from penstock.insight.suggesting import Suggestions, suggest
from penstock.layers.attempt import Attempts
from penstock.layers.breaker import Breaker
from penstock.layers.coalesce import Coalesce
from penstock.layers.concurrency import ProviderDoors, concurrency_of
from penstock.layers.deadline import Deadline
from penstock.layers.exact_cache import ExactCache
from penstock.layers.failover import Failover
from penstock.layers.fallback import Fallback, fallbacks
from penstock.layers.hedge import Hedge
from penstock.layers.limit import TenantAccounts, limit_of
from penstock.layers.load import Load
from penstock.layers.record import Record
from penstock.layers.retry import Retry
from penstock.pricing.calibration import Calibration
from penstock.pricing.estimate import estimate_request_tokens
from penstock.pricing.machine_time import MachineTime
from penstock.pricing.prices import Account, OwnPrice, Pricer
from penstock.pricing.published import PriceList
from penstock.providers import registry
from penstock.routing.balancing import REPLICA, Balancer
from penstock.routing.checks import HealthCheck
from penstock.routing.health import Health
from penstock.routing.hedging import Hedging
from penstock.routing.table import RouteTable, Rule
from penstock.stores.opening import MEMORY, Stores, open_store
from penstock.stores.sql.reports import RecentCall as RecentCall
from penstock.stores.sql.reports import UsageLine as UsageLine
from penstock.stores.sql.reports import UsageReport as UsageReport
from penstock.stores.sql.reports import usage_report as usage_report
from penstock.telemetry.metrics import Metrics


class Shared:
    """What every configuration of one process shares.

    Attributes:
        clock: Where time comes from.
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
        loading: Ends when the price list is in memory.
    """

    loading: asyncio.Future[None]

    def __init__(self, stores: Stores, clock: Clock) -> None:
        self.clock = clock
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
        self._closing = AsyncExitStack()

    @classmethod
    async def open(cls, settings: Settings, clock: Clock | None = None) -> Shared:
        """Open the store and start what runs in the background.

        Raises:
            ConfigError: The store's URL cannot be used.
            StoreError: The store cannot be opened.
        """
        clock = clock or SystemClock()
        shared = cls(open_store(settings.store.url, clock, make_pricer(settings, clock=clock).cost), clock)
        shared._closing.push_async_callback(shared.stores.aclose)
        await shared.stores.start()
        shared._closing.push_async_callback(shared.writes.drain)
        shared._closing.push_async_callback(shared.tasks.aclose)
        shared.loading = shared.tasks.spawn(asyncio.to_thread(shared.prices.load), name="load the price list")
        return shared

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


Build = Callable[[Parts], Layer | None]

CALL: tuple[tuple[str, Build], ...] = (
    # Outside the caches, so that hits are counted, and outside the deadline, so that late calls are.
    ("record", lambda parts: Record(parts.shared.stores.ledger, parts.shared.metrics, parts.shared.clock)),
    # Outside the caches, so that hits count as requests; it never waits, so it need not be inside the deadline.
    ("limit", lambda parts: limit_of(parts.settings, parts.shared.tenants, _counter(parts), parts.shared.clock)),
    # Everything inside waits; waiting for another's call counts too.
    ("deadline", lambda parts: Deadline(parts.settings.timeout_s, parts.shared.clock)),
    # Outside the caches, so that another model's answer is never stored as this one's.
    ("fallback", lambda parts: _fallback(parts)),
    # Before coalescing: a known answer needs no company.
    ("exact_cache", lambda parts: parts.cache),
    # Outside failover: followers share its outcome, not only one attempt's.
    (
        "coalesce",
        lambda parts: Coalesce(parts.shared.clock, parts.shared.tasks) if parts.settings.cache.coalesce else None,
    ),
    # A handler over handlers: chooses the target for what is inside.
    ("failover", lambda parts: Failover(parts.health, parts.shared.clock, parts.shared.random, parts.shared.balancer)),
    # Around the targets' stacks: the second request goes to another target, past that one's breaker and limits.
    ("hedge", lambda parts: _hedge(parts)),
)
"""Once per call, outermost first."""

TARGET: tuple[tuple[str, Build], ...] = (
    # Outside the breaker, so that each try asks it anew.
    ("retry", lambda parts: Retry(parts.settings.retry, parts.health, parts.shared.clock, parts.shared.random)),
    # Outside the attempt, so that a call it refuses is not recorded as an attempt: nothing was sent.
    ("breaker", lambda parts: Breaker(parts.health)),
    # Outside what waits for the target, so that those who wait count; inside the breaker: what it refuses is no load.
    ("load", lambda parts: Load(parts.shared.balancer) if _balanced(parts.settings) else None),
    # Inside all that tries again, so that nobody holds a place while it waits, and each try takes its turn.
    ("concurrency", lambda parts: concurrency_of(parts.settings, parts.shared.doors, parts.health, _counter(parts))),
    # Innermost: one attempt, one row, one price.
    ("attempt", lambda parts: _attempts(parts)),
)
"""Once per target, inside failover."""


class Pipeline:
    """The stack for one configuration: `open` it, call it with requests, close it when a newer one took over."""

    def __init__(self, parts: Parts, providers: Mapping[str, Provider]) -> None:
        self.parts = parts
        self.settings = parts.settings
        self.routes = parts.routes
        self.providers = providers
        self.checks: list[HealthCheck] = []
        self.running = 0
        self._closing = AsyncExitStack()
        self._idle = asyncio.Event()
        self._idle.set()
        self._layers: dict[str, Layer] = {}
        self._ask_target = self._stack(TARGET, self._provide)
        self._handler = self._stack(CALL, self._ask)

    @classmethod
    async def open(
        cls,
        settings: Settings,
        shared: Shared,
        *,
        providers: Mapping[str, Provider] | None = None,
        previous: Pipeline | None = None,
    ) -> Pipeline:
        """Build and start everything `settings` ask for; what was opened is closed again if a part fails.

        Args:
            settings: The configuration.
            shared: What outlives it.
            providers: Implementations by name, used instead of what the settings say; whoever gives them closes them.
            previous: The pipeline this one replaces; its cache and its knowledge of the targets' health are taken over
                where their settings are the same.

        Raises:
            ConfigError: A provider cannot be set up.
        """
        async with AsyncExitStack() as opened:
            built: dict[str, Provider] = {}
            for provider in settings.providers:
                given = (providers or {}).get(provider.name)
                built[provider.name] = given or registry.build(provider, clock=shared.clock)
                if given is None:
                    opened.push_async_callback(built[provider.name].aclose)
            old = previous.parts if previous is not None else None
            health = old.health if old and old.settings.breaker == settings.breaker else None
            exact = settings.cache.exact
            cache = old.cache if old and old.cache and exact.enabled and old.cache.adopt(exact) else None
            if cache is None and settings.cache.exact.enabled:
                cache = ExactCache(
                    settings.cache.exact, shared.stores.cache, shared.clock, shared.tasks, shared.stores.ledger
                )
                await cache.start()
            routes = RouteTable(rules(settings), _identities(settings.providers))
            pipeline = cls(
                Parts(settings, shared, health or Health(settings.breaker, shared.clock), cache, routes), built
            )
            pipeline._closing = opened.pop_all()
        shared.doors.configure(settings.providers, settings.limits)
        shared.tenants.configure(settings.limits)
        pipeline._show()
        pipeline._check()
        return pipeline

    async def __call__(self, request: Request) -> Response:
        """Answer `request`.

        Raises:
            PenstockError: As `penstock.core.errors` says; `InvalidRequest` for an unknown model.
        """
        if request.route is None:
            request = self.route(request)
        self._enter()
        try:
            response = await self._handler(request)
        except BaseException:
            self._leave()
            raise
        response.observe(_Leave(self))
        return response

    def route(self, request: Request) -> Request:
        """Return `request` with the route its model name leads to.

        Raises:
            InvalidRequest: The model is unknown.
        """
        return msgspec.structs.replace(request, route=self.routes.resolve(request.model))

    def at_hand(self, request: Request) -> bool:
        """Whether a routed request's answer is in memory, so that calling the pipeline with it will not wait."""
        cache = self.parts.cache
        return cache is not None and cache.at_hand(request)

    async def models(self) -> list[ModelInfo]:
        """List the names clients may use: the configured ones, then what providers that answer in time offer."""
        listed = {name: ModelInfo(id=name, owned_by="penstock") for name in self.routes.names}
        names = list(self.providers)
        offers = await asyncio.gather(*(self._offer(name) for name in names))
        for provider, offer in zip(names, offers, strict=True):
            for info in offer:
                known = self._reaches(info.id, provider)
                name = info.id if known else f"{provider}/{info.id}"
                listed.setdefault(name, msgspec.structs.replace(info, id=name, owned_by=provider))
        return list(listed.values())

    @property
    def targets_down(self) -> float | None:
        """Share of the configured targets that take no requests now; None without any."""
        targets = {
            (target.provider, target.model)
            for model in self.settings.models
            for target in model.targets
            if target.model != "*"
        }
        down = [self.parts.health.recovers_in(Target(*target)) > 0.0 for target in targets]
        return sum(down) / len(down) if down else None

    async def idle(self) -> None:
        """Wait until no request is running."""
        await self._idle.wait()

    async def aclose(self) -> None:
        """Close the connections of the providers that were built here."""
        await self._closing.aclose()

    def _show(self) -> None:
        """Put what this pipeline knows on the metrics page."""
        gauge, parts = self.parts.shared.metrics.gauge, self.parts
        gauge(
            "penstock_target_available",
            "1 when requests may go to a target now.",
            ("provider", "model"),
            lambda: [((each.provider, each.model), float(each.recovers_in_s <= 0)) for each in parts.health.states()],
        )
        gauge("penstock_under_way", "What has begun and not ended, by kind.", ("what",), self._under_way)
        gauge("penstock_upstream_connections", "Connections to providers.", ("provider", "state"), self._connections)
        gauge(
            "penstock_store_rows",
            "Rows of the store by what became of them since the start.",
            ("state",),
            lambda: [
                ((name,), count)
                for name, count in zip(("pending", "dropped", "lost"), parts.shared.stores.state[:3], strict=True)
            ],
        )
        gauge(
            "penstock_ledger_recovered",
            "Calls of killed processes that this one put into the ledger when it began, by how far they were.",
            ("stage",),
            lambda: [
                ((stage,), count)
                for stage, count in zip(("settled", "interrupted"), parts.shared.stores.recovered, strict=True)
            ],
        )
        stats = parts.cache.stats if parts.cache is not None else None
        gauge(
            "penstock_cache",
            "The exact cache: entries and bytes now, the rest since the start.",
            ("what",),
            lambda: [((name,), value) for name, value in msgspec.structs.asdict(stats()).items()] if stats else [],
        )

        if any(model.hedge for model in parts.settings.models):
            counts = parts.shared.hedging.counts
            gauge(
                "penstock_hedging",
                "Requests that were late, what was done about it, and the tokens spent, since the start.",
                ("what",),
                lambda: [((name,), value) for name, value in msgspec.structs.asdict(counts).items()],
            )

        parts.shared.doors.show(gauge)
        parts.shared.tenants.show(gauge)
        if _balanced(parts.settings):
            for field, text in REPLICA.items():
                gauge(f"penstock_replica_{field}", text, ("provider", "model"), partial(self._replicas, field))

    def _check(self) -> None:
        """Start the active health checks."""
        for provider in self.settings.providers:
            if provider.health is None:
                continue
            named = (target for model in self.settings.models for target in model.targets)
            targets = [Target(each.provider, each.model) for each in named if each.provider == provider.name]
            check = HealthCheck(
                provider.name,
                provider.health,
                self.providers[provider.name].models,
                [target for target in targets if target.model != "*"],
                self.parts.health,
            )
            self.checks.append(check)
            task = self.parts.shared.tasks.spawn(check.run(), name=f"check {provider.name}")
            self._closing.callback(task.cancel)
        self.parts.shared.metrics.gauge(
            "penstock_health_checks",
            "Active health checks that failed since the last that did not.",
            ("provider",),
            lambda: [((check.state.provider,), check.state.failed) for check in self.checks],
        )

    def relimit(self) -> None:
        """Put the layer of the limits into the stack, or take it out: the first key or team has some now, or none."""
        self._layers.pop("limit", None)
        self._handler = self._stack(CALL, self._ask)

    def _stack(self, order: Sequence[tuple[str, Build]], innermost: Handler) -> Handler:
        built = [(name, self._layers[name] if name in self._layers else build(self.parts)) for name, build in order]
        layers = {name: layer for name, layer in built if layer is not None}
        self._layers |= layers
        return compose(list(layers.values()), innermost)

    def _under_way(self) -> list[tuple[tuple[str, ...], float]]:
        shared, flights = self.parts.shared, self._layers.get("coalesce")
        return [
            (("requests",), shared.metrics.active),
            (("coalesced",), len(flights) if isinstance(flights, Coalesce) else 0),
            (("writes",), len(shared.writes)),
            (("background",), len(shared.tasks)),
            (("tasks",), len(asyncio.all_tasks())),
        ]

    def _replicas(self, field: str) -> list[tuple[tuple[str, ...], float]]:
        states = self.parts.shared.balancer.states()
        return [((each.provider, each.model), getattr(each, field)) for each in states]

    def _connections(self) -> list[tuple[tuple[str, ...], float]]:
        held = [(name, each.connections) for name, each in self.providers.items() if isinstance(each, Connected)]
        return [
            ((name, state), count)
            for name, counts in held
            for state, count in zip(("used", "idle"), counts, strict=True)
        ]

    def _ask(self, request: Request) -> Awaitable[Response]:
        return self._ask_target(request) if self.parts.shared.loading.done() else self._ask_later(request)

    async def _ask_later(self, request: Request) -> Response:
        """Asking for a price while a thread imports the list would wait for that thread, and with it the event loop."""
        await asyncio.wait((self.parts.shared.loading,))
        return await self._ask_target(request)

    async def _provide(self, request: Request) -> Response:
        target = request.target
        if target is None:
            raise AssertionError("failover chooses a target before a provider is asked")
        return await self.providers[target.provider].send(request, target)

    async def _offer(self, name: str) -> Sequence[ModelInfo]:
        try:
            async with asyncio.timeout(3.0):
                return await self.providers[name].models()
        except (ProviderError, TimeoutError):
            return ()

    def _reaches(self, model: str, provider: str) -> bool:
        try:
            targets = self.routes.resolve(model).targets
        except PenstockError:
            return False
        return any(target.provider == provider and target.model == model for target in targets)

    def _enter(self) -> None:
        self.running += 1
        self._idle.clear()

    def _leave(self) -> None:
        self.running -= 1
        if self.running == 0:
            self._idle.set()


class _Leave:
    __slots__ = ("_pipeline",)

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def on_events(self, batch: object, /) -> None:
        """Only the end matters."""

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        self._pipeline._leave()


def suggestions(
    settings: Settings, *, days: float, most: int = 200_000, said: Callable[[str], None] = lambda _: None
) -> Suggestions:
    """Replay the newest calls of the ledger under other settings.

    Args:
        settings: What is in force; names the store.
        days: How far back to look.
        most: How many calls to look at.
        said: Told of each replay before it begins.

    Raises:
        ConfigError: There is no ledger that could be read.
        StoreError: It cannot be read.
    """
    if settings.store.url == MEMORY:
        raise ConfigError("store.url is memory:, which keeps no record; set it to sqlite:///FILE", key="store.url")
    from penstock.stores.sql.facts import read_facts  # noqa: PLC0415 - SQLAlchemy, which not every store needs

    said("reading the ledger")
    facts = read_facts(settings.store.url, days=days, most=most)
    return suggest(facts, settings, make_pricer(settings).cost, said)


def rules(settings: Settings) -> list[Rule]:
    """Turn the configured models into the rules of a route table."""
    return [
        Rule(
            name=model.name,
            targets=tuple(
                Target(target.provider, target.model, target.weight, target.order, target.timeout_s)
                for target in model.targets
            ),
            strategy=model.strategy,
            cache_ttl_s=model.cache_ttl_s,
            timeout_s=model.timeout_s,
            hedge=None if model.hedge is None else HedgeTerms(model.hedge.budget, model.hedge.quantile),
            fallbacks=None if model.fallbacks is None else fallbacks(model.fallbacks, settings.fallbacks),
        )
        for model in settings.models
    ]


def _fallback(parts: Parts) -> Fallback | None:
    common = parts.settings.fallbacks
    if not common.templates and all(model.fallbacks is None for model in parts.settings.models):
        return None
    return Fallback(fallbacks(None, common), parts.routes.resolve, parts.shared.clock)


def _hedge(parts: Parts) -> Layer | None:
    if not any(model.hedge for model in parts.settings.models):
        return None
    shared = parts.shared
    return Hedge(shared.hedging, parts.health, _counter(parts), shared.clock, shared.tasks)


def _identities(providers: Sequence[ProviderSettings]) -> dict[str, bytes]:
    """Digest what in a provider's configuration changes its answers: not keys, timeouts or limits."""
    return {
        provider.name: sha256(
            json.dumps(
                provider.model_dump(mode="json", include={"kind", "base_url", "headers", "query"}), sort_keys=True
            ).encode()
        ).digest()
        for provider in providers
    }


def _balanced(settings: Settings) -> bool:
    return any(model.strategy == "balanced" for model in settings.models)


def _timeouts(settings: Settings) -> dict[str, float]:
    return {provider.name: provider.timeouts.total_s for provider in settings.providers}


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


def _attempts(parts: Parts) -> Attempts:
    shared, pricer = parts.shared, make_pricer(parts.settings, parts.shared.prices, parts.shared.clock)

    def begin(attempt: Attempt) -> None:
        own = pricer.price(attempt.provider, attempt.model).own
        if own is not None and own.usd_per_hour is not None:
            shared.machine_time.begin(attempt, own.model, own.usd_per_hour)

    def learn(request: Request, usage: Usage, output_chars: int) -> None:
        if (target := request.target) is not None:
            shared.calibration.learn((target.provider, target.model), request.payload, usage, output_chars)

    by_time = any(each.usd_per_hour is not None for each in parts.settings.prices)
    return Attempts(
        _timeouts(parts.settings),
        pricer.cost,
        partial(_estimate, shared.calibration),
        shared.clock,
        begin=begin if by_time else None,
        learn=learn,
        ledger=shared.stores.ledger,
    )


def _counter(parts: Parts) -> Callable[[Request], int]:
    """What counts a request's input tokens, as well as is known for its target."""
    return lambda request: _estimate(parts.shared.calibration, request, 0).input_tokens


def _estimate(calibration: Calibration, request: Request, output_chars: int) -> Usage:
    target = request.target
    key = None if target is None else (target.provider, target.model)
    return calibration.estimate(key, request.payload, output_chars)
