"""How much one provider gets at once and a minute, who waits for it, and who is told that waiting is no use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from penstock.config.settings import LimitSettings, ProviderSettings, Settings
from penstock.core.clock import Clock
from penstock.core.errors import ProviderError, RateLimited, TargetBusy
from penstock.core.events import Batch
from penstock.core.handler import Handler
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Target
from penstock.limiting.gate import Gate, Limits
from penstock.limiting.ticket import LEVELS, Ticket
from penstock.limiting.waiting import Waiting
from penstock.routing.breaker import MAX_COOLDOWN_S, RATE_LIMITED, UNKNOWN_WAIT_S
from penstock.routing.health import Health
from penstock.telemetry.metrics import Gauge

_OVERLOADED = frozenset({503, 529})
"""Statuses by which an upstream says that it is too much for it, without a limit to be kept."""


class GateState(NamedTuple):
    """A gate as metrics show it; `limit` is infinite without one."""

    provider: str
    in_use: int
    limit: float
    queued: int
    refused: int


_SHOWN = {
    "in_use": "Requests under way at a provider with limits.",
    "limit": "How many of them may be under way at once.",
    "queued": "Requests that wait for a provider's limits.",
    "refused": "Requests that were refused because waiting was no use, since the start.",
}
"""Fields of `GateState` on the metrics page."""


def concurrency_of(
    settings: Settings, doors: Doors, health: Health, estimate: Callable[[Request], int]
) -> Concurrency | None:
    """Return the layer, if the settings limit any provider."""
    if not any(provider.limits for provider in settings.providers):
        return None
    return Concurrency(doors, health, estimate)


class Doors:
    """The gates of all providers with limits, and who waits at them. Outlives configurations."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting = Waiting(0)
        self._doors: dict[str, tuple[Limits, Door]] = {}

    def configure(self, providers: Iterable[ProviderSettings], settings: LimitSettings) -> None:
        """Put the limits of `providers` in force; gates whose limits stay keep what they know."""
        limits = {each.name: Limits(**each.limits.model_dump()) for each in providers}
        self._waiting.most = settings.max_queued
        kept = {name: known for name, known in self._doors.items() if limits.get(name) == known[0]}
        self._doors = {
            name: kept.get(name) or (each, Door(Gate(each, self._waiting), self._clock))
            for name, each in limits.items()
            if each
        }

    def get(self, provider: str) -> Door | None:
        """Return the door of `provider`; None if it has no limits."""
        known = self._doors.get(provider)
        return None if known is None else known[1]

    def room(self, target: Target) -> bool:
        """Whether a request to `target` would not have to wait."""
        door = self.get(target.provider)
        return door is None or door.gate.room(self._clock.monotonic())

    def show(self, gauge: Callable[[str, str, tuple[str, ...], Gauge], None]) -> None:
        """Put the gates on the metrics page."""
        for field, text in _SHOWN.items():
            gauge(f"penstock_limit_{field}", text, ("provider",), partial(self._values, field))

    def _values(self, field: str) -> list[tuple[tuple[str, ...], float]]:
        return [((each.provider,), getattr(each, field)) for each in self.states()]

    def states(self) -> Iterator[GateState]:
        """How they are used now."""
        for name, (_, door) in self._doors.items():
            gate = door.gate
            yield GateState(name, gate.in_use, gate.limit, len(gate.queue), gate.refused)


class Door:
    """A gate, and the tasks that wait at it.

    Attributes:
        gate: Decides.
    """

    def __init__(self, gate: Gate, clock: Clock) -> None:
        self.gate = gate
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
        """Something has ended, or time has passed: admit those who may go."""
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
        self.let_in()


