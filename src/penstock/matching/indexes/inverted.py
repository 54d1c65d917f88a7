"""The nearest texts of one partition, from inverted lists, weighted by how rare each term is in it; pure Python."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from heapq import nlargest
from itertools import repeat
from math import log, sqrt
from operator import itemgetter, mul
from typing import TypeAlias

from penstock.abc import Vector

_LEVELS = 255
_TERMS = 0xFFFFFFFF
_ZEROS = repeat(0.0)
_WEAK = 0.3
"""What has gathered less than this of what the strongest candidate has is not looked at further."""

_NEAR = 0.35
"""From this cosine on, an entry's length is reckoned anew: its terms may have become common since."""

_Held: TypeAlias = "int | array[int]"
"""The slot of a term's only entry; else how many have the term, and the slots that are listed under it."""

_share = itemgetter(0)


class InvertedIndex:
    """Cosine over sparse vectors with weights above 0, weighted by inverse document frequency learnt from the entries.

    Each entry is listed under its weightiest terms only (static pruning: Carmel et al. 2001). A query visits the lists
    of its own weightiest terms that fit into a budget; what gathers most there is compared in full. So what is far off
    may be missed where there are many entries, while what is near shares a weighty term.

    Weights are kept in 255 levels. The lengths of entries that are far off are reckoned anew after an eighth of the
    partition has changed, those of near ones each time.

    Args:
        budget: How many list elements a query may visit.
        compared: How many candidates it compares in full.
        listed: Under how many terms an entry is listed.
        kept: How many terms of a text count. Bounds what a long one costs.
    """

    def __init__(self, budget: int = 1000, compared: int = 16, listed: int = 16, kept: int = 64) -> None:
        self._budget = budget
        self._compared = compared
        self._listed = listed
        self._kept = kept
        self._slots: dict[int, int] = {}
        self._free: list[int] = []
        self._entries: list[int] = []
        self._vectors: list[bytes] = []
        self._lengths = array("d")
        self._reckoned = array("B")
        self._holders: dict[int, _Held] = {}
        self._rarities = _Rarities(0)
        self._changes = 0
        self._season = 0

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, entry: int, vector: Vector) -> None:
        """Add or replace `entry`."""
        weights = _weights(vector)
        self.remove(entry)
        self._slots[entry] = slot = self._slot(entry)
        self._change()
        holders, rarities = self._holders, self._rarities
        value = {term: weight * weight * rarities[_count(holders.get(term)) + 1] for term, weight in weights.items()}
        terms = sorted(value, key=value.__getitem__, reverse=True)[: self._kept]
        for place, term in enumerate(terms):
            held = holders.get(term)
            if held is None:
                holders[term] = slot
                continue
            if isinstance(held, int):
                holders[term] = held = array("I", (1, held))
            held[0] += 1
            if place < self._listed:
                held.append(slot)
        top = max(weights.values(), default=1.0)
        levels = bytes([round(weights[term] / top * _LEVELS) or 1 for term in terms])
        self._vectors[slot] = array("I", terms).tobytes() + levels
        self._lengths[slot] = self._length(slot)

    def remove(self, entry: int) -> None:
        """Forget `entry`, if it is there."""
        slot = self._slots.pop(entry, None)
        if slot is None:
            return
        holders = self._holders
        for term in _parted(self._vectors[slot])[0]:
            held = holders[term]
            if isinstance(held, int) or held[0] == 1:
                del holders[term]
                continue
            held[0] -= 1
            try:
                held.pop(held.index(slot, 1))
            except ValueError:
                continue  # not among those listed
        self._free.append(slot)
        self._change()

    def nearest(self, vector: Vector, count: int = 8) -> list[tuple[int, float]]:
        """Return up to `count` entries that share a term with `vector`, with their cosines, nearest first."""
        holders, rarities = self._holders.get, self._rarities
        never, once = rarities[0], rarities[1]
        asked: list[tuple[float, float, int, _Held | None]] = []
        for term, weight in _weights(vector).items():
            held = holders(term)
            if held is None:
                factor = weight * never
            elif isinstance(held, int):
                factor = weight * once
            else:
                factor = weight * rarities[held[0]]
            asked.append((weight * factor, factor, term, held))
        if len(asked) > self._kept:
            asked = nlargest(self._kept, asked, key=_share)
        length = sqrt(sum(map(_share, asked)))
        factors = {term: factor for _, factor, term, _ in asked}.get
        vectors, lengths = self._vectors, self._lengths
        shares = [(share, held) for share, _, _, held in asked if held is not None]
        found = []
        for slot in self._likely(shares, max(count, self._compared)):
            if self._reckoned[slot] != self._season:
                lengths[slot] = self._length(slot)
            terms, levels = _parted(vectors[slot])
            product = sum(map(mul, map(factors, terms, _ZEROS), levels)) / length
            if product >= _NEAR * lengths[slot]:
                lengths[slot] = self._length(slot)
            if product:
                found.append((product / lengths[slot], -self._entries[slot]))
        found.sort(reverse=True)
        return [(-entry, min(1.0, cosine)) for cosine, entry in found[:count]]

    def _likely(self, shares: list[tuple[float, _Held]], count: int) -> Iterable[int]:
        """Return the slots of up to `count` entries that hold most of the query.

        Args:
            shares: Of each of its terms, the share in the square of its length, and who has it.
            count: How many.
        """
        shares.sort(key=_share, reverse=True)
        gathered: dict[int, float] = {}
        left = self._budget
        for share, held in shares:
            if isinstance(held, int):
                gathered[held] = gathered.get(held, 0.0) + share
                continue
            if len(held) <= left:
                slots = held[1:]
            elif gathered:
                continue
            else:
                slots = held[-left:]  # the newest of them
            left -= len(slots)
            for slot in slots:
                if slot in gathered:
                    gathered[slot] += share
                else:
                    gathered[slot] = share
        if len(gathered) <= count:
            return gathered
        lengths = self._lengths
        least = _WEAK * max(gathered.values())
        strong = [(share / lengths[slot], slot) for slot, share in gathered.items() if share >= least]
        if len(strong) < count:
            strong = [(share / lengths[slot], slot) for slot, share in gathered.items()]
        strong.sort(reverse=True)
        return [slot for _, slot in strong[:count]]

    def _change(self) -> None:
        self._changes += 1
        if 8 * self._changes > len(self):
            self._changes = 0
            self._rarities = _Rarities(len(self))
            self._season = (self._season + 1) % 256

    def _length(self, slot: int) -> float:
        self._reckoned[slot] = self._season
        rarities = self._rarities
        once = rarities[1]
        terms, levels = _parted(self._vectors[slot])
        square = 0.0
        for level, held in zip(levels, map(self._holders.__getitem__, terms), strict=True):
            square += level * level * (once if isinstance(held, int) else rarities[held[0]])
        return sqrt(square)

    def _slot(self, entry: int) -> int:
        if self._free:
            slot = self._free.pop()
            self._entries[slot] = entry
            return slot
        self._entries.append(entry)
        self._vectors.append(b"")
        self._lengths.append(0.0)
        self._reckoned.append(self._season)
        return len(self._entries) - 1


class _Rarities(dict[int, float]):
    """The square of the inverse document frequency among `entries`, by how many of them have a term."""

    def __init__(self, entries: int) -> None:
        super().__init__()
        self._entries = entries

    def __missing__(self, count: int) -> float:
        self[count] = square = log(1.0 + (self._entries + 8.0) / (count + 0.5)) ** 2
        return square


def _count(held: _Held | None) -> int:
    if held is None:
        return 0
    return 1 if isinstance(held, int) else held[0]


def _parted(vector: bytes) -> tuple[array[int], bytes]:
    """Return terms and levels of what is kept of a vector, in one object to save memory."""
    end = len(vector) // 5 * 4
    return array("I", vector[:end]), vector[end:]


def _weights(vector: Vector) -> dict[int, float]:
    if isinstance(vector, bytes):
        raise TypeError("an inverted index takes sparse vectors")
    return {term & _TERMS: weight for term, weight in vector.items() if weight > 0.0}
