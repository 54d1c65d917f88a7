"""Where requests wait: the gates of all providers, and the tasks in front of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from penstock.core.clock import Clock
from penstock.core.errors import RateLimited
from penstock.limiting.gate import Gate, Limits
from penstock.limiting.shared_gate import SharedGates
from penstock.limiting.ticket import Ticket
from penstock.limiting.waiting import Waiting


class GateState(NamedTuple):
    """A gate as metrics show it; `limit` is infinite without one."""

    provider: str
    in_use: int
    limit: float
    queued: int
    refused: int


class Door:
    """A gate, and the tasks that wait at it.

    Attributes:
        gate: Decides.
    """

    def __init__(self, gate: Gate, clock: Clock, call: Callable[[], None] | None = None) -> None:
        """`call` tells others who wait for the same provider that something has ended."""
        self.gate = gate
        self._call = call
        self._clock = clock
        self._waiting: dict[Ticket, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, ticket: Ticket) -> None:
        """Wait until `ticket` may go.

        Raises:
            RateLimited: It cannot be in time any more.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting[ticket] = future
        self.gate.join(ticket)
        self._arm()
        expiry = None
        if ticket.latest is not None:
            expiry = loop.call_later(max(ticket.latest - self._clock.monotonic(), 0.0), self._expire, ticket)
        try:
            await future
        except BaseException:
            if self._waiting.pop(ticket, None) is not None:
                self.gate.leave(ticket)
                self._arm()
            elif not future.cancelled() and future.exception() is None:  # admitted and cancelled at the same time
                self._put_back(ticket)
            raise
        finally:
            if expiry is not None:
                expiry.cancel()

    def let_in(self) -> None:
        """Something has ended: admit those who may go, here or elsewhere."""
        self.let_in_here()
        if self._call is not None:
            self._call()

    def let_in_here(self) -> None:
        """Time has passed, or something has ended elsewhere: admit those who may go."""
        if not self._waiting:
            return
        now = self._clock.monotonic()
        while (ticket := self.gate.next_ticket(now)) is not None:
            future = self._waiting.pop(ticket)
            if future.done():  # its task was cancelled and does not know yet that it was its turn
                self.gate.failed(ticket, (0, 0), now)
            else:
                future.set_result(None)
        self._arm()

    def refuse(self, wait_s: float, reason: str) -> RateLimited:
        """Count a refusal and return its error."""
        self.gate.refused += 1
        return RateLimited(f"{reason}; try again in {wait_s:.0f} s.", retry_after=wait_s)

    def _put_back(self, ticket: Ticket) -> None:
        self.gate.failed(ticket, (0, 0), self._clock.monotonic())
        self.let_in()

    def _expire(self, ticket: Ticket) -> None:
        future = self._waiting.pop(ticket, None)
        if future is None:
            return
        wait = max(self.gate.wait_s(ticket, self._clock.monotonic()), 1.0)
        self.gate.leave(ticket)
        if not future.done():
            future.set_exception(self.refuse(wait, "The provider is busy, and this request's time is running out"))
        self._arm()

    def _arm(self) -> None:
        """Wake up when the next one may go for no other reason than that time has passed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wake = self.gate.wake_in_s(self._clock.monotonic()) if self._waiting else None
        if wake is not None:
            self._timer = asyncio.get_running_loop().call_later(wake, self._awake)

    def _awake(self) -> None:
        self._timer = None
        self.let_in_here()


class Doors:
    """The doors of all providers with limits. Outlives configurations."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting = Waiting(0)
        self._doors: dict[str, Door] = {}
        self._gates: SharedGates | None = None
        self._call: Callable[[str], None] = _tell_nobody

    def put_in_force(self, limits: Mapping[str, Limits], max_queued: int) -> None:
        """Put limits by provider in force, and how many requests may wait at all of them.

        What is under way, was used and was learnt at a provider that had limits before counts on. Whoever waits for one
        that has none any more may go.
        """
        self._waiting.most = max_queued
        now = self._clock.monotonic()
        before, self._doors = self._doors, {}
        for name, each in limits.items():
            door = before.pop(name, None)
            if door is None:
                door = self._open(name, each)
            else:
                door.gate.put_in_force(each, now)
                door.let_in()
            self._doors[name] = door
        for door in before.values():
            door.gate.put_in_force(Limits(), now)
            door.let_in()

    def share(self, gates: SharedGates, call: Callable[[str], None]) -> None:
        """Admit together with other processes; to be called before anything else.

        `call` tells them, with the name of a provider, that something has ended there.
        """
        self._gates = gates
        self._call = call
        self._waiting.elsewhere = gates.waiting_elsewhere

    def look(self, provider: str | None = None) -> None:
        """Let in who may go by what others said of `provider`, or by what became of them: of all."""
        doors = self._doors.values() if provider is None else filter(None, (self._doors.get(provider),))
        for door in list(doors):
            door.let_in_here()

    def get(self, provider: str) -> Door | None:
        """Return the door of `provider`; None if it has no limits."""
        return self._doors.get(provider)

    def room(self, provider: str) -> bool:
        """Whether a request to `provider` would not have to wait."""
        door = self._doors.get(provider)
        return door is None or door.gate.room(self._clock.monotonic())

    def _open(self, name: str, limits: Limits) -> Door:
        if self._gates is None:
            return Door(Gate(limits, self._waiting), self._clock)
        gate, call = self._gates.open(name, limits, self._waiting), self._call

        def ended() -> None:
            if gate.waits_elsewhere:
                call(name)

        return Door(gate, self._clock, ended)

    def states(self) -> Iterator[GateState]:
        """How they are used now."""
        for name, door in self._doors.items():
            gate = door.gate
            yield GateState(name, gate.held, gate.limit, len(gate.queue), gate.refused)


def _tell_nobody(provider: str) -> None:
    """There is nobody else."""
