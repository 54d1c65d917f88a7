"""What this worker shares with the others of its machine, and gets from them: answers, and flights under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial

import msgspec

from penstock.abc import Ledger, StoredAnswer
from penstock.abc.workers import Bus
from penstock.caching.answer_cache import AnswerCache
from penstock.caching.directory import Directory
from penstock.caching.entries import Entry
from penstock.caching.flight import Flight
from penstock.caching.freshness import Verdict, decide
from penstock.caching.key import cache_key
from penstock.caching.passing_on import (
    Notes,
    Piece,
    Wish,
    encode,
    notes_of,
    read_error,
    read_piece,
    read_wish,
    take_notes,
    write_error,
)
from penstock.caching.seat import Seat
from penstock.core.call import Call
from penstock.core.clock import Clock
from penstock.core.errors import PenstockError, ProviderError, WorkerError
from penstock.core.events import Batch
from penstock.core.request import NO_DIRECTIVES, Request
from penstock.core.response import Response

_ANSWER, _FLIGHT = "answer", "flight"
_PATIENCE_S = 1.0
"""A worker that says nothing for so long is taken to be of no use now."""
_NOTHING = b""


class Flights(dict[bytes, Flight]):
    """The flights newcomers may join, with somebody who hears of each that leaves."""

    def __init__(self, left: Callable[[bytes], None]) -> None:
        super().__init__()
        self._left = left

    def __delitem__(self, key: bytes) -> None:
        super().__delitem__(key)
        self._left(key)


class Neighbourhood:
    """Outlives configurations.

    What a worker gets from another one it was asked for by its own client, under a key that has the tenant in it; so
    tenants share nothing here either.

    Attributes:
        directory: Who has what.
        flights: This worker's flights.
        answers: What this worker has in memory; None while answers are not kept.
    """

    def __init__(self, bus: Bus, directory: Directory, clock: Clock, ledger: Ledger) -> None:
        """`ledger` is given calls that nobody here waits for any more."""
        self.directory = directory
        self.flights = Flights(self._landed)
        self.answers: AnswerCache | None = None
        self._last = b""
        self._bus = bus
        self._clock = clock
        self._ledger = ledger
        bus.reply(_ANSWER, self._give)
        bus.supply(_FLIGHT, self._share)

    def open_to(self, answers: AnswerCache | None) -> None:
        """Share `answers` from now on."""
        self.answers = answers
        if answers is not None:
            answers.on_keep["neighbours"] = self.directory.cached
            answers.on_leave["neighbours"] = self.directory.forget

    async def fetch(self, request: Request, worker: int) -> Response | None:
        """Answer from the memory of `worker`, and keep the answer here; None when that one has none that fits."""
        answers = self.answers
        if answers is None or worker not in self._bus.others:
            return None
        clears = answers.clears
        try:
            async with asyncio.timeout(_PATIENCE_S):
                said = await self._bus.ask(worker, _ANSWER, cache_key(request))
        except (TimeoutError, WorkerError):
            return None
        return self._adopt(request, read_piece(said), clears) if said else None

    async def join(self, request: Request, worker: int) -> Response | None:
        """Join the flight of `worker`, or take its answer if it has landed; None when there is neither.

        Raises:
            PenstockError: The flight failed.
        """
        if worker not in self._bus.others:
            return None
        answers = self.answers
        clears = 0 if answers is None else answers.clears
        call = request.call
        wish = Wish(cache_key(request), call.id, request.stream, request.deadline, request.key_id, request.tags)
        pieces = self._bus.stream(worker, _FLIGHT, encode(wish))
        try:
            async with asyncio.timeout(_PATIENCE_S):
                said = await anext(pieces, _NOTHING)  # at once: whether there is a flight
            first = read_piece(said) if said else Piece(last=True)
            if not first.last:
                first = read_piece(await anext(pieces))
        except (TimeoutError, WorkerError, StopAsyncIteration):
            await pieces.aclose()
            return None
        except BaseException:
            await pieces.aclose()
            raise
        if first.notes is None:
            await pieces.aclose()
            return self._adopt(request, first, clears)
        take_notes(call, first.notes)
        if first.failure is None and not first.last:
            return Response(source=_heard(call, first, pieces))
        await pieces.aclose()
        if first.failure is not None:
            raise read_error(first.failure)
        usage, reason = call.usage, call.finish_reason
        return Response(body=first.body, events=first.events, usage=usage, finish_reason=reason)

    def _adopt(self, request: Request, piece: Piece, clears: int) -> Response | None:
        answers = self.answers
        if answers is None or piece.stored is None or piece.stored.tenant != request.tenant:
            return None
        found = answers.adopt(piece.stored, clears)
        now = self._clock.wall()
        if found is None or decide(found[0], now, request.cache) is not Verdict.HIT:
            return None
        request.call.cache = "hit"
        answers.stats.hits += 1
        answers.stats.misses -= 1  # so it was counted when it was not found here
        return answers.give(request, *found, now, f"Penstock-Exact; hit; ttl={int(found[0].fresh_until - now)}")

    def _landed(self, key: bytes) -> None:
        """Release the claim of a flight, but not yet: whoever hears its end stores its answer in this same step.

        So it is done when the next one lands. Until then whoever follows the claim is told that there is nothing.
        """
        before, self._last = self._last, key
        if before not in self.flights:
            self.directory.release(before)

    def _fresh(self, key: bytes) -> Entry | None:
        entry = None if self.answers is None else self.answers.find(key)
        return entry if decide(entry, self._clock.wall(), NO_DIRECTIVES) is Verdict.HIT else None

    def _give(self, worker: int, key: bytes) -> bytes | Awaitable[bytes]:
        """Answer a neighbour from memory, or else from the store."""
        del worker
        entry = self._fresh(key)
        if entry is None or self.answers is None:
            return _NOTHING
        return self._copied(self.answers, entry) if entry.held is None else _stored(self.answers.at_rest(entry))

    async def _copied(self, answers: AnswerCache, entry: Entry) -> bytes:
        answer = await answers.copy(entry)
        return _NOTHING if answer is None else _stored(answer)

    async def _share(self, worker: int, data: bytes) -> AsyncGenerator[bytes, None]:
        """Take a neighbour's request on board."""
        del worker
        wish = read_wish(data)
        flight = self.flights.get(wish.key)
        if flight is None:
            entry = self._fresh(wish.key)
            if entry is not None and entry.held is not None and self.answers is not None:
                yield _stored(self.answers.at_rest(entry))
            return
        now = self._clock.monotonic()
        call = Call(f"{wish.id}-neighbour", started=now, started_at=self._clock.wall(), key=wish.key)
        request = msgspec.structs.replace(
            flight.request, call=call, stream=wish.stream, deadline=wish.deadline, key_id=wish.key_id, tags=wish.tags
        )
        seat = Seat(request, not wish.stream, away=True)
        flight.admit(seat)
        yield encode(Piece())
        outcome = "client_closed"
        try:
            async for piece in _said(seat):
                yield piece
            outcome = "ok"
        except PenstockError as error:
            outcome = error.code
            yield encode(Piece(failure=write_error(error), notes=notes_of(call)))
        finally:
            await seat.aclose()
            self._record(seat.request, outcome)

    def _record(self, request: Request, outcome: str) -> None:
        """Write down what the flight cost if all who waited here have gone, as `penstock.layers.record.Record` does."""
        call = request.call
        if not call.attempts:
            return
        if (running := call.running) is not None:
            running.when_ended(partial(self._record, request, outcome))
            return
        self._ledger.record(request, call, duration_s=self._clock.monotonic() - call.started, outcome=outcome)


