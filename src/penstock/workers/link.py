"""One connection between two workers: questions in both directions at the same time."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol, cast

from penstock.core.errors import WorkerError
from penstock.workers.answering import Answering, Handlers
from penstock.workers.asking import Asking
from penstock.workers.frames import MOST_BYTES, Frame, Kind, Reader, encode

_MOST_WAITING = 2 * MOST_BYTES
"""Bytes that may wait for another worker to read them; then it is taken for dead."""

_log = logging.getLogger("penstock.workers")


class Hub(Protocol):
    """Keeps the connections."""

    def came(self, link: Link, number: int) -> None:
        """`link` is to `number`."""

    def left(self, link: Link, number: int) -> None:
        """`link`, which was to `number`, has ended."""


class Link(asyncio.Protocol):
    """One connection.

    Args:
        handlers: What answers the other side.
        number: This side's.
        hub: Told when it is known who the other side is, and when the connection ends.

    Attributes:
        worker: The number of the other side; -1 until it has said so.
        ended: Done when the connection has ended.
        asking: What this side asks.
    """

    def __init__(self, handlers: Handlers, number: int, hub: Hub) -> None:
        self.worker = -1
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.asking = Asking(self._send)
        self._answering = Answering(handlers, self._send)
        self._number = number
        self._hub = hub
        self._transport: asyncio.Transport | None = None
        self._reader = Reader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say who this is."""
        self._transport = cast("asyncio.Transport", transport)
        self._send(Kind.HELLO, self._number, "", b"")

    def connection_lost(self, exc: Exception | None) -> None:
        """End all that waited for the other side, and all that the other side waited for."""
        del exc
        self._transport = None
        if not self.ended.done():
            self.ended.set_result(None)
        if self.worker >= 0:
            self._hub.left(self, self.worker)
        self._answering.close()
        self.asking.close(WorkerError(f"Worker {self.worker} ended before it had answered.", code="worker_gone"))

    def data_received(self, data: bytes) -> None:
        """Do what is said."""
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
                if self._transport is None:
                    return
        except ValueError as error:
            _log.error("worker %d is disconnected: it sent %s", self.worker, error)
            self.close()

    def close(self) -> None:
        """End the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def say(self, topic: str, data: bytes) -> None:
        """Tell the other side."""
        self._send(Kind.SAY, 0, topic, data)

    def _send(self, kind: Kind, number: int, topic: str, data: bytes) -> None:
        if len(data) > MOST_BYTES:
            raise WorkerError(f"A message of {len(data)} bytes is too large for another worker.")
        if self._transport is None:
            return
        self._transport.write(encode(kind, number, topic, data))
        if self._transport.get_write_buffer_size() > _MOST_WAITING:
            _log.error("worker %d is disconnected: it reads nothing", self.worker)
            self.close()

    def _take(self, frame: Frame) -> None:  # noqa: C901 one case a kind
        kind, number, topic, data = frame
        match kind:
            case Kind.ASK:
                self._answering.answer(self.worker, number, topic, data)
            case Kind.ANSWER:
                self.asking.answered(number, data)
            case Kind.SAY:
                self._answering.hear(self.worker, topic, data)
            case Kind.STREAM:
                self._answering.supply(self.worker, number, topic, data)
            case Kind.PIECE:
                self.asking.piece(number, data)
            case Kind.END:
                self.asking.piece(number, None)
            case Kind.FAIL:
                self.asking.failed(number, WorkerError(data.decode(errors="replace"), code=topic))
            case Kind.CREDIT:
                self._answering.credit(number, int.from_bytes(data, "big"))
            case Kind.CANCEL:
                self._answering.cancel(number)
            case Kind.HELLO:
                self.worker = number
                self._hub.came(self, number)
            case _:
                raise ValueError(f"a message of the kind {kind}")
