"""Identical requests at the same time make one upstream call, streams included.

    first one ──► flight ──► inner          the flight's task belongs to nobody; see `penstock.caching.flight`
    others ───────┘ hear what was said, then the live rest

When a flight fails before its first event, that is not passed on blindly. An error that the same request might not
meet again (a fault of the upstream) is the leader's; one new flight is made for all the others, and what becomes of
that one is everybody's. A flight that fails because its leader's time was over is repeated for those who have more.
All other errors, and errors after the first event, are everybody's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from penstock.caching.flight import Flight
from penstock.caching.key import cache_key
from penstock.caching.lead import Lead
from penstock.caching.seat import Seat
from penstock.core.clock import Clock
from penstock.core.errors import SHUTTING_DOWN, DeadlineExceeded, PenstockError, ProviderError, Refused
from penstock.core.handler import Handler, Step
from penstock.core.request import NO_DIRECTIVES, Request
from penstock.core.response import Response
from penstock.core.tasks import TaskGroup


class Coalesce:
    """Joins requests with the same `cache_key`, so never across tenants.

    Left alone are requests whose answer is at hand; those that ask for one of their own: `no-cache`, `no-store`, and
    those to models whose caching is switched off (`cache_ttl_s: 0`); and `only-if-cached`, which nobody asks a provider
    for.

    Args:
        clock: Where time comes from.
        tasks: Own the flights.
        by_meaning: Inside, requests are answered by meaning as well; then only those share that accept the same.
        flights: Where those are that can be joined, by default nowhere others can see.
    """

    def __init__(
        self, clock: Clock, tasks: TaskGroup, *, by_meaning: bool = False, flights: dict[bytes, Flight] | None = None
    ) -> None:
        self._clock = clock
        self._tasks = tasks
        self._key = _key_and_wishes if by_meaning else cache_key
        self._flights: dict[bytes, Flight] = {} if flights is None else flights

    def __len__(self) -> int:
        return len(self._flights)

    def flying(self, request: Request) -> bool:
        """Whether there is a flight that `request` will join."""
        return self._key(request) in self._flights

    def enter(self, request: Request, inner: Handler, /) -> Step | None:
        """Begin a flight whose upstream call the caller makes; None when there is one to join.

        What comes with it is a `Lead`, unless the request wants an answer of its own.
        """
        if _alone(request):
            return request, None
        key = self._key(request)
        if key in self._flights:
            return None
        seat = Seat(request, not request.stream, leads=True, live=True, pays=True)
        flight = Flight.begin(key, seat, self._flights)
        return flight.request, Lead(flight, seat, partial(self.failed, inner))

    def failed(self, inner: Handler, flight: Flight, error: BaseException) -> None:
        """Share the error of `flight`, or make another one for those who need not share it."""
        if isinstance(error, PenstockError):
            heirs = self._heirs(flight, error)
            flight.fail(error, spared=heirs)
            if heirs:
                self._hand_over(heirs, inner)
        elif isinstance(error, asyncio.CancelledError):
            flight.fail(Refused("Penstock is shutting down.", code=SHUTTING_DOWN))
        else:
            flight.fail(error)

    async def __call__(self, request: Request, inner: Handler, /) -> Response:
        """Answer with an upstream call of one's own or another's."""
        if _alone(request) or request.call.at_hand:
            return await inner(request)
        seat = Seat(request, not request.stream)
        flight = self._flights.get(self._key(request))
        if flight is None:
            self._launch(seat, inner)
        else:
            flight.admit(seat)
        try:
            return await seat.board()
        except BaseException:
            await seat.aclose()
            raise

    def _launch(self, leader: Seat, inner: Handler, *, handed_over: bool = False) -> Flight:
        leader.leads = leader.pays = True
        flight = Flight.begin(self._key(leader.request), leader, self._flights, handed_over=handed_over)
        task = self._tasks.spawn(self._fly(flight, inner), name="coalesced-call")

        def give_up() -> asyncio.Task[None]:
            task.cancel()
            return task

        flight.give_up = give_up
        return flight

    async def _fly(self, flight: Flight, inner: Handler) -> None:
        try:
            response = await inner(flight.request)
            if not response.whole:
                try:
                    async for batch in response:
                        flight.say(batch)
                        await flight.room()
                finally:
                    await response.aclose()
            flight.land(response)
        except BaseException as error:
            self.failed(inner, flight, error)
            if not isinstance(error, PenstockError):
                raise
        finally:
            # The flight's error refers to this frame: together they would be garbage.
            del flight

    def _hand_over(self, heirs: Sequence[Seat], inner: Handler) -> None:
        """Start a new flight for the one with the most time left, and take the others on board."""
        leader = max(heirs, key=lambda seat: (not seat.away, _deadline(seat.request)))
        successor = self._launch(leader, inner, handed_over=True)
        for seat in heirs:
            successor.admit(seat)

    def _heirs(self, flight: Flight, error: PenstockError) -> list[Seat]:
        """Name those who need not share `error`."""
        if not flight.silent:
            return []
        if isinstance(error, DeadlineExceeded):
            over = max(_deadline(flight.request), self._clock.monotonic())
            return [seat for seat in flight.seats if _deadline(seat.request) > over]
        if not isinstance(error, ProviderError) or not (error.retryable or error.elsewhere) or flight.handed_over:
            return []
        return [seat for seat in flight.seats if not seat.leads]


def _alone(request: Request) -> bool:
    """Whether it asks for an answer of its own."""
    directives, route = request.cache, request.route
    if directives is not NO_DIRECTIVES and (directives.no_cache or directives.no_store or directives.only_if_cached):
        return True
    return route is not None and route.cache_ttl_s == 0


def _key_and_wishes(request: Request) -> bytes:
    """Return the key and, after it, whether an answer by meaning is accepted and how old it may be."""
    mode = request.semantic or (request.route.semantic if request.route is not None else None)
    wishes = mode, request.cache.max_age
    return cache_key(request) if wishes == (None, None) else cache_key(request) + repr(wishes).encode()


def _deadline(request: Request) -> float:
    return float("inf") if request.deadline is None else request.deadline
