"""The ledger's books for ``store.url: memory:``: counts of this process, and nothing to keep up."""

from __future__ import annotations

from collections import defaultdict

import msgspec

from penstock.core.call import CACHED, Call
from penstock.core.clock import Clock
from penstock.core.money import to_picodollars
from penstock.core.request import Request
from penstock.reporting.statistics import COLLAPSED, NO_ERRORS, Statistics, Totals, figures


class MemoryBooks:
    """`penstock.stores.opening.Books` of one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started = clock.wall()
        self._totals: dict[str, Totals] = defaultdict(Totals)
        self._resets: dict[str | None, tuple[float, Totals]] = {}
        self._claimed: dict[str, int] = {}

    def count(self, request: Request, call: Call, duration_s: float, outcome: str) -> None:
        """Count one finished call."""
        held = self._totals[request.tenant]
        used = call.usage
        tokens = (used.input_tokens, used.output_tokens) if used is not None else (0, 0)
        held.calls += 1
        held.errors += outcome not in NO_ERRORS
        held.collapsed += call.cache == COLLAPSED
        held.attempts += len(call.attempts)
        held.input_tokens += tokens[0]
        held.output_tokens += tokens[1]
        if call.cache in CACHED:
            held.hits += 1
            held.saved_tokens += sum(tokens)
        costs = [attempt.cost_usd for attempt in call.attempts if attempt.cost_usd is not None]
        held.cost_pusd += sum(map(to_picodollars, costs))
        held.saved_pusd += 0 if call.saved_usd is None else to_picodollars(call.saved_usd)
        held.duration_us += int(duration_s * 1e6)

    async def keep(self, days: float | None) -> None:
        """Nothing lasts, so nothing has to be kept up."""

    async def claim(self, name: str, due: int) -> bool:
        """Return whether what is `due` (epoch seconds) is still to be done; the first who asks is told so."""
        if self._claimed.get(name, due - 1) >= due:
            return False
        self._claimed[name] = due
        return True

    async def claimed(self, name: str) -> int | None:
        """Return what was claimed last; None when nothing was."""
        return self._claimed.get(name)

    async def statistics(self, tenant: str | None = None, *, alone: bool = False) -> Statistics:
        """Count everything since the start of the process."""
        counted = self._sum(tenant, alone=alone)
        start = figures(counted, self._started)
        if alone or tenant not in self._resets:  # a reset counts the teams, too
            return Statistics(start, start)
        at, before = self._resets[tenant]
        return Statistics(start, figures(counted.minus(before), at))

    async def reset_statistics(self, tenant: str | None = None, by: str | None = None) -> Statistics:
        """Let `since_reset` begin now; return what had been counted until then."""
        before = await self.statistics(tenant)
        self._resets[tenant] = (self._clock.wall(), self._sum(tenant))
        return before

    def _sum(self, tenant: str | None, *, alone: bool = False) -> Totals:
        total = Totals()
        for name, held in self._totals.items():
            if tenant is None or name == tenant or (not alone and name.startswith(f"{tenant}/")):
                for field, value in msgspec.structs.asdict(held).items():
                    setattr(total, field, getattr(total, field) + value)
        return total
