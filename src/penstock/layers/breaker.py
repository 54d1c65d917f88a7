"""Leaves a target alone that keeps failing, or that asked for a pause."""

from __future__ import annotations

import asyncio

import msgspec

from penstock.core.clock import TIMER_SLACK_S
from penstock.core.errors import ProviderError
from penstock.core.handler import Exit, Handler, Phased, Step
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Target
from penstock.routing.breaker import RATE_LIMITED, Circuit, judge
from penstock.routing.health import Health

_TIMEOUT = "upstream_timeout"


class Breaker(Phased):
    """Asks the target's circuit before each try and tells it afterwards how the try went, streams to their end."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._now = health.clock.monotonic

    def enter(self, request: Request, inner: Handler, /) -> Step:
        """Let it pass, or raise a `ProviderError` with the code that opened the circuit and `retry_after`."""
        target = request.target
        if target is None:
            raise AssertionError("failover chooses a target before its breaker is asked")
        circuit = self._health.circuit(target)
        permit = circuit.admit(self._now())
        if permit is None:
            raise self._refusal(target, circuit)
        return request, _Report(self, circuit, permit, request)

    def gave_up(self, circuit: Circuit, permit: int, request: Request) -> None:
        """Tell `circuit` that nobody waited for the answer to the request with `permit`."""
        if request.late(self._now()) and not _excused(request):
            circuit.failed(permit, self._now(), _TIMEOUT)
        else:
            circuit.released(permit)

    def report(self, circuit: Circuit, permit: int, request: Request, error: BaseException | None) -> None:
        """Tell `circuit` how the request with `permit` ended; None for well."""
        if error is None:
            circuit.succeeded(permit)
        elif not isinstance(error, ProviderError) or error.stale:
            circuit.released(permit)
        else:
            verdict = judge(error)
            if verdict == "alive":
                circuit.succeeded(permit)
            elif verdict == "limited":
                circuit.limited(permit, self._now(), error.retry_after)
            elif error.code == _TIMEOUT and self._late(request) and _excused(request):
                circuit.released(permit)
            else:
                circuit.failed(permit, self._now(), error.code)

    def _late(self, request: Request) -> bool:
        return request.deadline is not None and self._now() >= request.deadline - TIMER_SLACK_S

    def _refusal(self, target: Target, circuit: Circuit) -> ProviderError:
        now = self._now()
        wait = circuit.recovers_in(now)
        code = RATE_LIMITED if circuit.state(now) == "cooling" else circuit.cause
        return ProviderError(
            f"{target.provider}/{target.model} is left alone for another {wait:.1f} s after {code}",
            code=code,
            retry_after=wait,
            provider=target.provider,
        )


class _Report(Exit, msgspec.Struct, eq=False):
    _breaker: Breaker
    _circuit: Circuit
    _permit: int
    _request: Request

    def failed(self, error: BaseException, /) -> None:
        if isinstance(error, asyncio.CancelledError):
            self._breaker.gave_up(self._circuit, self._permit, self._request)
        else:
            self._breaker.report(self._circuit, self._permit, self._request, error)

    def begun(self, response: Response, /) -> None:
        self._circuit.answering(self._permit)

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        self._breaker.report(self._circuit, self._permit, self._request, error)


def _excused(request: Request) -> bool:
    """Whether running into the total deadline says nothing about the target.

    That is so when the client itself allowed little time, or when earlier attempts or waiting in a queue had used part
    of it. Otherwise a client could take a target from all others by asking for impossible haste.
    """
    return request.timeout_s is not None or len(request.call.attempts) > 1 or request.call.queued_s > 0
