"""Figures as people read them. Amounts of money are written in full: nothing is rounded."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

DASH = "-"


def money(usd: Decimal | None) -> str:
    """Write an amount in full, with at least cents."""
    if usd is None:
        return DASH
    whole, _, rest = f"{usd:f}".partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')}"


def duration(seconds: float | None) -> str:
    """Write a time in the unit that suits it."""
    if seconds is None:
        return DASH
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def share(part: float | None) -> str:
    """Write a part of one as per cent."""
    return DASH if part is None else f"{part:.1%}"


def change(part: float | None) -> str:
    """Write by how much something grew."""
    return DASH if part is None else f"{part:+.1%}"


def amount(name: str, value: float | None) -> str:
    """Write the value of a figure that is called `name`, which says what it is: a rate, dollars, seconds or a count."""
    if value is None:
        return DASH
    if name.endswith("rate"):
        return f"{value:.2%}"
    if name.endswith(", s"):
        return duration(value)
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def moment(at: float) -> str:
    """Write a point in time, to the minute."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def day(at: float) -> str:
    """Write a day."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def visible(text: str) -> str:
    """Make control characters visible, so that a name cannot pretend to be something else."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