async def _said(seat: Seat) -> AsyncGenerator[bytes, None]:
    response = await seat.board()
    call = seat.request.call
    if response.whole:
        body = response.body if seat.gathers or response.events is None else None
        yield encode(Piece(None if body is not None else response.events, body, last=True, notes=_noted(seat)))
        return
    notes: Notes | None = _noted(seat)
    async for batch in response:
        yield encode(Piece(batch, notes=notes))
        notes = None
    call.usage, call.finish_reason = call.usage or response.usage, call.finish_reason or response.finish_reason
    yield encode(Piece(last=True, notes=_noted(seat)))


def _noted(seat: Seat) -> Notes:
    notes = notes_of(seat.request.call)
    notes.cache = notes.cache or "collapsed"
    return notes


async def _heard(call: Call, first: Piece, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[Batch, None]:
    async with aclosing(pieces):
        if first.events:
            yield first.events
        try:
            async for said in pieces:
                piece = read_piece(said)
                if piece.notes is not None:
                    take_notes(call, piece.notes)
                if piece.failure is not None:
                    raise read_error(piece.failure)
                if piece.last:
                    return
                if piece.events:
                    yield piece.events
        except WorkerError as error:
            raise _broken() from error
        raise _broken()


def _broken() -> ProviderError:
    return ProviderError("The worker that asked the provider ended before the answer did.", code="upstream_incomplete")


def _stored(answer: StoredAnswer) -> bytes:
    return encode(Piece(stored=answer, last=True))
