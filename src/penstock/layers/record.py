"""Outermost: every call is counted and written down, whatever becomes of it."""

from __future__ import annotations

import asyncio
from functools import partial

import msgspec

from penstock.abc import Ledger
from penstock.core.call import TEMPLATE
from penstock.core.clock import Clock
from penstock.core.errors import SHUTTING_DOWN, PenstockError
from penstock.core.handler import Exit, Handler, Phased, Step
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.telemetry.metrics import Metrics


class Record(Phased):
    """Gives each finished call to the ledger and the metrics, hits and failures included."""

    def __init__(self, ledger: Ledger, metrics: Metrics, clock: Clock) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._clock = clock

    def enter(self, request: Request, inner: Handler, /) -> Step:
        """Count it; when the answer has ended, how it went is written down."""
        self._metrics.active += 1
        return request, _Writing(self, request)

    def finish(self, request: Request, how: str) -> None:
        """Record one call that has ended."""
        self._metrics.active -= 1
        self._write(request, self._clock.monotonic() - request.call.started, how)

    def _write(self, request: Request, duration_s: float, how: str) -> None:
        """Write the call down, when all of its attempts have ended: nobody may have waited for one to be closed."""
        call = request.call
        for attempt in call.attempts:
            if attempt.running:
                attempt.when_ended(partial(self._write, request, duration_s, how))
                return
        self._metrics.finished(request, call, duration_s, how)
        self._ledger.record(request, call, duration_s=duration_s, outcome=how)


class _Writing(Exit, msgspec.Struct, eq=False):
    record: Record
    request: Request

    def failed(self, error: BaseException, /) -> None:
        self.record.finish(self.request, outcome(error))

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        request = self.request
        call = request.call
        if call.usage is None:
            call.usage = response.usage
        if call.finish_reason is None:
            call.finish_reason = response.finish_reason
        how = "ok" if error is None else outcome(error)
        if error is None and TEMPLATE in call.degraded:  # the client got an answer, but the call failed
            how = TEMPLATE
        self.record.finish(request, how)


def outcome(error: BaseException | None) -> str:
    """Name how a call ended: ``ok``, ``client_closed``, ``shutting_down``, an error's code, or ``internal_error``."""
    if error is None:
        return "ok"
    if isinstance(error, PenstockError):
        return error.code
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return SHUTTING_DOWN if error.args == (SHUTTING_DOWN,) else "client_closed"
    return "internal_error"
