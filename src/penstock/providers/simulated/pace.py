"""How long the simulated model takes: one attempt's waits, within the limits of its phases."""

from __future__ import annotations

import math
import random

from penstock.config.providers import LatencySettings, TimeoutSettings
from penstock.core.clock import Clock
from penstock.core.errors import ProviderError


class Pace:
    """The timing of one attempt; every wait raises ``upstream_timeout`` when its limit comes first."""

    __slots__ = ("_clock", "_draw", "_ends", "_gap_s", "_latency", "_provider", "_timeouts")

    def __init__(
        self,
        provider: str,
        clock: Clock,
        latency: LatencySettings,
        timeouts: TimeoutSettings,
        *,
        ends: float,
        draw: random.Random | None,
    ) -> None:
        """Time an attempt that is over at `ends` (on `clock.monotonic`); `draw` makes the jitter, None makes none."""
        self._provider = provider
        self._clock = clock
        self._latency = latency
        self._timeouts = timeouts
        self._ends = ends
        self._draw = draw
        self._gap_s = 1.0 / latency.tokens_per_s if latency.tokens_per_s else 0.0

    async def first(self, extra_s: float, tokens: int = 1) -> None:
        """Wait until `tokens` tokens are there, and `extra_s` longer."""
        seconds = self._scaled(self._latency.first_token_s) + self._scaled(self._gap_s * (tokens - 1))
        await self._wait(seconds + extra_s, self._timeouts.first_byte_s)

    async def until(self, due: float) -> None:
        """Wait until `due` (on `clock.monotonic`) for the next token of a stream."""
        await self._wait(due - self._clock.monotonic(), self._timeouts.idle_s)

    async def pause(self, seconds: float) -> None:
        """Wait before answering anything."""
        await self._wait(seconds, self._timeouts.first_byte_s)

    async def silence(self) -> None:
        """Wait until the time for the first byte is over."""
        await self._wait(math.inf, self._timeouts.first_byte_s)

    def gap(self) -> float:
        """Seconds between the next token and the one before."""
        return self._scaled(self._gap_s)

    def _scaled(self, seconds: float) -> float:
        if self._draw is None or seconds <= 0.0:
            return seconds
        return seconds * (1.0 + self._latency.jitter * self._draw.uniform(-1.0, 1.0))

    async def _wait(self, seconds: float, limit: float) -> None:
        if seconds <= 0.0:
            return
        left = min(limit, self._ends - self._clock.monotonic())
        if seconds <= left:
            await self._clock.sleep(seconds)
            return
        await self._clock.sleep(left)
        raise ProviderError(
            f"provider {self._provider} did not answer in time",
            code="upstream_timeout",
            retryable=True,
            provider=self._provider,
        )
