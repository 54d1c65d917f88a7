"""Active health checks: asking a provider something cheap, so that clients need not find out how it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from penstock.core.errors import ProviderError
from penstock.core.route import Target
from penstock.routing.breaker import judge
from penstock.routing.health import Health

_TIMEOUT_S = 10.0
_TIMEOUT = "upstream_timeout"


class Plan(Protocol):
    """When to check; `penstock.config.settings.HealthSettings` is one."""

    @property
    def interval_s(self) -> float:
        """Seconds between two checks."""

    @property
    def always(self) -> bool:
        """Also while nothing is wrong."""


class CheckState(msgspec.Struct):
    """The last check of a provider.

    Attributes:
        provider: Name of the provider in the configuration.
        checks: How many there were.
        failed: How many failed, the last one included, since the last that did not.
        cause: Code of the last one's error; empty when it went well, or there was none.
        checked_at: When it ended, on `Clock.monotonic`; None when there was none.
    """

    provider: str
    checks: int = 0
    failed: int = 0
    cause: str = ""
    checked_at: float | None = None


class HealthCheck:
    """Checks one provider.

    What is asked says whether the provider can be reached, not whether a model answers. So a check that goes well does
    not close a circuit: it ends its pause, and the next request is the probe. One that fails prolongs the pause, and as
    many in a row as requests would take opens the circuits of all the provider's targets. A refusal to answer, for want
    of a right to list models or for a rate limit, is a sign of life.
    """

    def __init__(
        self,
        provider: str,
        plan: Plan,
        ask: Callable[[], Awaitable[object]],
        targets: Sequence[Target],
        health: Health,
    ) -> None:
        """`ask` raises `ProviderError`; `targets` are those of the provider that are known beforehand."""
        self.state = CheckState(provider)
        self._plan = plan
        self._ask = ask
        self._targets = targets
        self._health = health

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            await self._health.clock.sleep(self._plan.interval_s)
            if self._plan.always or self._health.troubled(self.state.provider):
                await self.check()

    async def check(self) -> None:
        """Check once, and tell the circuits."""
        state, cause = self.state, ""
        try:
            async with asyncio.timeout(min(self._plan.interval_s, _TIMEOUT_S)):
                await self._ask()
        except TimeoutError:
            cause = _TIMEOUT
        except ProviderError as error:
            if judge(error) == "failure" and error.code != "upstream_auth":
                cause = error.code
        state.checks += 1
        state.failed = state.failed + 1 if cause else 0
        state.cause = cause
        state.checked_at = self._health.clock.monotonic()
        self._health.checked(state.provider, self._targets, state.failed, cause)
