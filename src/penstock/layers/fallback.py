"""Another model, or a prepared answer, when a model cannot answer; never silently, and never stored.

    the model itself ──► for what went wrong, other models ──► a template for the named operation
    (stale-if-error        context_window, content_policy,      (only when everything failed)
     is part of this)      errors; each with its own

Everything inside, the caches and failover, is passed anew for each model, with that model's route. It stands outside
the caches so that an answer cannot be stored for the model that did not give it.
"""

from __future__ import annotations

import asyncio
from asyncio import current_task
from collections.abc import Callable
from typing import Any

import msgspec

from penstock.config.models import CommonFallbackSettings, FallbackSettings
from penstock.core.call import TEMPLATE, Call
from penstock.core.clock import Clock
from penstock.core.errors import SHUTTING_DOWN, PenstockError, ProviderError
from penstock.core.handler import Handler, Phased, Step
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Fallbacks, Route, Template
from penstock.core.usage import Usage
from penstock.routing.fallbacks import Cause, cause_of, choose, fill, filtered, models_for, reason_of

MAX_MODELS = 10
"""Most models asked for one call beside the first; the configuration is checked for it too."""
_LEAST_S = 0.01
"""Less time than this is no time for another model."""
_MAX_NAME = 200
_NOTES = (
    "key", "cache", "cache_status", "age_s", "saved_usd", "usage", "finish_reason", "shaping", "stage", "verdict",
    "semantic", "semantic_key", "semantic_audit", "lookup",
)  # fmt: skip
"""What each pass through the layers inside notes anew."""

_replace = msgspec.structs.replace


