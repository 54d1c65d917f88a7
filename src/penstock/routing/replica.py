"""One replica as a gateway sees it: what it was sent and did not answer yet, what it has cached, how slow it is."""

from __future__ import annotations

import math
from collections import deque
from typing import Literal

from penstock.core.call import Footprint
from penstock.core.usage import Usage
from penstock.routing.pace import Pace, Slowness
from penstock.routing.prefixes import PrefixIndex

_BLOCKS = 16_384
"""Blocks remembered: 8 million tokens, more than most replicas' memory has; about 3 MB here."""
_SHORTEST_S, _LONGEST_S = 10.0, 3600.0
"""Bounds of how long a block stays cached unused; the longer one is the longest hosted models' prompt caches keep."""
_TELLING = 0.3
"""The time a prompt took tells whether its blocks were there if they can save at least this share of it."""
_STEP, _STEEPNESS = 0.3, 4.0
"""How fast the learned life of blocks moves, and how sharply their chances fall around it, both in logarithms."""


class Ticket:
    """One request at one replica, from being sent to its end.

    Attributes:
        replica: Where it is.
        prompt: What was sent.
        sent: When.
        queue_s: Seconds it was expected to wait before its prompt is begun.
        seconds: Seconds expected for its prompt alone.
        known: Tokens of the prompt that are expected to be cached.
        remembered: The same if blocks lived for ever, and
        age: seconds since the last of those was used.
        new: Blocks the replica was not sent before.
        since: When the first event came.
    """

    __slots__ = ("age", "known", "new", "prompt", "queue_s", "remembered", "replica", "seconds", "sent", "since",
                 "state", "whole")  # fmt: skip

    def __init__(self, replica: Replica, prompt: Footprint, now: float, *, whole: bool) -> None:
        self.replica = replica
        self.prompt = prompt
        self.sent = self.since = now
        self.whole = whole
        self.state: Literal["waiting", "running", "over"] = "waiting"
        self.queue_s = self.seconds = self.known = self.remembered = self.age = 0.0
        self.new: tuple[int, ...] = ()


