"""The direct transport: no redirects, cookies, retries or middleware, and so little work per request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from penstock.abc import HttpReply, HttpRequest
from penstock.config.providers import ProviderSettings
from penstock.providers.transport.exchange import Exchange
from penstock.providers.transport.failures import place_of, timed_out
from penstock.providers.transport.head import HeadWriter
from penstock.providers.transport.origin import Origin
from penstock.providers.transport.pool import Pool


class LeanTransport:
    """An `abc.Transport` over HTTP/1.1 connections of its own; it belongs to the event loop it is first used in."""

    __slots__ = ("_heads", "_place", "_pool", "_time", "_total_s")

    def __init__(self, origin: Origin, settings: ProviderSettings) -> None:
        """Connects to nothing yet.

        Raises:
            ConfigError: `settings.ca_file` cannot be used.
        """
        self._place = place_of(settings.name, origin.place)
        self._total_s = settings.timeouts.total_s
        self._heads = HeadWriter(origin, self._place)
        self._pool = Pool(origin, settings, self._place)
        self._time: Callable[[], float] | None = None

    @property
    def connections(self) -> tuple[int, int]:
        """How many are in use, counting those being made, and how many idle."""
        return self._pool.connections

    async def send(self, request: HttpRequest) -> HttpReply:
        """Send `request` and wait for the answer's headers.

        When a connection that was used before turns out to be closed and not a byte was answered, the request is sent
        again if nobody has read it or it is a GET. Otherwise the error is `stale`, and whoever counts attempts decides
        (see `docs/adr/0003-transport.md`).

        Raises:
            ProviderError: As `abc.Transport.send` says.
        """
        head, now, until = self._ready(request)
        pool = self._pool
        connection = pool.take()
        if connection is None:
            connection = await pool.acquire(until)
            now = connection.time()
        exchange = connection.start(request.method, head, request.body, now, until)
        await exchange.wait()
        if exchange.unread or (request.method == "GET" and exchange.error is not None and exchange.error.stale):
            return await self.send(request)  # that costs nothing; those that were idle as long are not taken again
        if not exchange.head_done:
            exchange.check()
        return exchange

    def begin(self, request: HttpRequest) -> Exchange | None:
        """Send `request` if a connection is at hand; None if none is. The caller sets what the exchange calls.

        Raises:
            ProviderError: It cannot be sent.
        """
        head, now, until = self._ready(request)
        connection = self._pool.take()
        if connection is None:
            return None
        return connection.start(request.method, head, request.body, now, until)

    def _ready(self, request: HttpRequest) -> tuple[bytes, float, float]:
        """Return the head of `request`, the time, and until when its exchange may take."""
        head = self._heads.encode(request)
        time = self._time
        if time is None:
            time = self._time = asyncio.get_running_loop().time
        now = time()
        until = now + self._total_s
        if request.deadline is not None and request.deadline < until:
            until = request.deadline
            if until <= now:
                raise timed_out(self._place, "before the request was sent")
        return head, now, until

    async def aclose(self) -> None:
        """Close all connections; exchanges under way end with an error."""
        await self._pool.aclose()
