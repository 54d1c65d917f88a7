"""The nearest texts of one partition, from inverted lists, weighted by how rare each term is in it."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import nlargest
from math import log, sqrt

from penstock.abc import Vector


class InvertedIndex:
    """Cosine over sparse vectors, weighted by inverse document frequency learnt from the entries.

    Candidates are chosen with lengths as of when the partition last grew by a quarter, and compared with those of now.
    Where the lists of a query's terms are together beyond `budget`, its rarest terms choose (Moffat & Zobel 1996).

    Args:
        budget: How many list elements a query may visit while it chooses candidates.
    """

    def __init__(self, budget: int = 5000) -> None:
        self._budget = budget
        self._vectors: dict[int, Mapping[int, float]] = {}
        self._lists: dict[int, dict[int, float]] = {}
        self._norms: dict[int, float] = {}
        self._weighed_at = 0

    def __len__(self) -> int:
        return len(self._vectors)

    def add(self, entry: int, vector: Vector) -> None:
        """Add or replace `entry`."""
        vector = _sparse(vector)
        self.remove(entry)
        self._vectors[entry] = vector
        for term, weight in vector.items():
            self._lists.setdefault(term, {})[entry] = weight
        self._norms[entry] = self._norm(vector)
        if len(self) > 1.25 * self._weighed_at:
            self._norms = {known: self._norm(v) for known, v in self._vectors.items()}
            self._weighed_at = len(self)

    def remove(self, entry: int) -> None:
        """Forget `entry`, if it is there."""
        vector = self._vectors.pop(entry, None)
        if vector is None:
            return
        del self._norms[entry]
        for term in vector:
            holders = self._lists[term]
            del holders[entry]
            if not holders:
                del self._lists[term]

    def nearest(self, vector: Vector, count: int = 8) -> list[tuple[int, float]]:
        """Return up to `count` entries that share a term with `vector`, with their cosines, nearest first."""
        vector = _sparse(vector)
        norm = self._norm(vector)
        if not norm:
            return []
        lists = self._lists
        terms = sorted((t for t in vector if t in lists), key=lambda term: len(lists[term]))
        scores: dict[int, float] = {}
        visited = 0
        whole = True
        for term in terms:
            holders = lists[term]
            if visited + len(holders) > self._budget and scores:
                whole = False
                break
            visited += len(holders)
            weight = vector[term] * self._rarity(term) ** 2
            for entry, value in holders.items():
                scores[entry] = scores.get(entry, 0.0) + weight * value
        norms = self._norms
        likely = nlargest(2 * count if whole else 4 * count, scores, key=lambda entry: scores[entry] / norms[entry])
        found = ((entry, self._cosine(vector, norm, entry)) for entry in likely)
        return nlargest(count, found, key=lambda pair: (pair[1], -pair[0]))

    def _rarity(self, term: int) -> float:
        return log(1.0 + (len(self._vectors) + 8.0) / (len(self._lists.get(term, ())) + 0.5))

    def _norm(self, vector: Mapping[int, float]) -> float:
        rarity = self._rarity
        return sqrt(sum((weight * rarity(term)) ** 2 for term, weight in vector.items()))

    def _cosine(self, vector: Mapping[int, float], norm: float, entry: int) -> float:
        known = self._vectors[entry]
        product = sum(w * known[t] * self._rarity(t) ** 2 for t, w in vector.items() if t in known)
        return min(1.0, product / (norm * self._norm(known)))


def _sparse(vector: Vector) -> Mapping[int, float]:
    if isinstance(vector, bytes):
        raise TypeError("an inverted index takes sparse vectors")
    return vector
