"""A provider that says what a script tells it and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from penstock.abc import ModelInfo
from penstock.core.canonical import assemble, read_usage, split
from penstock.core.errors import ProviderError
from penstock.core.events import Batch
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Target
from penstock.core.usage import Usage
from penstock.testing.answers import answer, chunks

_decode = msgspec.json.Decoder(dict[str, Any]).decode

Ending = Literal["finished", "closed", "failed"]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What a `ScriptedProvider` does with one request.

    Attributes:
        text: What it says.
        pieces: How a stream cuts `text`; by default after each space.
        finish_reason: Why the answer ends.
        usage: Token counts; by default as `penstock.testing.answer` has them.
        body: A whole answer as JSON, instead of `text`.
        events: A stream's chunks, instead of `text`; one batch each.
        whole: Answer a request for a stream with all chunks at once instead of a live stream.
        error: Fail with this error, and when it is a stream and `fail_after` is set, in the middle.
        fail_after: How many chunks a stream sends before `error`.
        gate: Wait for this before answering at all.
        gates: Wait for these before the chunk of that index; a whole answer waits for all of them.
    """

    text: str = "Hello."
    pieces: Sequence[str] | None = None
    finish_reason: str | None = "stop"
    usage: Usage | None = None
    body: bytes | None = None
    events: Batch | None = None
    whole: bool = False
    error: ProviderError | None = None
    fail_after: int | None = None
    gate: asyncio.Event | None = None
    gates: Mapping[int, asyncio.Event] = {}

    def chunks(self) -> Batch:
        """The chunks of the answer."""
        if self.events is not None:
            return self.events
        if self.body is not None:
            return split(self.body)
        return chunks(self.text, self.pieces, finish_reason=self.finish_reason, usage=self.usage)

    def json(self) -> bytes:
        """The whole answer."""
        if self.body is not None:
            return self.body
        if self.events is not None:
            return assemble(self.events)
        return answer(self.text, finish_reason=self.finish_reason, usage=self.usage)


Step = str | ProviderError | Reply
"""A text to say, an error to raise, or a `Reply`."""


class ScriptedProvider:
    """A `penstock.abc.Provider` for tests.

    Attributes:
        name: The provider's name.
        requests: What was asked, in order.
        targets: The targets of the requests.
        endings: Per request, how it ended: ``finished``, ``closed`` (by whoever asked, before the end) or ``failed``;
            None while it runs.
        closed: `aclose` was called.
    """

    def __init__(self, name: str, script: Step | Sequence[Step] = "Hello.") -> None:
        """Answer the n-th request with the n-th step of `script`; the last step answers all further requests."""
        self.name = name
        steps = [script] if isinstance(script, (str, ProviderError, Reply)) else list(script)
        if not steps:
            raise ValueError("a script needs at least one step")
        self._replies = [_reply(step) for step in steps]
        self.requests: list[Request] = []
        self.targets: list[Target] = []
        self.endings: list[Ending | None] = []
        self.closed = False
        self._changed = asyncio.Event()

    @property
    def calls(self) -> int:
        """How many requests there were."""
        return len(self.requests)

    async def send(self, request: Request, target: Target) -> Response:
        """Answer as the script says."""
        number = self.calls
        reply = self._replies[min(number, len(self._replies) - 1)]
        self.requests.append(request)
        self.targets.append(target)
        self.endings.append(None)
        self._notify()
        try:
            return await self._answer(request, reply, number)
        except ProviderError:
            self._end(number, "failed")
            raise
        except asyncio.CancelledError:
            self._end(number, "closed")
            raise

    async def models(self) -> list[ModelInfo]:
        """One model, ``scripted``."""
        return [ModelInfo("scripted")]

    async def aclose(self) -> None:
        """Remember that it was called."""
        self.closed = True

    async def wait_for_calls(self, count: int) -> None:
        """Wait until there were `count` requests."""
        while self.calls < count:
            await self._changed.wait()

    async def wait_for_endings(self, count: int) -> None:
        """Wait until `count` requests have ended."""
        while sum(ending is not None for ending in self.endings) < count:
            await self._changed.wait()

    async def _answer(self, request: Request, reply: Reply, number: int) -> Response:
        if reply.gate is not None:
            await reply.gate.wait()
        if reply.error is not None and (not request.stream or not reply.fail_after):
            raise reply.error
        if request.stream and not reply.whole:
            if first := reply.gates.get(0):
                await first.wait()
            response = Response(source=_stream(reply))
            response.observe(_Ending(self, number))
            return response
        for gate in reply.gates.values():
            await gate.wait()
        self._end(number, "finished")
        if request.stream:
            return Response(events=reply.chunks())
        body = reply.json()
        document = _decode(body)
        choices = document.get("choices") or [{}]
        return Response(
            body=body, usage=read_usage(document.get("usage")), finish_reason=choices[0].get("finish_reason")
        )

    def _end(self, number: int, how: Ending) -> None:
        if self.endings[number] is None:
            self.endings[number] = how
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class _Ending:
    """Learns how a stream ended, also when it was closed before it was begun."""

    def __init__(self, provider: ScriptedProvider, number: int) -> None:
        self._provider = provider
        self._number = number

    def on_events(self, batch: Batch, /) -> None:
        """Nothing to learn here."""

    def on_end(self, _response: Response, error: BaseException | None, /) -> None:
        if error is None:
            self._provider._end(self._number, "finished")
        else:
            self._provider._end(self._number, "closed" if isinstance(error, asyncio.CancelledError) else "failed")


async def _stream(reply: Reply) -> AsyncIterator[Batch]:
    for index, event in enumerate(reply.chunks()):
        if reply.error is not None and index == reply.fail_after:
            break
        if gate := reply.gates.get(index):
            await gate.wait()
        yield [event]
    if reply.error is not None:
        raise reply.error


def _reply(step: Step) -> Reply:
    if isinstance(step, str):
        return Reply(text=step)
    return Reply(error=step) if isinstance(step, ProviderError) else step
