"""A provider that fails in all the ways real ones do, as a seed says, and keeps a journal of what it was asked."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from functools import partial
from random import Random

import msgspec

from penstock.abc import ModelInfo
from penstock.core.clock import Clock
from penstock.core.errors import InvalidRequest, ProviderError
from penstock.core.events import Batch, Event
from penstock.core.quota import Quota
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Target
from penstock.core.usage import Usage
from penstock.testing.answers import answer, chunks
from penstock.testing.simulation.sending import UnderWay
from penstock.testing.simulation.weather import Weather
from penstock.testing.simulation.wording import question_of, size_of, vectors, verdict
from penstock.wire.upstream_errors import error_from_status

_DELAYS_S = (0.0, 0.0, 0.01, 0.05, 0.2, 1.0, 4.0)
_WORDS = ("alpha ", "beta ", "gamma ", "delta ", "epsilon ")
_STATUSES: tuple[tuple[int, dict[str, str]], ...] = (
    (400, {}),
    (401, {}),
    (404, {}),
    (408, {}),
    (413, {}),
    (422, {}),
    (429, {}),
    (429, {"retry-after": "1"}),
    (429, {"retry-after": "40"}),
    (429, {"retry-after-ms": "20"}),
    (500, {}),
    (500, {}),
    (502, {}),
    (503, {"retry-after": "2"}),
    (529, {}),
)
_BREAKS: tuple[tuple[str, bool], ...] = (
    ("upstream_connect", True),
    ("upstream_dns", False),
    ("upstream_tls", False),
    ("upstream_timeout", True),
    ("upstream_incomplete", True),
    ("upstream_invalid", False),
)


_REFUSALS = ((400, "context_length_exceeded"), (400, "content_filter"), (400, "content_policy_violation"))
_OBJECTS = 0.3
_MOST = 10
_EMBEDDED = Usage(1, 0)


class Sent(msgspec.Struct, eq=False):
    """One request a `FaultyProvider` was sent.

    Attributes:
        serial: Its number among all of a journal, from 0; part of the answer's text.
        provider: Whom it was sent to.
        call: The id of the call.
        tenant: Whose it is.
        model: The name the model was asked by.
        question: What is asked, as `penstock.testing.simulation.wording.question_of` has it.
        started: Loop time, as the others.
        hedge: It was marked as a second request beside one that is late.
        began: When the first event, or the whole answer, was there.
        ended: When nothing more could come.
        outcome: ``ok``, ``closed`` (cancelled, or closed before its end) or the code of the error.
        text: What was said in all.
        whole: All of it was said and it may be cached.
        given_up: When the sender cancelled or closed it.
        filtered: Nothing was said but that the content may not be answered.
        tokens: Input and output, counted when it began to be answered.
        beside: Requests under way at the provider when it was sent, itself included.
        size: Estimated tokens of the messages.
    """

    serial: int
    provider: str
    call: str
    tenant: str
    model: str
    question: str
    started: float
    hedge: bool = False
    began: float | None = None
    ended: float | None = None
    outcome: str = ""
    text: str = ""
    whole: bool = False
    given_up: float | None = None
    filtered: bool = False
    tokens: int = 0
    beside: int = 0
    size: int = 0


class FaultyProvider:
    """A `penstock.abc.Provider` for simulations.

    Answers say whom they are for: ``tenant|question|serial|some words``; a judge's end with its verdict. Texts are
    embedded by their spelling.

    Attributes:
        name: The provider's name.
        weather: How often what goes wrong; may be changed at any time.
        journal: All requests, in order; may be shared with other providers.
        unsent: Calls for which there was no connection at hand, and that were not sent on another one since.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        random: Random,
        weather: Weather,
        journal: list[Sent],
        *,
        total_s: float = 600.0,
    ) -> None:
        """`total_s` is how long what is asked by `begin` may take, as a transport ends it."""
        self.name = name
        self.weather = weather
        self.journal = journal
        self._clock = clock
        self._random = random
        self._total_s = total_s
        self._under_way = 0
        self.unsent: list[str] = []

    async def send(self, request: Request, target: Target) -> Response:
        """Answer, fail or hang; as likely as odd answers are, it has no words for the request, and nothing is sent."""
        self._forget(request)
        self._object()
        return await self._serve(self._note(request), request)

    def begin(
        self, request: Request, target: Target, then: Callable[[], None], hear: Callable[[Batch], None] | None = None
    ) -> UnderWay | None:
        """As `penstock.abc.Immediate`, with the same weather as for `send`."""
        random, weather = self._random, self.weather
        self._object()
        if random.random() < weather.cold:
            self.unsent.append(request.call.id)
            return None
        until = min(self._clock.monotonic() + self._total_s, math.inf if request.deadline is None else request.deadline)
        if random.random() < weather.lost:
            began = self._clock.monotonic()
            return UnderWay(
                request, partial(self._lose, request), partial(self._abandon_lost, request, began), until, then, hear
            )
        sent = self._note(request)
        return UnderWay(request, partial(self._serve, sent, request), partial(self._abandon, sent), until, then, hear)

    def _note(self, request: Request) -> Sent:
        sent = Sent(
            len(self.journal), self.name, request.call.id, request.tenant, request.model, question_of(request.payload),
            self._clock.monotonic(), request.hedge,
        )  # fmt: skip
        self.journal.append(sent)
        self._under_way += 1
        sent.beside = self._under_way
        sent.size = size_of(request.payload)
        return sent

    async def _serve(self, sent: Sent, request: Request) -> Response:
        try:
            await self._begin()
        except ProviderError as error:
            self._end(sent, error.code)
            raise
        except asyncio.CancelledError:
            await self._give_up(sent)
            raise
        return self._embed(sent, request) if request.operation == "embeddings" else self._answer(sent, request)

    async def models(self) -> list[ModelInfo]:
        """One model, ``m``."""
        return [ModelInfo("m")]

    async def aclose(self) -> None:
        """Nothing to close."""

    async def _begin(self) -> None:
        weather, random = self.weather, self._random
        await self._pause()
        lot = random.random()
        if lot < weather.hangs:
            await asyncio.get_running_loop().create_future()
        if lot < weather.hangs + weather.fails:
            raise self._error()
        if random.random() < weather.refuses:
            status, code = random.choice(_REFUSALS)
            raise error_from_status(status, {}, message="a simulated refusal", code=code, provider=self.name)

    def _answer(self, sent: Sent, request: Request) -> Response:
        random, weather = self._random, self.weather
        sent.text = f"{sent.tenant}|{sent.question}|{sent.serial}|" + "".join(
            random.choices(_WORDS, k=random.randint(1, 5))
        )
        sent.text += verdict(request.payload)
        reason = random.choice(("length", "content_filter", "tool_calls")) if random.random() < weather.odd else "stop"
        sent.whole = reason == "stop"
        sent.began = self._clock.monotonic()
        usage = _used(sent, request)
        sent.tokens = usage.total_tokens
        if random.random() < weather.refuses:
            sent.filtered, sent.text, sent.whole, reason = True, "", False, "content_filter"
        quota = self._quota()
        if not request.stream:
            self._end(sent, "ok")
            body = answer(sent.text, finish_reason=reason, usage=usage)
            return Response(body=body, usage=usage, finish_reason=reason, quota=quota)
        events = chunks(sent.text, finish_reason=reason, usage=usage)
        if random.random() < weather.odd:
            self._end(sent, "ok")
            return Response(events=events, usage=usage, finish_reason=reason, quota=quota)
        break_at = random.randrange(1, len(events)) if random.random() < weather.breaks else -1
        stall_at = random.randrange(1, len(events)) if random.random() < weather.stalls else -1
        response = Response(source=self._stream(sent, events, break_at, stall_at), quota=quota)
        response.observe(_Ending(self, sent))
        return response

    def _embed(self, sent: Sent, request: Request) -> Response:
        odd = self._random.random() < self.weather.odd
        sent.whole = True
        sent.began = self._clock.monotonic()
        sent.tokens = _EMBEDDED.total_tokens
        self._end(sent, "ok")
        texts = request.payload["input"]
        body = vectors(texts[1:] if odd else texts, sent.serial)
        return Response(body=body, usage=_EMBEDDED, quota=self._quota())

    def _quota(self) -> Quota | None:
        """What is said to be left, which need not be true."""
        if self._random.random() >= self.weather.odd:
            return None
        return Quota(
            requests_remaining=self._random.choice((None, 0, 5)), tokens_remaining=self._random.choice((0, 50))
        )

    async def _stream(self, sent: Sent, events: list[Event], break_at: int, stall_at: int) -> AsyncIterator[Batch]:
        try:
            for index, event in enumerate(events):
                if index:
                    await self._pause()
                if index == break_at:
                    sent.whole = False
                    raise self._broken()
                if index == stall_at:
                    sent.whole = False
                    await asyncio.get_running_loop().create_future()
                yield [event]
        except (asyncio.CancelledError, GeneratorExit):
            sent.whole = False
            await self._give_up(sent)
            raise
        except ProviderError as error:
            self._end(sent, error.code)
            raise

    def _forget(self, request: Request) -> None:
        if request.call.id in self.unsent:
            self.unsent.remove(request.call.id)

    async def _lose(self, request: Request) -> None:
        """Nobody reads it."""
        await self._pause()
        self.unsent.append(request.call.id)

    def _abandon_lost(self, request: Request, started: float) -> None:
        """Nobody will know whether it was read."""
        self._forget(request)
        sent = self._note(request)
        sent.started = started
        self._abandon(sent)

    def _abandon(self, sent: Sent) -> None:
        """The connection is closed, by whoever asked or because the time is over."""
        sent.given_up = self._clock.monotonic()
        if sent.ended is None:
            sent.whole = False
        self._end(sent, "closed")

    async def _give_up(self, sent: Sent) -> None:
        """Closing a connection may take time; a second cancellation ends that too."""
        if sent.ended is not None:
            return
        sent.given_up = self._clock.monotonic()
        try:
            if self._random.random() < self.weather.slow:
                await asyncio.sleep(self._random.choice(_DELAYS_S))
        finally:
            self._end(sent, "closed")

    async def _pause(self) -> None:
        if self._random.random() < self.weather.slow:
            await asyncio.sleep(self._random.choice(_DELAYS_S))
        elif self._random.random() < 0.5:
            await asyncio.sleep(0)

    def _end(self, sent: Sent, outcome: str) -> None:
        if sent.ended is None:
            sent.ended = self._clock.monotonic()
            self._under_way -= 1
            sent.outcome = outcome

    def _object(self) -> None:
        if self._random.random() < self.weather.odd * _OBJECTS:
            raise InvalidRequest("a simulated objection", code="unsupported_operation", status_code=404)

    def _error(self) -> ProviderError:
        if self._random.random() < 0.3:
            error = self._broken()
            # The connection was closed before it was used again.
            error.stale = error.code == "upstream_incomplete"
            return error
        status, headers = self._random.choice(_STATUSES)
        return error_from_status(status, headers, message="a simulated fault", provider=self.name)

    def _broken(self) -> ProviderError:
        code, retryable = self._random.choice(_BREAKS)
        return ProviderError(f"provider {self.name}: a simulated fault", code=code, retryable=retryable)


def _used(sent: Sent, request: Request) -> Usage:
    """Return what is said to have been used: no more than was sent, and than was allowed."""
    cap = request.payload.get("max_tokens", _MOST)
    return Usage(min(sent.size, _MOST), min(cap, _MOST))


class _Ending:
    """Learns how a stream ended, also when it was closed before it was begun."""

    def __init__(self, provider: FaultyProvider, sent: Sent) -> None:
        self._provider = provider
        self._sent = sent

    def on_events(self, batch: Batch, /) -> None:
        """Nothing to learn here."""

    def on_end(self, _response: Response, error: BaseException | None, /) -> None:
        self._sent.whole = self._sent.whole and error is None
        self._provider._end(self._sent, "ok" if error is None else "closed")
