"""The workers as their supervisor sees them: started, started again when they end, changed and stopped together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable

import msgspec

from penstock.config.loader import Loaded
from penstock.config.packing import pack
from penstock.core.errors import ConfigError, PenstockError, WorkerError
from penstock.core.tasks import TaskGroup
from penstock.polling.backoff import Backoff
from penstock.telemetry.families import Family, Sample, Sums, decode, encode
from penstock.workers.bus import WorkerBus
from penstock.workers.protocol import BEGIN, FAILED, METRICS, NOW, PREPARED, RELOAD, SERVING, STOP, Failure, Orders

_START = "import sys; sys.path[:] = {path!r}; from penstock.server.worker import main; main({directory!r}, {numbers})"
_AGAIN = Backoff(0.1, 30.0, 2.0)
_TRIES = 3
"""How often a worker may end before all have begun."""
_WELL_S = 10.0
"""A worker that answered for so long was well: when it ends it is started again soon."""
_BEYOND_S = 10.0
"""How long workers may take to end after the time for their requests."""
_FORCED_S = 3.0
_SCRAPE_S = 2.0
"""How long a worker may take to say what it has counted."""

_log = logging.getLogger("penstock.server")


class Member:
    """One worker, over its restarts.

    Attributes:
        number: From 1.
        starts: How often it was started.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.starts = 0
        self.process: Process | None = None
        self.config = b""
        self.prepared = False
        self.serving_since: float | None = None
        self.failure: Failure | None = None
        self.replaced = False

    def begin(self, process: Process) -> None:
        """Forget the process before."""
        self.process, self.starts = process, self.starts + 1
        self.config, self.failure, self.serving_since = b"", None, None
        self.prepared = self.replaced = False


