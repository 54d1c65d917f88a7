"""A passenger's place in a flight."""

from __future__ import annotations

import asyncio
import copy
from itertools import chain
from typing import TYPE_CHECKING, NoReturn, cast

import msgspec

from penstock.core.errors import PenstockError, Refused
from penstock.core.events import Batch
from penstock.core.request import Request
from penstock.core.response import Response

if TYPE_CHECKING:
    from penstock.caching.flight import Flight

_CLOSING_S = 1.0
"""How long the last to leave waits for the upstream to be closed, so that its cost is on the notes."""


class Seat(msgspec.Struct, eq=False):
    """A passenger's place: what it wants, and how far it has heard. A live stream's source.

    Attributes:
        request: What the passenger asked.
        gathers: It wants the answer whole, so it takes in whatever comes.
        flight: Where it sits; a flight says so when it takes it on board.
        position: Batches it has heard.
        heard_bytes: How much that is, of all that was said.
        leads: The flight was started for it.
        live: It hears what is said as it is said, by another way; `position` and `heard_bytes` say nothing then.
        pays: The flight's attempts are on the notes of its call.
        away: The passenger is another worker's.
    """

    request: Request
    gathers: bool
    flight: Flight = cast("Flight", None)
    position: int = 0
    heard_bytes: int = 0
    leads: bool = False
    live: bool = False
    pays: bool = False
    away: bool = False
    _error: BaseException | None = None
    _waiter: asyncio.Future[None] | None = None

    async def board(self) -> Response:
        """Wait for the whole answer or, if a stream is wanted, for its first event.

        Raises:
            PenstockError: The flight failed.
        """
        while not self.flight.ended and (self.gathers or self.flight.silent):
            await self._wait()
        flight = self.flight
        answer = flight.answer()
        if answer is None and (flight.silent or self.gathers):
            self._leave_with_error()
        if answer is None:
            self.take_notes()
            return Response(source=self)
        if self.gathers:
            await answer.read()
        elif answer.events is None and self.request.operation != "embeddings":
            answer.all_events()
        self.finish()
        return Response(body=answer.body, events=answer.events, usage=answer.usage, finish_reason=answer.finish_reason)

    def __aiter__(self) -> Seat:
        return self

    async def __anext__(self) -> Batch:
        """Return all that has been said since the last time, waiting for something if need be."""
        while True:
            flight = self.flight
            if self._error is not None:
                raise copy.copy(self._error)  # as below
            batches = flight.since(self.position)
            if batches:
                self.position += len(batches)
                self.heard_bytes = flight.said_bytes
                flight.heard()
                return batches[0] if len(batches) == 1 else list(chain.from_iterable(batches))
            if flight.error is not None:
                self._leave_with_error()
            if flight.ended:
                self.finish()
                raise StopAsyncIteration
            await self._wait()

    async def aclose(self) -> None:
        """Leave; the last one to do so sees the upstream closed."""
        ending = self.flight.leave(self)
        if ending is not None:
            await asyncio.wait((ending,), timeout=_CLOSING_S)
            self.take_notes()

    def cut_off(self) -> None:
        """Leave because the others cannot be kept waiting."""
        self._error = Refused("The answer was read too slowly to be shared with others.", code="client_too_slow")
        self.flight.leave(self)
        self.wake()

    def wake(self) -> None:
        """There is news."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _leave_with_error(self) -> NoReturn:
        flight = self.flight
        error = flight.error
        self.take_notes()
        flight.leave(self)
        # Everybody raises an error of its own, since raising writes to it.
        raise copy.copy(error) if isinstance(error, PenstockError) else error or RuntimeError("the flight was lost")

    def finish(self) -> None:
        """Heard everything. In the same step of the event loop the answer is stored outside, so no one joins late."""
        flight = self.flight
        self.take_notes()
        if not self.pays and not flight.request.call.cache:
            self.request.call.saved_usd = flight.cost_usd
        flight.retire()
        flight.seats.pop(self, None)

    def take_notes(self) -> None:
        """Copy what the layers inside noted. Done when the answer begins, for its headers, and when it ends."""
        call, notes = self.request.call, self.flight.request.call
        if notes.cache:
            call.cache, call.age_s, call.saved_usd = notes.cache, notes.age_s, notes.saved_usd
        elif not self.pays:
            call.cache = "collapsed"
        call.usage, call.finish_reason, call.allowance = notes.usage, notes.finish_reason, notes.allowance
        # To write what is there takes several times as long as to see that it is.
        if notes.semantic or call.semantic:
            call.semantic, call.semantic_key = notes.semantic, notes.semantic_key
            call.semantic_audit = notes.semantic_audit
        if notes.shaping is not call.shaping:
            call.shaping = notes.shaping
        if notes.stage or call.stage:
            call.stage, call.verdict = notes.stage, notes.verdict
        if notes.degraded:
            call.degraded += [note for note in notes.degraded if note not in call.degraded]
        if notes.cache_status:
            call.cache_status += [note for note in notes.cache_status if note not in call.cache_status]
