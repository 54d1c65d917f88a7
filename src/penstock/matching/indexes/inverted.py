"""The nearest texts of one partition, from inverted lists, weighted by how rare each term is in it; pure Python."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable
from heapq import nlargest
from itertools import repeat
from math import log, sqrt
from operator import itemgetter, mul, truediv
from typing import TypeAlias

from penstock.abc import Vector

_LEVELS = 255
_TERMS = 0xFFFFFFFF
_ZEROS = repeat(0.0)
_WEAK = 0.3
"""What has gathered less than this of what the strongest candidate has is not looked at further."""

_NEAR = 0.35
"""From this cosine on, an entry's length is reckoned anew: its terms may have become common since."""

_REMEMBERED = 16384
"""Terms whose rarity is at hand; a question has about 40."""

_SQUARES = [float(level * level) for level in range(_LEVELS + 1)]

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
        self._reckoned = array("Q")
        self._holders: dict[int, _Held] = {}
        self._rarities = _Rarities(0)
        self._rarity = _RarityOfTerms(self._holders, self._rarities)
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
            self._rarity.pop(term, None)
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
        kept = array("I", terms)
        self._vectors[slot] = kept.tobytes() + levels
        self._reckon(slot, kept, levels)

    def remove(self, entry: int) -> None:
        """Forget `entry`, if it is there."""
        slot = self._slots.pop(entry, None)
        if slot is None:
            return
        holders = self._holders
        for term in _parted(self._vectors[slot])[0]:
            self._rarity.pop(term, None)
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
        factors, length, shares = self._asked(_weights(vector))
        factor, entries, vectors, lengths = factors.get, self._entries, self._vectors, self._lengths
        reckoned, season, changes = self._reckoned, self._season, self._changes
        found = []
        for slot in self._likely(shares, max(count, self._compared)):
            terms, levels = _parted(vectors[slot])
            product = sum(map(mul, map(factor, terms, _ZEROS), levels)) / length
            before = reckoned[slot]
            if before < season or (before < changes and product >= _NEAR * lengths[slot]):
                self._reckon(slot, terms, levels)
            if product:
                found.append((product / lengths[slot], -entries[slot]))
        found.sort(reverse=True)
        return [(-entry, min(1.0, cosine)) for cosine, entry in found[:count]]

    def _asked(self, weights: dict[int, float]) -> tuple[dict[int, float], float, list[tuple[float, _Held]]]:
        """Return by what each term of a query multiplies, its length, and what `_likely` wants of it."""
        rarity = self._rarity
        if len(weights) > self._kept:
            value = {term: weight * (weight * rarity[term]) for term, weight in weights.items()}
            weights = {term: weights[term] for term in nlargest(self._kept, value, key=value.__getitem__)}
        held, never = list(map(self._holders.get, weights)), self._rarities[0]
        rarities = [never if each is None else rarity[term] for term, each in zip(weights, held, strict=True)]
        factors = dict(zip(weights, map(mul, weights.values(), rarities), strict=True))
        squares = list(map(mul, weights.values(), factors.values()))
        shares = [(square, each) for square, each in zip(squares, held, strict=True) if each is not None]
        return factors, sqrt(sum(squares)), shares

    def _likely(self, shares: list[tuple[float, _Held]], count: int) -> Iterable[int]:
        """Return the slots of up to `count` entries that hold most of the query.

        Args:
            shares: Of each of its terms, the share in the square of its length, and who has it.
            count: How many.
        """
        shares.sort(key=_share, reverse=True)
        alone: dict[int, float] = {}
        listed: dict[bytes, tuple[float, array[int]]] = {}
        left = self._budget
        for share, held in shares:
            if isinstance(held, int):
                alone[held] = alone.get(held, 0.0) + share
                continue
            if len(held) <= left:
                slots = held[1:]
            elif alone or listed:
                continue
            else:
                slots = held[-left:]  # the newest of them
            left -= len(slots)
            # A word and its pieces are listed for the same entries: they are gone through once.
            which = slots.tobytes()
            before = listed.get(which)
            listed[which] = (share if before is None else before[0] + share, slots)
        gathered, so_far = alone, alone.get
        for share, slots in listed.values():
            for slot in slots:
                gathered[slot] = so_far(slot, 0.0) + share
        if len(gathered) <= count:
            return gathered
        least = _WEAK * max(gathered.values())
        strong: Collection[int] = [slot for slot, share in gathered.items() if share >= least]
        if len(strong) < count:
            strong = gathered
        shared = list(map(truediv, map(gathered.__getitem__, strong), map(self._lengths.__getitem__, strong)))
        # The first were found under the weightiest terms: few of the rest are above the least of the best of these.
        bar = sorted(shared[: 4 * count])[-count]
        best = [(share, slot) for share, slot in zip(shared, strong, strict=True) if share >= bar]
        best.sort(reverse=True)
        return [slot for _, slot in best[:count]]

    def _change(self) -> None:
        self._changes += 1
        if 8 * (self._changes - self._season) > len(self):
            self._season = self._changes
            self._rarities = _Rarities(len(self))
            self._rarity = _RarityOfTerms(self._holders, self._rarities)

    def _reckon(self, slot: int, terms: array[int], levels: bytes) -> None:
        """Set the length of an entry, of which these are the terms and levels."""
        self._reckoned[slot] = self._changes
        squares = map(mul, map(self._rarity.__getitem__, terms), map(_SQUARES.__getitem__, levels))
        self._lengths[slot] = sqrt(sum(squares))

    def _slot(self, entry: int) -> int:
        if self._free:
            slot = self._free.pop()
            self._entries[slot] = entry
            return slot
        self._entries.append(entry)
        self._vectors.append(b"")
        self._lengths.append(0.0)
        self._reckoned.append(0)
        return len(self._entries) - 1


class _Rarities(dict[int, float]):
    """The square of the inverse document frequency among `entries`, by how many of them have a term."""

    def __init__(self, entries: int) -> None:
        super().__init__()
        self._entries = entries

    def __missing__(self, count: int) -> float:
        self[count] = square = log(1.0 + (self._entries + 8.0) / (count + 0.5)) ** 2
        return square


class _RarityOfTerms(dict[int, float]):
    """As `_Rarities`, by term, of the terms asked for lately; whoever changes how many have a term takes it out."""

    def __init__(self, holders: dict[int, _Held], rarities: _Rarities) -> None:
        super().__init__()
        self._holders = holders
        self._rarities = rarities

    def __missing__(self, term: int) -> float:
        held = self._holders.get(term)
        if held is None:
            return self._rarities[0]
        if len(self) >= _REMEMBERED:
            self.clear()
        self[term] = rarity = self._rarities[1 if isinstance(held, int) else held[0]]
        return rarity


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
