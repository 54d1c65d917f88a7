"""Gates of one provider in several processes, which admit together what one alone would.

What is under way, what was used and how long the provider is left alone are in memory that all of them map, changed
under one lock. Each process queues its own requests. Which of them is next is decided as in `penstock.limiting.fair`,
by the work the first tenant of each queue was given, so each process says in that memory how many wait in it and what
that work is. Messages only wake others up.

How many requests at once an upstream does best with, each process learns for itself, from the same sum of requests.
"""

from __future__ import annotations

from itertools import takewhile

from penstock.core.quota import Quota
from penstock.limiting.account import Account, Budget
from penstock.limiting.fair import FairQueue, Line
from penstock.limiting.gate import Gate, Limits
from penstock.limiting.shared_account import BUDGET_NUMBERS, shared_budget
from penstock.limiting.ticket import Ticket
from penstock.limiting.waiting import Waiting
from penstock.shared_memory.file import SharedFile
from penstock.shared_memory.table import NAME_BYTES, Table, digest

_PROVIDERS = 256
"""Providers with limits there is room for; the sum of 256 workers' figures is a page or two for each."""
_GIVES_WAY_S = 0.05
"""How long a process leaves a place to one whose turn it is: that one may be busy."""
_LOOKS_S = 1.0
"""How often who waits looks for a place that nobody told of."""
_PAUSED, _REQUESTS = 2, 3
_TOKENS = _REQUESTS + BUDGET_NUMBERS
_WORKERS = _TOKENS + BUDGET_NUMBERS
_HELD, _WAITING, _TURN, _FIELDS = 0, 1, 2, 3
"""What each process has there: its requests under way, those that wait, and what the first of them was given."""


class SharedGates(SharedFile):
    """The memory of all gates. A process takes part as one of `workers`, with numbers from 1; its lock is reentrant."""

    __slots__ = ("_depth", "_served", "_size", "number", "workers")

    def __init__(self, path: str, served: Table, number: int, workers: int) -> None:
        """`served` has the work that tenants were given.

        Raises:
            OSError: The file cannot be made or mapped.
        """
        self._size = _WORKERS + _FIELDS * (workers + 1)
        self._depth = 0
        self._served = served
        self.number, self.workers = number, workers
        super().__init__(path, _PROVIDERS * self._size * 8)
        self.hold(number)
        self._clear(number)

    def __enter__(self) -> None:
        if not self._depth:
            super().__enter__()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            super().__exit__()

    def open(self, provider: str, limits: Limits, waiting: Waiting) -> Gate:
        """Return the gate of `provider`; one of this process's own when there are too many providers."""
        name = digest("provider", provider)
        with self:
            for start in range(0, len(self.numbers), self._size):
                there = self.memory[start * 8 : start * 8 + NAME_BYTES]
                if there == name or not any(there):
                    self.memory[start * 8 : start * 8 + NAME_BYTES] = name
                    return SharedGate(self, provider, start, limits, waiting)
        return Gate(limits, waiting)

    def gone(self, worker: int) -> bool:
        """Give back what `worker` held, if it has ended; say whether it has."""
        if self.held(worker):
            return False
        self._clear(worker)
        return True

    def waiting_elsewhere(self) -> int:
        """How many wait in other processes, for all providers."""
        return sum(map(self.waiting_for, takewhile(self.numbers.__getitem__, range(0, len(self.numbers), self._size))))

    def waiting_for(self, start: int) -> int:
        """How many wait in other processes for the provider whose numbers begin at `start`."""
        first = start + _WORKERS + _WAITING
        mine = self.numbers[first + self.number * _FIELDS]
        return int(sum(self.numbers[first : start + self._size : _FIELDS]) - mine)

    def queue(self, provider: str, start: int) -> SharedQueue:
        """Return what waits in this process."""
        return SharedQueue(self, self._served, provider, start)

    def _clear(self, worker: int) -> None:
        with self:
            for start in range(0, len(self.numbers), self._size):
                at = start + _WORKERS + worker * _FIELDS
                for field in range(_FIELDS):
                    self.numbers[at + field] = 0.0