class Replica:
    """State and estimates; times are seconds on one monotonic clock. Reports that come twice or late are ignored."""

    __slots__ = (
        "__weakref__",
        "_idle_at",
        "_life_s",
        "_pending_s",
        "_reports",
        "_slowness",
        "_unseen",
        "_waiting",
        "index",
        "pace",
        "running",
    )

    def __init__(self, pace: Pace, now: float) -> None:
        """`pace` is shared with the replicas this one is compared with."""
        self.pace = pace
        self.index = PrefixIndex(_BLOCKS)
        self.running = 0
        self._slowness = Slowness(now)
        self._waiting: dict[Ticket, None] = {}
        self._pending_s = 0.0
        self._idle_at = now
        self._unseen: deque[Ticket] = deque()
        self._life_s = _LONGEST_S
        self._reports = False

    @property
    def waiting(self) -> int:
        """Requests that have not begun to answer, as far as that can be seen."""
        return len(self._waiting)

    def slowness(self, now: float) -> float:
        """Its seconds ÷ those of an average replica."""
        return self._slowness.value(now)

    def queue(self, now: float) -> float:
        """Seconds until it has worked off the prompts it was sent."""
        if self._unseen:
            self._settle(now)
        if not self._waiting:
            return 0.0
        head = next(iter(self._waiting))
        left = head.seconds - (now - max(head.sent, self._idle_at))
        # When the first one is late, nobody knows for how long; what is late is likely to be so for as long again.
        return self._pending_s - head.seconds + abs(left)

    def expected(self, prompt: Footprint, now: float) -> float:
        """Seconds to the first token of an answer to `prompt`."""
        queue = self.queue(now) if self._waiting or self._unseen else 0.0
        known = self.index.match(prompt.blocks, now - self._life_s) * prompt.block_tokens
        return queue + self._slowness.value(now) * self.pace.seconds(prompt.tokens - known, known, self.running)

    def start(self, prompt: Footprint, now: float, *, whole: bool) -> Ticket:
        """It is sent `prompt` now; the caller reports what becomes of the ticket, with `began`, `ended` or `failed`."""
        index, blocks = self.index, prompt.blocks
        ticket = Ticket(self, prompt, now, whole=whole)
        ticket.queue_s = self.queue(now)
        remembered = index.match(blocks, -math.inf)
        if remembered:
            ticket.known = ticket.remembered = remembered * prompt.block_tokens
            ticket.age = now - index.last(blocks[remembered - 1])
            if ticket.age > self._life_s:
                ticket.known = index.match(blocks, now - self._life_s) * prompt.block_tokens
        ticket.new = blocks[remembered:]
        ticket.seconds = self._slowness.value(now) * self.pace.seconds(
            prompt.tokens - ticket.known, ticket.known, self.running
        )
        index.touch(blocks, now)
        self._waiting[ticket] = None
        self._pending_s += ticket.seconds
        if whole:
            self._unseen.append(ticket)
        return ticket

    def began(self, ticket: Ticket, now: float) -> None:
        """The first event is there, of an answer that goes on."""
        if ticket.state == "waiting":
            took = now - max(ticket.sent, self._idle_at)
            self._run(ticket, now)
            self._learn(ticket, took, now)

    def ended(self, ticket: Ticket, now: float, usage: Usage | None) -> None:
        """The answer came to its end; `usage` is what the provider counted, if it did."""
        if usage is not None and ticket.state != "over":
            if ticket.whole:
                self._learn_whole(ticket, now, usage.output_tokens)
            elif ticket.state == "running" and usage.output_tokens:
                self.pace.answered(usage.output_tokens, (now - ticket.since) / self._slowness.value(now))
            self._reports = self._reports or usage.cached_input_tokens > 0
            if self._reports and ticket.remembered:
                share = usage.cached_input_tokens * ticket.prompt.tokens / max(usage.input_tokens, 1)
                self._relive(ticket.age, min(share / ticket.remembered, 1.0))
        self.released(ticket)

    def failed(self, ticket: Ticket, *, lost: bool) -> None:
        """There is no answer, so its prompt may not have been computed; with `lost`, nothing else is cached either."""
        if ticket.state == "waiting":
            self.index.forget(ticket.new, ticket.sent)
        if lost:
            self.index.clear()
        self.released(ticket)

    def released(self, ticket: Ticket) -> None:
        """It is over, in whichever way."""
        if ticket.state == "waiting":
            self._leave(ticket)
        elif ticket.state == "running":
            self.running -= 1
        ticket.state = "over"

    def _settle(self, now: float) -> None:
        """Answers that come whole do not show when they begin: assume that it was when expected."""
        while self._unseen:
            ticket = self._unseen[0]
            due = ticket.sent + ticket.queue_s + ticket.seconds
            if ticket.state == "waiting":
                if due > now:
                    return
                self._run(ticket, due)
            self._unseen.popleft()

    def _run(self, ticket: Ticket, now: float) -> None:
        self._leave(ticket)
        self._idle_at = now
        self.running += 1
        ticket.state = "running"
        ticket.since = now

    def _leave(self, ticket: Ticket) -> None:
        del self._waiting[ticket]
        # A running sum of floats drifts; an empty queue is a chance to begin anew.
        self._pending_s = self._pending_s - ticket.seconds if self._waiting else 0.0

    def _learn(self, ticket: Ticket, took: float, now: float) -> None:
        """The prompt of `ticket` took `took` seconds."""
        pace, company, tokens, known = self.pace, self.running - 1, ticket.prompt.tokens, ticket.known
        slowness = self._slowness.value(now)
        if ticket.remembered:
            hoped = pace.seconds(tokens - ticket.remembered, ticket.remembered, company)
            feared = pace.seconds(tokens, 0.0, company)
            if feared - hoped > _TELLING * feared:
                # A cache that has dropped blocks is no slow replica: judge by what most likely was computed.
                there = min(max((feared - took / slowness) / (feared - hoped), 0.0), 1.0)
                known = there * ticket.remembered
        self._slowness.observe(now, took, pace.seconds(tokens - known, known, company))
        pace.observe(took / slowness, tokens - known, known, company)

    def _learn_whole(self, ticket: Ticket, now: float, output: int) -> None:
        """All of the answer to `ticket` came at once: judge how long it took in all.

        That includes the wait. It can only be guessed, and a server that has none would seem the faster the longer it
        is guessed to be, if it were taken off.
        """
        pace, known = self.pace, ticket.known
        fresh = ticket.prompt.tokens - known
        slowness = self._slowness.value(now)
        prompt = pace.seconds(fresh, known, self.running)
        queue = ticket.queue_s / slowness
        took = (now - ticket.sent) / slowness
        self._slowness.observe(now, now - ticket.sent, queue + prompt + output * pace.token_s)
        if output:
            pace.answered(output, max(took - queue - prompt, 0.0))
        else:  # embeddings: nothing but the prompt
            pace.observe(max(took - queue, 0.0), fresh, known, self.running)

    def _relive(self, age: float, there: float) -> None:
        """Blocks unused for `age` seconds were `there` (1) or not (0): move the life, at which chances are even."""
        chance = 1.0 / (1.0 + (age / self._life_s) ** _STEEPNESS)
        life = self._life_s * math.exp(_STEP * (there - chance))
        self._life_s = min(max(life, _SHORTEST_S), _LONGEST_S)
