"""Money at rest: whole picodollars (1e-12 USD), because sums of integers are exact in every database."""

from __future__ import annotations

from decimal import Decimal

_PICODOLLAR = Decimal("1e-12")
_PICODOLLARS = Decimal(10**12)
"""Those of one dollar."""


def to_picodollars(usd: Decimal) -> int:
    """Convert dollars, rounding half to even; published prices a token are whole picodollars, so nothing is lost."""
    return round(usd * _PICODOLLARS)


def to_usd(picodollars: int) -> Decimal:
    """Convert picodollars, exactly."""
    return picodollars * _PICODOLLAR
