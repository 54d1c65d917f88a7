"""Models paid by the hour: each call bears its share of the time the machine was at work."""

from __future__ import annotations

from decimal import Decimal
from functools import partial

from penstock.core.call import Attempt
from penstock.core.clock import Clock

_NS_PER_S = 1e9
_NS_PER_HOUR = 3_600_000_000_000


class _Machine:
    __slots__ = ("at", "running", "shared")

    def __init__(self) -> None:
        self.running = 0
        self.shared = 0.0
        self.at = 0.0

    def pass_to(self, now: float) -> None:
        """Let time pass; of each second, every call that runs gets an equal share."""
        if self.running:
            self.shared += (now - self.at) / self.running
        else:
            self.shared = 0.0
        self.at = now


class MachineTime:
    """Divides machines' time among the attempts that run on them.

    At every moment the price of the hour is shared equally by the attempts under way on the machine, from when each was
    sent until its answer ended or it failed. So the costs of all attempts add up to the price of the time in which at
    least one of them ran; idle time is nobody's.
    """

    def __init__(self, clock: Clock) -> None:
        self._now = clock.monotonic
        self._machines: dict[tuple[str, str], _Machine] = {}

    def begin(self, attempt: Attempt, pattern: str, usd_per_hour: Decimal) -> None:
        """Count an attempt until it ends, then add its share to its cost.

        Args:
            attempt: One that is `running`.
            pattern: The models that share the machine; with the attempt's provider it tells which one it is.
            usd_per_hour: What an hour of the machine costs.
        """
        machine = self._machines.setdefault((attempt.provider, pattern), _Machine())
        machine.pass_to(self._now())
        machine.running += 1
        attempt.when_ended(partial(self._end, attempt, machine, machine.shared, usd_per_hour))

    def _end(self, attempt: Attempt, machine: _Machine, shared: float, usd_per_hour: Decimal) -> None:
        machine.pass_to(self._now())
        machine.running -= 1
        time = usd_per_hour * round((machine.shared - shared) * _NS_PER_S) / _NS_PER_HOUR
        if attempt.cost_source == "unknown":
            return
        tokens = attempt.cost_usd or 0
        if attempt.cost_source != "estimate" or not tokens:
            attempt.cost_source = "time"
        attempt.cost_usd = time + tokens
