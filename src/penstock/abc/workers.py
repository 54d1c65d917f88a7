"""What the processes of one gateway say to each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Protocol

Hear = Callable[[int, bytes], None]
"""Takes the number of who says something, and what. Called on the event loop; it must not wait."""
Reply = Callable[[int, bytes], bytes | Awaitable[bytes]]
"""Takes the number of who asks, and what; returns the answer, or what to await for it: cancelled if nobody waits."""
Supply = Callable[[int, bytes], AsyncGenerator[bytes, None]]
"""As `Reply`, but answers in pieces; closed when the asker gives up."""


class Bus(Protocol):
    """Reaches the other workers of the same gateway. All methods are for the thread of its event loop.

    Workers have numbers from 1; one that was restarted has its old number, and is told of as gone and come. Messages
    from one worker to another arrive in the order in which they were sent, each once, or the connection ends, which
    both sides are told; nothing is lost between two workers that stay connected. A message may have 64 MiB.

    Attributes:
        number: This worker's.
        workers: How many there are when all live.
        directory: Private to the processes of this gateway, gone with it; for sockets and shared memory.
    """

    number: int
    workers: int
    directory: str

    @property
    def others(self) -> tuple[int, ...]:
        """Numbers of the other workers that are connected now, ascending."""

    @property
    def elected(self) -> bool:
        """Whether this worker does what one of all does: it is the lowest that lives.

        While a worker dies or comes back there may for a moment be two or none; what must not be done twice is claimed
        in the store as well.
        """

    def hear(self, topic: str, handler: Hear) -> None:
        """Have `handler` called with what `broadcast` says of `topic`; one handler a topic, the last one counts."""

    def reply(self, topic: str, handler: Reply) -> None:
        """Have `handler` answer what `ask` asks about `topic`.

        A `PenstockError` it raises is raised at the asker as a `WorkerError` with its code and message.
        """

    def supply(self, topic: str, handler: Supply) -> None:
        """Have `handler` answer what `stream` asks about `topic`; errors as for `reply`."""

    def watch(self, listener: Callable[[int, bool], None]) -> None:
        """Have `listener` called when another worker comes (its number and True) or goes (False).

        Called before requests that waited for one that goes fail.
        """

    def broadcast(self, topic: str, data: bytes = b"") -> None:
        """Tell all others; never waits. One that reads nothing for too long is disconnected.

        Raises:
            WorkerError: `data` is too large.
        """

    def ask(self, worker: int, topic: str, data: bytes = b"") -> asyncio.Future[bytes]:
        """Ask one worker; cancelling the future tells it that nobody waits. There is no time limit.

        The future fails with a `WorkerError` at once: ``worker_gone`` when that worker is not connected or ends before
        it has answered, otherwise with the code of what went wrong there.
        """

    async def ask_all(self, topic: str, data: bytes = b"", *, timeout_s: float = 10.0) -> dict[int, bytes]:
        """Ask all others at once; return their answers by number, without those that are gone.

        Raises:
            WorkerError: One failed, or did not answer within `timeout_s` seconds (``worker_timeout``).
        """

    def stream(self, worker: int, topic: str, data: bytes = b"") -> AsyncGenerator[bytes, None]:
        """Ask one worker for an answer in pieces, which comes no faster than it is read; close it to give up.

        Raises:
            WorkerError: As `ask`.
        """
