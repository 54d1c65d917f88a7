"""Cheaper models first, and rules before them, as long as their answers are good enough.

    question ──► filters ──► small model ──► … ──► last model
                 a fixed       its answer is given     what the others
                 answer        if it is certified      are measured by

An earlier model's answer is judged whole, so it reaches a client that wants a stream in one piece; the last model's is
passed on live. `penstock.routing.cascade` decides, and learns from audits (`penstock.cascading`). While nothing is
certified the last model answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from random import Random
from typing import NamedTuple

import msgspec

from penstock.cascading.accounting import Account, Price
from penstock.cascading.auditor import Auditor
from penstock.cascading.known import Known
from penstock.cascading.reading import read_answer
from penstock.core.call import CASCADE
from penstock.core.canonical import assemble
from penstock.core.cascade import Cascade, Stage
from penstock.core.clock import Clock
from penstock.core.errors import InvalidRequest, PenstockError, ProviderError
from penstock.core.events import Batch
from penstock.core.handler import Handler, Phased, Step
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Route, Template
from penstock.core.tasks import TaskGroup
from penstock.core.usage import Usage
from penstock.limiting.forecast import Forecast
from penstock.routing.cascade.certificate import Certificate
from penstock.routing.cascade.policy import Choice, Decision
from penstock.routing.fallbacks import cause_of, fill, question_of
from penstock.routing.filters import applies

_SPARE_S = 0.05
"""How long before its time is over the last model is given up when there is another answer to give."""
_MOST_BYTES = 1024 * 1024
"""Longer streams are not audited."""
_MOST_AUDITS = 32
"""Audits under way; what is drawn beyond is left out."""
_replace = msgspec.structs.replace


class Means(NamedTuple):
    """What the layer is made of.

    Attributes:
        known: What was learnt, by the model's name.
        auditors: What learns, by the model's name.
        price: What models charge.
        inputs: Estimates a request's input tokens.
        clock: Where time comes from.
        random: Where chance comes from.
        tasks: Own the audits.
    """

    known: Mapping[str, Known]
    auditors: Mapping[str, Auditor]
    price: Price
    inputs: Callable[[Request], int]
    clock: Clock
    random: Random
    tasks: TaskGroup


class CascadeLayer(Phased):
    """Answers requests whose route has a `Cascade`; others it passes on."""

    def __init__(self, means: Means) -> None:
        self.means = means
        self.auditing = 0
        self._forecasts: dict[str, Forecast] = {}

    def enter(self, request: Request, inner: Handler, /) -> Step | None:
        """Let pass what is for one model."""
        route = request.route
        return (request, None) if route is None or route.cascade is None else None

    async def handle(self, request: Request, inner: Handler, /) -> Response:
        """Answer with the first stage whose answer will do; ``call.stage`` and ``call.verdict`` say which, and why.

        Raises:
            InvalidRequest: It asks for embeddings, and vectors of two models cannot be compared.
            PenstockError: The last model failed, and no earlier one has an answer.
        """
        route = request.route
        if route is None or route.cascade is None:
            raise AssertionError("`enter` lets pass what is for one model")
        if request.operation == "embeddings":
            raise InvalidRequest(
                f"'{route.model}' is a cascade of models, whose embeddings cannot be compared: ask one of them.",
                param="model",
                code="invalid_value",
            )
        return await _Run(self, request, inner, route.cascade, self.means.known[route.model]).answer()

    def forecast(self, model: str) -> Forecast:
        """Return how long a cascade's answers are, whoever gives them: some of its models are seldom asked."""
        return self._forecasts.setdefault(model, Forecast())

    async def audit(self, request: Request, known: Known, answers: Mapping[str, bytes], given: str) -> None:
        """Put a request to the models that have not answered it."""
        self.auditing += 1
        try:
            await self.means.auditors[_route(request).model].audit(request, known, answers, given)
        finally:
            self.auditing -= 1


class _Held(NamedTuple):
    """An answer that was not good enough, for want of a better one."""

    stage: Stage
    response: Response


