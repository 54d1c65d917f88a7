"""The blocking face: the async client on one background event loop, nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from penstock.abc import ModelInfo, Provider
from penstock.answers import Answer, Chunk, Embeddings
from penstock.client import AsyncClient, Config, Messages
from penstock.core.clock import Clock
from penstock.reporting.statistics import Statistics

T = TypeVar("T")


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
    def chat(self, messages: Messages, *, model: str, stream: Literal[False] = False, **options: Any) -> Answer: ...

    @overload
    def chat(self, messages: Messages, *, model: str, stream: Literal[True], **options: Any) -> Iterator[Chunk]: ...

    def chat(self, messages: Messages, *, model: str, stream: bool = False, **options: Any) -> Answer | Iterator[Chunk]:
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

    def poll(self, fetch: Callable[[], T], done: Callable[[T], bool], *, timeout_s: float | None = None) -> T:
        """As `AsyncClient.poll` with a blocking `fetch`, which runs in a thread of its own."""

        async def fetch_aside() -> T:
            return await asyncio.to_thread(fetch)

        return self._run(self._client.poll(fetch_aside, done, timeout_s=timeout_s))

    def statistics(self, tenant: str | None = None, *, alone: bool = False) -> Statistics:
        """As `AsyncClient.statistics`."""
        return self._run(self._client.statistics(tenant, alone=alone))

    def reset_statistics(self, tenant: str | None = None, *, by: str | None = None) -> Statistics:
        """As `AsyncClient.reset_statistics`."""
        return self._run(self._client.reset_statistics(tenant, by=by))

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

    def _iterate(self, pieces: AsyncGenerator[Chunk, None]) -> Iterator[Chunk]:
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


async def _next(pieces: AsyncGenerator[Chunk, None]) -> Chunk | None:
    return await anext(pieces, None)


async def _close(pieces: AsyncGenerator[Chunk, None]) -> None:
    await pieces.aclose()
