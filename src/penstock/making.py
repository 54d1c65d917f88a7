"""Layers that take more than a line to make; `pipeline.py` has their order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from hashlib import sha256

from penstock.abc import Provider
from penstock.budgeting.tariff import Tariffs
from penstock.cascading.auditor import Auditor
from penstock.config.cascades import cascade_terms
from penstock.config.context import context_terms
from penstock.config.providers import ProviderSettings
from penstock.config.semantic import JudgeSettings
from penstock.config.settings import Settings
from penstock.context.billing import Billing, billing_of
from penstock.context.window import Windows
from penstock.core.call import Attempt
from penstock.core.cascade import Cascade
from penstock.core.errors import ConfigError, InvalidRequest
from penstock.core.handler import Layer
from penstock.core.request import Request
from penstock.core.route import ContextTerms, HedgeTerms, Route, Target
from penstock.core.usage import Usage
from penstock.embedders.lexical import LexicalEmbedder
from penstock.layers.attempt import Attempts
from penstock.layers.budget import REASONING_KINDS, BudgetLayer
from penstock.layers.cascade import CascadeLayer, Means
from penstock.layers.coalesce import Coalesce
from penstock.layers.fallback import Fallback, fallbacks
from penstock.layers.hedge import Hedge
from penstock.layers.neighbours import Neighbours
from penstock.layers.refresh import Refresh
from penstock.layers.semantic_cache import SemanticCache
from penstock.layers.shape_context import ShapeContext
from penstock.matching.labels.allowance import Allowance
from penstock.pricing.calibration import Calibration
from penstock.pricing.estimate import request_tokens
from penstock.prompts.collection import PromptSet
from penstock.routing.table import RouteTable, Rule
from penstock.semantic.learner import Learner
from penstock.semantic.opening import chain_of, make_chain
from penstock.shared import Parts, Shared, make_pricer


def check_models(settings: Settings, routes: RouteTable) -> None:
    """See that the models exist which matching by meaning asks, which writes summaries, and which arms ask.

    Raises:
        ConfigError: One does not.
    """
    semantic = settings.cache.semantic
    asked = {
        "cache.semantic.judge.model": semantic.judge.model if semantic.judge is not None else None,
        "context.summary.model": settings.context.summary.model,
    }
    for at, experiment in enumerate(settings.experiments):
        for number, arm in enumerate(experiment.arms):
            asked[f"experiments[{at}].arms[{number}].set.model"] = arm.set.model
    if semantic.embedder.kind == "provider":
        asked["cache.semantic.embedder.model"] = semantic.embedder.model
    for key, model in asked.items():
        if model is not None:
            try:
                routes.resolve(model)
            except InvalidRequest as error:
                raise ConfigError(str(error), key=key) from error


def check_arms(settings: Settings, prompts: PromptSet) -> None:
    """See that the prompts exist which arms of experiments take.

    Raises:
        ConfigError: One does not.
    """
    for at, experiment in enumerate(settings.experiments):
        for number, arm in enumerate(experiment.arms):
            wanted = arm.set.prompt
            if wanted is None:
                continue
            asked = [name for name in experiment.who.prompts if "*" not in name]
            for name in [wanted.id] if wanted.id is not None else asked:
                try:
                    prompts.find(name).find(None if wanted.version is None else str(wanted.version))
                except InvalidRequest as error:
                    raise ConfigError(str(error), key=f"experiments[{at}].arms[{number}].set.prompt") from error


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
            semantic=model.semantic,
            context=None if model.context is None else context_terms(settings.context, model.context),
            cascade=None if model.cascade is None else cascade_terms(model.cascade),
        )
        for model in settings.models
    ]


async def check_context(
    settings: Settings, shared: Shared, routes: RouteTable, providers: Mapping[str, Provider]
) -> None:
    """See that it is known to how many tokens conversations are to be cut.

    Raises:
        ConfigError: It is not, for one of the models.
    """
    asked = [
        (number, model.name)
        for number, model in enumerate(settings.models)
        if "*" not in model.name and _open(routes.resolve(model.name).context)
    ]
    if not asked:
        return
    await asyncio.wait((shared.loading,))
    windows = _windows(settings, shared, providers)
    for number, name in asked:
        if not windows.knowable(routes.resolve(name)):
            raise ConfigError(
                f"nobody says how long prompts for {name} may be, so what they are cut to must be set",
                key=f"models[{number}].context.tokens",
                expected="a number of tokens, there or as context.tokens",
            )


def _open(terms: ContextTerms) -> bool:
    return terms.mode == "budget" and terms.tokens is None


def shape_context(parts: Parts) -> Layer | None:
    """Make what cuts conversations; None when the configuration has none cut."""
    modes = [parts.settings.context.mode, *(model.context.mode for model in parts.settings.models if model.context)]
    return shaper(parts) if any(mode not in (None, "off") for mode in modes) else None


def shaper(parts: Parts) -> Layer:
    """Make what cuts the conversations of requests that ask for it."""
    settings, shared = parts.settings, parts.shared
    windows = _windows(settings, shared, parts.providers)
    pricer, kinds = make_pricer(settings, shared.prices, shared.clock), _kinds(settings)

    def billing(route: Route) -> Billing:
        target = route.targets[0]
        tiers = pricer.price(target.provider, target.model).tiers
        price, cached, written = tiers[-1].each[:3] if tiers else (None, None, None)
        return billing_of(kinds.get(target.provider, ""), price=price, cached=cached, written=written)

    return ShapeContext(
        settings.context, shared.shaping, windows, billing, _summarist(parts), shared.ask, shared.clock, shared.loading
    )


def _summarist(parts: Parts) -> str:
    """Return the field that limits the answers of the model for summaries."""
    model, kinds = parts.settings.context.summary.model, _kinds(parts.settings)
    targets = () if model is None else parts.routes.resolve(model).targets
    only_new = any(kinds.get(each.provider) in REASONING_KINDS for each in targets)
    return "max_completion_tokens" if only_new else "max_tokens"


def _windows(settings: Settings, shared: Shared, providers: Mapping[str, Provider]) -> Windows:
    pricer = make_pricer(settings, shared.prices, shared.clock)

    def published(target: Target) -> int | None:
        return pricer.window(target.provider, target.model)

    return Windows(published, providers)


def _kinds(settings: Settings) -> dict[str, str]:
    return {provider.name: provider.kind for provider in settings.providers}


def refresh(parts: Parts) -> Layer | None:
    """Make what renews answers that recur; None when nothing does."""
    terms, cache, shared = parts.settings.cache.refresh, parts.cache, parts.shared
    if terms is None or cache is None:
        shared.recurrence = None
        return None
    return Refresh(shared.recurring(terms), cache.answers, shared.ask, shared.clock, shared.tasks, terms.horizon_s)


def coalesce(parts: Parts) -> Layer | None:
    """Make what shares one call among identical requests; None when each makes its own."""
    if not parts.settings.cache.coalesce:
        return None
    near, by_meaning = parts.shared.neighbourhood, parts.memory is not None
    flights = None if near is None else near.flights
    return Coalesce(parts.shared.clock, parts.shared.tasks, by_meaning=by_meaning, flights=flights)


def neighbours(parts: Parts) -> Layer | None:
    """Make what takes answers of other workers; None when there are none, or nothing is shared."""
    near, cache, joins = parts.shared.neighbourhood, parts.cache, parts.settings.cache.coalesce
    if near is None or (cache is None and not joins):
        return None
    near.open_to(None if cache is None else cache.answers)
    return Neighbours(near, joins=joins, by_meaning=parts.memory is not None)


def semantic_cache(parts: Parts) -> Layer | None:
    """Make what answers by meaning; None when nothing is."""
    memory, cache, shared = parts.memory, parts.cache, parts.shared
    if memory is None or cache is None:
        return None
    settings, answers = parts.settings.cache.semantic, cache.answers
    chain = make_chain(settings, memory, shared.ask)
    learner = Learner(memory, answers, chain, shared.ask, shared.clock)
    return SemanticCache(settings, memory, answers, learner, shared.clock, shared.random, shared.tasks)


def budget(parts: Parts) -> Layer | None:
    """Make what keeps budgets; None without any."""
    shared = parts.shared
    if not shared.budgets.index:
        return None
    pricer = make_pricer(parts.settings, shared.prices, shared.clock)
    return BudgetLayer(shared.budgets, Tariffs(pricer.price, shared.clock.monotonic), parts.settings)


def cascades_of(settings: Settings, routes: RouteTable) -> dict[str, Cascade]:
    """Return the configured cascades, with the routes of their models."""
    resolved = [routes.resolve(model.name) for model in settings.models if model.cascade is not None]
    return {route.model: route.cascade for route in resolved if route.cascade is not None}


def cascade(parts: Parts) -> Layer | None:
    """Make what asks the models of cascades; None when no model is one."""
    settings = {model.name: model.cascade for model in parts.settings.models if model.cascade is not None}
    if not settings:
        return None
    shared, pricer = parts.shared, make_pricer(parts.settings, parts.shared.prices, parts.shared.clock)
    embedder = LexicalEmbedder() if parts.memory is None else parts.memory.embedder

    def price(route: Route, usage: Usage) -> Decimal | None:
        target = route.targets[0]
        return pricer.cost(target.provider, target.model, usage)[0] if shared.loading.done() else None

    def allowance(judge: JudgeSettings) -> Allowance:
        return Allowance(judge.per_minute, judge.usd_per_day, shared.clock)

    auditors = {
        name: Auditor(
            chain_of(each.labels, each.judge, embedder, allowance, shared.ask, shared.clock),
            shared.ask,
            shared.clock,
            judged=each.judge is not None,
        )
        for name, each in settings.items()
    }
    return CascadeLayer(
        Means(shared.cascades.known, auditors, price, counter(parts), shared.clock, shared.random, shared.tasks)
    )


def fallback(parts: Parts) -> Fallback | None:
    """Make what answers when models fail; None when nothing is prepared."""
    common = parts.settings.fallbacks
    if not common.templates and all(model.fallbacks is None for model in parts.settings.models):
        return None
    return Fallback(fallbacks(None, common), parts.routes.resolve, parts.shared.clock)


def hedge(parts: Parts) -> Layer | None:
    """Make what asks a second time; None when no model is hedged."""
    if not any(model.hedge for model in parts.settings.models):
        return None
    shared = parts.shared
    return Hedge(shared.hedging, parts.health, counter(parts), shared.clock, shared.tasks)


def identities(providers: Sequence[ProviderSettings]) -> dict[str, bytes]:
    """Digest what in a provider's configuration changes its answers: not keys, timeouts or limits."""
    return {
        provider.name: sha256(
            json.dumps(
                provider.model_dump(mode="json", include={"kind", "base_url", "headers", "query"}), sort_keys=True
            ).encode()
        ).digest()
        for provider in providers
    }


