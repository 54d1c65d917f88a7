"""The async face: the pipeline inside a program, without a server."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import msgspec

from penstock.abc import ModelInfo, Provider
from penstock.answers import Answer, Chunk, Embeddings
from penstock.core.call import Call
from penstock.core.clock import Clock
from penstock.core.errors import InvalidRequest
from penstock.core.experiment import Score
from penstock.core.request import NO_DIRECTIVES, CacheDirectives, Operation, Priority, Request
from penstock.core.response import Response
from penstock.core.route import ContextMode, SemanticMode
from penstock.engine import Engine
from penstock.polling.backoff import Backoff, poll
from penstock.polling.counts import PollCounts
from penstock.reporting.statistics import Polling, Statistics, polling
from penstock.trials.scoring import post
from penstock.wire.openai_chat import decode_request

if TYPE_CHECKING:
    from penstock.engine import Config as Config
    from penstock.prompt_library import PromptLibrary
    from penstock.prompts.compiling import Rendered

T = TypeVar("T")
Messages = str | Sequence[Mapping[str, Any]]

_process = os.urandom(6).hex()
_numbers = itertools.count(1)


def new_id() -> str:
    """Return a request id: unique over processes, cheap, free of information."""
    return f"req_{_process}{next(_numbers):08x}"


class AsyncClient(Engine):
    """Answers requests through the pipeline that the configuration describes.

    Use it as a context manager, or call `open` and `aclose`; the first request opens it too.
    """

    def __init__(
        self,
        config: Config = None,
        *,
        tenant: str = "default",
        clock: Clock | None = None,
        providers: Mapping[str, Provider] | None = None,
    ) -> None:
        """Read the configuration; nothing is opened yet.

        Args:
            config: A path, a mapping with the file's keys, settings, or None for `penstock.yaml` in the working
                directory, and without one for what the environment offers.
            tenant: Whose requests these are, unless a request says otherwise.
            clock: Where time comes from; the system's by default.
            providers: Implementations by the provider's name in the configuration, instead of the built-in ones;
                closed with the client.

        Raises:
            ConfigError: The configuration cannot be used.
        """
        super().__init__(config, clock, providers, self.request)
        self.tenant = tenant
        self._polls = PollCounts(self.clock)

    @property
    def prompts(self) -> PromptLibrary:
        """The prompts: list, render, read again and roll back.

        Raises:
            RuntimeError: The client is not open.
        """
        return self.pipeline.parts.prompts

    @overload
    async def chat(
        self,
        messages: Messages | None = None,
        *,
        model: str | None = None,
        stream: Literal[False] = False,
        **options: Any,
    ) -> Answer: ...

    @overload
    async def chat(
        self, messages: Messages | None = None, *, model: str | None = None, stream: Literal[True], **options: Any
    ) -> AsyncGenerator[Chunk, None]: ...

    async def chat(
        self, messages: Messages | None = None, *, model: str | None = None, stream: bool = False, **options: Any
    ) -> Answer | AsyncGenerator[Chunk, None]:
        """Ask a model.

        Args:
            messages: A question, or messages as OpenAI's chat completions take them; None with a prompt that says all.
            model: A configured name, ``provider/model``, or ``prompt/NAME``; None takes that of the prompt.
            stream: Return an async generator of pieces instead of the whole answer; `aclose` it to break off.
            options: Any other field of the request (``temperature``, ``tools``, …), ``prompt`` (its ``id``, and if need
                be ``version`` and ``variables``), and of Penstock's: ``cache``
                (`CacheDirectives`), ``fallback`` (False forbids other models and templates), ``priority`` (``high``,
                ``normal`` or ``low``), ``semantic`` (``off``, ``shadow`` or ``on``), ``context`` (``off``, ``budget``
                or ``aggressive``), ``context_tokens``, ``tags`` (a sequence of strings), ``tenant``, ``timeout_s``,
                ``unit`` (who experiments assign to an arm). ``store`` is the gateway's alone.

        Raises:
            PenstockError: As `penstock.core.errors` says.
        """
        payload: dict[str, Any] = {}
        if messages is not None:
            payload["messages"] = [{"role": "user", "content": messages}] if isinstance(messages, str) else [*messages]
        request = self.request("chat", model, payload, stream=stream, **options)
        response = await self.handle(request)
        if stream:
            return _pieces(response)
        return Answer(await response.read(), request.call)

    async def embeddings(self, text: str | Sequence[str], *, model: str, **options: Any) -> Embeddings:
        """Turn texts into vectors.

        Args:
            text: One text or several.
            model: A configured name, or ``provider/model``.
            options: As for `chat`.

        Raises:
            PenstockError: As `penstock.core.errors` says.
        """
        inputs = text if isinstance(text, str) else list(text)
        request = self.request("embeddings", model, {"input": inputs}, **options)
        response = await self.handle(request)
        return Embeddings(await response.read(), request.call)

    async def render(
        self, name: str, variables: Mapping[str, Any] | None = None, *, version: str | None = None
    ) -> Rendered:
        """Return what a prompt says, without asking a model.

        Args:
            name: Which prompt.
            variables: Values of its variables.
            version: A version or a label; by default ``production``, or else the newest version.

        Raises:
            InvalidRequest: There is none, a variable is wrong, or the template fails.
        """
        return (await self.open()).prompts.render(name, variables, version)

    async def models(self) -> list[ModelInfo]:
        """List the names that can be asked for."""
        return await (await self.open()).pipeline.models()

    async def poll(
        self, fetch: Callable[[], Awaitable[T]], done: Callable[[T], bool], *, timeout_s: float | None = None
    ) -> T:
        """Fetch until `done`, at the intervals of the settings' `polling`.

        Args:
            fetch: Looks at the work, e.g. retrieves a run.
            done: Whether a fetched value is final.
            timeout_s: Seconds in all; by default the settings' `timeout_s`.

        Raises:
            DeadlineExceeded: It was not done in time.
        """
        settings = (await self.open()).settings
        schedule = Backoff(settings.polling.min_s, settings.polling.max_s, settings.polling.backoff)
        with self._polls.counting(fetch) as look:
            return await poll(
                look, done, schedule=schedule, clock=self.shared.clock, timeout_s=timeout_s or settings.timeout_s
            )

    async def statistics(self, tenant: str | None = None, *, alone: bool = False) -> Statistics:
        """Count calls, hits and what was saved, since the start and since the last reset; and how polling went.

        Args:
            tenant: Whose; those of a whole organisation by its name; None for everybody's.
            alone: Leave out the teams of an organisation of that name.

        Raises:
            StoreError: The store cannot be read or written.
        """
        found = await (await self.open()).shared.stores.books.statistics(tenant, alone=alone)
        return msgspec.structs.replace(found, polling=self._polling())

    async def reset_statistics(self, tenant: str | None = None, *, by: str | None = None) -> Statistics:
        """Begin to count anew; return what had been counted until then.

        Args:
            tenant: Whose; those of a whole organisation by its name; None for everybody's, polling included.
            by: Who does it, for the record.

        Raises:
            StoreError: The store cannot be written.
        """
        found = await (await self.open()).shared.stores.books.reset_statistics(tenant, by)
        counted = self._polling()
        if tenant is None:
            self._polls.reset()
        return msgspec.structs.replace(found, polling=counted)

    async def score(self, request_id: str, name: str, value: float, *, tenant: str | None = None) -> Score:
        """Say how good the answer of that `Answer.id` was, for the metric ``score.NAME`` of experiments.

        Raises:
            InvalidRequest: Something of it cannot be used, or another value was posted before (409, ``score_exists``).
        """
        shared = (await self.open()).shared
        score = Score(tenant or self.tenant, request_id, name, float(value), shared.clock.wall())
        return await post(shared.stores.scores, score)

    def _polling(self) -> Polling:
        return polling(self._polls.waits, self._polls.looks, self._polls.waited_s)

    def request(  # noqa: PLR0913 all but three are keywords, one for each of Penstock's own options
        self,
        operation: Operation,
        model: str | None,
        payload: dict[str, Any],
        *,
        stream: bool = False,
        cache: CacheDirectives = NO_DIRECTIVES,
        tags: Sequence[str] = (),
        tenant: str | None = None,
        timeout_s: float | None = None,
        fallback: bool = True,
        priority: Priority = "normal",
        semantic: SemanticMode | None = None,
        context: ContextMode | None = None,
        context_tokens: int | None = None,
        unit: str = "",
        **options: Any,
    ) -> Request:
        """Make a request for `handle`; `options` are fields of the body.

        Raises:
            InvalidRequest: A field has a wrong type.
        """
        if not isinstance(cache, CacheDirectives):
            raise InvalidRequest("`cache` must be CacheDirectives(...)", param="cache", code="invalid_type")
        try:
            named = {} if model is None else {"model": model}
            body = msgspec.json.encode({**options, **payload, **named, "stream": stream})
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRequest(
                f"a field of the request cannot be written as JSON: {error}", code="invalid_type"
            ) from error
        inbound = decode_request(operation, body)
        if inbound.store:
            raise InvalidRequest("completions are stored by the gateway only", param="store", code="invalid_value")
        return Request(
            operation=operation,
            model=inbound.model,
            payload=inbound.payload,
            call=Call(new_id(), started=self.clock.monotonic(), started_at=self.clock.wall()),
            stream=inbound.stream,
            include_usage=inbound.stream,
            stream_options=inbound.stream_options,
            tenant=tenant or self.tenant,
            tags=tuple(tags),
            cache=cache,
            timeout_s=timeout_s,
            fallback=fallback,
            priority=priority,
            semantic=semantic,
            context=context,
            context_tokens=context_tokens,
            prompt=inbound.prompt,
            unit=unit,
            written=inbound.written,
        )


async def _pieces(response: Response) -> AsyncGenerator[Chunk, None]:
    try:
        async for batch in response:
            for event in batch:
                for chunk in event.singles():
                    yield Chunk(chunk)
    finally:
        await response.aclose()
