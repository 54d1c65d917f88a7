"""The short way of a stream: its events are passed on as they come from the provider's connection, by calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import msgspec

from penstock.caching.flight import MAX_KEPT_BYTES
from penstock.core.errors import DeadlineExceeded, PenstockError, Refused
from penstock.core.events import Batch
from penstock.core.handler import Exit
from penstock.core.request import Request
from penstock.core.response import LATE, Response
from penstock.lane import Passage


class Listener(Protocol):
    """The client of a stream."""

    @property
    def behind(self) -> int:
        """Bytes that wait to be sent to it."""

    def say(self, batch: Batch) -> bool:
        """Send events; False when it is behind, until `StreamPassage.resume` is called."""

    def end(self, error: BaseException | None) -> None:
        """The stream is over; without any event before, `error` is the answer."""


class _Elsewhere:
    """In place of the source of a live response whose events are passed on by calls."""

    def __aiter__(self) -> AsyncIterator[Batch]:
        return self

    async def __anext__(self) -> Batch:
        raise RuntimeError("the events of this response are passed on as they come")


_ELSEWHERE = _Elsewhere()


class StreamPassage(Passage):
    """One request for a stream on its way. A client that is behind holds the provider up, unless others hear it too."""

    listener: Listener | None = None
    _listening: list[Exit] = msgspec.field(default_factory=list)
    _began: Response | None = None
    _held: bool = False
    _room: asyncio.Future[None] | None = None

    def __post_init__(self) -> None:
        """What is for one that waits for the whole answer comes to the listener."""
        self.done = self._not_begun

    def resume(self) -> None:
        """The client has caught up."""
        if self._held:
            self._held = False
            if self._sending is not None:
                self._sending.resume()
            if self._room is not None and not self._room.done():
                self._room.set_result(None)

    def cancel(self, error: BaseException, *, tell: bool = False) -> None:
        """As `Passage.cancel`; what was passed on before stays."""
        if self._began is None or self.over:
            if not tell:
                self.listener = None
            super().cancel(error, tell=tell)
            return
        listener, self.listener = self.listener, None
        lead = self._lead
        if lead is not None and lead.shared:
            mine, self._exits = self._exits[: self._border], self._exits[self._border :]
            self._inner -= self._border
            self._border = 0
            self._listening = _listening(self._exits)
            lead.flight.leave(lead.seat)
            for leave in reversed(mine):
                leave.on_end(self._began, error)
            self.resume()
        else:
            self._cancelled = error
            if lead is not None:
                lead.flight.leave(lead.seat)
            else:
                self.give_up()
        if tell and listener is not None:
            listener.end(error)

    def _hear(self, batch: Batch) -> None:
        """Pass events on."""
        response = self._began
        if response is None:
            quota = None if self._sending is None else self._sending.quota
            response = self._begin(Response(source=_ELSEWHERE, quota=quota))
        response.note(batch)
        for leave in self._listening:
            leave.on_events(batch)
        listener = self.listener
        if listener is not None and not listener.say(batch):
            self._hold(listener)

    def _begin(self, response: Response) -> Response:
        self._began = response
        for leave in reversed(self._exits):
            leave.begun(response)
        self._listening = _listening(self._exits)
        if self._lead is not None:
            self._lead.flight.joined = self.resume
        return response

    def _hold(self, listener: Listener) -> None:
        """The client is behind."""
        lead = self._lead
        if lead is not None and lead.shared:
            if listener.behind > MAX_KEPT_BYTES:
                slow = Refused("The answer was read too slowly to be shared with others.", code="client_too_slow")
                self.cancel(slow, tell=True)
            return
        self._held = True
        if self._sending is not None:
            self._sending.pause()

    def _answer(self, response: Response) -> None:
        """The stream has ended, or the whole answer is here."""
        if self._began is not None:
            self._end(None)
            return
        for leave in reversed(self._exits):
            leave.on_end(response, None)
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.say(response.all_events())
            listener.end(None)
        self._tell(response, None)

    def _fail(self, error: BaseException, inside: BaseException | None = None) -> None:
        if self._began is None:
            super()._fail(error, inside)
        else:
            self._end(error)

    def _go_elsewhere(self, error: PenstockError, *, inside: bool) -> None:
        if self._began is None:
            super()._go_elsewhere(error, inside=inside)
        else:
            self._end(DeadlineExceeded(LATE) if self._too_late(error) else error)

    def _end(self, error: BaseException | None) -> None:
        """What has begun is over."""
        response, exits = self._began, self._exits
        self._exits, self._listening = [], []
        if response is not None:
            for leave in reversed(exits):
                leave.on_end(response, error)
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.end(error)
        self._tell(None, None)

    def _not_begun(self, response: Response | None, error: BaseException | None) -> None:
        listener, self.listener = self.listener, None
        if listener is not None and error is not None:
            listener.end(error)

    async def _watch(self, steps: Callable[[], Awaitable[Response]]) -> None:
        try:
            response = await steps()
        except DeadlineExceeded as error:
            self._fail(error, asyncio.CancelledError())
            return
        except Exception as error:  # noqa: BLE001 passed on to whoever waits
            self._fail(error)
            return
        if response.whole:
            self._answer(response)
            return
        try:
            self._begin(response)
            async for batch in response:
                self._hear(batch)
                while self._held:
                    self._room = asyncio.get_running_loop().create_future()
                    await self._room
        except Exception as error:  # noqa: BLE001 as above
            self._end(error)
        else:
            self._end(None)
        finally:
            await response.aclose()

    async def _in_time(self, request: Request, work: Awaitable[Response]) -> Response:
        """Return the answer when it has begun."""
        return await (work if request.deadline is None else self.lane.in_time(request, work))


def _listening(exits: list[Exit]) -> list[Exit]:
    return [leave for leave in reversed(exits) if type(leave).on_events is not Exit.on_events]
