"""Asking again, at growing intervals, whether work that runs elsewhere is done."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from penstock.core.clock import Clock
from penstock.core.errors import DeadlineExceeded

T = TypeVar("T")


class Schedule(Protocol):
    """When to look again."""

    def wait(self, n: int) -> float:
        """Seconds to wait after look number `n`, counted from 0."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that grow by a factor up to a limit.

    Attributes:
        min_s: The first wait, seconds.
        max_s: The longest wait, seconds.
        factor: How many times longer each wait is than the one before; at least 1.

    Raises:
        ValueError: The waits would shrink or not be positive.
    """

    min_s: float
    max_s: float
    factor: float

    def __post_init__(self) -> None:
        if not (0 < self.min_s <= self.max_s < math.inf and 1 <= self.factor < math.inf):
            raise ValueError("expected 0 < min_s <= max_s and factor >= 1, all finite")

    def wait(self, n: int) -> float:
        """Seconds to wait after look number `n`, counted from 0."""
        if self.factor == 1 or n * math.log(self.factor) < math.log(self.max_s / self.min_s):
            return min(self.min_s * self.factor**n, self.max_s)
        return self.max_s


async def poll(
    fetch: Callable[[], Awaitable[T]],
    done: Callable[[T], bool],
    *,
    schedule: Schedule,
    clock: Clock,
    timeout_s: float,
) -> T:
    """Await `fetch` until `done` says so of what it returned.

    The last look is taken shortly before the deadline, so that work which ends in the last wait is not missed. A look
    that is still running at the deadline is cancelled.

    Args:
        fetch: Looks at the work.
        done: Whether the work has ended, well or not.
        schedule: How long to wait between looks.
        clock: Where time comes from.
        timeout_s: Seconds after which to give up.

    Raises:
        DeadlineExceeded: The work was not done in time.
    """
    deadline = clock.monotonic() + timeout_s
    looks, last = 0, False
    while True:
        value = await _in_time(fetch, deadline - clock.monotonic())
        if done(value):
            return value
        left = deadline - clock.monotonic()
        if last or left <= 0:
            raise _late(timeout_s, looks + 1)
        pause = schedule.wait(looks)
        if pause >= left:
            pause, last = max(left - schedule.wait(0), left / 2), True
        await clock.sleep(pause)
        looks += 1


async def _in_time(fetch: Callable[[], Awaitable[T]], seconds: float) -> T:
    try:
        async with asyncio.timeout(seconds) as scope:
            return await fetch()
    except TimeoutError:
        if scope.expired():
            raise DeadlineExceeded("the work could not be looked at before the deadline") from None
        raise


def _late(timeout_s: float, looks: int) -> DeadlineExceeded:
    return DeadlineExceeded(f"the work was not done after {timeout_s:g} s and {looks} looks")
