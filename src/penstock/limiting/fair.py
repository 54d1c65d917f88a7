"""A queue in which tenants take turns by the work they were given, not by the requests they make.

The virtual token counter of Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024): each tenant has a
counter of the work it was given, the tenant with the lowest one is next, and a tenant that comes back is lifted to the
lowest of those who wait, so that nobody saves up for a flood. Work is only counted while somebody waits: what nobody
else wanted costs nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from penstock.limiting.ticket import LEVELS, Ticket

_REMEMBERED = 1024
"""Tenants without waiting requests whose counters are kept; names may come from clients."""


class Ahead(NamedTuple):
    """What goes before a request: how many others, and their tokens."""

    requests: float
    tokens: float


class Line:
    """One tenant's waiting requests, by priority, each in the order in which they came.

    Attributes:
        served: The work the tenant was given.
        lanes: The requests.
        tokens: Their tokens.
        work: Their work.
    """

    __slots__ = ("lanes", "served", "tokens", "work")

    def __init__(self) -> None:
        self.served = 0.0
        self.lanes: tuple[dict[Ticket, None], ...] = tuple({} for _ in LEVELS)
        self.tokens = [0.0] * len(LEVELS)
        self.work = [0.0] * len(LEVELS)

    def __len__(self) -> int:
        return sum(map(len, self.lanes))

    def first(self) -> Ticket:
        """Return the one that is next."""
        return next(iter(next(lane for lane in self.lanes if lane)))


class FairQueue:
    """Waiting requests. Choosing the next takes time in proportion to the tenants that wait."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}
        self._idle: dict[str, Line] = {}
        self._count = 0
        self._floor = 0.0

    def __len__(self) -> int:
        return self._count

    def push(self, ticket: Ticket) -> None:
        """Wait."""
        line = self._lines.get(ticket.tenant)
        if line is None:
            line = self._idle.pop(ticket.tenant, None)  # which is false: nothing is in it
            line = self._open(ticket.tenant) if line is None else line
            line.served = max(line.served, self._lowest())
            self._lines[ticket.tenant] = line
        line.lanes[ticket.priority][ticket] = None
        line.tokens[ticket.priority] += ticket.tokens
        line.work[ticket.priority] += ticket.work
        self._count += 1

    def first(self) -> Ticket | None:
        """Return the next one without taking it."""
        if not self._count:
            return None
        return min(self._lines.values(), key=_served).first()

    def remove(self, ticket: Ticket) -> bool:
        """Take `ticket` out, wherever it stands; False when it does not wait here."""
        line = self._lines.get(ticket.tenant)
        if line is None or ticket not in line.lanes[ticket.priority]:
            return False
        lane = line.lanes[ticket.priority]
        del lane[ticket]
        line.tokens[ticket.priority] = line.tokens[ticket.priority] - ticket.tokens if lane else 0.0
        line.work[ticket.priority] = line.work[ticket.priority] - ticket.work if lane else 0.0
        self._count -= 1
        if not any(line.lanes):
            self._floor = max(self._floor, line.served)
            del self._lines[ticket.tenant]
            self._idle[ticket.tenant] = line
            if len(self._idle) > _REMEMBERED:
                del self._idle[next(iter(self._idle))]
        return True

    def charge(self, tenant: str, work: float) -> None:
        """`tenant` was given so much work, or less than it was charged before."""
        line = self._lines.get(tenant, self._idle.get(tenant))
        if line is not None:
            line.served += work

    def waiting(self, tenant: str) -> int:
        """How many of `tenant` wait."""
        line = self._lines.get(tenant)
        return 0 if line is None else len(line)

    def ahead(self, ticket: Ticket) -> Ahead:
        """Estimate what would go before `ticket` if it came now and nobody else did."""
        own = self._lines.get(ticket.tenant)
        lowest = self._lowest()
        if own is None:
            idle = self._idle.get(ticket.tenant)
            turn = lowest if idle is None else max(idle.served, lowest)
            requests = tokens = 0.0
        else:
            better = range(ticket.priority + 1)
            requests = float(sum(len(own.lanes[level]) for level in better))
            tokens = sum(own.tokens[level] for level in better)
            turn = own.served + sum(own.work[level] for level in better)
        for line in self._lines.values():
            work = sum(line.work)
            if line is own or turn <= line.served or work <= 0:
                continue
            share = min((turn - line.served) / work, 1.0)
            requests += share * len(line)
            tokens += share * sum(line.tokens)
        return Ahead(requests, tokens)

    @property
    def turn(self) -> float:
        """What the tenant who is next was given; 0 when nobody waits."""
        return min((line.served for line in self._lines.values()), default=0.0)

    def _lowest(self) -> float:
        return min((line.served for line in self._lines.values()), default=self._floor)

    def _open(self, tenant: str) -> Line:
        """Make the line of a tenant nothing is known of."""
        del tenant
        return Line()


def _served(line: Line) -> float:
    return line.served
