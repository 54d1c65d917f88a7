"""How the providers are: asked regularly, with the time they take."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from penstock import AsyncClient, ProviderError

_KEPT = 100


@dataclass
class Checked:
    """The checks of one provider."""

    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    checks: int = 0
    failures: int = 0
    failed_in_a_row: int = 0
    error: str | None = None
    models: list[str] = field(default_factory=list)


class HealthMonitor:
    """Asks every provider for its models, and remembers how that went."""

    def __init__(self, client: AsyncClient, *, slow_s: float, interval_s: float) -> None:
        self._client = client
        self._slow_s = slow_s
        self._interval_s = interval_s
        self.providers: dict[str, Checked] = {}

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self.check()

    async def check(self) -> None:
        """Ask all providers once."""
        providers = self._client.pipeline.providers
        await asyncio.gather(*(self._check(name) for name in providers))

    async def _check(self, name: str) -> None:
        checked = self.providers.setdefault(name, Checked())
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._interval_s):
                offered = await self._client.pipeline.providers[name].models()
        except (ProviderError, TimeoutError) as error:
            checked.error = str(error) or "no answer in time"
            checked.failures += 1
            checked.failed_in_a_row += 1
        else:
            checked.models = [each.id for each in offered]
            checked.latencies.append(time.perf_counter() - began)
            checked.error, checked.failed_in_a_row = None, 0
        checked.checks += 1

    def status(self) -> str:
        """``healthy``, ``degraded`` (slow, or some providers are down) or ``unhealthy`` (all are down)."""
        down = [each for each in self.providers.values() if each.failed_in_a_row]
        if down and len(down) == len(self.providers):
            return "unhealthy"
        slow = any(each.latencies and each.latencies[-1] > self._slow_s for each in self.providers.values())
        return "degraded" if down or slow else "healthy"

    def report(self) -> dict[str, Any]:
        """All of it, for people."""
        return {name: _report(checked) for name, checked in self.providers.items()}


def _report(checked: Checked) -> dict[str, Any]:
    times = sorted(checked.latencies)
    return {
        "up": not checked.failed_in_a_row,
        "checks": checked.checks,
        "failures": checked.failures,
        "latency_ms": round(times[-1 if len(times) == 1 else len(times) // 2] * 1000, 2) if times else None,
        "slowest_ms": round(times[-1] * 1000, 2) if times else None,
        "error": checked.error,
        "models": checked.models,
    }
