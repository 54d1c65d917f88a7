"""One upstream call, and the passengers who wait for it.

A flight belongs to none of its passengers: it runs in a task of its own, whoever comes or goes, and ends early only
when nobody is left. What it has said so far is kept, so that a late passenger hears it from the beginning. It takes
newcomers until the first passenger has heard all of it, or until it has said more than `MAX_KEPT_BYTES`; from then on,
what everybody has heard is let go, and a passenger further behind than that is cut off rather than held for. The
upstream is read `MAX_AHEAD_BYTES` ahead of the fastest passenger, so slow ones never hold up the others, and all of
them together being slow holds up the upstream.

Exactly one passenger pays: the attempts are on the notes of its call. When it leaves early, another one pays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from penstock.core.call import Call
from penstock.core.events import Batch
from penstock.core.response import Response

if TYPE_CHECKING:
    from penstock.caching.seat import Seat
    from penstock.core.request import Request

_replace = msgspec.structs.replace

MAX_KEPT_BYTES = 8 * 1024 * 1024
MAX_AHEAD_BYTES = 256 * 1024


def _nothing() -> None:
    """There is nothing to end yet."""


class Flight(msgspec.Struct, eq=False):
    """One upstream call and what it has said; `begin` one.

    Attributes:
        request: What is asked, with notes of its own.
        seats: Who waits for it, in the order in which they came.
        handed_over: It repeats a flight that failed.
        ended: Nothing more will be said.
        error: Why it failed, if it did.
        said_bytes: How much has been said.
        give_up: Ends it when nobody is left; returns what then ends, if that takes time.
        joined: Called when somebody comes on board.
    """

    request: Request
    seats: dict[Seat, None]
    _key: bytes
    _table: dict[bytes, Flight]
    handed_over: bool = False
    ended: bool = False
    error: BaseException | None = None
    said_bytes: int = 0
    give_up: Callable[[], asyncio.Future[None] | None] = _nothing
    joined: Callable[[], None] = _nothing
    _batches: list[Batch] = []
    _dropped: int = 0
    _heard_bytes: int = 0
    _answer: Response | None = None
    _room: asyncio.Future[None] | None = None

    @classmethod
    def begin(cls, key: bytes, leader: Seat, table: dict[bytes, Flight], *, handed_over: bool = False) -> Flight:
        """Enter a flight in `table`, where newcomers look for it, with `leader` on board.

        Who leads and who pays is noted on the seats: a flight that knew them when they have left would, with them, be
        garbage that only the collector finds.
        """
        request = leader.request
        call = request.call
        notes = Call(
            call.id, call.started, call.started_at, call.key, call.asked_bytes, call.attempts, lookup=call.lookup,
            estimated=call.estimated,
        )  # fmt: skip
        flight = cls(_replace(request, call=notes), {leader: None}, key, table, handed_over)
        leader.flight = table[key] = flight
        return flight

    @property
    def silent(self) -> bool:
        """Nothing has been said yet."""
        return self.said_bytes == 0

    @property
    def cost_usd(self) -> Decimal | None:
        """What the attempts cost, as far as it is known."""
        costs = [attempt.cost_usd for attempt in self.request.call.attempts if attempt.cost_usd is not None]
        return sum(costs, Decimal(0)) if costs else None

    def admit(self, seat: Seat) -> None:
        """Take `seat` on board."""
        seat.flight = self
        self.seats[seat] = None
        if seat.gathers:
            self.heard()
        self.joined()

    def leave(self, seat: Seat) -> asyncio.Future[None] | None:
        """`seat` has heard enough; if it was the last and there is more to say, return what `give_up` does."""
        if seat not in self.seats:
            return None
        del self.seats[seat]
        if not self.seats:
            self.retire()  # whoever left before the end of what was said has not done so
            return self.give_up()
        if self.ended:
            return None
        if seat.pays:
            # What another worker's client pays for is written down there only if nobody here is left.
            seat.pays, payer = False, min(self.seats, key=lambda other: other.away)
            payer.pays = True
            own, attempts = payer.request.call, self.request.call.attempts
            attempts[:0] = own.attempts
            own.attempts = attempts
            seat.request.call.attempts = []
        return None

    def retire(self) -> None:
        """Take no newcomers any more."""
        if self._table.get(self._key) is self:
            del self._table[self._key]

    def say(self, batch: Batch) -> None:
        """Let everybody hear `batch`."""
        self._batches.append(batch)
        self.said_bytes = said = self.said_bytes + sum([len(event.data) for event in batch])
        if said > MAX_KEPT_BYTES:
            self._let_go()
        for seat in self.seats:
            if not seat.gathers:
                seat.wake()

    async def room(self) -> None:
        """Wait while everybody is far behind."""
        while self.said_bytes - self._heard_bytes > MAX_AHEAD_BYTES and not any(seat.gathers for seat in self.seats):
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def heard(self) -> None:
        """Somebody has heard all there is so far."""
        self._heard_bytes = self.said_bytes
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def land(self, answer: Response) -> None:
        """All has been said: `answer` came whole, or is the stream that has now ended."""
        self._answer = answer
        self._end()

    def fail(self, error: BaseException, spared: Iterable[Seat] = ()) -> None:
        """Nothing more will be said; everybody on board gets `error` but those `spared`, who are let off."""
        for seat in spared:
            del self.seats[seat]
            seat.leads = seat.pays = False
        self.error = error
        self.retire()
        self._end()

    def answer(self) -> Response | None:
        """Return the whole answer, once it is there; None when it failed or parts of it have been let go."""
        answer = self._answer
        if answer is None or self._dropped:
            return None
        if not answer.whole:
            events = list(chain.from_iterable(self._batches))
            answer = self._answer = Response(events=events, usage=answer.usage, finish_reason=answer.finish_reason)
        return answer

    def since(self, position: int) -> list[Batch]:
        """Return the batches from `position` on."""
        return self._batches[position - self._dropped :]

    def _let_go(self) -> None:
        self.retire()
        for seat in [seat for seat in self.seats if not (seat.gathers or seat.live)]:
            if self.said_bytes - seat.heard_bytes > MAX_KEPT_BYTES:
                seat.cut_off()
        if self.seats:
            end = self._dropped + len(self._batches)
            least = min([end if seat.live else seat.position for seat in self.seats])
            del self._batches[: least - self._dropped]
            self._dropped = least

    def _end(self) -> None:
        self.ended = True
        self.give_up = _nothing  # it may refer to who holds this flight, as `joined` may
        if self.joined is not _nothing:
            self.joined = _nothing
        for seat in self.seats:
            seat.wake()
