"""One of several processes that answer; `penstock.server.supervisor` starts them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys

import msgspec
import uvloop

from penstock.config.packing import unpack
from penstock.core.errors import ConfigError, PenstockError, StoreError, WorkerError
from penstock.server.lifecycle import GracefulServer
from penstock.server.listening import join
from penstock.server.serving import Serving
from penstock.telemetry import logs
from penstock.telemetry.families import encode
from penstock.workers.bus import WorkerBus
from penstock.workers.protocol import (
    BEGIN,
    FAILED,
    METRICS,
    NOW,
    PREPARED,
    PROMPTS,
    RELOAD,
    SERVING,
    STOP,
    SUPERVISOR,
    Failure,
    Orders,
)

_log = logging.getLogger("penstock.server")
NO_SOCKET = -1
_MEETING_S = 5.0
"""How long others are waited for, one of which may have died meanwhile."""
_DYING_S = 0.5
"""How long a process may take to die after its connections have."""


def main(directory: str, number: int, workers: int, inherited: int) -> None:
    """Work until told to stop.

    Args:
        directory: Where the processes of the gateway meet.
        number: Which worker this is, from 1.
        workers: How many there are.
        inherited: The descriptor of a listening socket, or `NO_SOCKET`.
    """
    # The terminal tells them to the whole group of processes; the supervisor says what is to be done.
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    sys.exit(uvloop.run(_work(WorkerBus(directory, number, workers), inherited)))


async def _work(bus: WorkerBus, inherited: int) -> int:
    await bus.open()
    try:
        if not await bus.reach(SUPERVISOR):
            return 1
        orders = msgspec.msgpack.decode(await bus.ask(SUPERVISOR, BEGIN), type=Orders)
        logs.configure(as_json=orders.as_json, level=orders.level, worker=bus.number)
        await _Worker(orders, bus, inherited).run()
    except PenstockError as error:
        failure = Failure("config" if isinstance(error, ConfigError) else "other", str(error))
        with contextlib.suppress(WorkerError):
            await bus.ask(SUPERVISOR, FAILED, msgspec.msgpack.encode(failure))
        return 1
    except asyncio.CancelledError:
        _log.debug("stopped before it had begun")
    finally:
        await bus.aclose()
    return 0


class _Worker(Serving):
    def __init__(self, orders: Orders, bus: WorkerBus, inherited: int) -> None:
        super().__init__(unpack(orders.config), bus)
        self._bus = bus
        self._orders = orders
        self._inherited = inherited
        self._server: GracefulServer | None = None
        self._left = False
        self._task = asyncio.current_task()

    async def run(self) -> None:
        self._bus.hear(STOP, lambda _, data: self._stop(now=data == NOW))
        self._bus.watch(self._changed)
        listening = None if self._inherited == NO_SOCKET else socket.socket(fileno=self._inherited)
        await self._bus.meet(self._orders.others, timeout_s=_MEETING_S)
        await self.open()
        try:
            self._bus.reply(RELOAD, lambda _, data: self._reload(data))
            await self._bus.ask(SUPERVISOR, PREPARED)
            if listening is None:
                listening = join(self._orders.family, tuple(self._orders.address))
        except BaseException:
            await self.gateway.aclose()
            raise
        server = self._server = self.server(self._serving)
        self._bus.reply(METRICS, lambda *_: encode(self.client.shared.metrics.families()))
        self._bus.hear(PROMPTS, lambda *_: self._renew_prompts())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: self._stop(now=False))
        await self.serve(server, listening)

    def _serving(self) -> None:
        self._take_over()
        self.client.shared.tasks.spawn(self._tell(), name="tell the supervisor")

    async def _tell(self) -> None:
        with contextlib.suppress(WorkerError):
            await self._bus.ask(SUPERVISOR, SERVING)

    def _changed(self, number: int, lives: bool) -> None:  # noqa: FBT001 the bus says which
        if number == SUPERVISOR and not lives:
            _log.error("the supervisor is gone, this worker stops")
            self._stop(now=False)
        elif not lives:
            self._left = True
            if self._server is not None:
                self._take_over()

    def _take_over(self) -> None:
        if self._left and self._bus.elected:
            self._left = False
            self.client.shared.tasks.spawn(self._recover(), name="recover what another worker left")

    async def _recover(self) -> None:
        """Put the calls of a worker that died into the ledger; so would its successor, which may be long in coming."""
        await asyncio.sleep(_DYING_S)
        try:
            await self.client.shared.stores.budgets.recover()
        except StoreError as error:
            _log.error("calls of a worker that ended are recovered later: %s", error)

    def _stop(self, *, now: bool) -> None:
        if self._server is None:
            if self._task is not None:
                self._task.cancel()
        elif now or not self._server.should_exit:  # a service manager tells every process, before or after
            self._server.stop()

    async def _reload(self, data: bytes) -> bytes:
        await self.apply(unpack(data))
        return b""

    def _renew_prompts(self) -> None:
        self.client.shared.tasks.spawn(self.client.prompts.renew(), name="renew the prompts")
