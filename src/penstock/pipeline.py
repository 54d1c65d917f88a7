"""THE file: what is done to a call, in which order, and how long each part lives.

    record › limit › deadline › fallback › refresh › exact_cache › coalesce › neighbours › semantic_cache ›
    shape_context › budget › cascade › failover › hedge {
    per target: retry › breaker › load › concurrency › attempt › provider }

A layer that the settings switch off is not in the stack. `docs/adr/0001-order-of-layers.md` argues for the order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack

import msgspec

from penstock.abc import ModelInfo, Provider
from penstock.config.budgets import configured
from penstock.config.context import context_terms
from penstock.config.experiments import compared
from penstock.config.settings import Settings
from penstock.core.errors import InvalidRequest
from penstock.core.handler import Handler, Layer, handlers, waits
from penstock.core.prompt import PROMPT_MODEL
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Target
from penstock.exhibits import show
from penstock.known_way import KnownWay
from penstock.lane import Done, Passage, Stage
from penstock.layers.breaker import Breaker
from penstock.layers.coalesce import Coalesce
from penstock.layers.concurrency import concurrency_of
from penstock.layers.deadline import Deadline
from penstock.layers.exact_cache import ExactCache, NoCache
from penstock.layers.failover import Failover
from penstock.layers.limit import limit_of
from penstock.layers.load import Load
from penstock.layers.record import Record
from penstock.layers.refresh import Refresh
from penstock.layers.retry import Retry
from penstock.layers.semantic_cache import SemanticCache
from penstock.listing import list_models
from penstock.making import (
    attempts,
    balanced,
    budget,
    cascade,
    cascades_of,
    check_arms,
    check_context,
    check_models,
    coalesce,
    counter,
    fallback,
    hedge,
    identities,
    neighbours,
    refresh,
    rules,
    semantic_cache,
    shape_context,
    shaper,
)
from penstock.prompt_library import PromptLibrary
from penstock.prompts.filling import fill, model_for
from penstock.providers import registry
from penstock.routing.checks import HealthCheck
from penstock.routing.health import Health
from penstock.routing.table import RouteTable
from penstock.semantic.learner import Learner
from penstock.shared import Parts, Shared
from penstock.short_way import make_lane
from penstock.stores.opening import open_budgets as open_budgets
from penstock.stores.opening import open_desk as open_desk
from penstock.stores.opening import open_keys as open_keys
from penstock.stores.opening import open_states as open_states
from penstock.stream_lane import Listener, StreamPassage

Build = Callable[[Parts], Layer | None]
_WITHOUT_MEMORY = (None, "off")

CALL: tuple[tuple[str, Build], ...] = (
    # Outside the caches, so that hits are counted, and outside the deadline, so that late calls are.
    ("record", lambda parts: Record(parts.shared.stores.ledger, parts.shared.metrics, parts.shared.clock)),
    # Outside the caches, so that hits count as requests; it never waits, so it need not be inside the deadline.
    ("limit", lambda parts: limit_of(parts.settings, parts.shared.tenants, parts.shared.clock)),
    # Everything inside waits; waiting for another's call counts too.
    ("deadline", lambda parts: Deadline(parts.settings.timeout_s, parts.shared.clock)),
    # Outside the caches, so that another model's answer is never stored as this one's.
    ("fallback", fallback),
    # Outside the exact cache, so that it sees hits and misses alike.
    ("refresh", refresh),
    # Before coalescing: a known answer needs no company.
    ("exact_cache", lambda parts: NoCache() if parts.cache is None else parts.cache),
    # Outside failover: followers share its outcome, not only one attempt's.
    ("coalesce", coalesce),
    # Inside coalescing, so that one of several identical requests asks around; outside all that is work.
    ("neighbours", neighbours),
    # Inside coalescing, so that duplicates are embedded once; the exact cache outside holds the answers.
    ("semantic_cache", semantic_cache),
    # Inside the caches, so that each answer is worked for once; outside the budget, which holds what is really sent.
    ("shape_context", shape_context),
    # Inside the caches: hits cost nothing; outside failover: one reservation pays for all attempts.
    ("budget", budget),
    # Inside the caches, which keep the answer that was good enough, and inside the budget: one reservation pays for all
    # models. A handler over failover, since each of its models has targets of its own.
    ("cascade", cascade),
    # A handler over handlers: chooses the target for what is inside.
    ("failover", lambda parts: Failover(parts.health, parts.shared.clock, parts.shared.random, parts.shared.balancer)),
    # Around the targets' stacks: the second request goes to another target, past that one's breaker and limits.
    ("hedge", hedge),
)
"""Once per call, outermost first."""

TARGET: tuple[tuple[str, Build], ...] = (
    # Outside the breaker, so that each try asks it anew.
    ("retry", lambda parts: Retry(parts.settings.retry, parts.health, parts.shared.clock, parts.shared.random)),
    # Outside the attempt, so that a call it refuses is not recorded as an attempt: nothing was sent.
    ("breaker", lambda parts: Breaker(parts.health)),
    # Outside what waits for the target, so that those who wait count; inside the breaker: what it refuses is no load.
    ("load", lambda parts: Load(parts.shared.balancer) if balanced(parts.settings) else None),
    # Inside all that tries again, so that nobody holds a place while it waits, and each try takes its turn.
    ("concurrency", lambda parts: concurrency_of(parts.settings, parts.shared.doors, parts.health, counter(parts))),
    # Innermost: one attempt, one row, one price.
    ("attempt", attempts),
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
        self._targets = self._stack(TARGET, self._provide)
        self._restack()

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
            routes = RouteTable(rules(settings), identities(settings.providers), context_terms(settings.context))
            check_models(settings, routes)
            shared.load_prices(settings)
            await check_context(settings, shared, routes, built)
            memory = await shared.recall(settings)
            await shared.cascades.configure(cascades_of(settings, routes))
            prompts = old.prompts if old and old.settings.prompts == settings.prompts else None
            prompts = prompts or await PromptLibrary.open(settings.prompts, shared.stores.states, shared.clock)
            check_arms(settings, prompts.current)
            # Last, since nothing of what fails may be in force.
            exact = settings.cache.exact
            cache = old.cache.adopt(exact) if old and old.cache and exact.enabled else None
            if cache is None and settings.cache.exact.enabled:
                cache = ExactCache(
                    settings.cache.exact, shared.stores.cache, shared.clock, shared.tasks, shared.stores.ledger
                )
                await cache.start()
            if cache is not None:
                cache.beyond = shared.neighbourhood is not None or memory is not None
            health = health or Health(settings.breaker, shared.clock)
            pipeline = cls(Parts(settings, shared, health, cache, routes, memory, prompts, built), built)
            pipeline._closing = opened.pop_all()
        shared.doors.configure(settings.providers, settings.limits)
        shared.tenants.configure(settings.limits)
        shared.budgets.configure(configured(settings.budgets))
        await shared.trials.configure(compared(settings.experiments), settings.timeout_s)
        pipeline.relimit()
        show(pipeline.parts, pipeline.providers, pipeline._flights)
        pipeline._check()
        pipeline._renew()
        shared.answer = pipeline
        return pipeline

    async def __call__(self, request: Request) -> Response:
        """Answer `request`.

        Raises:
            PenstockError: As `penstock.core.errors` says; `InvalidRequest` for an unknown model.
        """
        if request.semantic not in _WITHOUT_MEMORY and self.parts.memory is None:
            raise InvalidRequest(
                f"x-penstock-semantic: {request.semantic} needs the semantic cache, which is off in the configuration: "
                "set cache.semantic.mode, or semantic of a model, to shadow or on.",
                param="x-penstock-semantic",
                code="semantic_cache_off",
            )
        if request.route is None:
            request = self.prepare(request)
        if request.context is not None or request.context_tokens is not None:
            self._shape(request)
        self._enter()
        try:
            response = await self._handler(request)
        except BaseException:
            self._leave()
            raise
        response.observe(_Leave(self))
        return response

    def passage(self, request: Request, done: Done) -> Passage:
        """Return the short way of a routed request for a whole answer, to be `run`; see `penstock.lane`."""
        self._enter()
        return Passage(self.lane, request, done, self._leave)

    def stream_passage(self, request: Request, listener: Listener) -> StreamPassage:
        """Return the short way of a routed request for a stream; see `penstock.stream_lane`."""
        self._enter()
        return StreamPassage(self.lane, request, None, self._leave, listener=listener)

    def prepare(self, request: Request) -> Request:
        """Return what will be asked: the prompt that is named, the arms of experiments, and the route.

        Raises:
            InvalidRequest: The model or the prompt is unknown, or a variable of the prompt is wrong.
        """
        # Before the prompt, which may be another one in an arm.
        if (assigner := self.parts.shared.trials.assigner) is not None:
            request = assigner.apply(request)
        if request.prompt is not None:
            request = fill(request, self.parts.prompts.current)
        return self.route(request)

    def route(self, request: Request) -> Request:
        """Return `request` with the route its model name leads to.

        Raises:
            InvalidRequest: The model is unknown.
        """
        return msgspec.structs.replace(request, route=self.routes.resolve(request.model))

    def model_of(self, name: str) -> str:
        """Return the model that is asked when a request names `name`: itself, or for ``prompt/NAME`` the prompt's.

        Raises:
            InvalidRequest: There is no such prompt or version, or it names no model.
        """
        if not name.startswith(PROMPT_MODEL):
            return name
        prompt, _, version = name.removeprefix(PROMPT_MODEL).partition("@")
        return model_for(name, self.parts.prompts.current.find(prompt).find(version or None))

    def at_hand(self, request: Request) -> bool:
        """Whether a routed request's answer is in memory, so that calling the pipeline with it will not wait."""
        cache = self.parts.cache
        return cache is not None and cache.at_hand(request) is not None

    def at_once(self, request: Request) -> Response | None:
        """Answer a routed request whose answer is in memory; None for others.

        Raises:
            PenstockError: It is refused.
        """
        return self._known_way.answer(request)

    async def models(self) -> list[ModelInfo]:
        """List the names clients may use: the configured ones, then what providers that answer in time offer."""
        return await list_models(self.routes, self.providers, self.parts.prompts.current)

    @property
    def learner(self) -> Learner | None:
        """What finds out whether answers by meaning were right; None while there are none."""
        layer = self._layers.get("semantic_cache")
        return layer.learner if isinstance(layer, SemanticCache) else None

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

    def _renew(self) -> None:
        """Start to renew what recurs."""
        layer = self._layers.get("refresh")
        if isinstance(layer, Refresh):
            task = self.parts.shared.tasks.spawn(layer.run(), name="look for what recurs")
            self._closing.callback(task.cancel)

    def relimit(self) -> None:
        """Put the layers of limits and budgets into the stack, or take them out: there are the first now, or none."""
        for name in ("limit", "budget"):
            self._layers.pop(name, None)
        self._restack()

    def _shape(self, request: Request) -> None:
        """Put the layer that cuts conversations into the stack if `request` is the first to ask for it."""
        if "shape_context" not in self._layers and request.context_terms() is not None:
            self._layers["shape_context"] = shaper(self.parts)
            self._restack()

    def _restack(self) -> None:
        """Put the layers around failover together, for those that wait and for the short way."""
        self._calls = self._stack(CALL, self._ask)
        self._handler = next(iter(self._calls.values())).whole
        self._known_way = KnownWay(self._calls, self._layers, self)
        self.lane = make_lane(
            self._calls, self._targets, self._layers, self.providers, self._provide, self.parts.shared
        )

    def _stack(self, order: Sequence[tuple[str, Build]], innermost: Handler) -> dict[str, Stage]:
        built = [(name, self._layers[name] if name in self._layers else build(self.parts)) for name, build in order]
        layers = {name: layer for name, layer in built if layer is not None}
        self._layers |= layers
        answering = handlers(list(layers.values()), innermost)
        return {
            name: Stage(getattr(layer, "enter", waits), inner, whole)
            for (name, layer), whole, inner in zip(layers.items(), answering[:-1], answering[1:], strict=True)
        }

    def _flights(self) -> int:
        flights = self._layers.get("coalesce")
        return len(flights) if isinstance(flights, Coalesce) else 0

    def _ask(self, request: Request) -> Awaitable[Response]:
        return self._targets["retry"].whole(request) if self.parts.shared.loading.done() else self._ask_later(request)

    async def _ask_later(self, request: Request) -> Response:
        """Asking for a price while a thread imports the list would wait for that thread, and with it the event loop."""
        await asyncio.wait((self.parts.shared.loading,))
        return await self._targets["retry"].whole(request)

    async def _provide(self, request: Request) -> Response:
        target = request.target
        if target is None:
            raise AssertionError("failover chooses a target before a provider is asked")
        return await self.providers[target.provider].send(request, target)

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
