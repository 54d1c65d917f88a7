"""The asking side of a connection: what is waited for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from penstock.core.errors import WorkerError
from penstock.workers.answering import WINDOW, Send
from penstock.workers.frames import Kind


class Asking:
    """Questions to one worker that are not answered yet.

    Args:
        send: Sends a frame to that worker.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._number = 0
        self._answers: dict[int, asyncio.Future[bytes]] = {}
        self._streams: dict[int, _Stream] = {}

    def ask(self, topic: str, data: bytes) -> asyncio.Future[bytes]:
        """Ask; the answer comes as a future."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._number = number = self._number + 1
        self._answers[number] = answer
        answer.add_done_callback(lambda _: self._done(number))
        try:
            self._send(Kind.ASK, number, topic, data)
        except WorkerError as error:
            del self._answers[number]
            answer.set_exception(error)
        return answer

    async def stream(self, topic: str, data: bytes) -> AsyncGenerator[bytes, None]:
        """Ask for an answer in pieces."""
        self._number = number = self._number + 1
        stream = self._streams[number] = _Stream()
        read = 0
        try:
            self._send(Kind.STREAM, number, topic, data)
            while (piece := await stream.next()) is not None:
                read += len(piece)
                if read * 2 >= WINDOW:
                    self._send(Kind.CREDIT, number, "", read.to_bytes(8, "big"))
                    read = 0
                yield piece
        finally:
            del self._streams[number]
            if not stream.ended:
                self._send(Kind.CANCEL, number, "", b"")

    def answered(self, number: int, data: bytes) -> None:
        """An answer is here."""
        answer = self._answers.pop(number, None)
        if answer is not None and not answer.done():
            answer.set_result(data)

    def piece(self, number: int, data: bytes | None) -> None:
        """A piece of an answer is here; None is its end."""
        if (stream := self._streams.get(number)) is not None:
            stream.put(data)

    def failed(self, number: int, error: WorkerError) -> None:
        """There will be no answer."""
        answer = self._answers.pop(number, None)
        if answer is not None and not answer.done():
            answer.set_exception(error)
        if (stream := self._streams.get(number)) is not None:
            stream.put(error)

    def close(self, error: WorkerError) -> None:
        """There will be no answers at all."""
        for number in [*self._answers, *self._streams]:
            self.failed(number, error)

    def _done(self, number: int) -> None:
        if self._answers.pop(number, None) is not None:  # not answered, so it was cancelled
            self._send(Kind.CANCEL, number, "", b"")


class _Stream:
    """Pieces that have come and were not read."""

    __slots__ = ("_pieces", "_waiting", "ended")

    def __init__(self) -> None:
        self.ended = False
        self._pieces: deque[bytes | WorkerError | None] = deque()
        self._waiting: asyncio.Future[None] | None = None

    def put(self, piece: bytes | WorkerError | None) -> None:
        self.ended = self.ended or not isinstance(piece, bytes)
        self._pieces.append(piece)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def next(self) -> bytes | None:
        while not self._pieces:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        piece = self._pieces.popleft()
        if isinstance(piece, WorkerError):
            raise piece
        return piece
