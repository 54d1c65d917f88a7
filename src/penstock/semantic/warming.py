"""Filling the caches before anybody asks: with answers that are at hand, or by asking for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any, Literal

import msgspec

from penstock.caching.answer_cache import AnswerCache
from penstock.caching.asking import asked
from penstock.caching.directives import read_directives
from penstock.caching.key import cache_key
from penstock.config.semantic import SemanticCacheSettings
from penstock.core.call import CACHED
from penstock.core.clock import Clock
from penstock.core.errors import InvalidRequest, PenstockError, RateLimited
from penstock.core.handler import Handler
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.tasks import TaskGroup
from penstock.matching.labels.text import answer_text
from penstock.semantic.asking import OPERATION
from penstock.semantic.explaining import mode_of
from penstock.semantic.memory import Memory
from penstock.semantic.reports import Warmed
from penstock.wire.json_body import decode_object

_TRIES, _LONGEST_S = 20, 120.0
"""How often a question that is refused for its rate is put off, and for how many seconds at most."""

Item = Mapping[str, Any] | bytes
"""The body of a chat request, or ``question`` in place of ``messages``; with ``answer``, ``tags`` or ``cache``."""
Make = Callable[..., Request]
"""Makes a request: the operation, the model's name, the body, and Penstock's own options by name."""


class Warming:
    """Takes questions in.

    Args:
        settings: The settings of matching by meaning.
        answers: Where answers are kept.
        memory: Where questions are; None while matching by meaning is off for all.
        route: Returns a request with where it leads.
        ask: Answers a request through the whole pipeline.
        clock: Where time comes from.
    """

    def __init__(
        self,
        settings: SemanticCacheSettings,
        answers: AnswerCache,
        memory: Memory | None,
        route: Callable[[Request], Request],
        ask: Handler,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._answers = answers
        self._memory = memory
        self._route = route
        self._ask = ask
        self._clock = clock

    async def run(self, items: Iterable[Item], make: Make, concurrency: int) -> AsyncGenerator[Warmed, None]:
        """Take `items` in; what came of each, in the order in which they end.

        Args:
            items: What to ask.
            make: Makes requests, and refuses those that may not be made.
            concurrency: How many are asked for at once.
        """
        tasks = TaskGroup()
        waiting: set[asyncio.Task[Warmed]] = set()
        try:
            for line, item in enumerate(items, 1):
                if len(waiting) >= concurrency:
                    done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    for each in done:
                        yield each.result()
                waiting.add(tasks.spawn(self._one(line, item, make), name="warm the cache"))
            for task in asyncio.as_completed(waiting):
                yield await task
        finally:
            await tasks.aclose()

    async def _one(self, line: int, item: Item, make: Make) -> Warmed:
        try:
            body = dict(decode_object(item) if isinstance(item, bytes) else item)
            answer = body.pop("answer", None)
            if answer is not None:
                await self._seed(self._route(request_of(dict(body), make)), answer)
                return Warmed(line, "seeded")
            return Warmed(line, await self._patiently(body, make))
        except PenstockError as error:
            return Warmed(line, "failed", error.code, error.message)

    async def _patiently(self, body: dict[str, Any], make: Make) -> Literal["asked", "known"]:
        """Ask, and wait where the tenant's limits or the provider's leave no room now: nobody is in a hurry."""
        for _ in range(_TRIES):
            try:
                return await self._fetch(self._route(request_of(dict(body), make)))
            except RateLimited as error:
                if error.retry_after is None or error.retry_after > _LONGEST_S:
                    raise
                await self._clock.sleep(error.retry_after)
        return await self._fetch(self._route(request_of(dict(body), make)))

    async def _fetch(self, request: Request) -> Literal["asked", "known"]:
        mode = None if self._memory is None or mode_of(request, self._settings) == "off" else "shadow"
        # Not answered by meaning, since the answer would not be stored; but known as a question from then on.
        request = msgspec.structs.replace(
            request, semantic=mode, priority="low", fallback=False, metadata={OPERATION: "penstock-warm"}
        )
        response = await self._ask(request)
        try:
            await response.read()
        finally:
            await response.aclose()
        return "known" if request.call.cache in CACHED else "asked"

    async def _seed(self, request: Request, answer: object) -> None:
        key = cache_key(request)
        body = self._body(request, answer, key)
        route = request.route
        off = request.cache.no_store or (route is not None and route.cache_ttl_s == 0)
        keeper = self._answers.keeper(request, self._answers.find(key))
        if off or not keeper.keep(Response(body=body, finish_reason="stop")):
            raise InvalidRequest(
                "The answer is not kept: caching is off for the model, or it is empty, cut off or too large.",
                param="answer",
                code="not_cacheable",
            )
        place = asked(request, self._settings.max_question_chars, first_turn_only=self._settings.first_turn_only)
        if self._memory is not None and place is not None and mode_of(request, self._settings) != "off":
            # Lists of frequent questions have one answer under many of them, which must not stand against each other.
            group = sha256(place.partition + (answer_text(body) or "").encode()).digest()
            await self._memory.add(request, place, key, group)

    def _body(self, request: Request, answer: object, key: bytes) -> bytes:
        if isinstance(answer, str):
            message = {"role": "assistant", "content": answer}
            answer = {
                "id": f"chatcmpl-{key.hex()[:24]}",
                "object": "chat.completion",
                "created": int(self._clock.wall()),
                "model": request.model,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            }
        if not isinstance(answer, Mapping) or not answer.get("choices"):
            raise InvalidRequest("`answer` must be a text or a chat completion.", param="answer", code="invalid_type")
        return msgspec.json.encode(answer)


def request_of(body: dict[str, Any], make: Make) -> Request:
    """Make the request that an item's body is.

    Raises:
        InvalidRequest: It is none.
    """
    question, tags = body.pop("question", None), body.pop("tags", ())
    directives = read_directives(None, body.pop("cache", None))
    if (question is None) == ("messages" not in body) and (question is not None or "prompt" not in body):
        raise InvalidRequest(
            "Expected either `question` or `messages`, or a `prompt`.", param="messages", code="invalid_value"
        )
    if question is not None:
        body["messages"] = [{"role": "user", "content": question}]
    if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
        raise InvalidRequest("`tags` must be a list of texts.", param="tags", code="invalid_type")
    body.pop("stream", None)
    body.pop("stream_options", None)
    model = body.pop("model", None)
    return make("chat", model, body, tags=tuple(tags), cache=directives)
