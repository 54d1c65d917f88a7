"""A request that is with a provider, without a task of the gateway's that waits for it."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

from penstock.core.errors import ProviderError
from penstock.core.events import Batch
from penstock.core.quota import Quota
from penstock.core.request import Request
from penstock.core.response import Response


class UnderWay:
    """A `penstock.abc.Sending`: as with a transport's connection, all that is heard comes by plain callbacks.

    The connection closes by itself when the time for the exchange is over, and at once when it is given up, and says so
    before `cancel` returns.
    """

    def __init__(
        self,
        request: Request,
        ask: Callable[[], Awaitable[Response | None]],
        closed: Callable[[], None],
        until: float,
        then: Callable[[], None],
        hear: Callable[[Batch], None] | None,
    ) -> None:
        """Send `request`.

        Args:
            request: What is asked.
            ask: What the provider does; None when nobody has read the request.
            closed: Called when the connection is closed before the end.
            until: When it is, in loop time.
            then: Called at the end.
            hear: Told of a stream's events.
        """
        self.request = request
        self.quota: Quota | None = None
        self._ask = ask
        self._closed = closed
        self._then = then
        self._hear = hear
        self._loop = asyncio.get_running_loop()
        self._coming: deque[Callable[[], None]] = deque()
        self._paused = self._over = False
        self._answer: Response | None = None
        self._error: ProviderError | None = None
        self._timer = self._loop.call_at(until, self._expire)
        self._provider = self._loop.create_task(self._serve(), name="provider")

    def cancel(self) -> None:
        """Close the connection."""
        self._close(ProviderError("closed before its end", code="upstream_incomplete", retryable=True))

    def pause(self) -> None:
        """Hear no more for now."""
        self._paused = True

    def resume(self) -> None:
        """Hear what has come meanwhile, soon."""
        if self._paused:
            self._paused = False
            self._loop.call_soon(self._read)

    def answer(self) -> Response | None:
        """As `penstock.abc.Sending.answer`."""
        if not self._over:
            raise AssertionError("asked for an answer that is not there")
        if self._error is not None:
            raise copy.copy(self._error)
        return self._answer

    async def _serve(self) -> None:
        try:
            response = await self._ask()
            if response is not None and not response.whole:
                self.quota = response.quota
                async for batch in response:
                    self._send(partial(self._say, batch))
                response = Response(events=[])
        except ProviderError as error:
            self._send(partial(self._end, None, error))
        else:
            self._send(partial(self._end, response, None))

    def _send(self, step: Callable[[], None]) -> None:
        self._coming.append(step)
        self._loop.call_soon(self._read)

    def _read(self) -> None:
        while self._coming and not self._paused and not self._over:
            self._coming.popleft()()

    def _say(self, batch: Batch) -> None:
        if self._hear is None:
            raise AssertionError("a stream comes that was not asked for")
        self._hear(batch)

    def _end(self, response: Response | None, error: ProviderError | None) -> None:
        self._over = True
        self._answer, self._error = response, error
        self._timer.cancel()
        self._then()

    def _expire(self) -> None:
        self._close(ProviderError("the time allowed was over", code="upstream_timeout", retryable=True))

    def _close(self, error: ProviderError) -> None:
        if not self._over:
            self._closed()
            self._provider.cancel()
            self._end(None, error)