class SharedGate(Gate):
    """One process's gate of a provider."""

    def __init__(self, gates: SharedGates, provider: str, start: int, limits: Limits, waiting: Waiting) -> None:
        self._gates = gates
        self._start_of_numbers = start
        self._own = start + _WORKERS + gates.number * _FIELDS
        self._ends = start + _WORKERS + (gates.workers + 1) * _FIELDS
        self._gave_way: float | None = None
        self._shared_queue = gates.queue(provider, start)
        places = {"requests": start + _REQUESTS, "tokens": start + _TOKENS}

        def budget(what: str, per_minute: int) -> Budget:
            return shared_budget(gates.numbers, places[what], per_minute)

        with gates:
            account = Account(limits.requests_per_minute, limits.tokens_per_minute, budget)
            super().__init__(limits, waiting, queue=self._shared_queue, account=account)

    @property
    def in_use(self) -> int:
        """Requests under way, in all processes."""
        numbers = self._gates.numbers
        return int(sum(numbers[self._start_of_numbers + _WORKERS + _HELD : self._ends : _FIELDS]))

    @property
    def waits(self) -> bool:
        """Whether somebody waits, in any process."""
        return bool(self.queue) or self.waits_elsewhere

    @property
    def waits_elsewhere(self) -> bool:
        """Whether somebody waits in another process."""
        return self._gates.waiting_for(self._start_of_numbers) > 0

    def put_in_force(self, limits: Limits, now: float) -> None:
        """As `Gate`."""
        with self._gates:
            super().put_in_force(limits, now)

    def room(self, now: float) -> bool:
        """As `Gate`."""
        with self._gates:
            return super().room(now)

    def enter(self, ticket: Ticket, now: float) -> bool:
        """As `Gate`."""
        with self._gates:
            return super().enter(ticket, now)

    def wait_s(self, ticket: Ticket, now: float) -> float:
        """As `Gate`."""
        with self._gates:
            return super().wait_s(ticket, now)

    def join(self, ticket: Ticket) -> None:
        """As `Gate`."""
        with self._gates:
            super().join(ticket)
            self._shared_queue.publish()

    def leave(self, ticket: Ticket) -> None:
        """As `Gate`."""
        super().leave(ticket)
        self._shared_queue.publish()

    def next_ticket(self, now: float) -> Ticket | None:
        """As `Gate`, unless it is the turn of another process."""
        with self._gates:
            first = self.queue.first()
            if first is None or not self._open(first, now):
                self._gave_way = None
                return None
            if self._shared_queue.turn_elsewhere:
                if self._gave_way is None:
                    self._gave_way = now
                if now < self._gave_way + _GIVES_WAY_S:
                    return None
            self._gave_way = None
            ticket = super().next_ticket(now)
            self._shared_queue.publish()
            return ticket

    def wake_in_s(self, now: float) -> float | None:
        """As `Gate`; who waits in several processes looks by itself, too."""
        with self._gates:
            wake = super().wake_in_s(now)
        if wake is None:
            return _LOOKS_S if self.queue else None
        return wake if self._gave_way is None else max(wake, self._gave_way + _GIVES_WAY_S - now)

    def heed(self, ticket: Ticket, quota: Quota, now: float) -> None:
        """As `Gate`."""
        with self._gates:
            super().heed(ticket, quota, now)

    def answered(self, ticket: Ticket, used: tuple[int, int] | None, now: float) -> None:
        """As `Gate`."""
        with self._gates:
            super().answered(ticket, used, now)

    def failed(self, ticket: Ticket, used: tuple[int, int] | None, now: float, *, late: bool = False) -> None:
        """As `Gate`."""
        with self._gates:
            super().failed(ticket, used, now, late=late)

    def overloaded(self, ticket: Ticket, pause_s: float, now: float) -> None:
        """As `Gate`."""
        with self._gates:
            super().overloaded(ticket, pause_s, now)

    @property
    def _paused_until(self) -> float:
        return self._gates.numbers[self._start_of_numbers + _PAUSED]

    def _pause(self, until: float) -> None:
        self._gates.numbers[self._start_of_numbers + _PAUSED] = max(self._paused_until, until)

    def _hold(self, places: int) -> None:
        super()._hold(places)
        self._gates.numbers[self._own + _HELD] = self._held


class SharedQueue(FairQueue):
    """One process's queue; what tenants were given is counted for all of them."""

    def __init__(self, gates: SharedGates, served: Table, provider: str, start: int) -> None:
        super().__init__()
        self._gates = gates
        self._table = served
        self._provider = provider
        self._first = start + _WORKERS
        self._own = self._first + gates.number * _FIELDS

    def publish(self) -> None:
        """Tell the others who waits."""
        numbers = self._gates.numbers
        numbers[self._own + _TURN] = self.turn
        numbers[self._own + _WAITING] = len(self)

    @property
    def turn_elsewhere(self) -> bool:
        """Whether somebody who waits in another process was given less."""
        mine = self.turn
        return any(turn < mine for turn in self._turns())

    def _turns(self) -> list[float]:
        numbers = self._gates.numbers
        workers = (self._first + number * _FIELDS for number in range(1, self._gates.workers + 1))
        return [numbers[at + _TURN] for at in workers if at != self._own and numbers[at + _WAITING]]

    def _lowest(self) -> float:
        waiting = [line.served for line in self._lines.values()] + self._turns()
        return min(waiting, default=self._floor)

    def _open(self, tenant: str) -> Line:
        return _SharedLine(self._table, digest("served", self._provider, tenant))


class _SharedLine(Line):
    """A tenant's requests in this process, and what it was given in all."""

    __slots__ = ("_name", "_table")

    def __init__(self, table: Table, name: bytes) -> None:
        self._table = table
        self._name = name
        super().__init__()

    @property
    def served(self) -> float:
        """The work the tenant was given."""
        return self._table.get(self._name) or 0.0

    @served.setter
    def served(self, work: float) -> None:
        # Who was given least can be forgotten first: whoever comes back is lifted to the least of those who wait.
        if work > 0.0 or self._table.get(self._name) is not None:
            with self._table:
                self._table.put(self._name, work, max(work, 1.0))
