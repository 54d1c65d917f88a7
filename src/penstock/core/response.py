"""The one response type: a stream of events, or an answer that is already whole."""

from __future__ import annotations

import asyncio
from asyncio import current_task
from collections.abc import AsyncIterator
from typing import Protocol

from penstock.core.canonical import assemble, split
from penstock.core.errors import DeadlineExceeded
from penstock.core.events import Batch, Event
from penstock.core.quota import Quota
from penstock.core.usage import Usage

LATE = "the total time allowed for this request is over"


class Observer(Protocol):
    """Something that watches a response go by without standing in its way. Must not block or raise."""

    def on_events(self, batch: Batch, /) -> None:
        """Events on their way to the client. Not called for an answer that was already whole."""

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        """Exactly once. `error` is None for a complete answer, `asyncio.CancelledError` for one closed early."""


class Response:
    """An answer, either already whole or a live stream.

    A whole one (`whole` is true) has `body` or `events`, and reading it costs nothing. A live stream is iterated once,
    in batches of events. Observers see the batches in the order in which they were added, which is innermost layer
    first; when the stream ends or `aclose` is called, the source is closed and then the observers are told.

    Attributes:
        body: The whole answer as JSON in canonical form, if it came so.
        events: All events, if it came so.
        usage: Token counts, once known.
        finish_reason: Why the (first) choice ended, once known.
        quota: What the upstream says is left of its limits, if that was asked for.
        whole: The answer is complete and in memory.
    """

    __slots__ = (
        "_ended",
        "_expired",
        "_observers",
        "_source",
        "_task",
        "_timer",
        "body",
        "deadline",
        "events",
        "finish_reason",
        "quota",
        "usage",
        "whole",
    )

    def __init__(
        self,
        *,
        body: bytes | None = None,
        events: Batch | None = None,
        source: AsyncIterator[Batch] | None = None,
        usage: Usage | None = None,
        finish_reason: str | None = None,
        quota: Quota | None = None,
    ) -> None:
        """Exactly one of `body`, `events` and `source`; an async generator as source is closed with the response."""
        self.body = body
        self.events = events
        self.whole = source is None
        self.usage = usage
        self.finish_reason = finish_reason
        self.quota = quota
        self.deadline: float | None = None
        self._source = source
        self._observers: list[Observer] = []
        self._ended = source is None
        self._expired = False
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def observe(self, observer: Observer) -> None:
        """Watch the response; of a whole one only `on_end` is called, at once."""
        if self._ended:
            observer.on_end(self, None)
        else:
            self._observers.append(observer)

    def expire_at(self, deadline: float) -> None:
        """Raise `DeadlineExceeded` from the iteration at `deadline` (event loop time)."""
        if not self._ended:
            self.deadline = deadline

    def __aiter__(self) -> AsyncIterator[Batch]:
        """Iterate the batches; once for a live stream."""
        if self._source is None:
            return _once(self.all_events())
        return self

    async def __anext__(self) -> Batch:
        """Wait for the next batch; an error ends the stream and is raised after the observers saw it."""
        source = self._source
        if source is None or self._ended:
            raise StopAsyncIteration
        try:
            if self.deadline is not None:
                self._task = current_task() if self._timer is not None else self._start_timer(self.deadline)
            batch = await source.__anext__()
        except StopAsyncIteration:
            self._finish(None)
            raise
        except BaseException as error:
            if not self._is_late(error):
                await self._close(source, error)
                raise
            await self._close(source, DeadlineExceeded(LATE))
            raise DeadlineExceeded(LATE) from None
        self._task = None
        self.note(batch)
        for observer in self._observers:
            observer.on_events(batch)
        return batch

    def note(self, batch: Batch) -> None:
        """Take from events on their way to the client how many tokens there were, and why the answer ended."""
        for event in batch:
            if event.usage is not None:
                self.usage = event.usage
            if event.finish_reason is not None and self.finish_reason is None:
                self.finish_reason = event.finish_reason

    async def read(self) -> bytes:
        """Return the whole answer as JSON, waiting for the end of a live stream.

        Raises:
            ProviderError: The stream broke.
            DeadlineExceeded: The total time was over first.
        """
        if self.body is None:
            if self.events is None:
                events: list[Event] = []
                async for batch in self:
                    events += batch
                return assemble(events)
            self.body = assemble(self.events)
        return self.body

    def all_events(self) -> Batch:
        """Return a whole answer's events, splitting its JSON if need be.

        Raises:
            RuntimeError: The answer is not whole.
        """
        if self.events is None:
            if self.body is None:
                raise RuntimeError("the response is a live stream; iterate it")
            self.events = split(self.body)
        return self.events

    async def aclose(self) -> None:
        """End the answer; a live stream's upstream is closed. Safe to call at any time, more than once."""
        if self._source is not None and not self._ended:
            await self._close(self._source, asyncio.CancelledError("closed before the end"))

    async def _close(self, source: AsyncIterator[Batch], error: BaseException) -> None:
        try:
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()
        finally:
            self._finish(error)

    def _start_timer(self, deadline: float) -> asyncio.Task[object] | None:
        """As `asyncio.timeout_at` around each wait, but with one timer for the whole stream."""
        if self._expired:
            raise DeadlineExceeded(LATE)
        self._timer = asyncio.get_running_loop().call_at(deadline, self._expire)
        return current_task()

    def _is_late(self, error: BaseException) -> bool:
        """Tell the timer's cancellation from anybody else's, and take it back."""
        task, self._task = self._task, None
        if not self._expired or task is None or task.uncancel() > 0:
            return False
        return isinstance(error, asyncio.CancelledError)

    def _finish(self, error: BaseException | None) -> None:
        if self._ended:
            return
        self._ended = True
        self._task = None
        if self._timer is not None:
            self._timer.cancel()
        for observer in self._observers:
            observer.on_end(self, error)

    def _expire(self) -> None:
        self._expired = True
        self._timer = None
        if self._task is not None:
            self._task.cancel()


async def _once(batch: Batch) -> AsyncIterator[Batch]:
    yield batch
