"""Conversations that are longer than they need to be are cut before they are sent; others are sent as they came.

`penstock.context.plan` decides what is cut, `penstock.context.selection` what of it the question needs. Here are the
parts that wait: summaries by a model, the windows of models, and the thread in which long conversations are worked on.

Inside the caches, whose keys have the terms of cutting (`Request.context_terms`), so that each answer is worked for
once; outside budgets and failover, so that what is reserved, paid and sent is what is left of the conversation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from hashlib import sha256
from threading import Lock
from typing import Any, TypeVar

import msgspec

from penstock.config.context import ContextSettings
from penstock.context.billing import NO_CACHE, Billing
from penstock.context.memory import Memory
from penstock.context.plan import Draft, draft, stable_points
from penstock.context.terms import Terms
from penstock.context.units import readable
from penstock.context.window import Windows, room, stated
from penstock.core.clock import Clock
from penstock.core.errors import InvalidRequest, PenstockError
from penstock.core.handler import Handler, Phased, Step
from penstock.core.request import CacheDirectives, Prefix, Request
from penstock.core.response import Response
from penstock.core.route import ContextTerms, Route
from penstock.matching.labels.text import answer_text
from penstock.pricing.estimate import estimate_message, estimate_request_tokens
from penstock.semantic.asking import other

LARGE_TOKENS = 1000
"""Whether one of fewer needs a cut is decided at once; all else is done in a thread, so that others get their turn."""
MOST_TOKENS = 1_000_000
"""A conversation of more is refused: working on it would take others' time for too long."""
_CAP_FACTOR = 2
"""How many times the tokens of a summary its model may take: they are estimated, and what is too long is trimmed."""
_SUMMARY_TTL_S = 7 * 86_400.0
"""How long a summary stays fresh: what it says of messages that are over does not change."""
_TIME_SHARE = 0.5
"""The part of a request's time left that its summaries may take."""
_INSTRUCTIONS = ("system", "developer")

_encode = msgspec.json.Encoder(order="deterministic").encode
_replace = msgspec.structs.replace

Messages = list[dict[str, Any]]
T = TypeVar("T")


class Counts(msgspec.Struct):
    """What was done since the start.

    Attributes:
        untouched: Conversations that were looked at and sent as they came.
        cut: Conversations that were cut.
        tokens_before: Tokens of those, estimated.
        tokens_after: Tokens that were sent in their place, estimated.
        summaries: Summaries that a model wrote, or had written before.
        summaries_failed: Summaries of sentences because the model failed.
    """

    untouched: int = 0
    cut: int = 0
    tokens_before: int = 0
    tokens_after: int = 0
    summaries: int = 0
    summaries_failed: int = 0

    @property
    def looked_at(self) -> int:
        """Conversations."""
        return self.untouched + self.cut


class Shaping:
    """What outlives configurations.

    Attributes:
        counts: What was done.
        memory: What was worked out for earlier turns of conversations; only for what `work` does.
    """

    def __init__(self) -> None:
        self.counts = Counts()
        self.memory = Memory()
        self._turn = asyncio.Lock()
        self._lock = Lock()

    async def work(self, work: Callable[[], T]) -> T:
        """Do `work` in a thread, one at a time."""
        # The first lock keeps the other threads free for others; the second is for work whose request was cancelled.
        async with self._turn:
            return await asyncio.to_thread(self._locked, work)

    def _locked(self, work: Callable[[], T]) -> T:
        with self._lock:
            return work()


