"""Innermost: one try on one target, timed, priced and noted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal

import msgspec

from penstock.abc import Ledger
from penstock.core.call import Attempt, CostSource
from penstock.core.clock import Clock
from penstock.core.errors import InvalidRequest, PenstockError, ProviderError
from penstock.core.events import BETWEEN, Batch
from penstock.core.handler import Exit, Handler, Step
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Target
from penstock.core.usage import Usage

Estimate = Callable[[Request, int], Usage]
"""Guesses the tokens of a request and of that many characters of answer."""
Begin = Callable[[Attempt], None]
"""Hears of each attempt that is sent."""
Learn = Callable[[Request, Usage, Callable[[], int]], None]
"""Hears what a provider counted for a request, and may ask how many characters of answer came."""
Price = Callable[[str, str, Usage | None], tuple[Decimal | None, CostSource]]
"""Prices the tokens a provider (by name) used with a model."""

_BODY_FRAME, _CHUNK_FRAME = 300, 200
"""Typical JSON around the text in a whole answer and in a lone chunk, characters."""
_ORDINARY_BYTES, _BYTES_PER_TOKEN = 16 * 1024, 4
_TIMEOUT = "upstream_timeout"
_replace = msgspec.structs.replace


class Attempts:
    """Notes each try in ``call.attempts``, ends it when its own time is over, and signs errors with the provider.

    A try that is cancelled before its answer began is noted with the tokens that were sent, since the upstream charges
    for them; one that failed with an error has none.
    """

    def __init__(
        self,
        timeouts: Mapping[str, float],
        price: Price,
        estimate: Estimate,
        clock: Clock,
        begin: Begin | None = None,
        learn: Learn | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        """`timeouts` has each provider's seconds for one attempt, by its name; `ledger` hears of each before."""
        self._begin = begin
        self._learn = learn
        self._ledger = ledger
        self._timeouts = timeouts
        self._price = price
        self._estimate = estimate
        self._clock = clock

    def enter(self, request: Request, inner: Handler, /) -> Step | None:
        """Note it; for what ends by itself at its deadline, and after the time of its provider."""
        target = _target(request)
        attempt = self._note(request, target)
        if target.timeout_s is not None:
            own = attempt.started + target.timeout_s
            if request.deadline is None or own < request.deadline:
                request = _replace(request, deadline=own)
        return request, _Notes(self, request, attempt)

    async def __call__(self, request: Request, inner: Handler, /) -> Response:
        """Answer with what the provider says; it sees the attempt's deadline as ``request.deadline``."""
        target = _target(request)
        attempt = self._note(request, target)
        notes = _Notes(self, request, attempt)
        try:
            response = await self.in_time(request, inner)
        except BaseException as error:
            notes.failed(error)
            raise
        if not response.whole:
            notes.begun(response)
        response.observe(notes)
        return response

    def in_time(self, request: Request, inner: Handler) -> Awaitable[Response]:
        """Ask `inner`, for no longer than the newest attempt may take."""
        target, started = _target(request), request.call.attempts[-1].started
        limit = self._timeouts.get(target.provider) if target.timeout_s is None else target.timeout_s
        if limit is None or (request.deadline is not None and request.deadline < started + limit):
            return inner(request)
        return self._within(limit, started + limit, request, inner)

    def _note(self, request: Request, target: Target) -> Attempt:
        started = self._clock.monotonic()
        attempt = Attempt(target.provider, target.model, started, hedge=request.hedge, running=True)
        if self._ledger is not None:
            self._ledger.reserve(request, attempt, self._expected(request))
        request.call.attempts.append(attempt)
        if self._begin is not None:
            self._begin(attempt)
        return attempt

    def began(self, attempt: Attempt) -> None:
        """The answer, or the first event of one, has come."""
        attempt.first_token_s = self._clock.monotonic() - attempt.started
        attempt.status_code = 200

    def _expected(self, request: Request) -> Usage:
        """What is taken to have been sent if the process ends before the answer does.

        Of an ordinary request its size says that well enough, and is known; pictures and files would be overrated.
        """
        size = request.call.asked_bytes
        if 0 < size <= _ORDINARY_BYTES:
            return Usage(size // _BYTES_PER_TOKEN, source="estimate")
        return self._estimate(request, 0)

    def answered(
        self,
        request: Request,
        attempt: Attempt,
        response: Response,
        error: BaseException | None,
        chars: int | None = None,
    ) -> None:
        """Complete the notes of an answer that has ended; `chars` of text came, or as many as the whole answer has."""
        given_up = attempt.outcome  # before it was closed
        attempt.outcome = given_up or ("ok" if error is None else _outcome(error))
        if isinstance(error, ProviderError):
            error.provider = attempt.provider
        usage = response.usage
        if usage is None:
            usage = self._estimate(request, _length(request, response, chars))
        elif self._learn is not None and error is None:
            self._learn(request, usage, lambda: _length(request, response, chars))
        self._charge(attempt, usage)
        if response.whole:
            attempt.first_token_s = attempt.duration_s
            attempt.status_code = 200
        if not given_up:
            request.call.usage = usage
            request.call.finish_reason = response.finish_reason
        attempt.end()

    def unanswered(self, request: Request, attempt: Attempt, error: BaseException) -> None:
        """Complete the notes of a try that came to nothing."""
        attempt.duration_s = self._clock.monotonic() - attempt.started
        outcome = _outcome(error)
        if isinstance(error, ProviderError):
            attempt.status_code = error.status_code
            error.provider = attempt.provider
        elif isinstance(error, InvalidRequest):  # the provider has no words for it, so nothing was sent
            request.call.attempts.remove(attempt)
            if self._ledger is not None:
                self._ledger.release(request, attempt)
        elif isinstance(error, asyncio.CancelledError):
            if request.late(self._clock.monotonic()):
                outcome = _TIMEOUT
            self._charge(attempt, self._estimate(request, 0))
        attempt.outcome = attempt.outcome or outcome
        attempt.end()

    def _charge(self, attempt: Attempt, usage: Usage) -> None:
        attempt.duration_s = self._clock.monotonic() - attempt.started
        attempt.usage = usage
        attempt.cost_usd, attempt.cost_source = self._price(attempt.provider, attempt.model, usage)

    async def _within(self, limit: float, deadline: float, request: Request, inner: Handler) -> Response:
        scope = asyncio.timeout(deadline - self._clock.monotonic())
        try:
            async with scope:
                response = await inner(_replace(request, deadline=deadline))
        except TimeoutError:
            if not scope.expired():
                raise
            provider = request.target.provider if request.target else ""
            raise ProviderError(
                f"provider {provider} did not answer within the {limit:g} s an attempt may take",
                code=_TIMEOUT,
                provider=provider,
            ) from None
        if not response.whole:
            response.expire_at(asyncio.get_running_loop().time() + deadline - self._clock.monotonic())
        return response


class _Notes(Exit, msgspec.Struct, eq=False):
    """The notes of one try. A stream is measured, in case its provider does not say what it cost."""

    _attempts: Attempts
    _request: Request
    _attempt: Attempt
    _meter: _Meter | None = None

    def failed(self, error: BaseException, /) -> None:
        self._attempts.unanswered(self._request, self._attempt, error)

    def begun(self, response: Response, /) -> None:
        self._attempts.began(self._attempt)
        self._meter = _Meter()

    def on_events(self, batch: Batch, /) -> None:
        if self._meter is not None:
            self._meter.add(batch)

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        chars = None if self._meter is None else self._meter.chars
        self._attempts.answered(self._request, self._attempt, response, error, chars)


class _Meter:
    """Guesses how much text some chunks carry: what is beyond the shortest one, which is nearly all frame."""

    __slots__ = ("_count", "_shortest", "_total")

    def __init__(self) -> None:
        self._count = 0
        self._shortest = 0
        self._total = 0

    def add(self, batch: Batch) -> None:
        for event in batch:
            chunks = event.chunks
            size = len(event.data)
            shortest = size
            if chunks > 1:
                size -= (chunks - 1) * len(BETWEEN)
                shortest = event.shortest
            self._total += size
            if shortest < self._shortest or not self._count:
                self._shortest = shortest
            self._count += chunks

    @property
    def chars(self) -> int:
        frame = min(self._shortest, _CHUNK_FRAME) if self._count == 1 else self._shortest
        return self._total - frame * self._count


def _target(request: Request) -> Target:
    if request.target is None:
        raise AssertionError("failover chooses a target before it is tried")
    return request.target


def _length(request: Request, response: Response, chars: int | None) -> int:
    """Characters of text that came; `chars` if somebody counted."""
    if request.operation == "embeddings":
        return 0
    return _chars(response) if chars is None else chars


def _chars(response: Response) -> int:
    if (body := response.body) is not None:
        # The counts come last, if they come, and are no part of the answer.
        counts = -1 if response.usage is None else body.rfind(b'"usage"')
        return max((len(body) if counts < 0 else counts) - _BODY_FRAME, 0)
    meter = _Meter()
    meter.add(response.events or [])
    return meter.chars


def _outcome(error: BaseException) -> str:
    if isinstance(error, PenstockError):
        return error.code
    return "client_closed" if isinstance(error, (asyncio.CancelledError, GeneratorExit)) else "internal_error"
