"""Who may go to one provider now, who waits, and who is told at once that waiting is no use.

Pure: it has no clock and no tasks. Whoever asks gives the time, starts what `next_ticket` returns, and says when it
has ended.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from penstock.core.quota import Quota
from penstock.limiting.account import Account
from penstock.limiting.adaptive import START, AdaptiveLimit
from penstock.limiting.fair import FairQueue
from penstock.limiting.forecast import Forecast, Tokens
from penstock.limiting.latency import LatencyModel
from penstock.limiting.ticket import Ticket, work_of
from penstock.limiting.waiting import Waiting

_MODELS = 1024
"""Models whose history is kept; with ``model: "*"`` their names come from clients."""
_NEW = 0.05
"""Weight of the newest time a slot was held."""
_UNKNOWN_S = 2.0
"""How long a slot is taken to be held before one was."""
_PATIENCE = 0.5
"""A request waits only if its turn is expected to come within this part of the time it has: estimates err."""
_MOST = 10_000
"""An adaptive limit without `max_concurrency` ends here."""


class Limits(NamedTuple):
    """A provider's limits; None is no limit.

    Attributes:
        requests_per_minute: Requests it takes.
        tokens_per_minute: Tokens it takes, input and output.
        max_concurrency: Requests it takes at once.
        adaptive: Find out how many at once it does best with.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrency: int | None = None
    adaptive: bool = False

    def __bool__(self) -> bool:
        return self != Limits()


class History(NamedTuple):
    """What is known of one model."""

    forecast: Forecast
    latency: LatencyModel


