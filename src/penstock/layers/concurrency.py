"""How much one provider gets at once and a minute, who waits for it, and who is told that waiting is no use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from penstock.config.providers import ProviderSettings
from penstock.config.settings import LimitSettings, Settings
from penstock.core.errors import ProviderError, TargetBusy
from penstock.core.handler import Exit, Handler, Phased, Step
from penstock.core.quota import Quota
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Target
from penstock.limiting.door import Door, Doors
from penstock.limiting.gate import Gate, Limits
from penstock.limiting.ticket import LEVELS, Ticket
from penstock.routing.breaker import MAX_COOLDOWN_S, RATE_LIMITED, UNKNOWN_WAIT_S
from penstock.routing.health import Health
from penstock.telemetry.metrics import Gauge

_LEAST_S = 0.01
"""Less time than this is no time for an answer; who still waits then is told when to come back."""
_PATIENCE = 0.5
"""Part of the time until an answer is to have begun that may be spent waiting for its turn."""
_OVERLOADED = frozenset({503, 529})
"""Statuses by which an upstream says that it is too much for it, without a limit to be kept."""


_SHOWN = {
    "in_use": ("in_use", "Requests under way at a provider with limits."),
    "limit": ("limit", "How many of them may be under way at once."),
    "queued": ("queued", "Requests that wait for a provider's limits."),
    "refused_total": ("refused", "Requests that were refused because waiting was no use, since the start."),
}
"""Metrics, and the fields of `GateState` they show."""


class ProviderDoors(Doors):
    """The doors, by the settings."""

    def configure(self, providers: Iterable[ProviderSettings], settings: LimitSettings) -> None:
        """Put the limits of `providers` in force."""
        limits = {each.name: Limits(**each.limits.model_dump()) for each in providers if each.limits}
        self.put_in_force(limits, settings.max_queued)

    def show(self, gauge: Callable[[str, str, tuple[str, ...], Gauge], None]) -> None:
        """Put the gates on the metrics page."""
        for name, (field, text) in _SHOWN.items():
            gauge(f"penstock_limit_{name}", text, ("provider",), partial(self._values, field))

    def _values(self, field: str) -> list[tuple[tuple[str, ...], float]]:
        return [((each.provider,), getattr(each, field)) for each in self.states()]


def concurrency_of(
    settings: Settings, doors: Doors, health: Health, estimate: Callable[[Request], int]
) -> Concurrency | None:
    """Return the layer, if the settings limit any provider."""
    if not any(provider.limits for provider in settings.providers):
        return None
    return Concurrency(doors, health, estimate)


class Concurrency(Phased):
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

    def enter(self, request: Request, inner: Handler, /) -> Step | None:
        """Let it in if there is room at once."""
        door = self._doors.get(_target(request).provider)
        if door is None:
            return request, None
        ticket = self._ticket(request, door)
        return (request, _Place(self, door, ticket, request)) if door.gate.enter(ticket, self._now()) else None

    async def handle(self, request: Request, inner: Handler, /) -> Response:
        """Answer when it is this request's turn.

        Raises:
            TargetBusy: It is not, and another target has room.
            RateLimited: It would not be in time, or too many wait already.
        """
        target = _target(request)
        door = self._doors.get(target.provider)
        if door is None:
            return await inner(request)
        ticket = self._ticket(request, door)
        if not door.gate.enter(ticket, self._now()):
            await self._queue(request, target, door, ticket)
        place = _Place(self, door, ticket, request)
        try:
            response = await inner(request)
        except BaseException as error:
            place.failed(error)
            raise
        if not response.whole:
            place.begun(response)
        response.observe(place)
        return response

    def heed(self, door: Door, ticket: Ticket, quota: Quota) -> None:
        """The provider says what is left of its limits."""
        door.gate.heed(ticket, quota, self._now())

    def _ticket(self, request: Request, door: Door) -> Ticket:
        model = _target(request).model
        estimated, generates = self._estimate(request), request.operation != "embeddings"
        tokens = door.gate.predict(model, request.payload, estimated, generates=generates)
        return Ticket(request.tenant, model, *tokens, LEVELS[request.priority])

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
        refusal_s = self._refusal_s(request, door.gate, ticket, came)
        if request.hedge or self._room_elsewhere(request, target):
            raise TargetBusy(f"{target.provider} is busy; another target is not", retry_after=refusal_s or 1.0)
        if refusal_s is not None:
            raise door.refuse(refusal_s, f"Too many requests are waiting for {target.provider}")
        try:
            await door.wait(ticket)
        finally:
            request.call.queued_s += self._now() - came

    def _refusal_s(self, request: Request, gate: Gate, ticket: Ticket, now: float) -> float | None:
        """As `Gate.refusal_s`; and when another model stands by, there is less time to wait for this one."""
        deadline = None if request.deadline is None else request.deadline - _LEAST_S
        refusal_s = gate.refusal_s(ticket, deadline, now)
        if refusal_s is None and request.begin_by is not None:
            time = (request.begin_by - now) * _PATIENCE
            wait = gate.wait_s(ticket, now)
            if wait > time:
                return max(wait - max(time, 0.0), 1.0)
            ticket.latest = now + time if ticket.latest is None else min(ticket.latest, now + time)
        return refusal_s

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
            and self._doors.room(other.provider)
            and self._health.recovers_in(other) == 0.0
            for other in route.targets
        )


class _Place(Exit):
    """A place, held until the answer ends."""

    __slots__ = ("_concurrency", "_door", "_request", "_ticket")

    def __init__(self, concurrency: Concurrency, door: Door, ticket: Ticket, request: Request) -> None:
        self._concurrency = concurrency
        self._door = door
        self._ticket = ticket
        self._request = request

    def failed(self, error: BaseException, /) -> None:
        self._concurrency.failed(self._door, self._ticket, self._request, error)

    def begun(self, response: Response, /) -> None:
        if response.quota is not None:
            self._concurrency.heed(self._door, self._ticket, response.quota)

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        if response.whole:
            self.begun(response)
        if error is None:
            self._concurrency.answered(self._door, self._ticket, response)
        else:
            self._concurrency.failed(self._door, self._ticket, self._request, error, response)


def _target(request: Request) -> Target:
    if request.target is None:
        raise AssertionError("failover chooses a target before its limits are looked at")
    return request.target


def _used(response: Response) -> tuple[int, int] | None:
    usage = response.usage
    return None if usage is None else (usage.input_tokens, usage.output_tokens)