class _Run:
    """One request's way through the stages."""

    def __init__(self, layer: CascadeLayer, request: Request, inner: Handler, cascade: Cascade, known: Known) -> None:
        self._layer = layer
        self._request = request
        self._inner = inner
        self._cascade = cascade
        self._known = known
        self._account = Account(
            request,
            cascade,
            known,
            layer.forecast(_route(request).model),
            layer.means.price,
            layer.means.inputs(request),
        )
        self._question = question_of(request.payload)
        self._answers: dict[str, bytes] = {}
        self._held: _Held | None = None
        one = request.payload.get("n") in (None, 1)
        self._drawn = one and layer.means.random.random() < cascade.audits and layer.auditing < _MOST_AUDITS

    async def answer(self) -> Response:
        stages, place = self._cascade.stages, 0
        names = [stage.name for stage in stages]
        while place < len(stages) - 1:
            stage = stages[place]
            place += 1
            if stage.filter is None:
                response = await self._earlier(stage)
                if response is not None:
                    return response
            elif applies(stage.filter, self._question):
                self._account.reason = "filter"
                if stage.filter.answer:
                    return self._prepared(stage, stage.filter.answer)
                place = names.index(stage.filter.skip_to)
        return await self._last(stages[-1])

    def _prepared(self, stage: Stage, answer: str) -> Response:
        call = self._request.call
        call.usage, call.finish_reason = Usage(), "stop"
        self._account.note(stage)
        self._account.close(stage, None)
        return fill(Template(answer), self._request, self._layer.means.clock.wall())

    async def _earlier(self, stage: Stage) -> Response | None:
        """Ask a model that is not the last, if it is worth it; None if the next stage has to answer."""
        learner, last = self._known.learners.get(stage.name), self._cascade.stages[-1]
        if learner is None:  # a newer configuration has no such stage
            self._account.reason = "uncertified"
            return None
        policy = learner.policy
        large_usd = self._account.expected_usd(last)
        before = policy.before(self._question, cheap_usd=self._account.expected_usd(stage), large_usd=large_usd)
        if before.choice is Choice.LARGE:
            self._account.reason = "skipped" if policy.certificate.holds else _why_not(policy.certificate)
            return None
        try:
            response = await self._whole(stage)
        except PenstockError as error:
            if not _passes(error):
                raise
            self._account.reason = "failed"
            return None
        body = response.body or b""
        self._answers[stage.name] = body
        said = read_answer(body, self._request.payload)
        if not said or any(each.fault for each in said):
            self._account.reason, self._account.quality = "unfit", None
            return None
        decided: list[Decision] = [policy.after(self._question, each.answer, large_usd=large_usd) for each in said]
        self._account.quality = min(each.quality for each in decided)
        if any(each.choice is Choice.LARGE for each in decided):
            self._account.reason = "escalated"
            self._held = _Held(stage, response)
            return None
        self._account.reason = "accepted"
        self._account.note(stage)
        self._account.close(stage, response.usage)
        self._audit(stage)
        return response

    async def _whole(self, stage: Stage) -> Response:
        # No more than half of the time there is, or a model that hangs would take the next one's.
        now, end, own = self._layer.means.clock.monotonic(), self._end(), stage.leg.timeout_s
        limits = [now + own] if own is not None else []
        if end is not None:
            limits.append(now + (end - now) / 2)
        asked = _replace(self._request, stream=False, include_usage=False, stream_options=None)
        response = await self._ask(stage, asked, min(limits, default=None))
        try:
            body = await response.read()
        finally:
            await response.aclose()
        self._account.learn(response.usage)
        return Response(body=body, usage=response.usage, finish_reason=response.finish_reason)

    async def _last(self, stage: Stage) -> Response:
        # With an answer to give there must be time to give it: the deadline layer, outside, would cancel everything.
        end = None if self._held is None else self._end()
        try:
            response = await self._ask(stage, self._request, None if end is None else end - _SPARE_S)
        except PenstockError as error:
            if self._held is None or not self._request.fallback or not (_passes(error) or cause_of(error) == "late"):
                raise
            return self._degraded(self._held)
        self._account.note(stage)
        response.observe(_Watch(self, stage, collects=self._drawn))
        return response

    async def _ask(self, stage: Stage, request: Request, until: float | None) -> Response:
        """Ask a model, and give it up when it has not begun to answer at `until`, on `Clock.monotonic`."""
        self._account.asked += 1
        asked = _replace(request, model=stage.leg.model, route=stage.leg)
        if until is None:
            return await self._inner(asked)
        left = until - self._layer.means.clock.monotonic()
        if left <= 0.0:
            raise _late(stage)
        scope = asyncio.timeout(left)
        try:
            async with scope:
                return await self._inner(_replace(asked, begin_by=until))
        except TimeoutError:
            if not scope.expired():
                raise
            raise _late(stage) from None

    def _end(self) -> float | None:
        """Return when the request's time is over, on `Clock.monotonic`."""
        ends = [at for at in (self._request.deadline, self._request.begin_by) if at is not None]
        return min(ends, default=None)

    def _degraded(self, held: _Held) -> Response:
        call, response = self._request.call, held.response
        call.usage, call.finish_reason = response.usage, response.finish_reason
        call.degraded.append(CASCADE)
        self._account.reason = "fallback"
        self._account.note(held.stage)
        self._known.counts.degraded += 1
        self._account.close(held.stage, None)
        return response

    def ended(self, stage: Stage, usage: Usage | None, body: bytes | None) -> None:
        """The last model's answer is complete; `body` is all of it, unless that is not needed."""
        self._account.learn(usage)
        self._account.close(stage, usage)
        if body is not None:
            self._answers[stage.name] = body
            self._audit(stage)

    def _audit(self, stage: Stage) -> None:
        if self._drawn:
            work = self._layer.audit(self._request, self._known, self._answers, stage.name)
            self._layer.means.tasks.spawn(work, name="put a request to all models of its cascade")


class _Watch:
    """Hears when the last model's answer is complete, and of what it is made if that is to be audited."""

    __slots__ = ("_events", "_run", "_size", "_stage")

    def __init__(self, run: _Run, stage: Stage, *, collects: bool) -> None:
        self._run = run
        self._stage = stage
        self._events: Batch | None = [] if collects else None
        self._size = 0

    def on_events(self, batch: Batch, /) -> None:
        if self._events is not None:
            self._events += batch
            self._size += sum(len(event.data) for event in batch)
            if self._size > _MOST_BYTES:
                self._events = None

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        if error is not None:
            return
        body = None
        if self._events is not None:
            events = self._events or response.events
            try:
                body = assemble(events) if events else response.body
            except ValueError:  # chunks that are none, which the client got too
                body = None
        self._run.ended(self._stage, response.usage, body)


def _late(stage: Stage) -> ProviderError:
    return ProviderError(f"model '{stage.name}' did not answer in time", code="upstream_timeout")


def _why_not(certificate: Certificate) -> str:
    return "drifted" if certificate.drifted else "uncertified"


def _passes(error: PenstockError) -> bool:
    """Whether another model may answer what one could not."""
    return isinstance(error, (ProviderError, InvalidRequest)) or cause_of(error) == "errors"


def _route(request: Request) -> Route:
    if request.route is None:
        raise AssertionError("the pipeline resolves the route before models are asked")
    return request.route
