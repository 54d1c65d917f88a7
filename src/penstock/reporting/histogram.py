"""Times counted in logarithmic buckets, so that counts can be added up and percentiles still be told within 2.5 %."""

from __future__ import annotations

import math
from collections.abc import Mapping

GROWTH = 1.05
"""Each bucket's upper bound is this many times its lower one; its geometric middle is within 2.5 % of all of it."""

_PER_LOG = 1 / math.log(GROWTH)
_WIDTH = 5
"""Bytes of a count at rest: room for 10^12 in a bucket."""
_BITS = _WIDTH * 8

Packed = int
"""All counts of a histogram side by side in one whole number, the lowest bucket in the lowest bits.

Adding two such numbers adds all their counts in one operation of the interpreter.
"""


def bucket(microseconds: int) -> int:
    """Return the number of the bucket a time belongs to; 0 for a microsecond or less."""
    return int(math.log(microseconds) * _PER_LOG) if microseconds > 1 else 0


def seconds(number: int) -> float:
    """Return the time a bucket stands for."""
    return float(GROWTH ** (number + 0.5) / 1e6)


def pack(counts: Mapping[int, int]) -> Packed:
    """Put counts by bucket into one number."""
    if not counts:
        return 0
    size = max(counts) + 1
    table = bytearray(size * _WIDTH)
    for number, count in counts.items():
        table[number * _WIDTH : (number + 1) * _WIDTH] = count.to_bytes(_WIDTH, "little")
    return int.from_bytes(table, "little")


def unpack(packed: Packed) -> dict[int, int]:
    """Return the counts by bucket, in ascending order, without empty buckets."""
    size = -(-packed.bit_length() // _BITS)
    table = packed.to_bytes(size * _WIDTH, "little")
    found: dict[int, int] = {}
    for number in range(size):
        count = int.from_bytes(table[number * _WIDTH : (number + 1) * _WIDTH], "little")
        if count:
            found[number] = count
    return found


def to_bytes(packed: Packed) -> bytes:
    """Return a histogram as it is stored: the empty buckets below the first left out, their number before the rest."""
    if packed == 0:
        return b""
    first = ((packed & -packed).bit_length() - 1) // _BITS
    shifted = packed >> (first * _BITS)
    return first.to_bytes(2, "little") + shifted.to_bytes(-(-shifted.bit_length() // 8), "little")


def from_bytes(stored: bytes) -> Packed:
    """Return what `to_bytes` was given."""
    return int.from_bytes(stored[2:], "little") << (int.from_bytes(stored[:2], "little") * _BITS)


def percentiles(packed: Packed, *shares: int) -> list[float | None]:
    """Return the times that so many of 100 do not exceed (nearest rank), in seconds; None where nothing was counted."""
    counts = unpack(packed)
    total = sum(counts.values())
    found: list[float | None] = []
    for share in shares:
        rank, passed = -(-total * share // 100), 0
        answer: float | None = None
        for number, count in counts.items():
            passed += count
            if passed >= rank:
                answer = seconds(number)
                break
        found.append(answer)
    return found
