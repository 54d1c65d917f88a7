"""The bus: every process of a gateway has a connection to every other one, over sockets that only they can reach."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import stat
from collections.abc import AsyncGenerator, Callable, Collection

from penstock.abc.workers import Hear, Reply, Supply
from penstock.core.errors import ConfigError, WorkerError
from penstock.core.tasks import TaskGroup
from penstock.workers.answering import Handlers
from penstock.workers.link import Link
from penstock.workers.protocol import SUPERVISOR

_RETRY_S = (0.01, 0.2)
"""Shortest and longest time between two tries to reach one that is expected."""
_MEETING_S = 10.0

_log = logging.getLogger("penstock.workers")


class WorkerBus:
    """Implements `penstock.abc.Bus`.

    Each process listens at ``NUMBER.sock`` in the common directory and connects to those of lower numbers, again and
    again, so that of two exactly one does.

    Args:
        directory: Exists, and is this user's alone.
        number: This process's; 0 is the supervisor's.
        workers: How many workers there are.

    Raises:
        ConfigError: Others could enter `directory`.
    """

    def __init__(self, directory: str, number: int, workers: int) -> None:
        found = os.lstat(directory)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise ConfigError(f"{directory} must be a directory that only this user may enter (mode 0700)")
        self.directory, self.number, self.workers = directory, number, workers
        self._handlers = Handlers()
        self._links: dict[int, Link] = {}
        self._listeners: list[Callable[[int, bool], None]] = []
        self._server: asyncio.Server | None = None
        self._dialling = TaskGroup()
        self._met = asyncio.Event()

    @property
    def others(self) -> tuple[int, ...]:
        """Numbers of the other workers that are connected now, ascending."""
        return tuple(sorted(number for number in self._links if number != SUPERVISOR))

    @property
    def elected(self) -> bool:
        """Whether this is the lowest worker that lives."""
        return self.number != SUPERVISOR and all(self.number < other for other in self.others)

    def hear(self, topic: str, handler: Hear) -> None:
        """As `penstock.abc.Bus`."""
        self._handlers.hear[topic] = handler

    def reply(self, topic: str, handler: Reply) -> None:
        """As `penstock.abc.Bus`."""
        self._handlers.reply[topic] = handler

    def supply(self, topic: str, handler: Supply) -> None:
        """As `penstock.abc.Bus`."""
        self._handlers.supply[topic] = handler

    def watch(self, listener: Callable[[int, bool], None]) -> None:
        """As `penstock.abc.Bus`; the supervisor is told of too, as 0."""
        self._listeners.append(listener)

    def broadcast(self, topic: str, data: bytes = b"") -> None:
        """As `penstock.abc.Bus`."""
        for number, link in list(self._links.items()):
            if number != SUPERVISOR:
                link.say(topic, data)

    def ask(self, worker: int, topic: str, data: bytes = b"") -> asyncio.Future[bytes]:
        """As `penstock.abc.Bus`; the supervisor can be asked too, as 0."""
        link = self._links.get(worker)
        if link is not None:
            return link.asking.ask(topic, data)
        nobody: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        nobody.set_exception(_gone(worker))
        return nobody

    async def ask_all(self, topic: str, data: bytes = b"", *, timeout_s: float = 10.0) -> dict[int, bytes]:
        """As `penstock.abc.Bus`."""
        asked = {number: self.ask(number, topic, data) for number in self.others}
        if not asked:
            return {}
        _, late = await asyncio.wait(asked.values(), timeout=timeout_s)
        for future in late:
            future.cancel()
        answers: dict[int, bytes] = {}
        failed: WorkerError | None = None
        for number, future in asked.items():
            if future in late:
                failed = WorkerError(f"Worker {number} did not answer within {timeout_s:g} s.", code="worker_timeout")
            elif isinstance(error := future.exception(), WorkerError):
                failed = failed if error.code == "worker_gone" else error
            else:
                answers[number] = future.result()
        if failed is not None:
            raise failed
        return answers

    async def stream(self, worker: int, topic: str, data: bytes = b"") -> AsyncGenerator[bytes, None]:
        """As `penstock.abc.Bus`."""
        link = self._links.get(worker)
        if link is None:
            raise _gone(worker)
        async with contextlib.aclosing(link.asking.stream(topic, data)) as pieces:
            async for piece in pieces:
                yield piece

    async def open(self) -> None:
        """Listen, and begin to connect to the others."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: Link(self._handlers, self.number, self), self._at(self.number)
        )
        for number in range(self.number):
            self._dialling.spawn(self._dial(number), name=f"reach worker {number}")

    async def meet(self, others: Collection[int] | None = None, *, timeout_s: float = _MEETING_S) -> bool:
        """Wait until all of `others`, by default all other workers, are connected; return whether they are in time."""
        wanted = set(range(1, self.workers + 1) if others is None else others) - {self.number}
        return await self._until(lambda: wanted <= self._links.keys(), timeout_s)

    async def reach(self, number: int, *, timeout_s: float = _MEETING_S) -> bool:
        """As `meet`, for one, which may be the supervisor."""
        return await self._until(lambda: number in self._links, timeout_s)

    async def _until(self, met: Callable[[], bool], timeout_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not met():
                    self._met.clear()
                    await self._met.wait()
        return met()

    async def aclose(self) -> None:
        """Leave; the last worker removes the directory if the supervisor, which should, is gone."""
        orphaned = self.number != SUPERVISOR and SUPERVISOR not in self._links
        self._listeners.clear()
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._dialling.aclose()
        for link in list(self._links.values()):
            link.close()
        await self._handlers.tasks.aclose()
        with contextlib.suppress(OSError):
            os.unlink(self._at(self.number))
            others = (self._at(number) for number in range(1, self.workers + 1))
            if orphaned and not any(map(os.path.exists, others)):
                shutil.rmtree(self.directory, ignore_errors=True)

    def came(self, link: Link, number: int) -> None:
        """Take the connection to `number` in; a former one is of a process that is gone."""
        former = self._links.get(number)
        if former is not None:
            former.close()
            self.left(former, number)
        self._links[number] = link
        self._tell(number, lives=True)

    def left(self, link: Link, number: int) -> None:
        """Forget a connection that has ended."""
        if self._links.get(number) is link:
            del self._links[number]
            self._tell(number, lives=False)

    def _tell(self, number: int, *, lives: bool) -> None:
        self._met.set()
        for listener in self._listeners:
            listener(number, lives)

    async def _dial(self, number: int) -> None:
        loop, (least, most) = asyncio.get_running_loop(), _RETRY_S
        wait = least
        while True:
            try:
                _, link = await loop.create_unix_connection(
                    lambda: Link(self._handlers, self.number, self), self._at(number)
                )
                await link.ended
                wait = least
            except OSError:  # it does not run yet, or not any more
                wait = min(wait * 1.5, most)
            await asyncio.sleep(wait)

    def _at(self, number: int) -> str:
        return os.path.join(self.directory, f"{number}.sock")


def _gone(worker: int) -> WorkerError:
    return WorkerError(f"Worker {worker} does not run now.", code="worker_gone")