class Gate:
    """One provider's limits.

    Attributes:
        refused: Requests that were refused since the start.
        queue: Requests that wait.
    """

    def __init__(
        self, limits: Limits, waiting: Waiting, *, queue: FairQueue | None = None, account: Account | None = None
    ) -> None:
        """`waiting` counts who waits at all gates; the others are by default this process's own."""
        self.refused = 0
        self.queue = FairQueue() if queue is None else queue
        self._held = 0
        self._waiting = waiting
        self._account = account or Account(*limits[:2])
        self._fixed: float = math.inf
        self._adaptive: AdaptiveLimit | None = None
        self._bound(limits)
        self._paused = -math.inf
        self._held_s = _UNKNOWN_S
        self._known = False
        self._histories: dict[str, History] = {}

    @property
    def in_use(self) -> int:
        """Requests under way."""
        return self._held

    @property
    def held(self) -> int:
        """How many of them are this process's."""
        return self._held

    @property
    def waits(self) -> bool:
        """Whether somebody waits."""
        return bool(self.queue)

    @property
    def waits_elsewhere(self) -> bool:
        """Whether somebody waits in another process."""
        return False

    @property
    def limit(self) -> float:
        """Requests that may be under way at once; infinite without a limit."""
        return self._fixed if self._adaptive is None else self._adaptive.limit

    def put_in_force(self, limits: Limits, now: float) -> None:
        """Change the limits; what is under way, was used and was learnt counts on."""
        self._account.resize(limits.requests_per_minute, limits.tokens_per_minute, now)
        self._bound(limits)

    def _bound(self, limits: Limits) -> None:
        self._fixed = math.inf if limits.max_concurrency is None else limits.max_concurrency
        most = limits.max_concurrency or _MOST
        if not limits.adaptive:
            self._adaptive = None
        elif self._adaptive is None:
            self._adaptive = AdaptiveLimit(most, START)
        else:
            self._adaptive.bound(most)

    def predict(self, model: str, payload: dict[str, object], estimated_input: int, *, generates: bool) -> Tokens:
        """Predict the tokens of a request, from what earlier ones of its model used."""
        return self._history(model).forecast.predict(payload, estimated_input, generates=generates)

    def room(self, now: float) -> bool:
        """Whether a request of ordinary size would not have to wait."""
        return not self.waits and self.in_use < self.limit and now >= self._paused_until and not self._due_s(1.0, now)

    def enter(self, ticket: Ticket, now: float) -> bool:
        """Let `ticket` go if it may now."""
        if self.waits or not self._open(ticket, now):
            return False
        self._start(ticket, now)
        return True

    def wait_s(self, ticket: Ticket, now: float) -> float:
        """Estimate how long `ticket` would wait if it came now."""
        ahead = self.queue.ahead(ticket)
        wait = max(self._paused_until - now, self._account.eta_s(math.ceil(ahead.requests) + 1,
                                                                 ahead.tokens + ticket.tokens, now), 0.0)  # fmt: skip
        if self.waits or self.in_use >= self.limit:
            before = ahead.requests + max(self.in_use - self.limit, 0) + 1
            wait = max(wait, before * self._held_s / self.limit)
        return wait

    def refusal_s(self, ticket: Ticket, deadline: float | None, now: float) -> float | None:
        """Seconds after which to try again if `ticket` had better not wait; None if it may.

        It may unless its turn would come too late for `deadline`, or there are too many who wait. Sets its `latest`.
        """
        wait = self.wait_s(ticket, now)
        if deadline is not None:
            ticket.latest = deadline - (self._held_s if self._known else 0.0)
            time = (ticket.latest - now) * _PATIENCE
            if wait > time:
                return max(wait - max(time, 0.0), 1.0)
        if not self._waiting.room(ticket.tenant):
            return max(wait, 1.0)
        return None

    def join(self, ticket: Ticket) -> None:
        """Wait for one's turn."""
        self.queue.push(ticket)
        self._waiting.add(ticket.tenant)

    def leave(self, ticket: Ticket) -> None:
        """Wait no longer; nothing happens if it does not."""
        if self.queue.remove(ticket):
            self._waiting.remove(ticket.tenant)

    def next_ticket(self, now: float) -> Ticket | None:
        """Let the next one go, if it may now."""
        ticket = self.queue.first()
        if ticket is None or not self._open(ticket, now):
            return None
        self.leave(ticket)
        ticket.contended = True
        self.queue.charge(ticket.tenant, ticket.work)
        self._start(ticket, now)
        return ticket

    def wake_in_s(self, now: float) -> float | None:
        """Seconds until the next one may go though nothing ends before; None if only an end can let it."""
        ticket = self.queue.first()
        if ticket is None or self.in_use >= self.limit:
            return None
        return max(self._due_s(ticket.tokens, now), self._paused_until - now, 0.0)

    def heed(self, ticket: Ticket, quota: Quota, now: float) -> None:
        """The provider said what is left after `ticket`'s request."""
        if ticket.charge is not None:
            self._account.heed(ticket.charge, quota, now)

    def answered(self, ticket: Ticket, used: tuple[int, int] | None, now: float) -> None:
        """`ticket`'s request was answered in full, with so many input and output tokens, if they are known."""
        seconds = now - ticket.started
        self._held_s = self._held_s + _NEW * (seconds - self._held_s) if self._known else seconds
        self._known = True
        self._settle(ticket, used, now)
        if self._adaptive is not None:
            given, made = used or (ticket.input_tokens, ticket.output_tokens)
            model = self._history(ticket.model).latency
            model.learn(given, made, seconds)
            self._adaptive.finish(ticket.mark, self.in_use, (model, model.rates(given, made, seconds), seconds), now)
        self._hold(-1)

    def failed(self, ticket: Ticket, used: tuple[int, int] | None, now: float, *, late: bool = False) -> None:
        """`ticket`'s request failed or was given up, perhaps for taking too long; None for `used` if nobody knows."""
        self._settle(ticket, used, now)
        if self._adaptive is not None:
            seconds = now - ticket.started
            # Less time than others need says nothing: its deadline was near when it started.
            sample = None
            if late and seconds > self._held_s:
                model = self._history(ticket.model).latency
                sample = (model, model.rates(ticket.input_tokens, ticket.output_tokens, seconds), seconds)
            self._adaptive.finish(ticket.mark, self.in_use, sample, now)
        self._hold(-1)

    def overloaded(self, ticket: Ticket, pause_s: float, now: float) -> None:
        """The provider refused `ticket`'s request because it gets too many; nothing goes there for `pause_s`."""
        self._settle(ticket, (0, 0), now)
        self._pause(now + pause_s)
        if self._adaptive is not None:
            self._adaptive.overloaded(self.in_use, now)
        self._hold(-1)

    def _settle(self, ticket: Ticket, used: tuple[int, int] | None, now: float) -> None:
        if ticket.charge is None:
            return
        if used is None:
            self._account.settle(ticket.charge, ticket.input_tokens, ticket.tokens - ticket.input_tokens, now)
            return
        self._account.settle(ticket.charge, *used, now)
        if ticket.contended:
            self.queue.charge(ticket.tenant, work_of(*used) - ticket.work)
        if any(used):
            self._history(ticket.model).forecast.learn(ticket.input_tokens, *used)

    @property
    def _paused_until(self) -> float:
        return self._paused

    def _pause(self, until: float) -> None:
        self._paused = max(self._paused, until)

    def _hold(self, places: int) -> None:
        self._held += places

    def _start(self, ticket: Ticket, now: float) -> None:
        self._hold(1)
        ticket.started = now
        ticket.charge = self._account.charge(ticket.tokens, now)
        if self._adaptive is not None:
            ticket.mark = self._adaptive.start(self.in_use, now)

    def _open(self, ticket: Ticket, now: float) -> bool:
        return self.in_use < self.limit and now >= self._paused_until and not self._due_s(ticket.tokens, now)

    def _due_s(self, tokens: float, now: float) -> float:
        return self._account.wait_s(tokens, now)

    def _history(self, model: str) -> History:
        history = self._histories.get(model)
        if history is None:
            if len(self._histories) >= _MODELS:
                del self._histories[next(iter(self._histories))]
            history = self._histories[model] = History(Forecast(), LatencyModel())
        return history
