"""From the start to the end: when requests are welcome, and what happens to those that run when it is time to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from penstock.core.errors import SHUTTING_DOWN, Refused
from penstock.server.early import EarlyProtocol

_log = logging.getLogger("penstock.server")
_CLOSE = (b"connection", b"close")
_LAST_REQUEST_S = 0.5
"""How long a connection without a request stays open after the signal. Closed at once, a request that is on its way
would be lost (RFC 9112 section 9.5); like this, one in use gets its answer, with `Connection: close`."""
_LAST_WORDS_S = 1.0
"""How long requests that were cut off may take to say so."""
_TICK_S = 0.05


class Lifecycle:
    """Where the gateway is between its start and its end.

    Attributes:
        ready: Requests are welcome.
        ending: The grace is over: requests that still run are cancelled, and tell their clients.
    """

    __slots__ = ("ending", "ready")

    def __init__(self) -> None:
        self.ready = False
        self.ending = False


def shutting_down() -> Refused:
    """Return what a client is told whose answer is cut off."""
    return Refused("Penstock is shutting down and could not finish this answer in time.", code=SHUTTING_DOWN)


class GracefulServer(uvicorn.Server):
    """uvicorn with Penstock's own way to stop.

    On `stop`, in this order: readiness goes; nobody new is let in, but who connected before is; answers carry
    `Connection: close`; idle connections are closed; running requests end within the grace, or with an error; the
    application closes. A second `stop` skips whatever of this is left.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        lifecycle: Lifecycle,
        *,
        grace_s: Callable[[], float],
        ready: Callable[[], None],
    ) -> None:
        """Not started yet.

        Args:
            config: uvicorn's; its protocol must be an `EarlyProtocol`.
            lifecycle: Told of the end.
            grace_s: Returns how long running requests may take, in seconds; asked when the time comes.
            ready: Called when connections are accepted.
        """
        super().__init__(config)
        self._lifecycle = lifecycle
        self._grace_s = grace_s
        self._ready = ready
        self._forced = asyncio.Event()

    def stop(self) -> None:
        """Stop in order; at once if called a second time."""
        self._lifecycle.ready = False
        if self.should_exit:
            self.force_exit = True
            self._forced.set()
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, then tell who waits for it."""
        await super().startup(sockets=sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then close the application."""
        loop = asyncio.get_running_loop()
        now, grace_s = loop.time(), self._grace_s()
        await self._last_answers()
        await self._let_in(sockets or [])
        await self._until_idle(now + min(_LAST_REQUEST_S, grace_s), tasks=False)
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._until_idle(now + grace_s)
        await self._cut_off()
        if not self.force_exit:
            closing = loop.create_task(self.lifespan.shutdown(), name="close the application")
            forced = loop.create_task(self._forced.wait(), name="wait for a second signal")
            await asyncio.wait((closing, forced), return_when=asyncio.FIRST_COMPLETED)
            forced.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are for whoever runs this."""
        yield

    async def _last_answers(self) -> None:
        """Have every connection closed after its answer."""
        self.config.encoded_headers.append(_CLOSE)
        await self.on_tick(0)  # makes the header fields of all responses
        protocol: Any = self.config.http_protocol_class
        assert issubclass(protocol, EarlyProtocol)
        protocol.draining = True
        for connection in list(self.server_state.connections):
            cycle = connection.cycle if isinstance(connection, EarlyProtocol) else None
            if cycle is not None and not cycle.response_complete:
                cycle.keep_alive = False

    async def _let_in(self, sockets: list[socket.socket]) -> None:
        """Stop listening, without losing those who have connected and were not accepted yet."""
        spares = [listening.dup() for listening in sockets]
        for server in self.servers:
            server.close()
        for listening in sockets:
            listening.close()
        await asyncio.sleep(0)
        for spare in spares:
            with spare, contextlib.suppress(OSError):
                while True:
                    accepted, _ = spare.accept()
                    accepted.settimeout(0)
                    await asyncio.get_running_loop().connect_accepted_socket(self._protocol, accepted)

    def _protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        made: asyncio.Protocol = make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        return made

    async def _until_idle(self, until: float, *, tasks: bool = True) -> None:
        """Wait until there are no connections, and no tasks of requests, but not beyond `until` (event loop time)."""
        loop, state = asyncio.get_running_loop(), self.server_state
        busy = True
        while busy:
            await asyncio.sleep(_TICK_S)
            busy = bool(state.connections or (tasks and state.tasks)) and not self.force_exit and loop.time() < until
            await asyncio.sleep(_TICK_S)

    async def _cut_off(self) -> None:
        tasks = list(self.server_state.tasks)
        short = [each for each in self.server_state.connections if isinstance(each, EarlyProtocol) and each.busy]
        if not tasks and not short:
            return
        _log.warning("%d requests did not end in time and are cut off", len(tasks) + len(short))
        self._lifecycle.ending = True
        for task in tasks:
            task.cancel(SHUTTING_DOWN)
        for connection in short:
            connection.cut_off(SHUTTING_DOWN)
        if tasks and not self.force_exit:
            await asyncio.wait(tasks, timeout=_LAST_WORDS_S)