class Crew:
    """All workers of a gateway.

    Args:
        loaded: The configuration.
        orders: Makes orders of a packed configuration.
        bus: Reaches them.
        inherited: Descriptor of the listening socket, which the first worker takes over.
        ready: Called once all answer.

    Attributes:
        members: The workers.
        failed: Fails when they cannot be started.
    """

    def __init__(
        self,
        loaded: Loaded,
        orders: Callable[[bytes], Orders],
        bus: WorkerBus,
        inherited: int,
        ready: Callable[[], None],
    ) -> None:
        self.members = [Member(number) for number in range(1, loaded.settings.server.workers + 1)]
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._drain_s = loaded.settings.server.drain_s
        self._config = pack(loaded)
        self._orders = orders
        self._bus = bus
        self._inherited = inherited
        self._ready = ready
        self._keeping = TaskGroup()
        self._sums = Sums()
        self._all_prepared = asyncio.Event()
        self._up = False
        self._stopping = asyncio.Event()

    def start(self) -> None:
        """Start them; they are started again whenever they end."""
        self._bus.reply(BEGIN, lambda number, _: self._begin(self._member(number)))
        self._bus.reply(PREPARED, lambda number, _: self._prepared(self._member(number)))
        self._bus.reply(SERVING, lambda number, _: self._serving(self._member(number)))
        self._bus.reply(METRICS, lambda *_: self._metrics())
        self._bus.reply(FAILED, lambda number, data: self._note(self._member(number), data))
        for member in self.members:
            self._keeping.spawn(self._keep(member), name=f"keep worker {member.number}")

    async def apply(self, loaded: Loaded) -> None:
        """Put another configuration in force in all of them, or in none.

        One tries it first. What one accepts all do, having the same: one that does not is started anew with it.

        Raises:
            PenstockError: It cannot be used.
        """
        config = pack(loaded)
        tried: Member | None = None
        for member in self.members:
            if member.prepared:
                try:
                    await self._bus.ask(member.number, RELOAD, config)
                except WorkerError as error:
                    if error.code != "worker_gone":
                        raise
                    continue
                tried, member.config = member, config
                break
        self._config, self._drain_s = config, loaded.settings.server.drain_s
        others = [member for member in self.members if member.prepared and member is not tried]
        await asyncio.gather(*(self._catch_up(member) for member in others))

    def stop(self) -> None:
        """Let requests end, then end the workers; called again, end them at once."""
        loop = asyncio.get_running_loop()
        self._bus.broadcast(STOP, NOW if self._stopping.is_set() else b"")
        loop.call_later(_FORCED_S if self._stopping.is_set() else self._drain_s + _BEYOND_S, self._kill)
        self._stopping.set()
        for member in self.members:
            if member.number not in self._bus.others and member.process is not None:
                _end(member.process.terminate)  # it has not begun to listen to the bus

    async def ended(self) -> None:
        """Wait until all have ended after `stop`."""
        await self._keeping.drain()

    async def aclose(self) -> None:
        """End those that are left, without waiting for their requests."""
        self._stopping.set()
        self._bus.broadcast(STOP, NOW)
        self._kill()
        await self.ended()

    async def _keep(self, member: Member) -> None:
        loop, failures = asyncio.get_running_loop(), 0
        while True:
            process = await self._spawn(member)
            code = await process.wait()
            member.prepared, since, member.serving_since = False, member.serving_since, None
            self._sums.end(member.number)
            if self._stopping.is_set():
                return
            failures = 0 if member.replaced or (since is not None and loop.time() - since > _WELL_S) else failures + 1
            if not self._up and (member.failure is not None or failures == _TRIES):
                self._give_up(member, code)
                return
            wait = 0.0 if member.replaced else _AGAIN.wait(max(failures - 1, 0))
            why = f": {member.failure.message}" if member.failure is not None else ""
            _log.error("worker %d ended (%s)%s; it is started again in %.1f s", member.number, _said(code), why, wait)
            await asyncio.sleep(wait)
            if self._stopping.is_set():
                return

    async def _spawn(self, member: Member) -> Process:
        inherited = self._inherited if member.number == 1 and member.starts == 0 else -1
        numbers = f"{member.number}, {len(self.members)}, {inherited}"
        code = _START.format(path=sys.path, directory=self._bus.directory, numbers=numbers)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-c", code,
            stdin=DEVNULL, stdout=DEVNULL, pass_fds=() if inherited < 0 else (inherited,),
        )  # fmt: skip
        member.begin(process)
        if self._stopping.is_set():
            _end(process.kill)
        return process

    def _begin(self, member: Member) -> bytes:
        member.config = self._config
        orders = self._orders(self._config)
        # At the start all, later those that are not being started themselves.
        orders.others = [each.number for each in self.members if each.prepared or not self._up]
        return msgspec.msgpack.encode(orders)

    async def _prepared(self, member: Member) -> bytes:
        """Have it wait for the others at the start, and learn what has changed since it began."""
        member.prepared = True
        if all(each.prepared for each in self.members):
            self._all_prepared.set()
        await self._all_prepared.wait()
        while member.config != self._config:
            await self._catch_up(member)
        return b""

    def _serving(self, member: Member) -> bytes:
        member.serving_since = asyncio.get_running_loop().time()
        if self._up:
            _log.info("worker %d answers", member.number)
        elif all(each.serving_since is not None for each in self.members):
            self._up = True
            self._ready()
        return b""

    def _note(self, member: Member, data: bytes) -> bytes:
        member.failure = msgspec.msgpack.decode(data, type=Failure)
        return b""

    async def _metrics(self) -> bytes:
        """Put the metrics of all together; of one that does not answer in time what it showed last."""
        asked = {
            self._bus.ask(each.number, METRICS): (each, each.serving_since)
            for each in self.members
            if each.serving_since is not None
        }
        if asked:
            await asyncio.wait(asked, timeout=_SCRAPE_S)
        for future, (member, since) in asked.items():
            if not future.done():
                future.cancel()
            elif future.exception() is None and member.serving_since == since:  # otherwise of one that has ended
                self._sums.take(member.number, decode(future.result()))
        return encode([*self._sums.read(), *self._shown()])

    def _shown(self) -> list[Family]:
        up, starts = "penstock_worker_up", "penstock_worker_starts"
        numbered = [(str(each.number), each) for each in self.members]
        serving = [Sample(up, {"worker": name}, float(each.serving_since is not None)) for name, each in numbered]
        started = [Sample(f"{starts}_total", {"worker": name}, float(each.starts)) for name, each in numbered]
        return [
            Family(up, "gauge", "1 while a worker answers.", serving),
            Family(starts, "counter", "How often a worker was started.", started),
        ]

    async def _catch_up(self, member: Member) -> None:
        config = self._config
        try:
            await self._bus.ask(member.number, RELOAD, config)
        except WorkerError as error:
            if error.code != "worker_gone":
                _log.error("worker %d refuses what another has accepted, and is replaced: %s", member.number, error)
                member.replaced = True
                if member.process is not None:
                    _end(member.process.terminate)
        member.config = config

    def _give_up(self, member: Member, code: int) -> None:
        failure = member.failure
        error = PenstockError(
            f"worker {member.number} ended {_TRIES} times before all had begun ({_said(code)}); the log may say why"
        )
        if failure is not None:
            error = ConfigError(failure.message) if failure.kind == "config" else PenstockError(failure.message)
        if not self.failed.done():
            self.failed.set_exception(error)

    def _kill(self) -> None:
        for member in self.members:
            if member.process is not None and member.process.returncode is None:
                _log.warning("worker %d did not end in time and is killed", member.number)
                _end(member.process.kill)

    def _member(self, number: int) -> Member:
        return self.members[number - 1]


def _end(how: Callable[[], None]) -> None:
    with contextlib.suppress(ProcessLookupError):
        how()


def _said(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"
