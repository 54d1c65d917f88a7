"""Simulated inference servers: replicas that prefill one prompt after the other and keep a bounded prefix cache.

A replica serves prompts in the order they came. A prompt of n tokens, m of which are cached when its turn comes, takes

    fixed + (n − m) / speed × (1 + (n + m) / 2 / bend) × (1 + slowing × answers being written)

seconds: attention makes a token dearer the more come before it, and writing answers takes its share of the processor.
Then the first token is out, its blocks are in the cache (the least recently used leave) and the answer is written at
`writing` tokens per second, beside the next prompts. With `shared` the replica works on all its prompts at once
instead, in equal shares (an ideal chunked prefill).
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

BLOCK = 512
"""Tokens of one block of the trace."""


class Arrival(NamedTuple):
    """One request of the trace."""

    at: float
    tokens: int
    output: int
    blocks: tuple[int, ...]


class Policy(Protocol):
    """What is compared: it learns what a gateway can see, nothing else."""

    def choose(self, number: int, arrival: Arrival, now: float) -> int:
        """Return the replica for a request."""

    def first(self, number: int, replica: int, now: float) -> None:
        """Its first token came."""

    def end(self, number: int, replica: int, now: float, cached: int) -> None:
        """Its last token came, and with it the count of its prompt's tokens that were cached."""


class Hardware(NamedTuple):
    """What the replicas are.

    Attributes:
        speed: Tokens per second of prefill.
        bend: Tokens of context at which a token takes twice as long.
        slowing: Share by which each answer being written slows prefill down.
        blocks: Blocks of the prefix cache.
        fixed: Seconds for any prompt.
        writing: Tokens per second of one answer.
        speeds: Factors of `speed`, one a replica.
        shared: Serve all waiting prompts at once.
    """

    speed: float
    bend: float
    slowing: float
    blocks: int
    fixed: float = 0.01
    writing: float = 50.0
    speeds: tuple[float, ...] = (1.0,) * 8
    shared: bool = False


class Outcome(NamedTuple):
    """What came of a run: seconds to the first token of each request, and the share of blocks found in the caches."""

    ttft: list[float]
    hits: float

    @property
    def mean(self) -> float:
        """Mean seconds to the first token."""
        return sum(self.ttft) / len(self.ttft)


class _Server:
    def __init__(self, hardware: Hardware, factor: float) -> None:
        self.hardware = hardware
        self.speed = hardware.speed * factor
        self.cache: OrderedDict[int, None] = OrderedDict()
        self.queue: list[int] = []
        self.left: dict[int, float] = {}
        self.writing = 0
        self.at = 0.0
        self.version = 0

    def cached(self, blocks: Sequence[int]) -> int:
        """How many of the first `blocks` are in the cache."""
        found = 0
        for block in blocks:
            if block not in self.cache:
                break
            found += 1
        return found

    def work(self, arrival: Arrival, cached: int) -> float:
        """Seconds for a prompt alone."""
        known = min(cached * BLOCK, arrival.tokens)
        hardware = self.hardware
        each = (1 + (arrival.tokens + known) / 2 / hardware.bend) * (1 + hardware.slowing * self.writing)
        return hardware.fixed + (arrival.tokens - known) / self.speed * each

    def keep(self, blocks: Sequence[int]) -> None:
        """Put a prompt's blocks into the cache; its last ones leave first."""
        for block in reversed(blocks):
            self.cache[block] = None
            self.cache.move_to_end(block)
        while len(self.cache) > self.hardware.blocks:
            self.cache.popitem(last=False)


class Simulation:
    """One run of a trace through a policy."""

    def __init__(self, arrivals: Sequence[Arrival], hardware: Hardware, policy: Policy) -> None:
        self._arrivals = arrivals
        self._policy = policy
        self._servers = [_Server(hardware, factor) for factor in hardware.speeds]
        self._parallel = len(arrivals) if hardware.shared else 1
        self._ttft = [0.0] * len(arrivals)
        self._cached = [0] * len(arrivals)
        self._hits = self._asked = 0
        self._events: list[tuple[float, int, Callable[..., None], int, int, int]] = []
        self._order = 0

    def run(self) -> Outcome:
        """Serve all."""
        for number, arrival in enumerate(self._arrivals):
            self._at(arrival.at, self._arrive, number, 0, 0)
        while self._events:
            now, _, what, number, place, version = heapq.heappop(self._events)
            what(now, number, place, version)
        return Outcome(self._ttft, self._hits / self._asked)

    def _at(self, when: float, what: Callable[..., None], number: int, place: int, version: int) -> None:
        self._order += 1
        heapq.heappush(self._events, (when, self._order, what, number, place, version))

    def _arrive(self, now: float, number: int, _place: int, _version: int) -> None:
        place = self._policy.choose(number, self._arrivals[number], now)
        server = self._servers[place]
        self._progress(server, now)
        server.queue.append(number)
        self._admit(server, place, now)

    def _admit(self, server: _Server, place: int, now: float) -> None:
        while server.queue and len(server.left) < self._parallel:
            number = server.queue.pop(0)
            arrival = self._arrivals[number]
            cached = server.cached(arrival.blocks)
            self._hits += max(cached - 1, 0)  # all prompts of the trace share block 0, which proves nothing
            self._asked += len(arrival.blocks) - 1
            self._cached[number] = min(cached * BLOCK, arrival.tokens)
            server.left[number] = server.work(arrival, cached)
        self._plan(server, place, now)

    def _plan(self, server: _Server, place: int, now: float) -> None:
        server.version += 1
        if server.left:
            number = min(server.left, key=server.left.__getitem__)
            self._at(now + server.left[number] * len(server.left), self._first, number, place, server.version)

    def _progress(self, server: _Server, now: float) -> None:
        if server.left:
            share = (now - server.at) / len(server.left)
            for number in server.left:
                server.left[number] -= share
        server.at = now

    def _first(self, now: float, number: int, place: int, version: int) -> None:
        server, arrival = self._servers[place], self._arrivals[number]
        if version != server.version:
            return
        self._progress(server, now)
        del server.left[number]
        server.keep(arrival.blocks)
        server.writing += 1
        self._ttft[number] = now - arrival.at
        self._policy.first(number, place, now)
        self._at(now + arrival.output / server.hardware.writing, self._end, number, place, 0)
        self._admit(server, place, now)

    def _end(self, now: float, number: int, place: int, _version: int) -> None:
        self._servers[place].writing -= 1
        self._policy.end(number, place, now, self._cached[number])
