"""The short way of a plain request: the same layers, run as calls and callbacks, without a task and without a frame.

    enter, enter, … ──► sent                      the provider's answer ──► …, on_end, on_end ──► done

The layers' first halves (`penstock.core.handler.Phased`) run when the request has been read, and their exits when the
provider's connection has the whole answer. The first layer that has to wait for something is run as it always is, in a
task; so is failover when the first try failed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import msgspec

from penstock.abc import Sending
from penstock.caching.lead import Lead
from penstock.core.clock import Clock
from penstock.core.errors import DeadlineExceeded, PenstockError, ProviderError
from penstock.core.events import Batch
from penstock.core.handler import Enter, Exit, Handler
from penstock.core.request import Request
from penstock.core.response import LATE, Response
from penstock.core.route import Target
from penstock.core.tasks import TaskGroup

Done = Callable[[Response | None, BaseException | None], None]
"""Hears of the whole answer, or of the error in its place."""

_TIMEOUT = "upstream_timeout"
_log = logging.getLogger("penstock.lane")
_replace = msgspec.structs.replace


class Stage(NamedTuple):
    """A layer: its first half, what is inside of it, and both with the layer."""

    enter: Enter
    inner: Handler
    whole: Handler


@dataclass(frozen=True, slots=True)
class Lane:
    """The layers of one configuration.

    Attributes:
        call: The layers outside failover, outermost first.
        target: Those inside of it.
        order: Failover's order of the route's targets.
        elsewhere: Failover, given what came of the first of these targets; with whether `penstock.layers.retry` has to
            hear of it.
        begin: Asks the provider if that can be done at once; calls back when it has answered.
        provide: Asks the provider.
        failover: What is inside of the last of `call`.
        ready: Whether providers may be asked.
        in_time: Waits for an answer no longer than the request's deadline.
        clock: Where time comes from.
        tasks: Own what has to wait.
    """

    call: Sequence[Stage]
    target: Sequence[Stage]
    order: Callable[[Request], Sequence[Target]]
    elsewhere: Callable[[Request, Sequence[Target], PenstockError, bool], Awaitable[Response]]
    begin: Callable[[Request, Callable[[], None], Callable[[Batch], None] | None], Sending | None]
    provide: Handler
    failover: Handler
    ready: Callable[[], bool]
    in_time: Callable[[Request, Awaitable[Response]], Awaitable[Response]]
    clock: Clock
    tasks: TaskGroup


class Passage(msgspec.Struct, eq=False):
    """One request on its way; `run` it, and `cancel` it if nobody waits for it any more.

    A struct since it is made for each request, which takes a third of the time so.

    Attributes:
        lane: The layers.
        request: Routed, and not for a stream.
        done: Called once, perhaps before `run` returns; not when `cancel` was called without ``tell``.
        leave: Called when all is over, for others too who wait for the same answer.
        over: It was.
    """

    lane: Lane
    request: Request
    done: Done | None
    leave: Callable[[], None]
    over: bool = False
    _exits: list[Exit] = []
    _inner: int = 0
    _border: int = 0
    _lead: Lead | None = None
    _targets: Sequence[Target] = ()
    _sending: Sending | None = None
    _task: asyncio.Task[None] | None = None
    _cancelled: BaseException | None = None

    _hear: ClassVar[Any] = None
    """What the provider tells of events; None for a whole answer."""

    def run(self) -> None:
        """Begin."""
        try:
            self._go()
        except PenstockError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 the last resort, as for requests with a task
            _log.exception("request %s failed", self.request.call.id)
            self._fail(error)

    def cancel(self, error: BaseException, *, tell: bool = False) -> None:
        """The client has gone; with `tell` it is still there, and hears of `error`."""
        if self.over:
            return
        if not tell:
            self.done = None
        self._cancelled = error
        lead = self._lead
        if lead is None:
            self.give_up()
            return
        if lead.shared:
            # Others wait for the same answer: only what was done for this client ends.
            mine, self._exits = self._exits[: self._border], self._exits[self._border :]
            self._inner -= self._border
            self._border, self._cancelled = 0, None
            lead.flight.leave(lead.seat)
            for leave in reversed(mine):
                leave.failed(error)
            self._tell(None, error)
        else:
            lead.flight.leave(lead.seat)

    def resume(self) -> None:
        """Nothing is held up by a client that is behind: the answer is sent when it is whole."""

    def give_up(self) -> asyncio.Task[None] | None:
        """Nobody waits; return what has to end first, if that takes time."""
        if self._cancelled is None:
            self._cancelled = asyncio.CancelledError()
        if self._sending is not None:
            self._sending.cancel()
        elif self._task is not None:
            self._task.cancel()
            return self._task
        return None

    def _go(self) -> None:
        lane, request, exits = self.lane, self.request, self._exits
        for enter, inner, whole in lane.call:
            step = enter(request, inner)
            if step is None:
                self._wait(request, partial(whole, request))
                return
            request, leave = step
            if leave is not None:
                if leave.leads and isinstance(leave, Lead):
                    self._lead, self._border = leave, len(exits)
                    leave.flight.give_up = self.give_up
                exits.append(leave)
        if lane.ready():
            self._go_to_target(request)
        else:
            self._wait(request, partial(lane.failover, request))

    def _go_to_target(self, request: Request) -> None:
        lane, exits = self.lane, self._exits
        self._targets = targets = lane.order(request)
        self.request = request
        self._inner = len(exits)
        request = _replace(request, target=targets[0])
        entered = False
        try:
            for enter, inner, whole in lane.target:
                step = enter(request, inner)
                if step is None:
                    self._wait_for_target(partial(whole, request), inside=entered)
                    return
                request, leave = step
                entered = True
                if leave is not None:
                    exits.append(leave)
            self._sending = lane.begin(request, self._ended, self._hear)
            if self._sending is None:
                self._wait_for_target(partial(lane.provide, request), inside=True)
        except PenstockError as error:
            self._go_elsewhere(error, inside=entered)

    def _ended(self) -> None:
        """The provider has answered, or will not."""
        sending, self._sending = self._sending, None
        try:
            if sending is None or self._cancelled is not None:
                self._fail(self._cancelled or asyncio.CancelledError())
                return
            response = sending.answer()
            if response is None:
                self._wait_for_target(partial(self.lane.provide, sending.request), inside=True)
            else:
                self._answer(response)
        except PenstockError as error:
            self._go_elsewhere(error, inside=True)
        except Exception as error:  # noqa: BLE001 as in `run`
            _log.exception("request %s failed", self.request.call.id)
            self._fail(error)

    def _answer(self, response: Response) -> None:
        """The whole answer is here."""
        for leave in reversed(self._exits):
            leave.on_end(response, None)
        self._tell(response, None)

    def _fail(self, error: BaseException, inside: BaseException | None = None) -> None:
        """There is no answer, because of `error`; within the flight because of `inside`, if that is another one."""
        exits, self._exits = self._exits, []
        shared = self._border if self._lead is not None else self._inner
        for position in range(len(exits) - 1, -1, -1):
            exits[position].failed(inside if inside is not None and position > shared else error)
        self._tell(None, error)

    def _tell(self, response: Response | None, error: BaseException | None) -> None:
        done, self.done = self.done, None
        if self._lead is None or self._lead.flight.ended:
            self.over = True
            self.leave()
        if done is not None:
            done(response, error)

    def _go_elsewhere(self, error: PenstockError, *, inside: bool) -> None:
        """The first try failed: what can still be done about that takes its time."""
        if self._too_late(error):
            self._fail(DeadlineExceeded(LATE), asyncio.CancelledError())
            return
        self._leave_target(error)
        request = self.request
        self._wait(request, partial(self.lane.elsewhere, request, self._targets, error, inside))

    def _too_late(self, error: PenstockError) -> bool:
        """Whether it is the client's time that is over, and not only the provider's."""
        is_timeout = isinstance(error, ProviderError) and error.code == _TIMEOUT
        return is_timeout and self.request.late(self.lane.clock.monotonic())

    def _leave_target(self, error: BaseException) -> None:
        for leave in reversed(self._exits[self._inner :]):
            leave.failed(error)
        del self._exits[self._inner :]

    def _wait(self, request: Request, work: Callable[[], Awaitable[Response]]) -> None:
        self._inner = len(self._exits)
        self._spawn(partial(self._proceed, request, work))

    def _wait_for_target(self, work: Callable[[], Awaitable[Response]], *, inside: bool) -> None:
        self._spawn(partial(self._proceed_at, work, inside=inside))

    def _spawn(self, steps: Callable[[], Awaitable[Response]]) -> None:
        self._task = self.lane.tasks.spawn(self._watch(steps), name="a request that waits")
        # A task that is cancelled before its first step does not take it.
        self._task.add_done_callback(self._stopped)

    def _stopped(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self._fail(self._cancelled or asyncio.CancelledError())

    async def _watch(self, steps: Callable[[], Awaitable[Response]]) -> None:
        try:
            response = await steps()
        except DeadlineExceeded as error:
            self._fail(error, asyncio.CancelledError())
        except Exception as error:  # noqa: BLE001 passed on to whoever waits
            self._fail(error)
        else:
            self._answer(response)

    async def _proceed(self, request: Request, work: Callable[[], Awaitable[Response]]) -> Response:
        return await self._in_time(request, work())

    async def _proceed_at(self, work: Callable[[], Awaitable[Response]], *, inside: bool) -> Response:
        request = self.request
        try:
            return await self._in_time(request, work())
        except DeadlineExceeded:
            raise
        except PenstockError as error:
            self._leave_target(error)
            failure = error
        try:
            return await self._in_time(request, self.lane.elsewhere(request, self._targets, failure, inside))
        finally:
            del failure  # its traceback refers to this frame

    async def _in_time(self, request: Request, work: Awaitable[Response]) -> Response:
        """Return the whole answer."""
        response = await (work if request.deadline is None else self.lane.in_time(request, work))
        if response.whole:
            return response
        body = await response.read()
        return Response(body=body, usage=response.usage, finish_reason=response.finish_reason, quota=response.quota)
