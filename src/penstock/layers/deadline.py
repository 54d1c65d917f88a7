"""The total time a request may take: waiting, retries, failover and the stream together."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Generator
from typing import Any

import msgspec

from penstock.core.clock import Clock
from penstock.core.errors import DeadlineExceeded
from penstock.core.handler import Handler, Step
from penstock.core.request import Request
from penstock.core.response import LATE, Response

_replace = msgspec.structs.replace


class Deadline:
    """Ends a call when its time is over, with `DeadlineExceeded`.

    The time is the model's `timeout_s`, or `default_s` seconds if it has none, and no more than the client allows. It
    runs from the moment the request had been read.
    """

    def __init__(self, default_s: float, clock: Clock) -> None:
        self._default_s = default_s
        self._clock = clock

    def enter(self, request: Request, inner: Handler, /) -> Step:
        """Say until when there is time; for what ends by itself then, or is given to `in_time`.

        Raises:
            DeadlineExceeded: There is none left.
        """
        route = request.route
        limit = self._default_s if route is None or route.timeout_s is None else route.timeout_s
        if request.timeout_s is not None and request.timeout_s < limit:
            limit = request.timeout_s
        deadline = request.call.started + limit
        if deadline <= self._clock.monotonic():
            raise DeadlineExceeded(LATE)
        return _replace(request, deadline=deadline), None

    async def __call__(self, request: Request, inner: Handler, /) -> Response:
        """Answer in time, or raise `DeadlineExceeded`; a stream raises it from its iteration."""
        request, _ = self.enter(request, inner)
        return await self.in_time(request, inner(request))

    async def in_time(self, request: Request, work: Awaitable[Response]) -> Response:
        """Wait for the answer to `request`, whose deadline is set; as `__call__`."""
        deadline = request.deadline
        assert deadline is not None, "`enter` set it"
        steps = work.__await__()
        try:
            waited_for = next(steps)
        except StopIteration as done:  # a hit does not wait, so it needs no timer
            response: Response = done.value
        else:
            left = deadline - self._clock.monotonic()
            response = await _in_time(_resume(steps, waited_for), left)
        if not response.whole and response.deadline is None:  # an attempt's own, if there is one, is sooner
            response.expire_at(asyncio.get_running_loop().time() + deadline - self._clock.monotonic())
        return response


async def _in_time(work: Awaitable[Response], left: float) -> Response:
    alarm = _Alarm()
    timer = asyncio.get_running_loop().call_later(left, alarm.ring)
    try:
        response = await work
    except BaseException as error:
        if alarm.stop() and isinstance(error, asyncio.CancelledError):
            raise DeadlineExceeded(LATE) from None
        raise
    finally:
        timer.cancel()
    alarm.stop()
    if alarm.others:
        # A cache has answered in the place of what was cut off, but it is not only this call that is.
        await response.aclose()
        raise asyncio.CancelledError
    return response


@types.coroutine
def _resume(steps: Generator[Any, Any, Response], waited_for: object) -> Generator[Any, Any, Response]:
    """Go on with a coroutine that was run up to its first wait, as ``await`` would have done from the start."""
    try:
        yield waited_for
    except BaseException as error:  # noqa: BLE001 - not handled here but passed in, as await does
        try:
            waited_for = steps.throw(error)
        except StopIteration as done:
            answer: Response = done.value
            return answer
        return (yield from _resume(steps, waited_for))
    return (yield from steps)


class _Alarm:
    """`asyncio.timeout` without its bookkeeping: every hit passes here, and this costs a third."""

    __slots__ = ("_before", "_rang", "_task")

    def __init__(self) -> None:
        self._rang = False
        self._task = asyncio.current_task()
        self._before = 0 if self._task is None else self._task.cancelling()

    def ring(self) -> None:
        if self._task is not None:
            self._rang = True
            self._task.cancel()

    def stop(self) -> bool:
        """Take back the cancellation; True when it was made and is the only one, as in `asyncio.Timeout`."""
        return self._rang and self._task is not None and self._task.uncancel() <= self._before

    @property
    def others(self) -> bool:
        """Whether somebody else has cancelled it meanwhile."""
        return self._task is not None and self._task.cancelling() > self._before
