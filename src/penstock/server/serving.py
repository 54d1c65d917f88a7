"""Running the gateway: one listening socket, signals, reload, drain."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable
from importlib import import_module

import uvicorn
import uvloop

from penstock.abc.workers import Bus
from penstock.client import AsyncClient
from penstock.config.loader import Loaded
from penstock.server.app import Gateway
from penstock.server.early import early_protocol
from penstock.server.lifecycle import GracefulServer
from penstock.server.listening import BACKLOG, listen, url_of
from penstock.server.reloading import WATCH_S, Reloader
from penstock.telemetry.lag import LoopLag

GARBAGE = (2_000, 5, 200)
"""Thresholds of the cyclic collector. Its defaults scan the whole cache every few hundred requests, a third of all time
spent; at these a scan of everything is rare. The first two bound the pauses: 40,000 objects of failed requests,
taken up at once, stopped the event loop for a sixth of a second."""
_SWITCH_S = 0.0005
"""The store's thread gives way to the event loop after this long, not after Python's 5 ms."""


def serve(loaded: Loaded, *, ready: Callable[[Loaded, str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then let running requests end.

    Args:
        loaded: The configuration; reloaded from its file on SIGHUP, and on change if `server.reload` says so.
        ready: Called with the configuration and the base URL once requests are answered.

    Raises:
        ConfigError: The address cannot be used.
        PenstockError: The start failed.
    """
    listening = listen(loaded.settings.server)
    url = url_of(listening)
    with listening:
        uvloop.run(_Server(loaded, listening, lambda: ready(loaded, url)).run())


class Serving:
    """A gateway and the HTTP server around it: what a process of its own and one of several have in common.

    Attributes:
        client: What answers.
        gateway: The application.
    """

    def __init__(self, loaded: Loaded, bus: Bus | None = None) -> None:
        """Nothing is opened yet; `bus` reaches the other workers, if there are any."""
        self.client = AsyncClient(loaded)
        self.client.bus = bus
        self.gateway = Gateway(self.client)
        self._lag = LoopLag()

    async def open(self) -> None:
        """Open all but the socket.

        Raises:
            PenstockError: The start failed.
        """
        # What is made at the start is kept to the end: looking for garbage in it only makes the start longer.
        gc.disable()
        # Opened before uvicorn starts, so that a failing start is an exception here and not a line in a log.
        await self.gateway.open()

    def server(self, ready: Callable[[], None]) -> GracefulServer:
        """Make the HTTP server; `ready` is called when it accepts connections."""
        return GracefulServer(
            uvicorn.Config(
                self.gateway,
                loop="none",
                http=early_protocol(
                    {path.encode(): route for path, route in self.gateway.hot.items()},
                    lambda: self.client.settings.server,
                ),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=75,
            ),
            self.gateway.lifecycle,
            grace_s=lambda: self.client.settings.server.drain_s,
            ready=ready,
        )

    async def serve(self, server: GracefulServer, listening: socket.socket) -> None:
        """Answer what comes in at `listening` until `server` is told to stop, then close."""
        tasks = self.client.shared.tasks
        tasks.spawn(self._watch_prompts(), name="watch the prompts")
        # Not by the first scrape, on the event loop.
        tasks.spawn(asyncio.to_thread(import_module, "prometheus_client"), name="load the metrics")
        self._show(server)
        sys.setswitchinterval(_SWITCH_S)
        gc.freeze()
        gc.set_threshold(*GARBAGE)
        gc.enable()
        self._lag.start()
        self.client.monitor.gauge("loop_lag_s", lambda: self._lag.worst_s)
        self.client.monitor.start()
        try:
            await server.serve(sockets=[listening])
        finally:
            self._lag.stop()

    async def apply(self, loaded: Loaded) -> None:
        """Put another configuration in force.

        Raises:
            PenstockError: It cannot be used; the old one stays in force.
        """
        await self.client.reload(loaded)
        self.gateway.gate.configure(loaded.settings.server)

    def _show(self, server: GracefulServer) -> None:
        gauge = self.client.shared.metrics.gauge
        connections = server.server_state.connections
        gauge("penstock_client_connections", "Connections of clients.", (), lambda: [((), len(connections))])
        gauge(
            "penstock_event_loop_lag_seconds",
            "How late the event loop came to a timer, at worst, in the last half minute to minute.",
            (),
            lambda: [((), self._lag.worst_s)],
        )

    async def _watch_prompts(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            if self.client.settings.prompts.reload:
                await self.client.prompts.keep_up()


class _Server(Serving):
    """The only process of a gateway."""

    def __init__(self, loaded: Loaded, listening: socket.socket, ready: Callable[[], None]) -> None:
        super().__init__(loaded)
        self._listening = listening
        self._ready = ready
        self.reloader = Reloader(loaded, listening.getsockname()[0], self.apply)

    async def run(self) -> None:
        await self.open()
        server, loop = self.server(self._ready), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.stop)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        self.client.shared.tasks.spawn(self.reloader.watch(), name="watch the configuration")
        await self.serve(server, self._listening)

    async def reload_all(self) -> None:
        await self.reloader.reload()
        await self.client.prompts.renew()

    def _hang_up(self) -> None:
        self.client.shared.tasks.spawn(self.reload_all(), name="reload")
