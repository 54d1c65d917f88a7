"""A discrete event simulation of clients, a gate and an upstream that is slower the more it is asked at once.

Time is virtual; the gate is the one the gateway uses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import NamedTuple

from penstock.limiting.gate import Gate
from penstock.limiting.ticket import Ticket

Curve = Callable[[int], float]
"""The speed of each of n concurrent requests; 1 is that of a request alone."""


def knee(lanes: int, decay: float) -> Curve:
    """Full speed up to `lanes`; beyond, the whole does less and less: (lanes ÷ n) ** (1 + decay) each."""
    return lambda n: 1.0 if n <= lanes else (lanes / n) ** (1 + decay)


def batch(half: float, memory: int) -> Curve:
    """A batching server: each request slows the others down, and beyond `memory` they evict each other."""
    return lambda n: 1 / (1 + n / half) * (1.0 if n <= memory else (memory / n) ** 2)


def peak(curve: Curve, most: int = 1000) -> float:
    """The most work done per second at any concurrency."""
    return max(n * curve(n) for n in range(1, most))


class Job(NamedTuple):
    """A request: when it comes, whose it is, its tokens, the seconds it would take alone, and its patience."""

    at: float
    tenant: str
    input_tokens: int
    output_tokens: int
    alone_s: float
    timeout_s: float


class Ended(NamedTuple):
    """What became of a job: refused, or done after so many seconds."""

    job: Job
    seconds: float
    refused: bool

    @property
    def good(self) -> bool:
        """It was answered in time."""
        return not self.refused and self.seconds <= self.job.timeout_s


def jobs(random: Random, rate: float, seconds: float, *, tenant: str = "default", timeout_s: float = 20.0) -> list[Job]:
    """Poisson arrivals with log-normal lengths; times are those of the polling model of the Azure traces."""
    found = []
    at = random.expovariate(rate)
    while at < seconds:
        given = int(random.lognormvariate(6.5, 0.9))
        made = min(int(random.lognormvariate(4.8, 0.8)) + 1, 1500)
        alone_s = (0.3 + given / 5000 + made * 0.012) * random.lognormvariate(0, 0.25)
        found.append(Job(at, tenant, given, made, alone_s, timeout_s))
        at += random.expovariate(rate)
    return found


class Simulation:
    """Runs jobs through a gate to an upstream whose requests share it equally.

    Attributes:
        sent: Start and end of each request that was answered.
    """

    def __init__(self, gate: Gate, curve: Curve) -> None:
        self._gate = gate
        self._curve = curve
        self._now = 0.0
        self._progress = 0.0
        self._running: list[tuple[float, int, Ticket, Job]] = []
        self._waiting: dict[Ticket, Job] = {}
        self._expiring: list[tuple[float, int, Ticket]] = []
        self._late: list[tuple[float, int, Ticket]] = []
        self._started: dict[Ticket, Job] = {}
        self._ended: list[Ended] = []
        self.sent: list[tuple[float, float, Job]] = []
        self._numbers = count()

    def run(self, arrivals: Sequence[Job]) -> list[Ended]:
        """Return what became of all of `arrivals`, which are in order of time."""
        position = 0
        while position < len(arrivals) or self._started or self._waiting:
            coming = arrivals[position].at if position < len(arrivals) else math.inf
            while self._running and self._running[0][2] not in self._started:
                heappop(self._running)  # it was given up
            speed = self._curve(len(self._started)) if self._started else 0.0
            done = self._now + (self._running[0][0] - self._progress) / speed if self._running else math.inf
            late = self._late[0][0] if self._late else math.inf
            wake = self._gate.wake_in_s(self._now) if self._waiting else None
            woken = math.inf if wake is None else self._now + wake + 1e-9
            expiry = self._expiring[0][0] if self._expiring else math.inf
            now = min(coming, done, expiry, woken, late)
            self._progress += speed * (now - self._now)
            self._now = now
            if now == done:
                self._done()
            elif now == coming:
                self._arrive(arrivals[position])
                position += 1
            elif now == expiry:
                self._expire(heappop(self._expiring)[2])
            elif now == late:
                self._give_up(heappop(self._late)[2])
            self._next()
        return self._ended

    def _arrive(self, job: Job) -> None:
        # The length of the answer is not known before; what earlier ones were is.
        tokens = self._gate.predict("m", {}, job.input_tokens, generates=True)
        ticket = Ticket(job.tenant, "m", *tokens)
        if self._gate.enter(ticket, self._now):
            self._start(ticket, job)
        elif self._gate.refusal_s(ticket, job.at + job.timeout_s, self._now) is not None:
            self._ended.append(Ended(job, 0.0, refused=True))
        else:
            self._gate.join(ticket)
            self._waiting[ticket] = job
            if ticket.latest is not None:
                heappush(self._expiring, (ticket.latest, next(self._numbers), ticket))

    def _next(self) -> None:
        while (ticket := self._gate.next_ticket(self._now)) is not None:
            self._start(ticket, self._waiting.pop(ticket))

    def _expire(self, ticket: Ticket) -> None:
        job = self._waiting.pop(ticket, None)
        if job is not None:
            self._gate.leave(ticket)
            self._ended.append(Ended(job, self._now - job.at, refused=True))

    def _start(self, ticket: Ticket, job: Job) -> None:
        heappush(self._running, (self._progress + job.alone_s, next(self._numbers), ticket, job))
        heappush(self._late, (job.at + job.timeout_s, next(self._numbers), ticket))
        self._started[ticket] = job

    def _give_up(self, ticket: Ticket) -> None:
        """The deadline is over: the gateway closes the connection, and the upstream stops working on it."""
        job = self._started.pop(ticket, None)
        if job is not None:
            self._gate.failed(ticket, None, self._now, late=True)
            self._ended.append(Ended(job, math.inf, refused=False))

    def _done(self) -> None:
        end, _, ticket, job = heappop(self._running)
        del self._started[ticket]
        self.sent.append((ticket.started, self._now, job))
        self._progress = end
        self._gate.answered(ticket, (job.input_tokens, job.output_tokens), self._now)
        self._ended.append(Ended(job, self._now - job.at, refused=False))
