"""Which connection serves which request: idle ones first, then new ones, then waiting in order of arrival."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from penstock.config.providers import ProviderSettings
from penstock.providers.transport.connection import Connection
from penstock.providers.transport.failures import closed, connect_failed, refused, timed_out
from penstock.providers.transport.origin import Origin
from penstock.providers.transport.tls import client_context


class Pool:
    """At most `max_connections` slots, each held by an idle connection, by an exchange or by someone connecting.

    Requests wait only while no slot is free and no connection idle, so a new request can never overtake them.
    """

    __slots__ = (
        "_closed",
        "_connect_s",
        "_context",
        "_drained",
        "_idle",
        "_live",
        "_open",
        "_origin",
        "_place",
        "_settings",
        "_waiters",
    )

    def __init__(self, origin: Origin, settings: ProviderSettings, place: str) -> None:
        """Connects to nothing yet; `place` says in errors what is spoken to.

        Raises:
            ConfigError: `settings.ca_file` cannot be used.
        """
        self._origin = origin
        self._place = place
        self._settings = settings
        self._connect_s = settings.timeouts.connect_s
        self._context = client_context(settings.ca_file) if origin.secure else None
        self._open = 0
        self._idle: list[Connection] = []
        self._live: set[Connection] = set()
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._closed = False
        self._drained: asyncio.Future[None] | None = None

    @property
    def connections(self) -> tuple[int, int]:
        """How many are in use, counting those being made, and how many idle."""
        return self._open - len(self._idle), len(self._idle)

    def take(self) -> Connection | None:
        """Return the idle connection used last, which is the least likely to be closed by the other side."""
        return self._idle.pop() if self._idle else None

    async def acquire(self, until: float) -> Connection:
        """Connect, or wait for a connection or a slot until `until`.

        Raises:
            ProviderError: As `connect`, or ``upstream_timeout`` while waiting.
        """
        if self._closed:
            raise closed(self._place)
        if self._open < self._settings.max_connections:
            self._open += 1
            return await self.connect(until)
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout_at(until):
                try:
                    connection = await waiter
                except asyncio.CancelledError:
                    self._withdraw(waiter)
                    raise
        except TimeoutError:
            raise timed_out(self._place, "waiting for a free connection (max_connections)") from None
        return connection if connection is not None and not connection.closed else await self.connect(until)

    async def connect(self, until: float) -> Connection:
        """Open a connection in a slot the caller holds; the slot is freed when that fails.

        Raises:
            ProviderError: ``upstream_timeout``, ``upstream_dns``, ``upstream_connect`` or ``upstream_tls``.
        """
        loop = asyncio.get_running_loop()
        origin = self._origin
        limit = loop.time() + self._connect_s
        connection = Connection(self, self._place, self._settings)
        scope = asyncio.timeout_at(min(limit, until))
        try:
            async with scope:
                await loop.create_connection(
                    lambda: connection,
                    origin.host,
                    origin.port,
                    ssl=self._context,
                    server_hostname=origin.host if self._context is not None else None,
                    # The connect timeout covers the handshake; the loop's own limit must not be the shorter one.
                    ssl_handshake_timeout=self._connect_s + 1 if self._context is not None else None,
                )
        except OSError as error:
            self._abandon(connection)
            if scope.expired():
                raise timed_out(self._place, "connecting", self._connect_s if limit <= until else None) from None
            raise connect_failed(self._place, error, secure=origin.secure) from error
        except BaseException:
            self._abandon(connection)
            raise
        if self._closed:
            connection.fail(closed(self._place))
        if connection.closed:
            self.free()
            raise closed(self._place) if self._closed else refused(self._place)
        return connection

    def release(self, connection: Connection) -> None:
        """Take back a connection that is ready for the next request, with its slot."""
        waiter = self._next()
        if waiter is not None:
            waiter.set_result(connection)
        else:
            self._idle.append(connection)

    def free(self) -> None:
        """Take back a slot without a connection."""
        waiter = self._next()
        if waiter is not None:
            waiter.set_result(None)
        else:
            self._open -= 1

    def forget(self, connection: Connection) -> None:
        """An idle connection was closed. One already promised to a waiter keeps its slot: the waiter connects anew."""
        if connection in self._idle:
            self._idle.remove(connection)
            self.free()

    def drop_idle(self) -> None:
        """Close the idle connections."""
        for connection in list(self._idle):
            connection.fail(refused(self._place))

    def opened(self, connection: Connection) -> None:
        """The socket of a connection is open."""
        self._live.add(connection)

    def gone(self, connection: Connection) -> None:
        """The socket of a connection is closed."""
        self._live.discard(connection)
        if not self._live and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    async def aclose(self) -> None:
        """Close idle and busy connections and turn away who waits; returns when the sockets are closed."""
        self._closed = True
        while (waiter := self._next()) is not None:
            waiter.set_exception(closed(self._place))
        for connection in list(self._live):
            connection.fail(closed(self._place))
        if self._live:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._drained], timeout=1.0)

    def _abandon(self, connection: Connection) -> None:
        """Connecting failed. uvloop does not always report the loss of a connection that it reported as made."""
        connection.abandon()
        self.gone(connection)
        self.free()

    def _next(self) -> asyncio.Future[Connection | None] | None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                return waiter
        return None

    def _withdraw(self, waiter: asyncio.Future[Connection | None]) -> None:
        """Someone who waited was cancelled, perhaps after a connection or a slot had been given to them."""
        if waiter.cancelled():
            with contextlib.suppress(ValueError):
                self._waiters.remove(waiter)
        elif waiter.exception() is None:
            connection = waiter.result()
            if connection is not None and not connection.closed:
                self.release(connection)
            else:
                self.free()
