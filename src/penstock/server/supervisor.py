"""Several processes that answer on one address, and the one that looks after them and answers nothing itself."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack

from penstock.config.loader import Loaded
from penstock.core.errors import ConfigError
from penstock.core.tasks import TaskGroup
from penstock.server.crew import Crew
from penstock.server.listening import join, listen, url_of
from penstock.server.reloading import Reloader
from penstock.workers.bus import WorkerBus
from penstock.workers.place import meeting_place
from penstock.workers.protocol import PROMPTS, SUPERVISOR, Orders


def supervise(loaded: Loaded, *, as_json: bool, level: str, ready: Callable[[Loaded, str], None]) -> None:
    """Serve with `server.workers` processes until SIGTERM or SIGINT, then let running requests end.

    Args:
        loaded: The configuration; reloaded from its file on SIGHUP, and on change if `server.reload` says so.
        as_json: Whether workers log JSON.
        level: What workers log.
        ready: Called with the configuration and the base URL once all workers answer.

    Raises:
        ConfigError: The address or the configuration cannot be used, or not with several workers.
        PenstockError: A worker did not start.
    """
    check(loaded)
    with listen(loaded.settings.server, shared=True) as listening:
        asyncio.run(_supervise(loaded, listening, (as_json, level), ready))


def check(loaded: Loaded) -> None:
    """Refuse what cannot be done with several workers.

    Raises:
        ConfigError: This is not Linux, or the store is each worker's own.
    """
    if sys.platform != "linux":
        raise ConfigError(
            "several workers need Linux, which spreads the connections of one address over processes; elsewhere run "
            "one, or several gateways on ports of their own behind a proxy",
            key="server.workers",
            expected="1",
        )
    if loaded.settings.store.url == "memory:":
        raise ConfigError(
            "several workers share what is in the store, and memory: is each one's own",
            key="store.url",
            expected="sqlite:///FILE, or server.workers: 1",
        )


async def _supervise(
    loaded: Loaded, listening: socket.socket, logs: tuple[bool, str], ready: Callable[[Loaded, str], None]
) -> None:
    loop, tasks, stopping = asyncio.get_running_loop(), TaskGroup(), asyncio.Event()
    family, address, url = int(listening.family), listening.getsockname(), url_of(listening)

    def begun() -> None:
        listening.close()  # the first worker has it
        ready(loaded, url)

    def orders(config: bytes) -> Orders:
        return Orders(config, *logs, family, list(address))

    async def reload() -> None:
        await reloader.reload()
        bus.broadcast(PROMPTS)

    def stop() -> None:
        stopping.set()
        crew.stop()

    # Before anything is made that would be left behind.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, lambda: tasks.spawn(reload(), name="reload"))
    with ExitStack() as made:
        # Bound all the time, so that the port stays this gateway's while workers come and go.
        made.enter_context(join(family, address, accept=False))
        bus = WorkerBus(made.enter_context(meeting_place()), SUPERVISOR, loaded.settings.server.workers)
        crew = Crew(loaded, orders, bus, listening.fileno(), begun)
        reloader = Reloader(loaded, address[0], crew.apply)
        try:
            await bus.open()
            crew.start()
            tasks.spawn(reloader.watch(), name="watch the configuration")
            over = tasks.spawn(stopping.wait(), name="wait for the end")
            await asyncio.wait((over, crew.failed), return_when=asyncio.FIRST_COMPLETED)
            if crew.failed.done():
                crew.failed.result()
            await crew.ended()
        finally:
            await crew.aclose()
            await tasks.aclose()
            await bus.aclose()
