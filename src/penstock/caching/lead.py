"""A flight without a task: its upstream call is made for the leader, by whoever answers that."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from penstock.caching.flight import Flight
from penstock.caching.seat import Seat
from penstock.core.events import Batch
from penstock.core.handler import Exit
from penstock.core.response import Response


class Lead(Exit, msgspec.Struct, eq=False):
    """Ends the flight with the call.

    Attributes:
        flight: The flight; whoever makes the call sets its `give_up`.
        seat: The leader's.
        _fail: Decides who shares an error.
    """

    flight: Flight
    seat: Seat
    _fail: Callable[[Flight, BaseException], None]

    leads = True

    @property
    def shared(self) -> bool:
        """The leader is on board, and others with it."""
        seats = self.flight.seats
        return len(seats) > 1 and self.seat in seats

    def failed(self, error: BaseException, /) -> None:
        """The flight fails."""
        self._fail(self.flight, error)
        self.seat.take_notes()
        self.flight.leave(self.seat)

    def begun(self, response: Response, /) -> None:
        """The leader's headers say what happened so far."""
        self.seat.take_notes()

    def on_events(self, batch: Batch, /) -> None:
        """Let the others hear them; the leader does so by another way."""
        self.flight.say(batch)

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        """The flight ends."""
        if error is not None:
            self.failed(error)
        else:
            self.seat.finish()
            self.flight.land(response)