def balanced(settings: Settings) -> bool:
    """Whether any model is balanced."""
    return any(model.strategy == "balanced" for model in settings.models)


def _timeouts(settings: Settings) -> dict[str, float]:
    return {provider.name: provider.timeouts.total_s for provider in settings.providers}


def attempts(parts: Parts) -> Attempts:
    """Make what records and prices attempts."""
    shared, pricer = parts.shared, make_pricer(parts.settings, parts.shared.prices, parts.shared.clock)

    def begin(attempt: Attempt) -> None:
        own = pricer.price(attempt.provider, attempt.model).own
        if own is not None and own.usd_per_hour is not None:
            shared.machine_time.begin(attempt, own.model, own.usd_per_hour)

    calibration = shared.calibration

    def learn(request: Request, usage: Usage, output_chars: Callable[[], int]) -> None:
        if (target := request.target) is not None and not calibration.skip(key := (target.provider, target.model)):
            calibration.learn(key, request_tokens(request), usage, output_chars())

    by_time = any(each.usd_per_hour is not None for each in parts.settings.prices)
    return Attempts(
        _timeouts(parts.settings),
        pricer.cost,
        partial(_estimate, calibration),
        shared.clock,
        begin=begin if by_time else None,
        learn=learn,
        ledger=shared.stores.ledger,
    )


def counter(parts: Parts) -> Callable[[Request], int]:
    """Return what counts a request's input tokens, as well as is known for its target."""
    calibration = parts.shared.calibration

    def count(request: Request) -> int:
        tokens, target = request_tokens(request), request.target
        return tokens if target is None else calibration.correct((target.provider, target.model), tokens)

    return count


def _estimate(calibration: Calibration, request: Request, output_chars: int) -> Usage:
    target = request.target
    key = None if target is None else (target.provider, target.model)
    return calibration.estimate(key, request_tokens(request), output_chars)
