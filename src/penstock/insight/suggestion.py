"""A change of the settings, and what it would have saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Literal

import msgspec

from penstock.core.call import CostSource
from penstock.core.money import to_usd
from penstock.core.usage import Usage
from penstock.insight.interval import Range, interval

Basis = Literal["replay", "prices", "rule"]
Price = Callable[[str, str, Usage], tuple[Decimal | None, CostSource]]
"""Prices the tokens a provider (by name) uses with a model (by its own name)."""


class Money(msgspec.Struct, frozen=True):
    """US dollars, and where they would be nine times in ten."""

    value: Decimal
    low: Decimal
    high: Decimal


class Suggestion(msgspec.Struct, frozen=True):
    """A change, and what it would have saved in the period.

    Attributes:
        kind: ``ttl``, ``size``, ``coalesce``, ``semantic``, ``routing``, ``batch``, or the rule it comes from.
        text: What to do.
        settings: What to set, by path; empty when it is no setting.
        basis: ``replay`` (the old calls were run again under it), ``prices`` (the old calls at other prices) or
            ``rule`` (of thumb, when neither is possible).
        usd: Money saved; None when that cannot be said.
        calls: Calls to providers saved.
        seconds: Time saved that clients waited, all together.
        but: What it costs, or depends on.
    """

    kind: str
    text: str
    settings: Mapping[str, object]
    basis: Basis
    usd: Money | None = None
    calls: Range | None = None
    seconds: Range | None = None
    but: str = ""

    @property
    def rank(self) -> tuple[Decimal, float, float]:
        """Sorts by money, then by calls, then by time."""
        return (
            self.usd.value if self.usd else Decimal(0),
            self.calls.value if self.calls else 0.0,
            self.seconds.value if self.seconds else 0.0,
        )


def money(at: Sequence[float], picodollars: Sequence[int]) -> Money:
    """Return the sum of `picodollars`, which belong to the times `at` in ascending order, with its interval."""
    found = interval(at, picodollars)
    return Money(to_usd(sum(picodollars)), to_usd(round(found.low)), to_usd(round(found.high)))
