"""Running the gateway: one listening socket, signals, reload, drain."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Callable
from importlib import import_module

import uvicorn
import uvloop

from penstock.client import AsyncClient
from penstock.config.loader import Loaded, load
from penstock.config.settings import ServerSettings
from penstock.config.watch import FileStamp
from penstock.core.errors import ConfigError, PenstockError
from penstock.server.app import Gateway
from penstock.server.early import early_protocol
from penstock.server.lifecycle import GracefulServer
from penstock.telemetry.lag import LoopLag

_log = logging.getLogger("penstock.server")
_BACKLOG = 2048
GARBAGE = (2_000, 5, 200)
"""Thresholds of the cyclic collector. Its defaults scan the whole cache every few hundred requests, a third of all time
spent; at these a scan of everything is rare. The first two bound the pauses: 40,000 objects of failed requests,
taken up at once, stopped the event loop for a sixth of a second."""
_WATCH_S = 1.0
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
    host, port = listening.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    with listening:
        uvloop.run(_Server(loaded, listening, lambda: ready(loaded, url)).run())


def listen(settings: ServerSettings) -> socket.socket:
    """Open the listening socket.

    Raises:
        ConfigError: The address is not loopback and there are no keys, or it is in use or not this machine's.
    """
    _require_keys(settings, settings.host)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"cannot listen on {settings.host}: {error.strerror or error}", key="server.host") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}. Stop the program that uses it, or "
            "choose another port with --port",
            key="server.port",
        ) from error
    listening.settimeout(0)
    return listening


def _require_keys(settings: ServerSettings, host: str) -> None:
    if not settings.keys and settings.admin_key is None and not _loopback(host):
        raise ConfigError(
            f"refusing to listen on {host} without keys: everyone who reaches the address could spend your money. "
            "Set PENSTOCK_ADMIN_KEY or server.keys, or listen on 127.0.0.1",
            key="server.host",
        )


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Server:
    def __init__(self, loaded: Loaded, listening: socket.socket, ready: Callable[[], None]) -> None:
        self._loaded = loaded
        self._listening = listening
        self._ready = ready
        self._client = AsyncClient(loaded)
        self._gateway = Gateway(self._client)
        self._reloading = asyncio.Lock()
        self._lag = LoopLag()

    async def run(self) -> None:
        # What is made at the start is kept to the end: looking for garbage in it only makes the start longer.
        gc.disable()
        # Opened before uvicorn starts, so that a failing start is an exception here and not a line in a log.
        await self._gateway.open()
        settings = self._loaded.settings.server
        server = GracefulServer(
            uvicorn.Config(
                self._gateway,
                loop="none",
                http=early_protocol(
                    {path.encode(): route for path, route in self._gateway.hot.items()},
                    lambda: self._client.settings.server,
                ),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=75,
            ),
            self._gateway.lifecycle,
            grace_s=lambda: self._client.settings.server.drain_s,
            ready=self._ready,
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.stop)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        if settings.reload and self._loaded.path is not None:
            self._client.shared.tasks.spawn(self._watch(self._loaded.path), name="watch the configuration")
        self._client.shared.tasks.spawn(self._watch_prompts(), name="watch the prompts")
        # Not by the first scrape, on the event loop.
        self._client.shared.tasks.spawn(asyncio.to_thread(import_module, "prometheus_client"), name="load the metrics")
        self._show(server)
        sys.setswitchinterval(_SWITCH_S)
        gc.freeze()
        gc.set_threshold(*GARBAGE)
        gc.enable()
        self._lag.start()
        self._client.monitor.gauge("loop_lag_s", lambda: self._lag.worst_s)
        self._client.monitor.start()
        try:
            await server.serve(sockets=[self._listening])
        finally:
            self._lag.stop()

    def _show(self, server: GracefulServer) -> None:
        gauge = self._client.shared.metrics.gauge
        connections = server.server_state.connections
        gauge("penstock_client_connections", "Connections of clients.", (), lambda: [((), len(connections))])
        gauge(
            "penstock_event_loop_lag_seconds",
            "How late the event loop came to a timer, at worst, in the last half minute to minute.",
            (),
            lambda: [((), self._lag.worst_s)],
        )

    def _hang_up(self) -> None:
        self._client.shared.tasks.spawn(self._reload_all(), name="reload")

    async def _reload_all(self) -> None:
        await self._reload()
        await self._client.prompts.renew()

    async def _watch(self, path: str) -> None:
        seen = FileStamp.of(path)
        while True:
            await asyncio.sleep(_WATCH_S)
            now = FileStamp.of(path)
            if now != seen:
                seen = now
                await self._reload()

    async def _watch_prompts(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            if self._client.settings.prompts.reload:
                await self._client.prompts.keep_up()

    async def _reload(self) -> None:
        async with self._reloading:
            try:
                loaded = await asyncio.to_thread(load, self._loaded.path)
                _require_keys(loaded.settings.server, self._listening.getsockname()[0])
                await self._client.reload(loaded)
                self._gateway.gate.configure(loaded.settings.server)
            except PenstockError as error:
                _log.error("the new configuration is not used, the old one keeps serving: %s", error)
                return
            _log.info("configuration reloaded from %s", self._loaded.path or "the environment")
            for warning in loaded.warnings:
                _log.warning("%s", warning)
            for name in self._unchangeable(loaded.settings.server):
                _log.warning("server.%s was changed: that takes effect with the next start", name)

    def _unchangeable(self, wanted: ServerSettings) -> list[str]:
        """Name the settings of `wanted` that are in force only after a restart; arguments hold over a reload."""
        started, sources = self._loaded.settings.server, self._loaded.sources
        return [
            name
            for name in ("host", "port", "reload")
            if getattr(wanted, name) != getattr(started, name)
            and not sources.get(f"server.{name}", "").startswith("argument")
        ]
