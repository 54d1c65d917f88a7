"""An answer on its way from a provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from penstock.abc import HttpReply
from penstock.core.errors import ProviderError
from penstock.core.events import Batch
from penstock.wire.upstream_errors import conceal

TAIL_S = 0.1
"""How long to wait, after the last event, for the end of the body: without it the connection cannot be used again."""


class Reader(Protocol):
    """A dialect's decoder of streams.

    Attributes:
        done: The event that ends a stream has been read.
        ended: Nothing more will come of further bytes: it is done, or broken.
    """

    done: bool
    ended: bool

    def feed(self, data: bytes) -> Batch:
        """Return the events that `data` completes, possibly none; a fault ends the stream and is kept for `finish`."""

    def finish(self) -> None:
        """The stream is over; raises `ProviderError` if it broke, or is over before the answer is."""


class LiveAnswer:
    """The source of a live response: a batch of events for each read that completed some.

    An iterator and not a generator, because closing a generator that was never started does not run its clean-up.
    """

    __slots__ = ("_chunks", "_first", "_reader", "_reply", "_secrets")

    def __init__(self, reply: HttpReply, reader: Reader, secrets: Sequence[str]) -> None:
        """Read `reply`, which is closed with the answer or when it is complete, with `reader`.

        No error will have any of `secrets` in its message.
        """
        self._secrets = secrets
        self._reply = reply
        self._reader = reader
        self._chunks = aiter(reply)
        self._first: Batch | None = None

    async def start(self) -> None:
        """Wait for the first event.

        Raises:
            ProviderError: There is none.
        """
        self._first = await self.__anext__()

    def __aiter__(self) -> AsyncIterator[Batch]:
        """Iterate the batches, once."""
        return self

    async def __anext__(self) -> Batch:
        """Wait for the next batch.

        Raises:
            ProviderError: The stream is broken, or over before the answer is.
        """
        if self._first is not None:
            batch, self._first = self._first, None
            return batch
        reader = self._reader
        while not reader.ended:
            try:
                data = await self._chunks.__anext__()
            except StopAsyncIteration:
                break
            batch = reader.feed(data)
            if batch:
                return batch
        try:
            reader.finish()
        except ProviderError as error:
            conceal(error, self._secrets)
            raise
        await self._release()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the exchange; an unfinished one closes its connection."""
        await self._reply.aclose()

    async def _release(self) -> None:
        try:
            if self._reader.done:
                async with asyncio.timeout(TAIL_S):
                    async for _ in self._chunks:
                        pass
        except (TimeoutError, ProviderError):
            # The answer is complete; only the connection is lost.
            pass
        finally:
            await self._reply.aclose()
