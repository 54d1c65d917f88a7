"""A provider without a model: answers that follow from the request, at a set pace, with faults by plan."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence

from penstock.abc import ModelInfo
from penstock.config.providers import FaultSettings, LatencySettings, ProviderSettings
from penstock.core.clock import Clock
from penstock.core.errors import ProviderError
from penstock.core.events import Batch
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Target
from penstock.providers.simulated.answer import BadPayload, answer_chat, answer_embeddings, answer_text, seed_of
from penstock.providers.simulated.chunks import Answer
from penstock.providers.simulated.pace import Pace
from penstock.wire.upstream_errors import error_from_status

_TOGETHER_S = 0.001
"""Tokens due within this time of each other are sent together, as one network read would bring them."""


class SimulatedProvider:
    """Answers chat, completions and embeddings without a model.

    Text, token counts and timing follow from the payload and the target's model; ids and times of creation do not.
    Every request counts towards the schedules of the faults.
    """

    def __init__(self, settings: ProviderSettings, clock: Clock) -> None:
        """Use the settings' `latency` (its defaults when absent), `faults` and `timeouts`, and their `name`."""
        self.name = settings.name
        self._clock = clock
        self._latency = settings.latency or LatencySettings()
        self._faults = settings.faults
        self._timeouts = settings.timeouts
        self._requests = 0

    async def send(self, request: Request, target: Target) -> Response:
        """Answer `request` as `target.model`; a stream is live and always ends with its usage.

        Raises:
            ProviderError: A planned fault, a timeout, or a payload that cannot be used (status 400).
        """
        self._requests += 1
        fault, extra_s = _due(self._faults, self._requests) if self._faults else (None, 0.0)
        pace = self._pace(request, target)
        if fault is not None and fault.kind != "incomplete":
            raise await self._failure(fault, pace, extra_s)
        try:
            if request.operation == "embeddings":
                return await self._embed(request, target, pace, fault, extra_s)
            make = answer_chat if request.operation == "chat" else answer_text
            answer = make(request.payload, target.model, int(self._clock.wall()))
        except BadPayload as error:
            message = f"{error.param}: {error}"
            raise error_from_status(
                400, {}, message=message, code="invalid_value", param=error.param, provider=self.name
            ) from error
        if request.stream:
            await pace.first(extra_s)
            if fault is not None and fault.after_tokens == 0:
                raise self._incomplete()
            return Response(source=self._stream(answer, pace, fault))
        await pace.first(extra_s, answer.length)
        if fault is not None:
            raise self._incomplete()
        return Response(body=answer.body(), usage=answer.usage, finish_reason=answer.choices[0].finish_reason)

    async def models(self) -> list[ModelInfo]:
        """One model, ``sim``; any other name is answered too."""
        return [ModelInfo("sim", owned_by="penstock")]

    async def aclose(self) -> None:
        """Nothing to close."""

    async def _embed(
        self, request: Request, target: Target, pace: Pace, fault: FaultSettings | None, extra_s: float
    ) -> Response:
        body, usage = answer_embeddings(request.payload, target.model)
        await pace.first(extra_s)
        if fault is not None:
            raise self._incomplete()
        return Response(body=body, usage=usage)

    async def _stream(self, answer: Answer, pace: Pace, fault: FaultSettings | None) -> AsyncIterator[Batch]:
        steps = answer.steps()
        if fault is not None:
            steps = steps[: fault.after_tokens]
        batch = answer.opening()
        due = now = self._clock.monotonic()
        for step in steps:
            if due > now + _TOGETHER_S:
                yield batch
                batch = []
                await pace.until(due)
                now = self._clock.monotonic()
            batch += step
            due += pace.gap()
        if fault is None:
            yield batch + answer.ending()
            return
        if batch:
            yield batch
        raise self._incomplete()

    def _pace(self, request: Request, target: Target) -> Pace:
        ends = self._clock.monotonic() + (target.timeout_s or self._timeouts.total_s)
        if request.deadline is not None and request.deadline < ends:
            ends = request.deadline
        draw = random.Random(seed_of(request.payload, target.model)) if self._latency.jitter else None
        return Pace(self.name, self._clock, self._latency, self._timeouts, ends=ends, draw=draw)

    async def _failure(self, fault: FaultSettings, pace: Pace, extra_s: float) -> ProviderError:
        """Make the error that `fault` stands for, when it would come."""
        if fault.kind == "timeout":
            await pace.silence()
        await pace.pause(extra_s)
        if fault.kind == "connect":
            return ProviderError(
                f"provider {self.name} refused the connection (a planned fault)",
                code="upstream_connect",
                retryable=True,
                provider=self.name,
            )
        headers = {} if fault.retry_after_s is None else {"retry-after": f"{fault.retry_after_s:f}"}
        return error_from_status(fault.status, headers, message="a planned fault", provider=self.name)

    def _incomplete(self) -> ProviderError:
        return ProviderError(
            f"provider {self.name} broke off its answer (a planned fault)",
            code="upstream_incomplete",
            retryable=True,
            provider=self.name,
        )


def _due(faults: Sequence[FaultSettings], number: int) -> tuple[FaultSettings | None, float]:
    """The first fault planned for request `number` (from 1), and the seconds the slow ones among them add."""
    planned = [fault for fault in faults if number % fault.every == 0 and (not fault.first or number <= fault.first)]
    extra_s = sum(fault.delay_s for fault in planned if fault.kind == "slow")
    return next((fault for fault in planned if fault.kind != "slow"), None), extra_s
