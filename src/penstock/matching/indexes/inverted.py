"""The nearest texts of one partition, from inverted lists, weighted by how rare each word is in it; pure Python."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import repeat
from math import sqrt
from operator import itemgetter, mul, truediv

from penstock.abc import Vector
from penstock.matching.indexes.lexicon import Held, Lexicon
from penstock.matching.spelling import KIND, OTHER, Spelling, Terms

_NAMES = 0xFFFFFFFF
_ZEROS = repeat(0.0)
_FAR = 0.2
"""Once an entry that is in none of the lists gone through has at most the root of this for a cosine, it is enough."""

_WEAK = 0.3
"""What has gathered less than this of what the strongest candidate has is not looked at further."""

_SIZES = (1.5, 0.09, 0.25, 1.0)
"""What a name adds to the square of a length, by its kind and however rare it is: so candidates are put in an order by
nothing that grows old."""

_share = itemgetter(1)


class InvertedIndex:
    """Cosine over sparse vectors with weights above 0, weighted by inverse document frequency learnt from the entries.

    Entries are lists of names: of words and of pairs of neighbours (`Spelling`). What a name of the question adds to
    the product with an entry that has it, or a word that is spelt like it, is reckoned once for all entries. Each entry
    is listed under its weightiest names only (static pruning: Carmel et al. 2001). A query visits the lists of its own
    names, the weightiest first, until what is in none of them cannot be near (Cauchy and Schwarz) or a budget is spent;
    what gathers most there is compared in full.

    How rare something is, is of the beginning of a season, which ends when an eighth of the partition has changed; of
    what is new since, of when it came. So all cosines of a season agree.

    Args:
        budget: How many list elements a query may visit.
        compared: How many candidates it compares in full.
        listed: Under how many names an entry is listed.
        kept: How many names of a text count. Bounds what a long one costs.
    """

    def __init__(self, budget: int = 1500, compared: int = 16, listed: int = 16, kept: int = 64) -> None:
        self._budget = budget
        self._compared = compared
        self._listed = listed
        self._kept = kept
        self._slots: dict[int, int] = {}
        self._free: list[int] = []
        self._entries: list[int] = []
        self._names: list[array[int]] = []
        self._times: list[array[float] | None] = []
        self._lengths = array("d")
        self._sizes = array("d")
        self._reckoned = array("Q")
        self._holders: dict[int, Held] = {}
        self._lexicon = Lexicon(self._holders)
        self._changes = 0
        self._season = 0

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, entry: int, vector: Vector) -> None:
        """Add or replace `entry`."""
        counts, words = _parted(vector)
        self.remove(entry)
        self._slots[entry] = slot = self._slot(entry)
        self._change()
        holders, lexicon = self._holders, self._lexicon
        if len(counts) > self._kept:
            counts = lexicon.weightiest(counts, words, self._kept)
        lexicon.settle(counts)
        new = {name for name in counts if name not in holders}
        for name in new:
            times = round(counts[name])
            holders[name] = slot if times <= 1 else array("I", (1, *(slot,) * times))
            lexicon.learn(name, words.get(name, ()))
        lexicon.count(counts, 1)
        weights = lexicon.weights(counts)
        bar = sorted(weights)[-self._listed :][0] if weights else 0.0
        for name, weight in zip(counts, weights, strict=True):
            if name in new:
                continue
            held = holders[name]
            if isinstance(held, int):
                holders[name] = held = array("I", (1, held))
            held[0] += 1
            if weight >= bar:
                held.extend((slot,) * max(1, round(counts[name])))
        self._names[slot] = array("I", counts)
        self._sizes[slot] = sqrt(sum([_SIZES[name & KIND] * count * count for name, count in counts.items()]))
        self._times[slot] = None if set(counts.values()) <= {1.0} else array("f", counts.values())
        self._lengths[slot] = sqrt(sum(weights))
        self._reckoned[slot] = self._changes

    def remove(self, entry: int) -> None:
        """Forget `entry`, if it is there."""
        slot = self._slots.pop(entry, None)
        if slot is None:
            return
        holders, lexicon = self._holders, self._lexicon
        lexicon.settle(self._names[slot])
        lexicon.count(self._names[slot], -1)
        for name in self._names[slot]:
            held = holders[name]
            if isinstance(held, int) or held[0] == 1:
                del holders[name]
                lexicon.forget(name)
                continue
            held[0] -= 1
            listed = held[1:]
            while slot in listed:
                listed.remove(slot)
            held[1:] = listed
        self._names[slot], self._times[slot] = array("I"), None
        self._free.append(slot)
        self._change()

    def nearest(self, vector: Vector, count: int = 8) -> list[tuple[int, float]]:
        """Return up to `count` entries that share a name with `vector`, with their cosines, nearest first."""
        counts, words = _parted(vector)
        if len(counts) > self._kept:
            counts = self._lexicon.weightiest(counts, words, self._kept)
        reach = self._lexicon.reach(counts, words)
        square = sum(map(mul, map(reach.__getitem__, counts), counts.values()))
        length, adds, entries, lengths = sqrt(square), reach.get, self._entries, self._lengths
        every, times, reckoned, season = self._names, self._times, self._reckoned, self._season
        found = []
        for slot in self._likely(reach, square, max(count, self._compared)):
            shared = map(adds, every[slot], _ZEROS)
            often = times[slot]
            product = sum(shared) if often is None else sum(map(mul, shared, often))
            if product:
                if reckoned[slot] < season:
                    self._reckon(slot)
                found.append((product / (length * lengths[slot]), -entries[slot]))
        found.sort(reverse=True)
        return [(-entry, min(1.0, cosine)) for cosine, entry in found[:count]]

    def _likely(self, reach: dict[int, float], square: float, count: int) -> Iterable[int]:
        """Return the slots of up to `count` entries that hold most of the query.

        Args:
            reach: What each name of an entry adds to its product with the query.
            square: Of the query's length.
            count: How many.
        """
        gathered = self._gather(reach, _FAR * square, count)
        if len(gathered) <= count:
            return gathered
        least = _WEAK * max(gathered.values())
        strong = [slot for slot, share in gathered.items() if share >= least]
        if len(strong) < count:
            strong = list(gathered)
        shared = list(map(truediv, map(gathered.__getitem__, strong), map(self._sizes.__getitem__, strong)))
        # The first were found under the weightiest names: few of the rest are above the least of the best of these.
        bar = sorted(shared[: 4 * count])[-count]
        best = [(share, slot) for share, slot in zip(shared, strong, strict=True) if share >= bar]
        best.sort(reverse=True)
        return [slot for _, slot in best[:count]]

    def _gather(self, reach: dict[int, float], far: float, count: int) -> dict[int, float]:
        """Return what entries in the weightiest lists have of the query, until so many are found and others are far."""
        holders, left, unseen = self._holders.get, self._budget, sum(reach.values())
        gathered: dict[int, float] = {}
        for name, share in sorted(reach.items(), key=_share, reverse=True):
            held = holders(name)
            if isinstance(held, int):
                gathered[held] = gathered.get(held, 0.0) + share
            elif held is not None:
                slots = held[1:]
                if not gathered:
                    slots = slots[-left:]  # the newest of them
                    gathered = dict.fromkeys(slots, share)
                    if len(gathered) < len(slots):  # some have it more than once
                        gathered = {slot: times * share for slot, times in Counter(slots).items()}
                elif len(slots) <= left:
                    so_far = gathered.get
                    for slot in slots:
                        gathered[slot] = so_far(slot, 0.0) + share
                else:
                    continue
                left -= len(slots)
            unseen -= share
            if unseen < far and len(gathered) >= count:
                break
        return gathered

    def _change(self) -> None:
        self._changes += 1
        if 8 * (self._changes - self._season) > len(self):
            self._season = self._changes
            self._lexicon.begin(len(self))

    def _reckon(self, slot: int) -> None:
        """Set the length of an entry."""
        self._reckoned[slot] = self._changes
        names, times = self._names[slot], self._times[slot]
        counts = dict.fromkeys(names, 1.0) if times is None else dict(zip(names, times, strict=True))
        self._lengths[slot] = sqrt(sum(self._lexicon.weights(counts)))

    def _slot(self, entry: int) -> int:
        if self._free:
            slot = self._free.pop()
            self._entries[slot] = entry
            return slot
        self._entries.append(entry)
        self._names.append(array("I"))
        self._times.append(None)
        self._lengths.append(0.0)
        self._sizes.append(0.0)
        self._reckoned.append(0)
        return len(self._entries) - 1


def _parted(vector: Vector) -> tuple[dict[int, float], Mapping[int, Terms]]:
    """Return how often each name occurs, and the terms of words; of a sum of weights, each is taken for a name."""
    if isinstance(vector, Spelling):
        return vector.counts, vector.words
    if isinstance(vector, bytes):
        raise TypeError("an inverted index takes sparse vectors")
    return {(term << 2 | OTHER) & _NAMES: weight for term, weight in vector.items() if weight > 0.0}, {}
