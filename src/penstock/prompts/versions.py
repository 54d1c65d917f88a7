"""Which version is meant, and which are older."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PARTS = re.compile(r"\d+|[^\d]+")


def age_of(version: str) -> tuple[tuple[int, int, str], ...]:
    """Return what versions are sorted by, the oldest first: numbers in them count as numbers, so 1.9 is before 1.10."""
    return tuple(
        (1, int(part), "") if part.isascii() and part.isdigit() else (0, 0, part) for part in _PARTS.findall(version)
    )


def in_order(versions: Iterable[str]) -> list[str]:
    """Return versions, the oldest first."""
    return sorted(versions, key=age_of)
