"""The blocking face: the async client on one background event loop, nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeVar, overload

from penstock.abc import ModelInfo, Provider
from penstock.answers import Answer, Chunk, Embeddings
from penstock.classifying.classifier import Classifier, Stage
from penstock.classifying.results import Classification, Partial, Progress
from penstock.client import AsyncClient, Messages
from penstock.core.clock import Clock
from penstock.core.experiment import Score
from penstock.core.prompt import PRODUCTION
from penstock.gathering import Gathered, gather
from penstock.reporting.statistics import Statistics
from penstock.semantic.whose import EVERYBODY, Whose

if TYPE_CHECKING:
    from penstock.client import Config
    from penstock.prompt_library import Reloaded
    from penstock.prompts.compiling import Rendered
    from penstock.prompts.labels import Move
    from penstock.semantic.reports import (
        AnswerReport,
        CacheReport,
        Explanation,
        Imported,
        Optimized,
        Removed,
        Warmed,
    )
    from penstock.semantic.warming import Item

T = TypeVar("T")


class Run(Protocol):
    """Runs work on the client's loop and returns what comes of it."""

    def __call__(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work`."""


class Iterate(Protocol):
    """Returns what comes from the client's loop, piece by piece."""

    def __call__(self, pieces: AsyncGenerator[T, None]) -> Iterator[T]:
        """Return what comes of `pieces`."""


class Client:
    """`AsyncClient` for programs without an event loop; safe to use from several threads."""

    def __init__(
        self,
        config: Config = None,
        *,
        tenant: str = "default",
        clock: Clock | None = None,
        providers: Mapping[str, Provider] | None = None,
    ) -> None:
        """As `AsyncClient`; the store and the providers are opened here.

        Raises:
            ConfigError: The configuration cannot be used.
            StoreError: The store cannot be opened.
        """
        self._client = AsyncClient(config, tenant=tenant, clock=clock, providers=providers)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="penstock", daemon=True)
        self._thread.start()
        try:
            self._run(self._client.open())
        except BaseException:
            self._stop()
            raise

    @overload
    def chat(
        self,
        messages: Messages | None = None,
        *,
        model: str | None = None,
        stream: Literal[False] = False,
        **options: Any,
    ) -> Answer: ...

    @overload
    def chat(
        self, messages: Messages | None = None, *, model: str | None = None, stream: Literal[True], **options: Any
    ) -> Iterator[Chunk]: ...

    def chat(
        self, messages: Messages | None = None, *, model: str | None = None, stream: bool = False, **options: Any
    ) -> Answer | Iterator[Chunk]:
        """As `AsyncClient.chat`; a stream is a blocking iterator, closed by `close()` or when it is exhausted."""
        if stream:
            return self._iterate(self._run(self._client.chat(messages, model=model, stream=True, **options)))
        return self._run(self._client.chat(messages, model=model, stream=False, **options))

    def embeddings(self, text: str | Sequence[str], *, model: str, **options: Any) -> Embeddings:
        """As `AsyncClient.embeddings`."""
        return self._run(self._client.embeddings(text, model=model, **options))

    def models(self) -> list[ModelInfo]:
        """As `AsyncClient.models`."""
        return self._run(self._client.models())

    def render(self, name: str, variables: Mapping[str, Any] | None = None, *, version: str | None = None) -> Rendered:
        """As `AsyncClient.render`."""
        return self._run(self._client.render(name, variables, version=version))

    @property
    def prompts(self) -> BlockingPrompts:
        """As `AsyncClient.prompts`."""
        return BlockingPrompts(self._client, self._run)

    def poll(self, fetch: Callable[[], T], done: Callable[[T], bool], *, timeout_s: float | None = None) -> T:
        """As `AsyncClient.poll` with a blocking `fetch`, which runs in a thread of its own."""

        async def fetch_aside() -> T:
            return await asyncio.to_thread(fetch)

        return self._run(self._client.poll(fetch_aside, done, timeout_s=timeout_s))

    def gather(
        self,
        *,
        required: Collection[str] = (),
        timeout_s: float | None = None,
        budget_usd: Decimal | int | str | None = None,
        **operations: Callable[[], Any],
    ) -> Gathered:
        """As `penstock.gather` with blocking operations, each in a thread of its own.

        A thread cannot be cancelled: an operation that is late goes on, and its result is dropped.
        """

        async def gathered() -> Gathered:
            aside = {name: asyncio.to_thread(operation) for name, operation in operations.items()}
            return await gather(self._client, required=required, timeout_s=timeout_s, budget_usd=budget_usd, **aside)

        return self._run(gathered())

    def classifier(self, *, stages: Sequence[Stage], labels: Sequence[str], **options: Any) -> BlockingClassifier:
        """Make a `penstock.Classifier` with blocking methods; the arguments are its."""
        return BlockingClassifier(
            Classifier(self._client, stages=stages, labels=labels, **options), self._run, self._iterate
        )

    def statistics(self, tenant: str | None = None, *, alone: bool = False) -> Statistics:
        """As `AsyncClient.statistics`."""
        return self._run(self._client.statistics(tenant, alone=alone))

    def reset_statistics(self, tenant: str | None = None, *, by: str | None = None) -> Statistics:
        """As `AsyncClient.reset_statistics`."""
        return self._run(self._client.reset_statistics(tenant, by=by))

    def score(self, request_id: str, name: str, value: float, *, tenant: str | None = None) -> Score:
        """As `AsyncClient.score`."""
        return self._run(self._client.score(request_id, name, value, tenant=tenant))

    @property
    def cache(self) -> BlockingCache:
        """As `AsyncClient.cache`."""
        return BlockingCache(self._client, self._run, self._iterate)

    def close(self) -> None:
        """Close connections and the store; harmless when closed."""
        if self._thread.is_alive():
            try:
                self._run(self._client.aclose())
            finally:
                self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _iterate(self, pieces: AsyncGenerator[T, None]) -> Iterator[T]:
        try:
            while (piece := self._run(_next(pieces))) is not None:
                yield piece
        finally:
            if self._thread.is_alive():
                self._run(_close(pieces))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if not self._thread.is_alive():
            work.close()
            raise RuntimeError("the client is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class BlockingClassifier:
    """`penstock.Classifier` for programs without an event loop."""

    def __init__(self, classifier: Classifier, run: Run, iterate: Iterate) -> None:
        self._classifier = classifier
        self._run = run
        self._iterate = iterate

    def classify(self, text: str) -> Classification:
        """As `Classifier.classify`."""
        return self._run(self._classifier.classify(text))

    def stream(self, text: str) -> Iterator[Partial | Classification]:
        """As `Classifier.stream`."""
        return self._iterate(self._classifier.stream(text))

    def classify_many(
        self,
        texts: Sequence[str],
        *,
        concurrency: int = 8,
        timeout_s: float | None = None,
        budget_usd: Decimal | int | str | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> list[Classification]:
        """As `Classifier.classify_many`; `on_progress` is called in the client's thread."""
        work = self._classifier.classify_many(
            texts, concurrency=concurrency, timeout_s=timeout_s, budget_usd=budget_usd, on_progress=on_progress
        )
        return self._run(work)


class BlockingPrompts:
    """`penstock.prompt_library.PromptLibrary` of a client, for programs without an event loop."""

    def __init__(self, client: AsyncClient, run: Run) -> None:
        self._client = client
        self._run = run

    def list(self) -> list[str]:
        """As `PromptLibrary.list`."""
        return self._client.prompts.list()

    def render(self, name: str, variables: Mapping[str, Any] | None = None, version: str | None = None) -> Rendered:
        """As `PromptLibrary.render`."""
        return self._client.prompts.render(name, variables, version)

    def reload(self) -> Reloaded:
        """As `PromptLibrary.refresh`."""
        return self._run(self._client.prompts.refresh())

    def rollback(self, name: str, label: str = PRODUCTION, to: str | None = None, *, by: str = "") -> Move:
        """As `PromptLibrary.rollback`."""
        return self._run(self._client.prompts.rollback(name, label, to, by=by))


class BlockingCache:
    """`penstock.semantic.operations.CacheOperations` for programs without an event loop."""

    def __init__(self, client: AsyncClient, run: Run, iterate: Iterate) -> None:
        self._client = client
        self._run = run
        self._iterate = iterate

    def stats(self, whose: Whose = EVERYBODY) -> CacheReport:
        """As `CacheOperations.stats`."""
        return self._run(self._client.cache.stats(whose))

    def inspect(
        self,
        whose: Whose = EVERYBODY,
        *,
        model: str | None = None,
        tag: str | None = None,
        contains: str | None = None,
        limit: int = 100,
    ) -> list[AnswerReport]:
        """As `CacheOperations.inspect`."""
        found = self._client.cache.inspect(whose, model=model, tag=tag, contains=contains, limit=limit)
        return self._run(found)

    def explain(self, item: Mapping[str, Any]) -> Explanation:
        """As `CacheOperations.explain`."""
        return self._run(self._client.cache.explain(item))

    def clear(
        self, whose: Whose = EVERYBODY, *, model: str | None = None, tag: str | None = None, learnt: bool = False
    ) -> Removed:
        """As `CacheOperations.clear`."""
        return self._run(self._client.cache.clear(whose, model=model, tag=tag, learnt=learnt))

    def cleanup(self) -> Removed:
        """As `CacheOperations.cleanup`."""
        return self._run(self._client.cache.cleanup())

    def optimize(self) -> Optimized:
        """As `CacheOperations.optimize`."""
        return self._run(self._client.cache.optimize())

    def warm(self, items: Iterable[Item], *, concurrency: int = 4) -> Iterator[Warmed]:
        """As `CacheOperations.warm`."""
        return self._iterate(self._client.cache.warm(items, concurrency=concurrency))

    def export(self, tenant: str) -> Iterator[bytes]:
        """As `CacheOperations.export`."""
        return self._iterate(self._client.cache.export(tenant))

    def load(self, lines: Iterable[bytes], tenant: str) -> Imported:
        """As `CacheOperations.load`."""
        return self._run(self._client.cache.load(lines, tenant))

    def label(self, request_id: str, *, right: bool, tenant: str) -> None:
        """As `CacheOperations.label`."""
        self._run(self._client.cache.label(request_id, right=right, tenant=tenant))


async def _next(pieces: AsyncGenerator[T, None]) -> T | None:
    return await anext(pieces, None)


async def _close(pieces: AsyncGenerator[T, None]) -> None:
    await pieces.aclose()