class Fallback(Phased):
    """Answers with what the route's `Fallbacks` offer when the model does not.

    Left alone are embeddings, since vectors of two models cannot be compared; requests that take only a cached answer;
    and those whose client wants no fallback. An answer that has begun is never replaced.
    """

    def __init__(self, defaults: Fallbacks, resolve: Callable[[str], Route], clock: Clock) -> None:
        """`defaults` are for routes that have none; `resolve` finds the route of a model's name."""
        self._defaults = defaults
        self._resolve = resolve
        self._clock = clock

    def enter(self, request: Request, inner: Handler, /) -> Step | None:
        """Let pass what has no fallback."""
        return (request, None) if self._plan(request) is None else None

    async def handle(self, request: Request, inner: Handler, /) -> Response:
        """Answer, with the reasons in ``call.degraded`` if it is not the model's own answer.

        When no fallback helps either, what is raised (or for a filtered answer, returned) is what the model itself
        came to: the fallbacks' errors say nothing about what was asked.
        """
        found = self._plan(request)
        assert found is not None, "`enter` found one"
        plan, template = found
        try:
            return await self._first(request, inner, plan, template)
        except PenstockError as error:
            if template is None or cause_of(error) not in ("errors", "late"):
                raise
        except asyncio.CancelledError:
            # The deadline layer, which stands outside, cancels what is late; it accepts an answer in its place.
            if template is None or not request.late(self._clock.monotonic()):
                raise
        return self._give(request, template)

    def _plan(self, request: Request) -> tuple[Fallbacks, Template | None] | None:
        """Return what there is in place of an answer; None for nothing."""
        if not request.fallback or request.operation == "embeddings" or request.cache.only_if_cached:
            return None
        route = request.route
        plan = self._defaults if route is None or route.fallbacks is None else route.fallbacks
        template = choose(plan.templates, request)
        return None if template is None and plan is self._defaults else (plan, template)

    async def _first(self, request: Request, inner: Handler, plan: Fallbacks, template: Template | None) -> Response:
        try:
            response = await self._ask(request, inner, plan.timeout_s if plan.errors or template else None)
        except PenstockError as error:
            cause = cause_of(error)
            if cause is None or not models_for(cause, plan):
                raise
            other = await self._others(request, inner, plan, cause, last=template is None)
            if other is None:
                raise
            return other
        if not plan.content_policy or not filtered(response):
            return response
        return await self._others(request, inner, plan, "content_policy", last=True) or response

    async def _others(
        self, request: Request, inner: Handler, plan: Fallbacks, cause: Cause, *, last: bool
    ) -> Response | None:
        """Ask the models `plan` has for `cause`, and those that theirs have; None when none of them answers.

        With `last`, nothing else comes after them, so the last one may take its time.
        """
        call = request.call
        before = _notes(call)
        asked = {request.model}
        pending: list[tuple[str, tuple[str, ...]]] = [(name, (reason_of(cause),)) for name in models_for(cause, plan)]
        try:
            while pending and len(asked) <= MAX_MODELS and self._time_left(request):
                name, reasons = pending.pop(0)
                if name in asked:
                    continue
                asked.add(name)
                found = await self._other(request, inner, name, wait=last and not pending)
                if isinstance(found, Response):
                    before = {}
                    call.degraded[:0] = reasons
                    _mark(call, reasons[-1])
                    return found
                own, more = found
                pending[:0] = [(each, (*reasons, reason_of(more))) for each in models_for(more, own)] if more else []
            return None
        finally:
            for note, value in before.items():
                setattr(call, note, value)

    async def _other(
        self, request: Request, inner: Handler, name: str, *, wait: bool
    ) -> Response | tuple[Fallbacks, Cause | None]:
        """Ask one model: its answer, or what it has for what went wrong."""
        own = self._defaults
        _forget(request.call)
        try:
            route = self._resolve(name)
            own = route.fallbacks or own
            limit = None if wait and not own.errors else own.timeout_s
            # A lifetime of 0: such an answer may come from a cache or join a flight, but is not stored.
            asked = _replace(request, model=name, route=route, cache=_replace(request.cache, ttl=0.0))
            response = await self._ask(asked, inner, limit)
        except PenstockError as error:
            if error.code == SHUTTING_DOWN:
                raise
            return own, cause_of(error)
        return (own, "content_policy") if filtered(response) else response

    async def _ask(self, request: Request, inner: Handler, limit: float | None) -> Response:
        """Ask one model, and give up when it has not begun within `limit` seconds."""
        # Outside of a task an answer that is at hand is given without a wait, see `penstock.server.early`.
        if limit is None or current_task() is None:
            return await inner(request)
        scope = asyncio.timeout(limit)
        try:
            async with scope:
                return await inner(_replace(request, begin_by=self._clock.monotonic() + limit))
        except TimeoutError:
            if not scope.expired():
                raise
            message = f"model '{request.model[:_MAX_NAME]}' did not begin to answer within {limit:g} s"
            raise ProviderError(message, code="upstream_timeout") from None

    def _give(self, request: Request, template: Template) -> Response:
        call = request.call
        call.degraded.append(TEMPLATE)
        call.usage, call.finish_reason = Usage(), "stop"
        _mark(call, TEMPLATE)
        return fill(template, request, self._clock.wall())

    def _time_left(self, request: Request) -> bool:
        return request.deadline is None or request.deadline - self._clock.monotonic() > _LEAST_S


def fallbacks(own: FallbackSettings | None, common: CommonFallbackSettings) -> Fallbacks:
    """Put together what a model's settings and those for all models offer."""
    own = own or FallbackSettings()
    return Fallbacks(
        tuple(own.context_window),
        tuple(own.content_policy),
        tuple(own.errors),
        tuple(
            Template(each.answer, each.when.operation, each.when.tag) for each in (*own.templates, *common.templates)
        ),
        common.timeout_s if own.timeout_s is None else own.timeout_s,
    )


def _notes(call: Call) -> dict[str, Any]:
    return {name: getattr(call, name) for name in _NOTES}


def _forget(call: Call) -> None:
    """Begin the notes anew for another model; attempts stay, they were made and are paid for."""
    call.key, call.cache, call.cache_status = None, "", []
    call.age_s = call.saved_usd = call.usage = call.finish_reason = call.shaping = None
    call.stage = call.verdict = call.semantic = ""
    call.semantic_key = call.semantic_audit = call.lookup = None


def _mark(call: Call, reason: str) -> None:
    """Say it in `Cache-Status` too, if a cache took part (RFC 9211 section 2.8)."""
    if call.cache_status and "detail=" not in call.cache_status[-1]:
        call.cache_status[-1] += f'; detail="{reason}"'