class ShapeContext(Phased):
    """The layer.

    Args:
        settings: The configuration's.
        shaping: What outlives it.
        windows: How long prompts may be.
        billing: How the prefix of a route's prompts is billed.
        cap: The field that limits the answers of the model for summaries.
        ask: Answers requests of Penstock's own.
        clock: Where time comes from.
        loading: Ends when `windows` and `billing` can be asked without a wait.
    """

    def __init__(
        self,
        settings: ContextSettings,
        shaping: Shaping,
        windows: Windows,
        billing: Callable[[Route], Billing],
        cap: str,
        ask: Callable[[Request], Awaitable[Response]],
        clock: Clock,
        loading: asyncio.Future[None],
    ) -> None:
        self._settings = settings
        self._shaping = shaping
        self._windows = windows
        self._billing = billing
        self._cap = cap
        self._ask = ask
        self._clock = clock
        self._loading = loading

    def enter(self, request: Request, inner: Handler, /) -> Step | None:
        """Let pass what is not to be cut."""
        return (request, None) if request.context_terms() is None else None

    async def handle(self, request: Request, inner: Handler, /) -> Response:
        """Answer, from as much of the conversation as its terms allow.

        Raises:
            InvalidRequest: ``context_too_small`` when not even the instructions and the last turn fit;
                ``context_too_long`` when it has more than `MOST_TOKENS` and would have to be cut;
                ``context_tokens_unknown`` when the request asks for a budget nobody can derive.
        """
        terms, messages = request.context_terms(), request.payload.get("messages")
        if terms is None or messages is None or not readable(messages):
            return await inner(request)
        return await inner(await self._shaped(request, terms, messages))

    async def _shaped(self, request: Request, terms: ContextTerms, messages: Messages) -> Request:
        payload, counts = request.payload, self._shaping.counts
        if not self._loading.done():
            await asyncio.wait((self._loading,))
        tokens = await self._tokens(request, terms)
        beside = estimate_request_tokens({name: value for name, value in payload.items() if name != "messages"})
        total = beside + sum(map(estimate_message, messages))
        made = None
        if terms.mode == "aggressive" or (tokens is not None and total > tokens):
            made = await self._drafted(request, terms, tokens, messages, beside, total)
        if made is None:
            counts.untouched += 1
            # A first question may be the only one, so writing it to a provider's cache is not paid for.
            under_way = any(message["role"] == "assistant" for message in messages)
            return self._told(request, messages, stable_points(messages) if under_way else ())
        summaries = await self._summaries(request, terms, made, large=total > LARGE_TOKENS)
        plan = await self._work(partial(made.finish, summaries), large=total > LARGE_TOKENS)
        request.call.shaping = shaping = plan.shaping
        counts.cut += 1
        counts.tokens_before += shaping.before
        counts.tokens_after += shaping.after
        cut = _replace(request, payload={**payload, "messages": plan.messages})
        return self._told(cut, messages, plan.breakpoints)

    async def _tokens(self, request: Request, terms: ContextTerms) -> int | None:
        """Return the budget: as it was set, or what the models' windows leave; None for none."""
        if terms.tokens is not None or request.route is None:
            return terms.tokens
        window = stated(request.payload) or await self._windows.of(request.route)
        if window is not None:
            return room(window, request.payload)
        if request.context == "budget":
            raise InvalidRequest(
                f"x-penstock-context: budget needs a number of tokens, since nobody says how long prompts for "
                f"'{request.route.model[:200]}' may be: send x-penstock-context-tokens, or set its context.tokens.",
                code="context_tokens_unknown",
                param="x-penstock-context-tokens",
            )
        return None

    async def _drafted(
        self, request: Request, terms: ContextTerms, tokens: int | None, messages: Messages, beside: int, total: int
    ) -> Draft | None:
        if total > MOST_TOKENS:
            raise InvalidRequest(
                f"the conversation has about {total} tokens, and those of more than {MOST_TOKENS} are not cut: send "
                "less of it, or ask for it whole with x-penstock-context: off",
                code="context_too_long",
                param="messages",
            )
        route = request.route
        billing = self._billing(route) if terms.mode == "aggressive" and route is not None else NO_CACHE
        own = Terms(terms.mode, tokens, billing, terms.recent_tokens, terms.excerpt_tokens, terms.summary_tokens)
        if total <= LARGE_TOKENS:
            return draft(messages, beside, own, estimate_message)
        return await self._shaping.work(partial(draft, messages, beside, own, estimate_message, self._shaping.memory))

    async def _work(self, work: Callable[[], T], *, large: bool) -> T:
        """Do `work`, which uses the memory if it is `large`, and need not wait for others' otherwise."""
        return await self._shaping.work(work) if large else await asyncio.to_thread(work)

    def _told(self, request: Request, original: Messages, points: Sequence[int]) -> Request:
        """Say what of the prompt will come again, if providers are told at all."""
        if not self._settings.prompt_caching:
            return request
        return _replace(request, prefix=Prefix(tuple(points), _prefix_key(request, original, under_way=bool(points))))

    async def _summaries(
        self, request: Request, terms: ContextTerms, made: Draft, *, large: bool
    ) -> Sequence[str | None]:
        """Return summaries by the model there is for them; None for each it does not give."""
        model = terms.summary_model
        if model is None:
            return ()
        asked = await self._work(lambda: [(each.prompt, each.tokens) for each in made.summaries], large=large)
        return await asyncio.gather(*(self._summary(request, model, prompt, tokens) for prompt, tokens in asked))

    async def _summary(self, request: Request, model: str, prompt: Messages, tokens: int) -> str | None:
        """Ask for one summary, on the tenant's account; one that was asked for before is in the exact cache."""
        payload = {"messages": prompt, self._cap: tokens * _CAP_FACTOR}
        own = _replace(
            other(request, "summary", "chat", model, payload, self._clock),
            cache=CacheDirectives(
                no_store=request.cache.no_store, ttl=_SUMMARY_TTL_S, namespace=request.cache.namespace
            ),
            priority=request.priority,
            timeout_s=self._time_for(request),
        )
        try:
            response = await self._ask(own)
            try:
                text = answer_text(await response.read())
            finally:
                await response.aclose()
        except PenstockError:
            text = None
        counts = self._shaping.counts
        counts.summaries += text is not None
        counts.summaries_failed += text is None
        return text

    def _time_for(self, request: Request) -> float:
        now = self._clock.monotonic()
        ends = [at for at in (request.deadline, request.begin_by) if at is not None]
        return max(min([self._settings.summary.timeout_s, *((at - now) * _TIME_SHARE for at in ends)]), 0.001)


def _prefix_key(request: Request, messages: Messages, *, under_way: bool) -> str:
    """Digest what requests have in common that should go to the same machine.

    That are tenant, tools and instructions, and of a conversation that is under way its first turn besides: what is
    worth most to be found again is then the conversation.
    """
    leading = 0
    while leading < len(messages) and messages[leading].get("role") in _INSTRUCTIONS:
        leading += 1
    stable = messages[: leading + under_way]
    return sha256(_encode((request.tenant, request.payload.get("tools"), stable))).hexdigest()[:32]
