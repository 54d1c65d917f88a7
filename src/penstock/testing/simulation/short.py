"""Requests on the short way, as a server sends them there: known answers at once, others without a task."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from random import Random

import msgspec

from penstock.core.events import Batch
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.lane import Passage
from penstock.pipeline import Pipeline

_ROOMS = (0, 200, 1 << 30)
"""Bytes a client may be behind."""
_LARGE = 100_000
"""What each of its bytes counts for, of a client that is far behind with little."""


class ShortWay:
    """Decides as `penstock.server.openai` does which way a request goes."""

    def __init__(self, random: Random, complain: Callable[[str], None]) -> None:
        """`complain` hears of what no client may be told."""
        self._random = random
        self._complain = complain
        self._again: dict[str, tuple[Pipeline, Request]] = {}
        self.clients: dict[asyncio.Task[object], ShortClient] = {}
        self.fair = False

    def ask(self, pipeline: Pipeline, request: Request) -> tuple[Response | ShortClient | None, Request]:
        """Begin to answer; None, and what to hand on, for a request that needs a task.

        Raises:
            PenstockError: It is refused.
        """
        said = _said(request)
        before = self._again.get(said)
        if before is not None and before[0] is pipeline:
            request.call.key, request.call.asked_bytes = before[1].call.key, before[1].call.asked_bytes
            request = msgspec.structs.replace(before[1], call=request.call)
            response = pipeline.at_once(request)
            if response is not None:
                return response, request
        request = pipeline.prepare(request)
        response = pipeline.at_once(request)
        if response is not None:
            if request.call.key is not None and not request.call.at_hand:
                self._again[said] = pipeline, request
            return response, request
        if (request.semantic or request.context or request.context_tokens) is not None:
            return None, request
        return self._begin(pipeline, request), request

    def _begin(self, pipeline: Pipeline, request: Request) -> ShortClient:
        room, scale = (_ROOMS[-1], 1) if self.fair else (self._random.choice(_ROOMS), self._random.choice((1, _LARGE)))
        client = ShortClient(request.call.id, room, scale, self._complain)
        if request.stream:
            client.passage = pipeline.stream_passage(request, client)
        else:
            client.passage = pipeline.passage(request, client.done)
        self.clients = {task: each for task, each in self.clients.items() if not each.over}
        task = asyncio.current_task()
        if task is not None:
            self.clients[task] = client
        client.passage.run()
        return client


class ShortClient:
    """Who waits on the short way: read like a response, and a `penstock.stream_lane.Listener`."""

    passage: Passage

    def __init__(self, name: str, room: int, scale: int, complain: Callable[[str], None]) -> None:
        """It is behind with more than `room` bytes, each of which counts for `scale` of them."""
        self._name = name
        self._complain = complain
        self._room = room
        self._scale = scale
        self._came: deque[Batch] = deque()
        self._behind = 0
        self._full = False
        self._response: Response | None = None
        self._error: BaseException | None = None
        self.over = False
        self._news: asyncio.Future[None] | None = None

    # What it is told

    @property
    def behind(self) -> int:
        """Bytes it has not read."""
        return self._behind * self._scale

    def done(self, response: Response | None, error: BaseException | None) -> None:
        """Hear of the whole answer, or of the error in its place."""
        if response is not None and not response.whole:
            self._complain(f"{self._name} was given a stream in place of a whole answer")
        self._response = response
        self.end(error)

    def say(self, batch: Batch) -> bool:
        """Hear events."""
        self._expect()
        self._came.append(batch)
        self._behind += sum(len(event.data) for event in batch)
        self._full = self._behind > self._room
        self._wake()
        return not self._full

    def end(self, error: BaseException | None) -> None:
        """Hear the end."""
        self._expect()
        self.over = True
        self._error = error
        self._wake()

    def cut_off(self) -> None:
        """The gateway cannot wait for the end."""
        self.passage.cancel(asyncio.CancelledError("shutting down"), tell=True)

    # What it does

    async def read(self) -> bytes:
        """Return the whole answer; raises what it was told."""
        while not self.over:
            await self._wait()
        if self._error is not None:
            raise self._error
        assert self._response is not None, "one or the other was told"
        return await self._response.read()

    def __aiter__(self) -> AsyncIterator[Batch]:
        return self

    async def __anext__(self) -> Batch:
        while not self._came:
            if self._error is not None:
                raise self._error
            if self.over:
                raise StopAsyncIteration
            await self._wait()
        batch = self._came.popleft()
        self._behind -= sum(len(event.data) for event in batch)
        if self._full and not self._behind:
            self._full = False
            self.passage.resume()
        return batch

    async def aclose(self) -> None:
        """Hang up."""
        if not self.over:
            self.over = True
            self.passage.cancel(asyncio.CancelledError())

    def _expect(self) -> None:
        if self.over:
            self._complain(f"{self._name} was told something after the end")

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _wait(self) -> None:
        self._news = asyncio.get_running_loop().create_future()
        await self._news


def _said(request: Request) -> str:
    """What two requests have in common that are the same bytes."""
    fields = msgspec.structs.asdict(request)
    del fields["call"]
    return repr(fields)
