"""The answering side of a connection: handlers, and what they are at work on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any

from penstock.abc.workers import Hear, Reply, Supply
from penstock.core.errors import PenstockError, WorkerError
from penstock.core.tasks import TaskGroup
from penstock.workers.frames import Kind

WINDOW = 256 * 1024
"""Bytes of a streamed answer that may be under way to somebody who has not read them."""

Send = Callable[[Kind, int, str, bytes], None]
_log = logging.getLogger("penstock.workers")


class Handlers:
    """What is done with what others say, by topic.

    Attributes:
        hear: For broadcasts.
        reply: For questions.
        supply: For questions whose answers are streamed.
        tasks: Answers that are being made.
    """

    def __init__(self) -> None:
        self.hear: dict[str, Hear] = {}
        self.reply: dict[str, Reply] = {}
        self.supply: dict[str, Supply] = {}
        self.tasks = TaskGroup()


class Answering:
    """Answers one worker.

    Args:
        handlers: What answers.
        send: Sends a frame to that worker.
    """

    def __init__(self, handlers: Handlers, send: Send) -> None:
        self._handlers = handlers
        self._send = send
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._credits: dict[int, _Credit] = {}

    def hear(self, worker: int, topic: str, data: bytes) -> None:
        """Take a broadcast in."""
        handler = self._handlers.hear.get(topic)
        if handler is None:
            return
        try:
            handler(worker, data)
        except Exception:  # noqa: BLE001 one handler's fault is not the connection's
            _log.exception("what worker %d said of %s was not understood", worker, topic)

    def answer(self, worker: int, number: int, topic: str, data: bytes) -> None:
        """Answer a question, at once if the handler can."""
        handler = self._handlers.reply.get(topic)
        try:
            if handler is None:
                raise _unknown(topic)
            said = handler(worker, data)
            if isinstance(said, bytes):
                self._send(Kind.ANSWER, number, "", said)
                return
        except Exception as error:  # noqa: BLE001 whatever it is, somebody waits
            self._fail(number, topic, error)
            return
        self._work(number, topic, self._later(number, said))

    def supply(self, worker: int, number: int, topic: str, data: bytes) -> None:
        """Answer a question in pieces."""
        self._credits[number] = _Credit()
        self._work(number, topic, self._pieces(worker, number, topic, data))

    def credit(self, number: int, count: int) -> None:
        """So many bytes more may be sent."""
        if (credit := self._credits.get(number)) is not None:
            credit.add(count)

    def cancel(self, number: int) -> None:
        """Nobody waits for this answer any more."""
        if (task := self._tasks.get(number)) is not None:
            task.cancel()

    def close(self) -> None:
        """Nobody waits for any."""
        for task in self._tasks.values():
            task.cancel()

    async def _later(self, number: int, said: Awaitable[bytes]) -> None:
        self._send(Kind.ANSWER, number, "", await said)

    async def _pieces(self, worker: int, number: int, topic: str, data: bytes) -> None:
        handler, credit = self._handlers.supply.get(topic), self._credits[number]
        if handler is None:
            raise _unknown(topic)
        async with aclosing(handler(worker, data)) as pieces:
            async for piece in pieces:
                await credit.take(len(piece))
                self._send(Kind.PIECE, number, "", piece)
        self._send(Kind.END, number, "", b"")

    def _work(self, number: int, topic: str, work: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001 whatever it is, somebody waits
                self._fail(number, topic, error)

        task = self._tasks[number] = self._handlers.tasks.spawn(run(), name=f"answer {topic}")
        task.add_done_callback(lambda _: self._forget(number))

    def _forget(self, number: int) -> None:
        self._tasks.pop(number, None)
        self._credits.pop(number, None)

    def _fail(self, number: int, topic: str, error: Exception) -> None:
        if isinstance(error, PenstockError):
            code, message = error.code, str(error)
        else:
            _log.error("a question about %s could not be answered", topic, exc_info=error)
            code, message = "worker_failed", "Another worker could not answer; the reason is in the log."
        self._send(Kind.FAIL, number, code, message.encode())


class _Credit:
    """How much of a streamed answer may still be sent; one piece may go beyond."""

    __slots__ = ("_left", "_waiting")

    def __init__(self) -> None:
        self._left = WINDOW
        self._waiting: asyncio.Future[None] | None = None

    async def take(self, count: int) -> None:
        while self._left <= 0:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        self._left -= count

    def add(self, count: int) -> None:
        self._left += count
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def _unknown(topic: str) -> WorkerError:
    return WorkerError(f"The other worker knows nothing of {topic}.", code="worker_failed")
