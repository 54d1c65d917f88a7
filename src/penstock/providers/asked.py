"""Requests that are with a provider, without a task that waits for them; see `penstock.abc.Sending`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from penstock.core.errors import ProviderError
from penstock.core.events import Batch
from penstock.core.quota import Quota
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.providers.endpoint import Endpoint, media_type
from penstock.providers.live import TAIL_S, Reader
from penstock.providers.transport.exchange import Exchange
from penstock.wire.upstream_errors import conceal

_STREAM = "text/event-stream"
Answer = Callable[[Request, Exchange], Response]
"""Makes the answer, or the error, of an exchange that has ended."""


class Asked:
    """For a whole answer."""

    __slots__ = ("_answer", "_exchange", "request")

    def __init__(self, request: Request, exchange: Exchange, answer: Answer) -> None:
        self.request = request
        self._exchange = exchange
        self._answer = answer

    @property
    def quota(self) -> Quota | None:
        """None: it is with the answer."""
        return None

    def cancel(self) -> None:
        """Close the connection."""
        self._exchange.close()

    def pause(self) -> None:
        """Read no more."""
        self._exchange.pause()

    def resume(self) -> None:
        """Read on."""
        self._exchange.resume()

    def answer(self) -> Response | None:
        """Return the whole answer; None when nobody has read the request."""
        return None if self._exchange.unread else self._answer(self.request, self._exchange)


class AskedStream(Asked):
    """For a stream."""

    __slots__ = ("_begun", "_endpoint", "_fault", "_hear", "_over", "_reader", "_tail", "_then")

    def __init__(
        self,
        request: Request,
        exchange: Exchange,
        answer: Answer,
        reader: Reader,
        hear: Callable[[Batch], None],
        then: Callable[[], None],
        endpoint: Endpoint,
    ) -> None:
        super().__init__(request, exchange, answer)
        self._reader = reader
        self._hear = hear
        self._then = then
        self._endpoint = endpoint
        self._begun = self._over = False
        self._fault: ProviderError | None = None
        self._tail: asyncio.TimerHandle | None = None
        exchange.more = self._more
        exchange.then = self._end

    @property
    def quota(self) -> Quota | None:
        """What its head says; not looked at when the settings have no limits."""
        return self._endpoint.quota(self._exchange)

    def answer(self) -> Response | None:
        """Return an empty answer when the stream is complete; None when nobody has read the request."""
        if not self._begun and not self._streams():
            return super().answer()
        try:
            if self._fault is not None:
                raise self._fault
            if not self._reader.ended:
                self._exchange.check()
            self._reader.finish()
        except ProviderError as error:
            conceal(error, self._endpoint.secrets)
            raise
        finally:
            self._fault = None
        return Response(events=[])

    def _streams(self) -> bool:
        """Whether a stream is what is coming, as far as the head says."""
        exchange = self._exchange
        return 200 <= exchange.status < 300 and exchange.error is None and media_type(exchange) == _STREAM

    def _more(self) -> None:
        if self._over:
            return
        self._take()
        if self._fault is not None:
            self._exchange.close()
        elif self._reader.ended and not self._over and not self._exchange.ended:
            # Without the end of the body the connection cannot be used again; the answer need not wait for it.
            self._over = True
            if self._reader.done:
                self._tail = asyncio.get_running_loop().call_later(TAIL_S, self._exchange.close)
            else:
                self._exchange.close()
            self._then()

    def _end(self) -> None:
        if self._tail is not None:
            self._tail.cancel()
            self._tail = None
        if self._over:
            return
        self._take()  # what came last, together with the end
        self._over = True
        self._then()

    def _take(self) -> None:
        if self._reader.ended or self._fault is not None or not (self._begun or self._streams()):
            return
        try:
            data = self._exchange.take()
        except ProviderError as error:
            self._fault = error
            return
        batch = self._reader.feed(data) if data else None
        if batch:
            self._begun = True
            self._hear(batch)
