"""One request's answer as its reader sees it: waits, decodes, and lets go of the connection."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from penstock.core.errors import ProviderError
from penstock.providers.transport.decoding import Decoder
from penstock.providers.transport.failures import incomplete

if TYPE_CHECKING:
    from penstock.providers.transport.connection import Connection


class Exchange(msgspec.Struct, eq=False):
    """An `abc.HttpReply`. The connection puts body data in; one task at a time takes it out.

    Attributes:
        status: The HTTP status; 0 before the head is there.
        headers: Lower-case names; repeated fields joined with a comma.
        head_done: The head of the final response has arrived.
        ended: Nothing more will come; the connection is no longer held.
        error: Why it ended, unless it is complete.
        unread: It ended because a connection used before was closed, and nobody has read the request.
        patient: Wake the reader at the end only.
        decoder: Undoes the content coding, if there is one.
        buffered: Bytes waiting for the reader.
        received: Body bytes received so far, as transferred.
        then: Called at the end, in place of waking a reader.
        more: Called when there is more of the body, likewise.
    """

    _connection: Connection | None
    headers: Mapping[str, str]
    status: int = 0
    head_done: bool = False
    ended: bool = False
    error: ProviderError | None = None
    unread: bool = False
    patient: bool = False
    decoder: Decoder | None = None
    buffered: int = 0
    received: int = 0
    then: Callable[[], None] | None = None
    more: Callable[[], None] | None = None
    _chunks: list[bytes] = []
    _waiter: asyncio.Future[None] | None = None

    async def read(self) -> bytes:
        """Return the rest of the body, decoded, once.

        Raises:
            ProviderError: As the iteration.
        """
        if self.decoder is not None:
            return b"".join([piece async for piece in self])
        if not self.ended:
            self.patient = True
            if self._connection is not None:
                self._connection.resume()
            await self.wait()
        self.check()
        return self._take()

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate the decoded body, everything that has arrived at a time."""
        return self

    async def __anext__(self) -> bytes:
        """Wait for more.

        Raises:
            ProviderError: ``upstream_timeout``, ``upstream_incomplete`` or ``upstream_invalid``; data that arrived
                before the failure is delivered first.
        """
        if self.decoder is not None:
            return await self._next_decoded(self.decoder)
        while not self._chunks:
            if self.ended:
                self.check()
                raise StopAsyncIteration
            await self.wait()
        return self._take()

    async def aclose(self) -> None:
        """Close the connection of an unfinished exchange at once; a finished one has given it back already."""
        self.close()

    def close(self) -> None:
        """As `aclose`."""
        if self._connection is not None:
            self._connection.fail(incomplete(self._connection.place, "the answer was closed before its end"))

    async def wait(self) -> None:
        """Wait until the connection calls `wake`; being cancelled meanwhile closes the connection."""
        if self._waiter is not None:
            raise RuntimeError("the answer is being read already")
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        try:
            await waiter
        except BaseException:
            self._waiter = None
            self.close()
            raise

    def wake(self) -> None:
        """Let the reader go on."""
        if self.more is not None:
            self.more()
            return
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def feed(self, data: bytes) -> None:
        """Take body data in."""
        self._chunks.append(data)
        size = len(data)
        self.buffered += size
        self.received += size

    def end(self, error: ProviderError | None) -> None:
        """The connection is done with this exchange."""
        self.ended = True
        self.error = error
        self._connection = None
        then, self.then, self.more = self.then, None, None
        if then is not None:
            then()
        else:
            self.wake()

    def pause(self) -> None:
        """Read no more until `resume`."""
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Read on."""
        if self._connection is not None:
            self._connection.resume()

    def take(self) -> bytes:
        """Return what has come of the body, decoded; possibly nothing.

        Raises:
            ProviderError: It cannot be decoded.
        """
        data = self._take() if self._chunks else b""
        decoder = self.decoder
        if decoder is None:
            return data
        pieces = [decoder.decode(data)]
        while decoder.pending:
            pieces.append(decoder.decode())
        return b"".join(pieces)

    def body(self) -> bytes:
        """Return the whole body, decoded, of an exchange that has ended; once.

        Raises:
            ProviderError: As the iteration.
        """
        self.check()
        data = self.take()
        if self.decoder is not None:
            self.decoder.finish()
        return data

    def check(self) -> None:
        """Raise `error`, if there is one.

        Raises:
            ProviderError: A copy, since what is raised refers to the frames it passes, and some of them to this object.
        """
        if self.error is not None:
            raise copy.copy(self.error)

    def _take(self) -> bytes:
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self.buffered = 0
        if self.more is None:
            self.resume()
        return data

    async def _next_decoded(self, decoder: Decoder) -> bytes:
        try:
            while True:
                if decoder.pending and (piece := decoder.decode()):
                    return piece
                if self._chunks:
                    if piece := decoder.decode(self._take()):
                        return piece
                elif self.ended:
                    self.check()
                    decoder.finish()
                    raise StopAsyncIteration
                else:
                    await self.wait()
        except ProviderError as error:
            self.close()
            self.ended, self.error = True, copy.copy(error)
            self._chunks.clear()
            raise