class Concurrency:
    """Lets a request go to its target when the provider's limits allow it, in turn.

    A place is held until the answer has ended, streams included. While another healthy target of the route has room, a
    request does not wait but is sent there; as a hedge it never waits.
    """

    def __init__(self, doors: Doors, health: Health, estimate: Callable[[Request], int]) -> None:
        """`estimate` counts a request's input tokens."""
        self._doors = doors
        self._health = health
        self._estimate = estimate
        self._now = health.clock.monotonic

    async def __call__(self, request: Request, inner: Handler, /) -> Response:
        """Answer when it is this request's turn.

        Raises:
            TargetBusy: It is not, and another target has room.
            RateLimited: It would not be in time, or too many wait already.
        """
        target = request.target
        if target is None:
            raise AssertionError("failover chooses a target before its limits are looked at")
        door = self._doors.get(target.provider)
        if door is None:
            return await inner(request)
        gate, estimated = door.gate, self._estimate(request)
        tokens = gate.predict(target.model, request.payload, estimated, generates=request.operation != "embeddings")
        ticket = Ticket(request.tenant, target.model, *tokens, LEVELS[request.priority])
        if not gate.enter(ticket, self._now()):
            await self._queue(request, target, door, ticket)
        try:
            response = await inner(request)
        except BaseException as error:
            self.failed(door, ticket, request, error)
            raise
        if response.quota is not None:
            gate.heed(ticket, response.quota, self._now())
        if response.whole:
            self.answered(door, ticket, response)
        else:
            response.observe(_Watch(self, door, ticket, request))
        return response

    def answered(self, door: Door, ticket: Ticket, response: Response) -> None:
        """The answer of `ticket` is complete."""
        door.gate.answered(ticket, _used(response), self._now())
        door.let_in()

    def failed(
        self, door: Door, ticket: Ticket, request: Request, error: BaseException, response: Response | None = None
    ) -> None:
        """The answer of `ticket` did not come, or, with a `response`, broke off."""
        now, gate = self._now(), door.gate
        if not isinstance(error, ProviderError):
            gate.failed(ticket, None if response is None else _used(response), now, late=request.late(now))
        elif error.code == RATE_LIMITED or error.status_code in _OVERLOADED:
            if error.quota is not None:
                gate.heed(ticket, error.quota, now)
            pause = UNKNOWN_WAIT_S if error.retry_after is None else min(error.retry_after, MAX_COOLDOWN_S)
            gate.overloaded(ticket, pause if error.code == RATE_LIMITED else 0.0, now)
        else:
            late = error.code == "upstream_timeout"
            gate.failed(ticket, (0, 0) if response is None else _used(response), now, late=late)
        door.let_in()

    async def _queue(self, request: Request, target: Target, door: Door, ticket: Ticket) -> None:
        came = self._now()
        refusal_s = door.gate.refusal_s(ticket, request.deadline, came)
        if request.hedge or self._room_elsewhere(request, target):
            raise TargetBusy(f"{target.provider} is busy; another target is not", retry_after=refusal_s or 1.0)
        if refusal_s is not None:
            raise door.refuse(refusal_s, f"Too many requests are waiting for {target.provider}")
        try:
            await door.wait(ticket)
        finally:
            request.call.queued_s += self._now() - came

    def _room_elsewhere(self, request: Request, target: Target) -> bool:
        """Whether a target that this call did not try yet is healthy and has room."""
        route = request.route
        if route is None or len(route.targets) == 1:
            return False
        tried = {(attempt.provider, attempt.model) for attempt in request.call.attempts}
        return any(
            other.provider != target.provider
            and other.weight > 0
            and (other.provider, other.model) not in tried
            and self._doors.room(other)
            and self._health.recovers_in(other) == 0.0
            for other in route.targets
        )


class _Watch:
    """Holds a stream's place until it ends."""

    __slots__ = ("_concurrency", "_door", "_request", "_ticket")

    def __init__(self, concurrency: Concurrency, door: Door, ticket: Ticket, request: Request) -> None:
        self._concurrency = concurrency
        self._door = door
        self._ticket = ticket
        self._request = request

    def on_events(self, batch: Batch, /) -> None:
        """Only the end frees the place."""

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        if error is None:
            self._concurrency.answered(self._door, self._ticket, response)
        else:
            self._concurrency.failed(self._door, self._ticket, self._request, error, response)


def _used(response: Response) -> tuple[int, int] | None:
    usage = response.usage
    return None if usage is None else (usage.input_tokens, usage.output_tokens)
